from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_data
import fake_healthy
import numpy as np
import pytest

from uadbench.datasets.isles22 import ISLES22
from uadbench.errors import DataError, UsageError
from uadbench.params import resolve


def make(root: Path, **given: Any) -> ISLES22:
    return resolve(ISLES22, [("test", {"root": root, **given})])[0]


@pytest.mark.parametrize("challenge", [False, True])
@pytest.mark.parametrize(("modality", "signs"), [("dwi", [1]), ("adc", [-1]), ("dwi+adc", [1, -1])])
def test_both_releases_are_read(tmp_path: Path, challenge: bool, modality: str, signs: list[int]) -> None:
    data = make(fake_healthy.isles22(tmp_path, challenge=challenge), modality=modality)
    subjects = data.subjects()
    assert [(s.id, s.scan) for s in subjects] == [(f"sub-strokecase{i:04d}", "ses-0001") for i in range(1, 5)]
    volume = data.load(subjects[2])
    assert volume.lesion is not None
    assert volume.lesion.sum() == 8
    plain = fake_healthy.volume(3).transpose(2, 1, 0)
    for channel, sign in zip(volume.image, signs, strict=True):
        # Infarcts are bright on DWI and dark on ADC.
        assert np.array_equal(channel != plain, volume.lesion)
        assert (np.sign(channel - plain)[volume.lesion] == sign).all()
    assert volume.foreground is None
    split = data.split(0)
    assert (len(split.val_lesion), len(split.test_lesion)) == (1, 3)
    assert data.split(4) == split


def test_the_folder_of_the_archive_is_found(tmp_path: Path) -> None:
    fake_healthy.isles22(tmp_path / "ISLES-2022")
    assert len(make(tmp_path).subjects()) == 4


def test_flair_has_to_be_prepared(tmp_path: Path) -> None:
    root = fake_healthy.isles22(tmp_path)
    for modality in ("flair", "dwi+flair"):
        data = make(root, modality=modality)
        words = rf"FLAIR lies on another grid than the masks.*dwi or adc.*datasets prepare isles22 --source {root}"
        with pytest.raises(UsageError, match=words):
            data.split(0)
        with pytest.raises(UsageError, match=words):
            data.load(data.subjects()[0])
    # Preparation needs to know where the files lie.
    case = next(iter(make(root, modality="flair").index.values()))
    assert case.images["flair"].name == "sub-strokecase0001_ses-0001_FLAIR.nii.gz"
    assert len(case.lesions) == 1


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    root = fake_healthy.isles22(tmp_path)
    next(root.glob("derivatives/sub-strokecase0003/ses-0001/*")).unlink()
    with pytest.raises(DataError, match="isles22: 1 of the 4 scans .* no lesion mask, the first is sub-strokecase0003"):
        make(root).subjects()


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    root = fake_healthy.isles22(tmp_path)
    path = next(root.glob("derivatives/sub-strokecase0001/ses-0001/*"))
    fake_data.nifti(path, np.zeros((16, 20, 4), np.uint8))
    data = make(root)
    with pytest.raises(DataError, match=r"_msk.nii.gz has the shape \(16, 20, 4\) but .*_dwi.nii.gz has \(8, 10, 4\)"):
        data.load(data.subjects()[0])


def test_a_wrong_folder_and_a_missing_modality_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"isles22: there is no folder .*; give the one that holds sub-strokecase0001/"):
        make(tmp_path / "nowhere").subjects()
    (tmp_path / "train.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"isles22: .* holds nothing like sub-strokecase0001/.* it holds train.zip"):
        make(tmp_path).subjects()
    root = fake_healthy.isles22(tmp_path)
    with pytest.raises(
        DataError,
        match="isles22: none of the 4 scans in .* has the modality 't1'; there: .* .possible: dwi, adc, flair",
    ):
        make(root, modality="t1").subjects()
