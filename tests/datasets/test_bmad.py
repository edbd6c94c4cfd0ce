from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_pictures
import numpy as np
import pytest
from PIL import Image

from uadbench.contract import check_dataset
from uadbench.data_checks import counts
from uadbench.dataset import ROLES
from uadbench.datasets.bmad import BMAD
from uadbench.errors import DataError, UsageError
from uadbench.params import resolve

LAYOUTS = ("readme", "code", "flat")
UNANNOTATED = {"oct2017", "chest", "histopathology"}


def make(root: Path, **given: Any) -> BMAD:
    return resolve(BMAD, [("test", {"root": root, **given})])[0]


def numbers(data: BMAD, role: str) -> list[float]:
    """The numbers that are written into the first pixels."""
    return [float(data.load(s).image[0, 0, 0, 0]) for s in getattr(data.split(), role)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("part", fake_pictures.BMAD_NAMES)
def test_every_part_in_every_layout(tmp_path: Path, part: str, layout: str) -> None:
    data = make(fake_pictures.bmad(tmp_path / "Some_AD", part, layout), part=part)
    check_dataset(data)
    found = {role: numbers(data, role) for role in ROLES}
    assert {role: set(values) for role, values in found.items()} == {
        "train": {0.0, 1.0, 2.0}, "val": {3.0}, "val_lesion": {4.0, 5.0}, "test_healthy": {6.0}, "test_lesion": {7.0, 8.0},
    }  # fmt: skip
    assert data.annotated() == (layout != "flat")
    volume = data.load(data.split().test_lesion[0])
    assert volume.image.shape == (3 if part == "histopathology" else 1, 1, 20, 24)
    assert volume.spacing is None
    if layout == "flat":
        assert volume.lesion is None
    else:
        expected = np.zeros((20, 24), bool)
        expected[fake_pictures.SPOT] = True
        np.testing.assert_array_equal(volume.lesion, expected[None])


@pytest.mark.parametrize(
    ("part", "folder"),
    [
        ("brain", "Brain"), ("brain", "Brain_AD"), ("liver", "liver"), ("liver", "Liver_AD"), ("resc", "Retina_RESC_AD"),
        ("resc", "RESC"), ("oct2017", "RetinaOCT2017_AD"), ("oct2017", "Retina_OCT2017"), ("chest", "Chest-RSNA"),
        ("chest", "RSNA"), ("histopathology", "camelyon16_256"), ("histopathology", "Histopathology_AD"),
    ],
)  # fmt: skip
def test_the_folder_of_a_part_is_found_by_its_names(tmp_path: Path, part: str, folder: str) -> None:
    fake_pictures.bmad(tmp_path / folder, part)
    assert len(make(tmp_path, part=part).subjects()) == len(make(tmp_path / folder, part=part).subjects()) == 9
    other = "liver" if part != "liver" else "brain"
    with pytest.raises(DataError, match=f"is the part {part}, not {other}; give -D part={part}"):
        make(tmp_path / folder, part=other).subjects()
    with pytest.raises(DataError, match=r"holds nothing like .*/train/good/img/00003_60.png"):
        make(tmp_path, part=other).subjects()


def test_people_are_read_from_names(tmp_path: Path) -> None:
    people = {}
    for part in fake_pictures.BMAD_NAMES:
        data = make(fake_pictures.bmad(tmp_path / part, part), part=part)
        people[part] = [s.id for s in data.split().train] + [s.id for s in data.split().test_lesion]
    assert people["brain"] == ["00003", "00003", "00005", "00002", "00002"]
    assert people["liver"] == ["BTCV-1", "BTCV-1", "BTCV-2", "LiTS-12", "LiTS-13"]
    assert people["resc"] == ["P0001", "P0001", "PC002", "P0368", "P0368"]
    assert sorted(people["oct2017"]) == ["1001", "1001", "1002", "3002", "3002"]
    assert len(set(people["chest"])) == 5
    assert people["histopathology"][3] == "test-ungood-1000"


def test_numbers_that_start_again_are_no_leak_but_a_patient_in_train_and_test_is(tmp_path: Path) -> None:
    same = ["1000", "1001", "1002", "1000", "1000", "1001", "1000", "1000", "1001"]
    for part in UNANNOTATED:
        make(fake_pictures.bmad(tmp_path / part, part, "flat", same), part=part).split().check("bmad")
    liver = ["1_40", "1_41", "2_40", "3_50", "3_51", "3_52", "1_50", "1_51", "2_50"]
    make(fake_pictures.bmad(tmp_path / "liver", "liver", "code", liver), part="liver").split().check("bmad")
    names = list(fake_pictures.BMAD_NAMES["brain"])
    names[7] = "00003_88"
    data = make(fake_pictures.bmad(tmp_path / "brain", "brain", "code", names))
    with pytest.raises(DataError, match="'00003' is in both train and test"):
        data.split().check("bmad")
    kept = make(tmp_path / "brain", leaky=True).split()
    kept.check("bmad")
    assert kept.leaky == "1 people are in two parts of the owners' split"
    names[7] = names[0]
    with pytest.raises(DataError, match="'00003' is in both train and test"):
        make(fake_pictures.bmad(tmp_path / "same", "brain", "code", names)).split().check("bmad")


def test_validation_from_people_of_the_test_set_has_two_ways_out(tmp_path: Path) -> None:
    names = ["1_40", "1_41", "2_40", "3_50", "3_51", "4_52", "3_60", "4_51", "5_50"]
    root = fake_pictures.bmad(tmp_path, "liver", "code", names)
    with pytest.raises(
        DataError, match=r"2 of the 2 people for validation are also .* LiTS-3; .*-D validation=train, or"
    ):
        make(root, part="liver").split()
    leaky = make(root, part="liver", leaky=True).split()
    assert leaky.leaky
    assert len(leaky.val_lesion) == 2
    data = make(root, part="liver", validation="train")
    check_dataset(data)
    split = data.split()
    assert split.leaky == ""
    assert split.val_lesion == ()
    assert {s.id for s in split.train} | {s.id for s in split.val} == {"BTCV-1", "BTCV-2"}
    assert not make(fake_pictures.bmad(tmp_path / "b", "brain"), leaky=True).split().leaky


def test_pictures_that_are_left_out_by_choice_are_not_missed(tmp_path: Path) -> None:
    root = fake_pictures.bmad(tmp_path, "liver")
    owners, other = make(root, part="liver"), make(root, part="liver", validation="train")
    [found] = counts(owners, owners.subjects(), owners.split())
    assert found.message == "9 scans (liver), published: 3201"
    assert len(other.subjects()) == 6
    assert counts(other, other.subjects(), other.split()) == []


def test_masks_are_matched_by_name(tmp_path: Path) -> None:
    root = fake_pictures.bmad(tmp_path, "brain")
    masks = root / "test" / "Ungood" / "anomaly_mask"
    (masks / "00002_68.png").rename(masks / "00002_69.png")
    with pytest.raises(
        DataError, match=r"1 of 2 pictures have no mask in .*, such as .*00002_68.png; masks are matched"
    ):
        make(root).subjects()
    fake_pictures.mask(masks / "00002_68.png")
    with pytest.raises(DataError, match=r"1 masks belong to no picture, such as .*00002_69.png"):
        make(root).subjects()
    (masks / "00002_69.png").unlink()
    fake_pictures.mask(masks / "00002_68.png", size=(24, 20))
    data = make(root)
    with pytest.raises(
        DataError, match=r"00002_68.png has the shape \(24, 20\) but its picture 00002_68.png \(20, 24\)"
    ):
        data.load(data.split().test_lesion[1])


def test_a_mask_of_a_healthy_picture_is_read_too(tmp_path: Path) -> None:
    root = fake_pictures.bmad(tmp_path, "brain", "code")
    fake_pictures.mask(root / "test" / "good" / "label" / "00000_96.png", value=0)
    check_dataset(make(root))
    fake_pictures.mask(root / "test" / "good" / "label" / "00000_96.png", value=1)
    volume = make(root).load(make(root).split().test_healthy[0])
    assert volume.lesion is not None
    assert volume.lesion.any()


def test_wrong_files_and_folders_are_named(tmp_path: Path) -> None:
    root = fake_pictures.bmad(tmp_path / "Brain", "brain")
    path = root / "train" / "good" / "img" / "00003_60.png"
    path.write_bytes(path.read_bytes()[:80])
    data = make(root)
    with pytest.raises(DataError, match=r"00003_60.png cannot be read .*cut short"):
        data.load(data.split().train[0])
    with pytest.raises(UsageError, match="fold 0 only, not 1"):
        data.split(1)
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; give the one that holds Brain/train"):
        make(tmp_path / "nowhere").subjects()
    with pytest.raises(
        DataError, match=r"holds nothing like camelyon16/train/good/img/\S+ or camelyon16/train/good/1000.png"
    ):
        make(tmp_path, part="histopathology").subjects()


def test_pictures_may_differ_in_size_and_colour_can_be_chosen(tmp_path: Path) -> None:
    root = fake_pictures.bmad(tmp_path, "oct2017", "flat")
    Image.fromarray(np.full((31, 17), 9, np.uint8)).save(root / "train" / "good" / "NORMAL-1001-1.png")
    data = make(root, part="oct2017", colour="rgb", foreground="all")
    check_dataset(data)
    volumes = [data.load(s) for s in data.split().train]
    assert {v.grid for v in volumes} == {(1, 31, 17), (1, 20, 24)}
    assert {v.image.shape[0] for v in volumes} == {3}
    assert all(v.foreground is not None and v.foreground.all() for v in volumes)
