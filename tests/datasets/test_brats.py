"""BraTS 2020, 2021 and 2023 on fake data in the owners' layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import fake_data
import fake_lesions
import numpy as np
import pytest

from uadbench.dataset import Dataset
from uadbench.datasets.brats20 import Brats20
from uadbench.datasets.brats21 import Brats21
from uadbench.datasets.brats23 import Brats23
from uadbench.errors import BadParameter, DataError
from uadbench.params import resolve
from uadbench.registry import Registry

YEARS: dict[str, Any] = {"brats20": Brats20, "brats21": Brats21, "brats23": Brats23}
BOX = tuple(reversed(fake_lesions.BOX))
ENHANCING = {"brats20": 4, "brats21": 4, "brats23": 3}


def make(year: str, root: Path, **given: Any) -> Any:
    return resolve(YEARS[year], [("test", {"root": root, **given})], owner=year)[0]


def lesion_of(data: Dataset, key: str) -> np.ndarray:
    lesion = data.load(next(s for s in data.subjects() if s.key == key)).lesion
    assert lesion is not None
    return lesion


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("year", YEARS)
def test_every_case_is_read_with_all_modalities(tmp_path: Path, year: str, ending: str) -> None:
    data = make(year, fake_lesions.brats(tmp_path, year, ending), modality="t1+t1ce+t2+flair")
    names = fake_lesions.BRATS_NAMES[year][0]
    assert [s.key.replace("_0", "-0") if year == "brats23" else s.key for s in data.subjects()] == names
    for n, subject in enumerate(data.subjects()):
        volume = data.load(subject)
        volume.check(subject.key)
        assert volume.image[:, 0, 0, 0].tolist() == [1000 * n + 100 * k for k in range(4)]
        assert volume.spacing == (3.0, 2.0, 2.0)
        expected = np.zeros(volume.grid, bool)
        expected[BOX] = True
        np.testing.assert_array_equal(volume.lesion, expected)
        np.testing.assert_array_equal(volume.foreground, (volume.image != 0).any(axis=0))
        assert volume.ignore is None
    assert "foreground" in data.provides()


def test_the_misnamed_mask_of_case_355_is_found_and_other_cases_need_theirs(tmp_path: Path) -> None:
    data = make("brats20", fake_lesions.brats(tmp_path, "brats20"))
    assert data.subjects()[2].files[-1].name == "W39_1998.09.19_Segm.nii.gz"
    folder = tmp_path / "BraTS20_Training_002"
    (folder / "BraTS20_Training_002_seg.nii.gz").rename(folder / "W39_1998.09.19_Segm.nii.gz")
    with pytest.raises(
        DataError, match="1 of the 3 scans in .* have no lesion mask, the first is BraTS20_Training_002"
    ):
        make("brats20", tmp_path).subjects()


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize(
    ("target", "lesion", "ignored"), [("whole", (1, 2, 0), ()), ("core", (1, 0), (2,)), ("enhancing", (0,), (1, 2))]
)
def test_targets_follow_the_label_rule_of_the_year(
    tmp_path: Path, year: str, target: str, lesion: tuple[int, ...], ignored: tuple[int, ...]
) -> None:
    data = make(year, fake_lesions.brats(tmp_path, year), target=target)
    volume = data.load(data.subjects()[0])
    raw = fake_lesions.mask((1, 2, ENHANCING[year])).transpose(2, 1, 0)
    values = [v or ENHANCING[year] for v in lesion]  # 0 stands for the enhancing tumour.
    np.testing.assert_array_equal(volume.lesion, np.isin(raw, values))
    if ignored:
        np.testing.assert_array_equal(volume.ignore, np.isin(raw, ignored))
    else:
        assert volume.ignore is None


@pytest.mark.parametrize(
    ("year", "value", "words"),
    [
        ("brats20", 3, r"label 3: 2020, .* and 4 \(enhancing tumour, and 3 is the same in 2023\); restore the mask"),
        ("brats21", 3, r"label 3: 2021, .* and 4 \(enhancing tumour, and 3 is the same in 2023\); restore the mask"),
        (
            "brats23",
            4,
            r"label 4: 2023, .* and 3 \(enhancing tumour, and 4 is the same in 2020 and 2021\); labels of 2024, .* "
            "resection cavity, are not known to this adapter: leave such cases out, or restore the mask",
        ),
        ("brats21", 9, r"seg.nii.gz: label 9: 2021, .* 1 .*, 2 .* and 4 \(enhancing tumour\); restore the mask"),
    ],
)
def test_labels_of_another_year_are_refused(tmp_path: Path, year: str, value: int, words: str) -> None:
    data = make(year, fake_lesions.brats(tmp_path, year))
    first = data.subjects()[0]
    fake_data.nifti(first.files[-1], fake_lesions.mask((1, value)))
    with pytest.raises(DataError, match=words) as caught:
        data.load(first)
    assert "--dataset" not in str(caught.value)  # The adapter of the other year would not read this folder.


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("other", YEARS)
def test_a_folder_of_another_year_names_its_adapter(tmp_path: Path, year: str, other: str) -> None:
    fake_lesions.brats(tmp_path, other)
    if year == other:
        assert make(year, tmp_path).subjects()
        return
    with pytest.raises(DataError, match=f"^{year}: .* is named as in .*; use --dataset {other}$"):
        make(year, tmp_path).subjects()


def test_a_plug_in_can_derive_from_an_adapter(tmp_path: Path) -> None:
    plugin = tmp_path / "glioma.py"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom uadbench.datasets.brats21 import Brats21\n\n\n"
        "@dataclass\nclass Glioma(Brats21):\n    pass\n"
    )
    root = fake_lesions.brats(tmp_path / "data", "brats21")
    cls = Registry([plugin]).dataset("glioma")
    data = resolve(cls, [("test", {"root": root})])[0]
    assert [s.key for s in data.subjects()] == fake_lesions.BRATS_NAMES["brats21"][0]
    fake_data.nifti(data.subjects()[0].files[-1], fake_lesions.mask((1, 3)))
    with pytest.raises(DataError, match=r"^glioma: .*seg.nii.gz: label 3"):
        data.load(data.subjects()[0])
    with pytest.raises(DataError, match=r"^glioma: .* is named as in 2020; use --dataset brats20"):
        resolve(cls, [("test", {"root": fake_lesions.brats(tmp_path / "old", "brats20")})])[0].subjects()


def test_archives_with_folders_of_their_own_are_read(tmp_path: Path) -> None:
    fake_lesions.brats(tmp_path / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData", "brats20")
    assert len(make("brats20", tmp_path).subjects()) == 3


def test_an_unknown_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"brats21: there is no folder .*BraTS2021_00000_flair.nii.gz"):
        make("brats21", tmp_path / "nowhere").subjects()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        DataError, match=r"nothing like BraTS2021_00000/BraTS2021_00000_flair.nii.gz; it holds notes.txt"
    ):
        make("brats21", tmp_path).subjects()


def test_a_modality_that_is_not_there_is_named(tmp_path: Path) -> None:
    fake_lesions.brats(tmp_path, "brats21")
    with pytest.raises(DataError, match="has the modality 'pd'; there: .* .possible: t1, t1ce, t2, flair"):
        make("brats21", tmp_path, modality="pd").subjects()
    (tmp_path / "BraTS2021_00002" / "BraTS2021_00002_t2.nii.gz").unlink()
    assert [s.key for s in make("brats21", tmp_path, modality="t2").subjects()] == [
        "BraTS2021_00000",
        "BraTS2021_01666",
    ]


def test_scans_of_one_person_stay_together_and_cohorts_are_groups(tmp_path: Path) -> None:
    data = make("brats23", fake_lesions.brats(tmp_path, "brats23"), val_lesion=0.5)
    assert [s.groups["cohort"] for s in data.subjects()] == ["GLI", "GLI", "GLI", "MET"]
    split = data.split(0)
    val, test = ({s.id for s in part} for part in (split.val_lesion, split.test_lesion))
    assert val and test and not val & test
    assert len(split.val_lesion) + len(split.test_lesion) == 4


@pytest.mark.parametrize(
    ("year", "val", "test"), [("brats20", 30, 339), ("brats21", 100, 1151), ("brats23", 100, 1151)]
)
def test_the_full_set_is_split_in_the_published_numbers(year: str, val: int, test: int) -> None:
    data = make(year, Path())
    order = [str(n) for n in range(data.card.expected["subjects"])]
    parts = data.people(0, order)
    assert [len(part) for part in parts] == [0, val, test]


def test_parameters_are_checked_and_the_place_of_the_data_is_none_of_the_identity(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="target"):
        make("brats21", tmp_path, target="oedema")
    assert "root" not in make("brats21", tmp_path).parameters()
    assert {f.name for f in dataclasses.fields(Brats21)} >= {"root", "modality", "target", "val_lesion", "seed"}


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    data = make("brats21", fake_lesions.brats(tmp_path, "brats21"))
    first = data.subjects()[0]
    fake_data.nifti(first.files[-1], fake_lesions.mask()[:-1])
    with pytest.raises(DataError, match=r"seg.nii.gz has the shape \(9, 12, 4\) but"):
        data.load(first)


def test_content_changes_with_a_mask_and_not_with_the_folder(tmp_path: Path) -> None:
    before = make("brats21", fake_lesions.brats(tmp_path / "a", "brats21")).content()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = make("brats21", tmp_path / "b")
    assert moved.content() == before
    fake_data.nifti(moved.subjects()[0].files[-1], fake_lesions.mask((2,)))
    assert make("brats21", tmp_path / "b").content() != before


def test_a_prepared_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What counts as lesion is decided by the preparation; another target is another folder."""
    pytest.importorskip("SimpleITK")
    from uadbench.prepare.recipes import get_recipe
    from uadbench.prepare.run import prepare
    from uadbench.prepare.work import Task

    raw = fake_lesions.brats(tmp_path / "raw", "brats21")
    core = Brats21(root=raw, target="core")
    prepare(core, Task("brats21", tmp_path / "out", get_recipe("convert")))
    again = Brats21(root=tmp_path / "out", target="core")
    subject = again.subjects()[0]
    before, after = core.load(core.subjects()[0]), again.load(subject)
    assert before.lesion is not None
    assert after.lesion is not None
    assert int(after.lesion.sum()) == int(before.lesion.sum()) > 0
    with pytest.raises(DataError, match=r"was prepared with target=core, not whole; give -D target=core"):
        Brats21(root=tmp_path / "out").subjects()
