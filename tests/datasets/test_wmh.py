"""WMH 2017 on fake data in the owners' layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import fake_lesions
import numpy as np
import pytest

from uadbench.data_checks import counts, unknown_counts
from uadbench.datasets.wmh import Wmh
from uadbench.errors import DataError
from uadbench.params import resolve


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_lesions.wmh(tmp_path / "WMH")


def make(root: Path, **given: Any) -> Wmh:
    return resolve(Wmh, [("test", {"root": root, **given})], owner="wmh")[0]


def test_sites_and_scanners_are_groups(root: Path) -> None:
    assert [(s.id, s.groups["site"], s.groups["scanner"]) for s in make(root).subjects()] == [
        ("Utrecht_0", "Utrecht", "Philips Achieva 3 T"),
        ("Utrecht_17", "Utrecht", "Philips Achieva 3 T"),
        ("Singapore_64", "Singapore", "Siemens TrioTim 3 T"),
        ("Amsterdam_100", "Amsterdam", "GE Signa HDxt 3 T"),
    ]
    assert [s.groups["scanner"] for s in make(root, part="test").subjects()] == [
        "Philips Achieva 3 T",
        "Siemens TrioTim 3 T",
        "GE Signa HDxt 3 T",
        "GE Signa HDxt 1.5 T",
        "Philips Ingenuity 3 T",
    ]
    assert len(make(root, part="all").subjects()) == 9


@pytest.mark.parametrize(("images", "offset"), [("pre", 1), ("orig", 0)])
def test_label_2_is_ignored_and_images_are_those_asked_for(root: Path, images: str, offset: int) -> None:
    data = make(root, images=images, modality="t1+flair")
    for n, subject in enumerate(data.subjects()):
        volume = data.load(subject)
        volume.check(subject.key)
        for k, channel in enumerate(volume.image):
            np.testing.assert_array_equal(channel, fake_lesions.image(10 * n + k).transpose(2, 1, 0) + offset)
        labels = fake_lesions.mask((1, 2)).transpose(2, 1, 0)
        np.testing.assert_array_equal(volume.lesion, labels == 1)
        np.testing.assert_array_equal(volume.ignore, labels == 2)
        assert volume.foreground is None


def test_one_of_the_two_folders_may_be_given_itself(root: Path) -> None:
    assert make(root / "training").content() == make(root).content()
    assert make(root / "test", part="test").content() == make(root, part="test").content()
    with pytest.raises(DataError, match="holds cases for test only; use part=test, or give another --root"):
        make(root / "test").subjects()
    with pytest.raises(DataError, match="holds cases for training only; use part=training"):
        make(root / "training", part="test").subjects()


def test_the_name_that_windows_cannot_store_is_known_in_both_spellings(root: Path) -> None:
    folder = root / "test" / "Amsterdam" / "Philips_VU .PETMR_01."
    folder.rename(folder.with_name("Philips_VU_PETMR_01"))
    assert make(root, part="test").subjects()[-1].id == "Amsterdam_160"


def test_the_published_numbers_come_out_of_the_full_set() -> None:
    data = make(Path())
    parts = data.people(0, [str(n) for n in range(data.card.expected["training"])])
    assert [len(part) for part in parts] == [0, 15, 45]


def test_the_count_is_compared_with_that_of_the_part_that_was_opened(root: Path) -> None:
    for part, words in (
        ("training", "4 scans (training), published: 60"),
        ("test", "5 scans (test), published: 110"),
        ("all", "9 scans (all), published: 170"),
    ):
        data = make(root, part=part)
        assert [f.message for f in counts(data, data.subjects(), data.split())] == [words]
    assert unknown_counts(make(root)) == []


def test_what_is_wrong_is_said(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"nothing like training/Utrecht/0/pre/FLAIR.nii.gz or"):
        make(tmp_path / "empty").subjects()
    with pytest.raises(DataError, match="has the modality '3dt1'; there: .* .possible: t1, flair"):
        make(root, modality="3dt1").subjects()
    (root / "training" / "Singapore" / "64" / "wmh.nii.gz").unlink()
    with pytest.raises(DataError, match="1 of the 4 scans .* have no lesion mask, the first is Singapore_64"):
        make(root).subjects()
    for case in (root / "training").rglob("pre"):
        shutil.rmtree(case)
    with pytest.raises(DataError, match="holds cases for test only"):
        make(root).subjects()
    assert len(make(root, part="test").subjects()) == 5
