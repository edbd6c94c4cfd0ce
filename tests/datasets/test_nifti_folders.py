"""Folders of NIfTI files whose names say what they are, and texts that may be numbers."""

from __future__ import annotations

from pathlib import Path

import fake_data
import pytest

from uadbench.datasets.nifti import Nifti
from uadbench.errors import DataError
from uadbench.params import resolve
from uadbench.prepared import as_group


def make(root: Path) -> Nifti:
    return resolve(Nifti, [("test", {"root": root})])[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "train/s0_mask",
            "s0_mask.nii.gz is named as a mask, but not of what; let its name end in lesion, foreground, ig",
        ),
        ("test_lesion/s1_mask", "s1_mask.nii.gz is named as a mask, but not of what"),
        ("test_lesion/E_lesion", "E_lesion.nii.gz is the mask of no image; put E.nii.gz beside it, or take it out"),
        ("train/s1_foreground", "s1_foreground.nii.gz is the mask of no image; put s1.nii.gz beside it"),
        ("val/ignore", "ignore.nii.gz is the mask of no image; put <subject>.nii.gz beside it"),
    ],
)
def test_masks_in_folders_without_an_image_or_a_meaning_are_refused(tmp_path: Path, name: str, words: str) -> None:
    for place in ("train/s0", "val/s2", "test_lesion/s1", "test_lesion/s1_lesion", "test_lesion/s1_foreground"):
        fake_data.nifti(tmp_path / f"{place}.nii.gz", fake_data.brain(1))
    assert [s.id for s in make(tmp_path).subjects()] == ["s0", "s2", "s1"]
    assert len(make(tmp_path).split().test_lesion[0].files) == 3
    fake_data.nifti(tmp_path / f"{name}.nii.gz", fake_data.brain(1))
    with pytest.raises(DataError, match=words):
        make(tmp_path).subjects()


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("7", 7.0), ("-35.80", -35.8), ("0", 0.0), ("0.5", 0.5), ("1e-05", 1e-05), ("001", "001"), ("1_0", "1_0"),
        ("nan", "nan"), ("inf", "inf"), ("1e999", "1e999"), ("00.5", "00.5"), (" 7", " 7"), ("\u0661", "\u0661"),
        ("3T", "3T"),
    ],
)  # fmt: skip
def test_only_plain_numbers_are_numbers(text: str, group: str | float) -> None:
    assert as_group(text) == group
