"""Which scans of the owners' layouts are prepared, and in which words a modality may be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from uadbench.errors import DataError, UsageError
from uadbench.opening import resolve_dataset
from uadbench.prepare.chosen import choose
from uadbench.prepare.recipes import RECIPES
from uadbench.prepare.work import Task
from uadbench.registry import Registry


def chosen(name: str, root: Path, *wanted: str, **data: str) -> tuple[dict[str, Any], Task, list[str]]:
    """Return the scans, the task and what was told. No image is read, so files may be empty."""
    texts = [f"root={root}", *(f"{key}={value}" for key, value in data.items())]
    dataset = resolve_dataset(Registry().dataset(name), name, texts)[0]
    told: list[str] = []
    cases, task = choose(dataset, Task(name, root / "out", RECIPES["convert"], wanted), told.append)
    return cases, task, told


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def bids(root: Path) -> Path:
    touch(root, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    touch(root, "sub-03/anat/sub-03_T2w.nii.gz")
    return root


def ixi(root: Path) -> Path:
    touch(root, *(f"IXI{n:03}-Guys-0{n}-{word}.nii.gz" for n, word in ((2, "T1"), (2, "T2"), (12, "T2"), (13, "PD"))))
    return root


@pytest.mark.parametrize("word", ["T1w", "t1", "T1", "t1w"])
def test_a_modality_may_be_asked_for_in_the_words_of_the_files(tmp_path: Path, word: str) -> None:
    cases, task, told = chosen("bids", bids(tmp_path), word)
    assert (list(cases), task.wanted) == (["sub-01", "sub-02"], ("t1",))
    assert (told, task.of) == (["1 of 3 scans have no t1 and are left out"], 3)
    with pytest.raises(UsageError, match=r"no modality is called 'T1wX'.*Known: t1, t2"):
        chosen("bids", tmp_path, "T1wX")


@pytest.mark.parametrize(
    ("wanted", "numbers", "left"),
    [
        ((), ("002", "012", "013"), ""),
        (("T1",), ("002",), "2 of 3 scans have no t1 and are left out"),
        (("t1", "T2"), ("002", "012"), "1 of 3 scans have no t1 or t2 and are left out"),
        (("pd",), ("013",), "2 of 3 scans have no pd and are left out"),
    ],
)
def test_every_scan_with_a_modality_that_is_wanted_is_prepared(
    tmp_path: Path, wanted: tuple[str, ...], numbers: tuple[str, ...], left: str
) -> None:
    cases, task, told = chosen("ixi", ixi(tmp_path), *wanted)
    assert tuple(key[3:6] for key in cases) == numbers
    assert told == [left] * bool(left)
    assert task.wanted == tuple(word.lower() for word in wanted)
    assert task.of == 3


def test_a_set_without_the_usual_modality_is_prepared(tmp_path: Path) -> None:
    touch(tmp_path, "IXI002-Guys-0002-T2_brain.nii.gz", "IXI003-Guys-0003-T2_brain.nii.gz")
    cases, task, _ = chosen("ixi", tmp_path)
    assert len(cases) == 2
    assert task.skull_free  # By the names of the images there are.
    with pytest.raises(DataError, match="none of the 2 scans in .* has the modality 't1'; there: t2"):
        # Reading is as strict as before.
        resolve_dataset(Registry().dataset("ixi"), "ixi", [f"root={tmp_path}"])[0].subjects()


def test_what_an_adapter_refuses_is_refused_of_scans_without_the_usual_modality(tmp_path: Path) -> None:
    """A person with a lesion, and with a T2 only, must not come into a set of healthy people by being prepared."""
    touch(bids(tmp_path), "derivatives/masks/sub-03/anat/sub-03_lesion_mask.nii.gz")
    with pytest.raises(DataError, match=r"sub-03 has the lesion mask .*, as 1 of 2 scans .*, but holds=healthy"):
        chosen("bids", tmp_path)
    cases, _, told = chosen("bids", tmp_path, others="leave_out")
    assert (list(cases), told) == (["sub-01", "sub-02"], [])
    assert list(chosen("bids", tmp_path, "t1")[0]) == ["sub-01", "sub-02"]
    touch(tmp_path, "derivatives/masks/sub-01/anat/sub-01_lesion_mask.nii.gz")
    with pytest.raises(DataError, match="sub-02 has no lesion mask, as 1 of 2 scans"):
        chosen("bids", tmp_path, holds="lesions")
    cases, _, _ = chosen("bids", tmp_path, holds="lesions", others="leave_out")
    assert list(cases) == ["sub-01", "sub-03"]
