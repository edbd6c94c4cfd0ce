"""The papers' CSV files: small ones with all their defects, and the real ones."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import fake_data
import fake_lesions
import numpy as np
import pytest

from uadbench.contract import check_dataset
from uadbench.dataset import ROLES
from uadbench.datasets._splits import read_split
from uadbench.datasets.mddpm_csv import MddpmCsv
from uadbench.errors import DataError, UsageError
from uadbench.params import resolve


def make(root: Path, **given: Any) -> MddpmCsv:
    return resolve(MddpmCsv, [("test", {"root": root, **given})], owner="mddpm_csv")[0]


@pytest.fixture(scope="module")
def csvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_lesions.mddpm_csvs(tmp_path_factory.mktemp("csvs") / "splits")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, csvs: Path) -> Path:
    return fake_lesions.mddpm(tmp_path_factory.mktemp("data"), csvs)


@pytest.fixture
def touched(tmp_path: Path, csvs: Path) -> Path:
    return fake_lesions.mddpm(tmp_path / "data", csvs, empty=True)


def roles(data: MddpmCsv, fold: int) -> dict[str, list[str]]:
    split = data.split(fold)
    return {role: [s.id.partition("-")[0] for s in getattr(split, role)] for role in ROLES}


@pytest.mark.parametrize("modality", ["t1", "t2"])
def test_it_keeps_the_contract(root: Path, csvs: Path, modality: str) -> None:
    check_dataset(make(root, splits=csvs, modality=modality))
    check_dataset(make(root, splits=csvs, modality=modality, target="MSLUB"))


def test_images_masks_and_groups_are_those_of_the_csv_files(root: Path, csvs: Path) -> None:
    for modality, offset in (("t1", 0), ("t2", 1000)):
        data = make(root, splits=csvs, modality=modality)
        for subject in (data.split(0).test_lesion[0], data.split(0).train[0]):
            volume = data.load(subject)
            assert subject.files[0].parent.name == modality
            assert subject.files[0].name.endswith(f"_{modality}.nii.gz")
            assert (volume.image.min() >= 1000) == (offset == 1000)
            np.testing.assert_array_equal(volume.foreground, fake_lesions.foreground().transpose(2, 1, 0) > 0)
            if subject.id.startswith("IXI"):
                assert volume.lesion is None
                assert subject.groups["site"] == "Guys" and subject.groups["sex"] == "F"
            else:
                np.testing.assert_array_equal(volume.lesion, fake_lesions.mask().transpose(2, 1, 0) > 0)
    # The first person is listed twice with two ages: neither of them is taken.
    assert "age" not in data.split(0).train[0].groups
    assert data.split(0).test_lesion[0].groups["age"] == 30.0


def test_people_in_two_stages_stay_in_the_last_one(root: Path, csvs: Path) -> None:
    data = make(root, splits=csvs, modality="t1")
    assert roles(data, 0) == {
        "train": ["IXI000", "IXI001", "IXI002", "IXI010"],
        "val": ["IXI004", "IXI005"],
        "val_lesion": ["BraTS2021_00000"],
        "test_healthy": ["IXI006", "IXI007", "IXI008", "IXI009"],
        "test_lesion": ["BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003"],
    }
    assert roles(data, 2)["train"] == ["IXI000", "IXI001", "IXI002", "IXI010"]
    assert roles(data, 3)["val"] == ["IXI004", "IXI005"]
    assert data.leaking(0) == {("train", "test"): ("IXI008-IOP-1008",)}
    assert data.leaking(3) == {
        ("train", "validation"): ("IXI005-IOP-1005",),
        ("train", "test"): ("IXI008-IOP-1008",),
        ("validation", "test"): ("IXI009-Guys-1009",),
    }
    for fold in range(5):
        split = data.split(fold)
        split.check("mddpm_csv")
        assert not split.leaky


def test_the_published_split_can_be_had_and_says_that_it_leaks(root: Path, csvs: Path) -> None:
    data = make(root, splits=csvs, modality="t1", leaks="keep")
    assert roles(data, 3)["train"] == ["IXI000", "IXI001", "IXI002", "IXI008", "IXI010", "IXI005"]
    assert roles(data, 3)["val"] == ["IXI004", "IXI005", "IXI009"]
    split = data.split(3)
    split.check("mddpm_csv")
    assert split.leaky.endswith("1 in train and validation, 1 in train and test, 1 in validation and test")
    assert data.parameters()["leaks"] == "keep"


def test_only_t2_needs_the_list_of_t2(root: Path, csvs: Path) -> None:
    assert "IXI010" in roles(make(root, splits=csvs, modality="t1"), 0)["train"]
    assert "IXI010" not in roles(make(root, splits=csvs, modality="t2"), 0)["train"]


def test_files_may_lie_below_data_or_directly_and_csv_files_beside_them(tmp_path: Path, csvs: Path) -> None:
    below = fake_lesions.mddpm(tmp_path / "a", csvs, empty=True)
    flat = fake_lesions.mddpm(tmp_path / "b", csvs, "", empty=True)
    expected = [s.key for s in make(below, splits=csvs).subjects()]
    assert [s.key for s in make(flat, splits=csvs).subjects()] == expected
    for place in (below / "Data" / "splits", flat / "splits"):
        place.mkdir()
        for table in csvs.iterdir():
            (place / table.name).write_bytes(table.read_bytes())
    assert [s.key for s in make(below).subjects()] == expected
    assert [s.key for s in make(flat).subjects()] == expected


def test_paths_that_name_t2_are_read_as_well(touched: Path, csvs: Path, tmp_path: Path) -> None:
    other = tmp_path / "t2"
    other.mkdir()
    for table in csvs.iterdir():
        text = table.read_text(encoding="utf-8").replace("/t1/", "/t2/").replace("_t1.nii", "_t2.nii")
        (other / table.name).write_text(text, encoding="utf-8")
    for modality in ("t1", "t2"):
        ours, theirs = (make(touched, splits=where, modality=modality).subjects() for where in (csvs, other))
        assert [s.files for s in ours] == [s.files for s in theirs]


def wreck(root: Path, splits: Path, what: str) -> None:
    if what == "files":
        for name in ("t2/IXI001-HH-1001_t2.nii.gz", "mask/IXI002-IOP-1002_mask.nii.gz"):
            (root / "Data" / "Train" / "ixi" / name).unlink()
    elif what == "no csv":
        (splits / "IXI_test.csv").unlink()
    elif what == "no fold":
        (splits / "IXI_val_fold3.csv").unlink()
    elif what == "column":
        (splits / "IXI_test.csv").write_text("a,b\n1,2\n")
    elif what == "no line":
        (splits / "Brats21_val.csv").write_text(",img_name,img_path,mask_path,seg_path\n")
    elif what == "no seg":
        (splits / "Brats21_val.csv").write_text(
            ",img_name,img_path,mask_path,seg_path\n1,BraTS2021_00000,/Test/Brats21/t1/x_t1.nii.gz,/Test/Brats21/mask/x.nii.gz,\n"
        )
    elif what == "not text":
        (splits / "IXI_train_fold0.csv").write_bytes(b"\xff\xfe\x00\x01")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            "files",
            r"mddpm_csv: 2 of the \d+ files that the CSV files name are not in .*Data, the first is "
            r"Train/ixi/t2/IXI001-HH-1001_t2.nii.gz; restore them",
        ),
        ("no csv", r"there is no IXI_test.csv in .*splits.*-D mddpm_csv.splits=FOLDER"),
        ("no fold", r"IXI_val_fold3.csv cannot be read"),
        ("column", r"IXI_test.csv has no column 'img_name'"),
        ("no line", r"Brats21_val.csv has no line"),
        ("no seg", r"Brats21_val.csv, line 2: seg_path is empty"),
        ("not text", r"IXI_train_fold0.csv cannot be read"),
    ],
)
def test_wrong_files_are_named(touched: Path, csvs: Path, tmp_path: Path, what: str, words: str) -> None:
    splits = tmp_path / "splits"
    splits.mkdir()
    for table in csvs.iterdir():
        (splits / table.name).write_bytes(table.read_bytes())
    wreck(touched, splits, what)
    with pytest.raises(DataError, match=words):
        make(touched, splits=splits).subjects()


def test_what_is_possible_is_said(touched: Path, csvs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it has those of Brats21, MSLUB: choose one of them with target="):
        make(touched, splits=csvs, target="WMH").subjects()
    with pytest.raises(UsageError, match="mddpm_csv has the folds 0 to 4, not 5"):
        make(touched, splits=csvs).split(5)
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        make(tmp_path / "nowhere", splits=csvs).subjects()
    with pytest.raises(DataError, match=r"nothing like Data/Train/ixi/t1/IXI002-Guys-0828_t1.nii.gz or Train/"):
        make(csvs, splits=csvs).subjects()


def test_content_knows_all_folds(touched: Path, csvs: Path, tmp_path: Path) -> None:
    before = make(touched, splits=csvs).content()
    assert make(touched, splits=csvs).content() == before
    splits = tmp_path / "splits"
    splits.mkdir()
    for table in csvs.iterdir():
        (splits / table.name).write_bytes(table.read_bytes())
    assert make(touched, splits=splits).content() == before
    lines = (splits / "IXI_train_fold4.csv").read_text().splitlines()
    (splits / "IXI_train_fold4.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert make(touched, splits=splits).content() != before


def names_in(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row["img_name"].removesuffix("_t1.nii.gz") for row in csv.DictReader(file)]


def test_the_real_csv_files(real_data: Path, tmp_path: Path) -> None:
    splits = real_data / "mddpm_splits"
    root = fake_lesions.mddpm(tmp_path, splits, empty=True)
    data = make(root, splits=splits, modality="t1")
    kept = make(root, splits=splits, modality="t1", leaks="keep")
    test = set(names_in(splits / "IXI_test.csv"))
    for fold in range(5):
        train, val = (set(names_in(splits / f"IXI_{part}_fold{fold}.csv")) for part in ("train", "val"))
        expected = {
            ("train", "validation"): train & val,
            ("train", "test"): train & test,
            ("validation", "test"): val & test,
        }
        assert {pair: set(who) for pair, who in data.leaking(fold).items()} == {p: w for p, w in expected.items() if w}
        split = data.split(fold)
        split.check("mddpm_csv")
        assert {s.id for s in split.train} == train - val - test
        assert {s.id for s in split.val} == val - test
        assert {s.id for s in split.test_healthy} == test
        published = kept.split(fold)
        published.check("mddpm_csv")
        assert published.leaky
        assert {s.id for s in published.train} == train and len(published.train) == len(train)
    # The counts that the docstring states.
    folds = [data.leaking(fold) for fold in range(5)]
    assert [len(f[("train", "test")]) for f in folds] == [9, 9, 9, 7, 8]
    assert [len(f.get(("train", "validation"), ())) for f in folds] == [0, 0, 2, 3, 3]
    assert [len(f.get(("validation", "test"), ())) for f in folds] == [0, 0, 0, 2, 1]
    assert [len(data.split(fold).train) for fold in range(5)] == [365, 365, 365, 367, 366]
    assert [len(data.split(fold).val) for fold in range(5)] == [44, 44, 44, 42, 43]
    assert (len(data.split(0).val_lesion), len(data.split(0).test_lesion)) == (100, 1151)
    # The filter for T2, as counted in the papers' own rows, each person once.
    t2 = make(root, splits=splits, leaks="keep")
    assert [len(t2.split(fold).train) for fold in range(5)] == [372, 372, 374, 376, 376]
    assert [len(t2.split(fold).val) for fold in range(5)] == [44, 44, 44, 43, 43]
    assert len(t2.split(0).test_healthy) == 155
    # The shipped copy of the published split has the same people in the same roles.
    for fold in range(5):
        ours = {(role, s.id) for role, s in kept.split(fold).items() if s.id.startswith("IXI")}
        assert ours == {(role, person.id) for person in read_split("ixi-legacy") for role in person.roles[fold]}
    mslub = make(root, splits=splits, target="MSLUB")
    assert (len(mslub.split(0).val_lesion), len(mslub.split(0).test_lesion)) == (10, 20)
    assert mslub.split(0).test_lesion[0].groups == {"age": 40.0, "sex": "F", "ms_type": "RR"}


def test_a_volume_on_another_grid_is_refused(tmp_path: Path, csvs: Path) -> None:
    root = fake_lesions.mddpm(tmp_path, csvs, empty=True)
    data = make(root, splits=csvs)
    subject = data.split(0).test_lesion[0]
    fake_data.nifti(subject.files[0], fake_lesions.image())
    fake_data.nifti(subject.files[1], fake_lesions.foreground())
    fake_data.nifti(subject.files[2], fake_lesions.mask()[:-1])
    with pytest.raises(DataError, match=r"_seg.nii.gz has the shape \(9, 12, 4\) but"):
        data.load(subject)
