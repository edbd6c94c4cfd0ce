"""MSLUB in the four ways it is named, and on real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_data
import fake_lesions
import nibabel
import numpy as np
import pytest

from uadbench.datasets.mslub import Mslub
from uadbench.errors import DataError
from uadbench.params import resolve

PAPER = (1, 3, 5, 15, 17, 18, 20, 22, 28, 29)


def make(root: Path, **given: Any) -> Mslub:
    return resolve(Mslub, [("test", {"root": root, **given})], owner="mslub")[0]


@pytest.mark.parametrize(
    ("layout", "below", "modality"),
    [
        ("original", "", "t1+t1ce+t2+flair"),
        ("mirror", "", "t1+t1ce+t2+flair"),
        ("mirror", "cross_sectional", "t1+t1ce+t2+flair"),
        ("mirror", "cross_sectional/coregistered", "t1+t1ce+t2+flair"),
        ("mirror", "cross_sectional/MNI", "t1+t1ce+t2+flair"),
        ("mirror", "cross_sectional/raw", "flair"),
        ("flat", "", "t1+t2+flair"),
    ],
)
def test_every_layout_gives_the_same_patients(tmp_path: Path, layout: str, below: str, modality: str) -> None:
    fake_lesions.mslub(tmp_path, layout)
    data = make(tmp_path / below, modality=modality)
    assert [s.key for s in data.subjects()] == ["patient01", "patient02", "patient07"]
    masked = below not in ("cross_sectional/MNI", "cross_sectional/raw")
    assert ("foreground" in data.provides()) == masked
    for n, subject in zip((1, 2, 7), data.subjects(), strict=True):
        volume = data.load(subject)
        volume.check(subject.key)
        for channel in volume.image:
            np.testing.assert_array_equal(channel, fake_lesions.image(n).transpose(2, 1, 0))
        np.testing.assert_array_equal(volume.lesion, fake_lesions.mask().transpose(2, 1, 0) > 0)
        if masked:
            np.testing.assert_array_equal(volume.foreground, fake_lesions.foreground().transpose(2, 1, 0) > 0)
        else:
            assert volume.foreground is None


def test_images_of_another_space_are_not_mixed_in(tmp_path: Path) -> None:
    data = make(fake_lesions.mslub(tmp_path / "a", "original"), modality="t2")
    assert not [p for s in data.subjects() for p in s.files if "raw" in p.parts]
    raw = make(fake_lesions.mslub(tmp_path / "b", "mirror") / "cross_sectional" / "raw", modality="t2")
    with pytest.raises(DataError, match=r"consensus_gt.nii.gz has another affine than T2W.nii.gz"):
        raw.load(raw.subjects()[0])


def test_the_split_of_the_paper_is_that_of_its_csv_files(tmp_path: Path) -> None:
    fake_lesions.mslub(tmp_path, "flat", range(1, 31))
    split = make(tmp_path).split(0)
    assert {s.id for s in split.val_lesion} == {f"patient{n:02d}" for n in PAPER}
    assert len(split.test_lesion) == 20
    assert not {s.id for s in split.test_lesion} & {s.id for s in split.val_lesion}
    seeded = [make(tmp_path, splits="seeded", seed=seed).split(0) for seed in (0, 1)]
    assert [(len(s.val_lesion), len(s.test_lesion)) for s in seeded] == [(10, 20), (10, 20)]
    assert {s.id for s in seeded[0].val_lesion} != {s.id for s in seeded[1].val_lesion}


def test_the_split_of_the_paper_equals_the_published_files(real_data: Path, tmp_path: Path) -> None:
    import csv

    fake_lesions.mslub(tmp_path, "flat", range(1, 31))
    split = make(tmp_path).split(0)
    for role, name in (("val_lesion", "MSLUB_val"), ("test_lesion", "MSLUB_test")):
        with (real_data / "mddpm_splits" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            assert {s.id for s in getattr(split, role)} == {row["img_name"] for row in csv.DictReader(file)}


def test_wrong_folders_and_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"nothing like patient01/patient01_FLAIR.nii.gz or .*it holds nothing"):
        make(tmp_path / "empty").subjects()
    root = fake_lesions.mslub(tmp_path / "a", "original")
    with pytest.raises(
        DataError, match="none of the 3 scans .* has the modality 'pd'; there: .* .possible: t1, t1ce, t2, flair"
    ):
        make(root, modality="pd").subjects()
    (root / "patient02" / "patient02_consensus_gt.nii.gz").unlink()
    with pytest.raises(DataError, match="1 of the 3 scans in .* have no lesion mask, the first is patient02"):
        make(root).subjects()
    mirror = fake_lesions.mslub(tmp_path / "b", "mirror") / "cross_sectional" / "coregistered"
    fake_data.nifti(mirror / "patient01" / "consensus_gt.nii.gz", fake_lesions.mask())
    with pytest.raises(DataError, match=r"are both the lesion of patient01; remove one of them"):
        make(mirror).subjects()


def test_without_a_brain_mask_the_foreground_is_not_promised(tmp_path: Path) -> None:
    root = fake_lesions.mslub(tmp_path, "original")
    assert make(root).provides() == {"foreground"}
    (root / "patient07" / "patient07_brainmask.nii.gz").unlink()
    assert make(root).provides() == frozenset()
    with pytest.raises(DataError, match="patient07 has no foreground mask"):
        data = make(root, foreground="file")
        data.load(data.subjects()[2])


def test_the_real_files_at_2_mm(real_data: Path) -> None:
    data = make(real_data / "mslub_mni2mm", modality="t1+t2+flair")
    assert [s.id for s in data.subjects()] == ["patient07", "patient19", "patient26"]
    # None of the three is a validation patient of the paper; all folds have the same patients.
    assert not data.split(0).val_lesion
    assert len(data.split(0).test_lesion) == 3
    assert data.split(3) == data.split(0)
    for subject in data.subjects():
        volume = data.load(subject)
        volume.check(subject.key)
        assert volume.image.shape == (3, 91, 109, 91)
        assert volume.spacing == (2.0, 2.0, 2.0)
        assert volume.lesion is not None and volume.foreground is not None
        assert (volume.lesion & ~volume.foreground).sum() < 0.01 * volume.lesion.sum()
        # Millilitres of lesion, counted once more from the file.
        file = np.asarray(nibabel.load(subject.files[-2]).dataobj)
        assert volume.lesion.sum() == (file > 0).sum() > 0
        # Lesions are bright on FLAIR.
        flair = volume.image[2]
        assert flair[volume.lesion].mean() > 1.2 * flair[volume.foreground & ~volume.lesion].mean()


def test_the_real_files_at_1_mm(real_data: Path) -> None:
    data = make(real_data / "mslub_mni1mm", modality="t2")
    volume = data.load(data.subjects()[0])
    assert volume.grid == (182, 218, 182)
    assert volume.lesion is not None and volume.foreground is not None
    assert 0.1 < volume.foreground.mean() < 0.2
    assert 1.0 < volume.lesion.sum() * volume.voxel_ml < 3.0
