from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_data
import fake_healthy
import nibabel
import numpy as np
import pytest

from uadbench.data_checks import counts
from uadbench.datasets._splits import read_split
from uadbench.datasets.ixi import IXI
from uadbench.errors import BadParameter, DataError, UsageError
from uadbench.params import resolve

SHEET = ["IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "AGE"]


def make(root: Path, **given: Any) -> IXI:
    return resolve(IXI, [("test", {"root": root, **given})])[0]


def in_folders(root: Path) -> Path:
    return fake_healthy.ixi(root, folders=True)


@pytest.mark.parametrize("write", [fake_healthy.ixi, in_folders])
def test_the_owners_files_are_read_in_one_folder_or_one_for_each_modality(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    root = write(tmp_path)
    data = make(root, modality="t2+pd")
    subjects = data.subjects()
    assert [s.key for s in subjects] == list(fake_healthy.IXI)
    assert [s.groups["site"] for s in subjects] == ["Guys", "HH", "HH", "HH", "IOP", "Guys"]
    volume = data.load(subjects[3])
    assert volume.image.shape == (2, 4, 10, 8)
    assert volume.image.max(axis=(1, 2, 3)).tolist() == [1031.0, 1032.0]
    assert volume.lesion is None
    assert volume.foreground is None
    assert "foreground" not in data.provides()
    assert volume.spacing == (3.0, 2.0, 2.0)


def test_the_renamed_files_come_with_masks(tmp_path: Path) -> None:
    data = make(fake_healthy.ixi_renamed(tmp_path), modality="t2")
    volume = data.load(data.subjects()[1])
    # Nothing is 0 in these images, so the foreground can only be the mask's.
    assert volume.image.min() > 0
    assert volume.foreground is not None
    np.testing.assert_array_equal(volume.foreground, fake_healthy.volume(10).transpose(2, 1, 0) > 0)
    assert "foreground" in data.provides()
    assert "foreground" in make(tmp_path, foreground="file").provides()
    assert data.load(data.subjects()[1]).image.max() == 1012.0


def test_who_lacks_a_modality_is_not_there(tmp_path: Path) -> None:
    fake_healthy.ixi(tmp_path, kinds=("T1",))
    fake_healthy.ixi(tmp_path, fake_healthy.IXI[:2], kinds=("T1", "T2"))
    assert len(make(tmp_path).subjects()) == 6
    assert [s.id for s in make(tmp_path, modality="t1+t2").subjects()] == list(fake_healthy.IXI[:2])
    with pytest.raises(
        DataError, match="none of the 6 scans in .* has the modality 'pd'; there: .* .possible: t1, t2, pd"
    ):
        make(tmp_path, modality="pd").subjects()


def test_masks_that_are_not_there_are_not_promised(tmp_path: Path) -> None:
    fake_healthy.ixi(tmp_path, kinds=("T1",))
    data = make(tmp_path, foreground="file")
    assert "foreground" not in data.provides()
    with pytest.raises(DataError, match="has no foreground mask; add one, or use foreground=nonzero"):
        data.load(data.subjects()[0])
    assert "foreground" in make(tmp_path, foreground="nonzero").provides()


def test_somebody_always_validates(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="val"):
        make(tmp_path, val=0)


def test_two_scans_of_one_number_are_one_person(tmp_path: Path) -> None:
    fake_healthy.ixi(tmp_path, [*fake_healthy.IXI, "IXI012-Guys-1300"], kinds=("T1",))
    same = [s for s in make(tmp_path).subjects() if s.groups["site"] in ("Guys", "HH") and "IXI012" in s.key]
    assert len(same) == 2
    assert len({s.id for s in same}) == 1
    assert len({s.key for s in same}) == 2


def test_a_second_file_of_the_same_image_is_refused(tmp_path: Path) -> None:
    fake_healthy.ixi(tmp_path, kinds=("T1",))
    fake_data.nifti(tmp_path / "brains" / "IXI002-Guys-0828-T1_brain.nii.gz", fake_healthy.volume(0))
    with pytest.raises(
        DataError, match=r"-T1_brain.nii.gz are both the t1 image of IXI002-Guys-0828; take one of them"
    ):
        make(tmp_path).subjects()


def test_a_wrong_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"ixi: there is no folder .*nowhere; give the one that holds IXI002-Guys-0828-T1"
    ):
        make(tmp_path / "nowhere").subjects()
    fake_data.nifti(tmp_path / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz", fake_healthy.volume(0))
    # Diffusion images of the same set are no anatomy.
    fake_data.nifti(tmp_path / "IXI002-Guys-0828-DTI-00.nii.gz", fake_healthy.volume(0))
    with pytest.raises(
        DataError, match=r"holds nothing like IXI002-Guys-0828-T1.nii.gz or .*; it holds IXI002-Guys-0828-DTI"
    ):
        make(tmp_path).subjects()


def test_age_and_sex_come_from_a_table_unless_it_contradicts_itself(tmp_path: Path) -> None:
    fake_healthy.ixi(tmp_path, kinds=("T1",))
    (tmp_path / "participants.csv").write_text(
        "MRID,Age,Sex\n"
        "IXI002-Guys-0828,35.80,F\nIXI012-HH-1211,38.78,M\nIXI013-HH-1212,,M\n"
        "IXI014-HH-1236,34.2,M\nIXI014-HH-1236,61.9,M\nIXI035-IOP-0873,50,F\nIXI035-IOP-0873,50,F\n"
    )
    groups = [dict(s.groups) for s in make(tmp_path).subjects()]
    assert [g.get("age") for g in groups] == [35.8, 38.78, None, None, 50.0, None]
    assert [g.get("sex") for g in groups] == ["f", "m", "m", "m", "f", None]
    (tmp_path / "participants.csv").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(DataError, match=r"participants.csv cannot be read .*; restore it or take it away"):
        make(tmp_path).subjects()


def test_the_owners_sheet_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_healthy.ixi(tmp_path, kinds=("T1",))
    rows: list[list[str | float | None]] = [
        [2, 2, 164, 35.800137], [12, 1, 175, 38.781656], [13, 1, 182, None], [14, 0, 0, 0], [35, 2, 0, 62.08],
        [35, 1, 0, 61.79], [600, 1, 0, 40.0],
    ]  # fmt: skip
    path = fake_healthy.xls(tmp_path / "IXI.xls", [SHEET, *rows])
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "xlrd", None)
        assert all(set(s.groups) == {"site"} for s in make(tmp_path).subjects())
    pytest.importorskip("xlrd")
    groups = [dict(s.groups) for s in make(tmp_path).subjects()]
    assert [g.get("age") for g in groups] == [35.8, 38.78, None, None, None, None]
    assert [g.get("sex") for g in groups] == ["f", "m", "m", None, None, None]
    path.write_bytes(path.read_bytes()[:3] + b"hello")
    with pytest.raises(DataError, match=r"IXI.xls cannot be read .*; restore it or take it away"):
        make(tmp_path).subjects()


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All people of the release as empty files, which is enough for the index, and one who is not of it."""
    root = tmp_path_factory.mktemp("everybody")
    for person in [*read_split("ixi-v2"), None]:
        for kind in ("T1", "T2"):
            (root / f"{person.id if person else 'IXI999-HH-0001'}-{kind}.nii.gz").touch()
    return root


@pytest.mark.parametrize("fold", range(5))
def test_v2_shares_people_out_as_the_file_says(everybody: Path, fold: int) -> None:
    data = make(everybody, splits="v2")
    split = data.split(fold)
    assert not split.leaky
    assert (len(split.train), len(split.val), len(split.test_healthy)) == (365, 44, 157)
    people = [s.id for _, s in split.items()]
    assert len(people) == len(set(people)) == 566
    assert {p.id for p in read_split("ixi-v2") if p.roles[fold] == ("val",)} == {s.id for s in split.val}
    assert "IXI999-HH-0001" not in people


@pytest.mark.parametrize(("modality", "sizes"), [("t1", (377, 44, 157)), ("t2", (376, 43, 155))])
def test_legacy_is_given_with_its_leaks_and_says_so(everybody: Path, modality: str, sizes: tuple[int, ...]) -> None:
    data = make(everybody, splits="legacy", modality=modality)
    split = data.split(3) if modality == "t1" else data.split(4)
    assert (len(split.train), len(split.val), len(split.test_healthy)) == sizes
    number = len({s.id for s in split.train} & {s.id for s in split.test_healthy})
    assert number == (7 if modality == "t1" else 8)
    assert f"{number} in train and test" in split.leaky


def test_people_who_are_not_on_disk_are_left_out_and_counted(tmp_path: Path) -> None:
    fake_healthy.ixi(tmp_path, [*fake_healthy.IXI, "IXI999-HH-0001"], kinds=("T1",))
    data = make(tmp_path, splits="v2")
    split = data.split(0)
    assert {s.id for _, s in split.items()} == set(fake_healthy.IXI)
    sizes = len(split.train), len(split.val), len(split.test_healthy)
    [found] = counts(data, data.subjects(), split)
    assert found.message == (
        f"7 scans (t1), published: 581; {sizes[0]} train, published: 365; {sizes[1]} val, published: 44; "
        f"{sizes[2]} test_healthy, published: 157"
    )
    [found] = counts(make(tmp_path), make(tmp_path).subjects(), make(tmp_path).split(0))
    assert found.message == "7 scans (t1), published: 581"
    assert {s.id for _, s in make(tmp_path).split(0).items()} == {*fake_healthy.IXI, "IXI999-HH-0001"}


@pytest.mark.parametrize("splits", ["v2", "legacy"])
def test_who_is_in_a_shipped_split_is_what_is_counted(everybody: Path, splits: str) -> None:
    data = make(everybody, splits=splits)
    # Only the scans of the release are not all there.
    [found] = counts(data, data.subjects(), data.split(0))
    assert found.message == "567 scans (t1), published: 581"
    data = make(everybody, splits=splits, modality="t2")
    [found] = counts(data, data.subjects(), data.split(0))
    assert found.message == "567 scans (t2), published: 578"


def test_a_split_of_nobody_is_one_sentence(tmp_path: Path) -> None:
    fake_healthy.ixi(tmp_path, ["IXI997-HH-0001", "IXI998-HH-0002"], kinds=("T1",))
    with pytest.raises(
        DataError, match="none of the 2 scans in .* is of a person in the split ixi-v2; use splits=seeded"
    ):
        make(tmp_path, splits="v2").split(0)


def test_parameters_that_a_file_overrules_are_refused(everybody: Path) -> None:
    for given in ({"val": 0.2}, {"test_healthy": 0.5}, {"seed": 3}):
        name, value = next(iter(given.items()))
        words = re.escape(f"{name}={value} would do nothing; leave it out, or use splits=seeded")
        with pytest.raises(UsageError, match=words):
            make(everybody, splits="v2", **given).split(0)
        assert make(everybody, **given).split(0).train
    for splits in ("v2", "legacy", "seeded"):
        with pytest.raises(UsageError, match="ixi has the folds 0 to 4, not 5"):
            make(everybody, splits=splits).split(5)


def test_the_seeded_split_depends_on_the_seed(everybody: Path) -> None:
    first, second = make(everybody).split(0), make(everybody, seed=1).split(0)
    assert first == make(everybody).split(0)
    assert first != second
    assert len(first.train) + len(first.val) + len(first.test_healthy) == 567


def test_the_real_volumes_are_read(real_data: Path) -> None:
    root = real_data / "ixi_t1_mni2mm"
    data = make(root)
    subjects = data.subjects()
    assert len(subjects) == 32
    assert data.provides() == {"foreground"}
    with (root / "participants.csv").open(newline="") as file:
        table = {row["MRID"]: row for row in csv.DictReader(file)}
    for subject in subjects:
        assert subject.groups == {
            "site": "HH", "age": float(table[subject.id]["Age"]), "sex": table[subject.id]["Sex"].lower()
        }  # fmt: skip
    volume = data.load(subjects[0])
    raw = np.asanyarray(nibabel.load(subjects[0].files[0]).dataobj)
    np.testing.assert_array_equal(volume.image[0], raw.transpose(2, 1, 0))
    assert volume.foreground is not None
    np.testing.assert_array_equal(volume.foreground, raw.transpose(2, 1, 0) > 0)
    assert 1.2 < volume.foreground.sum() * volume.voxel_ml / 1000 < 2.2
    # In the release's table the same people have the same ages.
    listed = {p.id: p.more["age"] for p in read_split("ixi-v2")}
    assert all(float(listed[s.id]) == s.groups["age"] for s in subjects if s.id in listed)
    v2 = make(root, splits="v2")
    used = {s.id for _, s in v2.split(0).items()}
    assert used == {s.id for s in subjects} & listed.keys()
    assert 20 < len(used) <= 32


@pytest.mark.parametrize("number", [5, 14, 17])
def test_the_seeded_folds_test_everybody_once(tmp_path: Path, number: int) -> None:
    for i in range(number):
        (tmp_path / f"IXI{i:03}-HH-{i:04}-T1.nii.gz").touch()
    splits = [make(tmp_path).split(fold) for fold in range(5)]
    tested = [s.id for split in splits for s in split.test_healthy]
    assert len(tested) == len(set(tested)) == number
    for split in splits:
        assert not {s.id for s in split.train} & {s.id for s in (*split.val, *split.test_healthy)}
