"""ATLAS 2.0 and 1.2 on fake data in the owners' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_lesions
import numpy as np
import pytest

from uadbench.datasets.atlas import Atlas
from uadbench.errors import BadParameter, DataError
from uadbench.params import resolve


def make(root: Path, **given: Any) -> Atlas:
    return resolve(Atlas, [("test", {"root": root, **given})], owner="atlas")[0]


@pytest.mark.parametrize("below", ["", "Training", "above"])
def test_release_2_is_read_from_any_folder_of_the_archive(tmp_path: Path, below: str) -> None:
    top = fake_lesions.atlas_2(tmp_path / "ATLAS_2")
    data = make(tmp_path if below == "above" else top / below)
    assert [(s.id, s.scan, s.groups) for s in data.subjects()] == [
        ("sub-r001s001", "ses-1", {"site": "R001"}),
        ("sub-r031s006", "ses-1", {"site": "R031"}),
    ]
    for n, subject in enumerate(data.subjects()):
        volume = data.load(subject)
        volume.check(subject.key)
        np.testing.assert_array_equal(volume.image[0], fake_lesions.image(n).transpose(2, 1, 0))
        np.testing.assert_array_equal(volume.lesion, fake_lesions.mask().transpose(2, 1, 0) > 0)
        # The skull is not removed, so that what is not 0 is not the brain.
        assert volume.foreground is None
    assert "foreground" not in data.provides()


def test_all_masks_of_release_1_are_joined(tmp_path: Path) -> None:
    fake_lesions.atlas_1(tmp_path / "ATLAS_R1.2")
    for root in (tmp_path, tmp_path / "ATLAS_R1.2"):
        data = make(root)
        assert [(s.id, s.scan, s.groups) for s in data.subjects()] == [
            ("031768", "t01", {"site": "Site1"}),
            ("031844", "t01", {"site": "Site2"}),
        ]
        lesions = [data.load(s).lesion for s in data.subjects()]
        # (z, y, x) of the voxels that the masks set.
        assert [np.argwhere(lesion).tolist() for lesion in lesions] == [[[1, 4, 3]], [[1, 4, 3], [1, 4, 4]]]  # type: ignore[arg-type]


def test_the_published_numbers_come_out_of_the_full_set() -> None:
    data = make(Path())
    parts = data.people(0, [str(n) for n in range(data.card.expected["subjects"])])
    assert [len(part) for part in parts] == [0, 175, 480]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        make(tmp_path / "nowhere").subjects()
    (tmp_path / "a" / "Test").mkdir(parents=True)
    (tmp_path / "a" / "Test" / "scan.nii").write_text("x")
    with pytest.raises(DataError, match=r"atlas: .* it holds Test/scan.nii; the nearest layout that is known is"):
        make(tmp_path / "a").subjects()
    top = fake_lesions.atlas_2(tmp_path / "b")
    next((top / "Training" / "R031").rglob("*_mask.nii.gz")).unlink()
    with pytest.raises(DataError, match="1 of the 2 scans .* have no lesion mask, the first is sub-r031s006_ses-1"):
        make(top).subjects()
    with pytest.raises(DataError, match="1 of the 1 scans .* have no lesion mask, the first is sub-r002s001_ses-1"):
        make(top / "Testing").subjects()
    with pytest.raises(BadParameter, match="modality"):
        make(top, modality="t2")
