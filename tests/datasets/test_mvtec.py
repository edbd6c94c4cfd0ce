from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_pictures
import numpy as np
import pytest
from PIL import Image

from uadbench.contract import check_dataset
from uadbench.data_checks import counts
from uadbench.datasets.mvtec import MVTec
from uadbench.datasets.visa import VisA
from uadbench.errors import BadParameter, DataError, UsageError
from uadbench.params import resolve


def mvtec(root: Path, **given: Any) -> MVTec:
    return resolve(MVTec, [("test", {"root": root, **given})])[0]


def visa(root: Path, **given: Any) -> VisA:
    return resolve(VisA, [("test", {"root": root, **given})])[0]


def spot() -> np.ndarray:
    expected = np.zeros((1, 20, 24), bool)
    expected[0][fake_pictures.SPOT] = True
    return expected


def test_a_category_of_mvtec(tmp_path: Path) -> None:
    data = mvtec(fake_pictures.mvtec(tmp_path))
    check_dataset(data)
    split = data.split()
    assert (len(split.train), len(split.val), len(split.test_healthy), len(split.test_lesion)) == (4, 1, 2, 4)
    assert [s.key for s in split.test_lesion] == [
        "test-hole-000",
        "test-hole-001",
        "test-scratch-000",
        "test-scratch-001",
    ]
    assert [s.groups["lesion_kind"] for s in split.test_lesion] == ["hole", "hole", "scratch", "scratch"]
    volume = data.load(split.test_lesion[0])
    assert volume.image.shape == (3, 1, 20, 24)
    assert volume.image[:, 0, 0, 0].tolist() == [30.0, 30.0, 30.0]
    np.testing.assert_array_equal(volume.lesion, spot())
    assert len(mvtec(tmp_path / "bottle").subjects()) == len(data.subjects())


def test_the_total_of_all_parts_is_not_compared_with_one_part(tmp_path: Path) -> None:
    for data, total in (
        (mvtec(fake_pictures.mvtec(tmp_path / "m")), "5354"),
        (visa(fake_pictures.visa(tmp_path / "v")), "10821"),
    ):
        assert counts(data, data.subjects(), data.split()) == []
        assert (dict(data.card.expected), total in data.card.note) == ({}, True)


def test_a_tree_of_the_same_layout_with_masks_named_like_pictures(tmp_path: Path) -> None:
    root = fake_pictures.mvtec(tmp_path, "brain", ending="", defects=("Ungood",))
    data = mvtec(root, part="brain", colour="grey")
    check_dataset(data)
    volume = data.load(data.split().test_lesion[1])
    assert volume.image.shape == (1, 1, 20, 24)
    np.testing.assert_array_equal(volume.lesion, spot())


def test_masks_follow_names_and_not_the_order(tmp_path: Path) -> None:
    root = fake_pictures.mvtec(tmp_path)
    truth = root / "bottle" / "ground_truth" / "hole"
    # A picture and a mask are gone: by order the rest would still fit.
    (truth / "000_mask.png").unlink()
    (root / "bottle" / "test" / "hole" / "001.png").unlink()
    with pytest.raises(DataError, match=r"1 of 1 pictures have no mask in .*hole, such as .*000.png.*\(000_mask.png\)"):
        mvtec(root).subjects()
    fake_pictures.mask(truth / "000_mask.png")
    with pytest.raises(DataError, match=r"1 masks belong to no picture, such as .*001_mask.png"):
        mvtec(root).subjects()
    for path in truth.iterdir():
        path.unlink()
    truth.rmdir()
    with pytest.raises(DataError, match="1 of 1 pictures have no mask"):
        mvtec(root).subjects()


def test_a_tree_without_masks_is_judged_by_whole_pictures(tmp_path: Path) -> None:
    root = fake_pictures.mvtec(tmp_path)
    (root / "bottle" / "ground_truth").rename(root / "elsewhere")
    data = mvtec(root)
    assert not data.annotated()
    check_dataset(data)
    assert data.load(data.split().test_lesion[0]).lesion is None


def test_wrong_folders_of_mvtec_are_explained(tmp_path: Path) -> None:
    root = fake_pictures.mvtec(tmp_path / "mvtec")
    fake_pictures.mvtec(root, "cable")
    with pytest.raises(
        UsageError, match=r"no category 'botle'. Did you mean 'bottle'\? It holds bottle, cable; choose"
    ):
        mvtec(root, part="botle").subjects()
    with pytest.raises(DataError, match=r"holds nothing like bottle/train/good/000.png"):
        mvtec(tmp_path / "mvtec" / "cable").subjects()
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        mvtec(tmp_path / "nowhere").subjects()
    mask = root / "bottle" / "ground_truth" / "hole" / "001_mask.png"
    fake_pictures.mask(mask, size=(10, 12))
    data = mvtec(root)
    with pytest.raises(DataError, match=r"001_mask.png has the shape \(10, 12\) but its picture 001.png \(20, 24\)"):
        data.load(data.split().test_lesion[1])
    path = root / "bottle" / "test" / "good" / "000.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="000.png cannot be read"):
        data.load(data.split().test_healthy[0])


@pytest.mark.parametrize("write", [fake_pictures.visa, fake_pictures.visa_converted])
def test_visa_in_both_layouts(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    data = visa(write(tmp_path))
    check_dataset(data)
    split = data.split()
    assert (len(split.train), len(split.val), len(split.test_healthy), len(split.test_lesion)) == (3, 1, 2, 2)
    for subject in split.test_lesion:
        np.testing.assert_array_equal(data.load(subject).lesion, spot())


def test_visa_converted_is_found_below_1cls_too(tmp_path: Path) -> None:
    root = fake_pictures.visa_converted(tmp_path)
    assert len(visa(root / "1cls").subjects()) == len(visa(root).subjects()) == 8


def test_a_mask_with_a_palette_holds_numbers_and_not_colours(tmp_path: Path) -> None:
    root = fake_pictures.visa(tmp_path)
    path = root / "candle" / "Data" / "Masks" / "Anomaly" / "001.png"
    values = np.zeros((20, 24), np.uint8)
    values[fake_pictures.SPOT] = 1
    image = Image.frombytes("P", (24, 20), values.tobytes())
    image.putpalette([255, 255, 255, 0, 0, 0])  # The background is white and the defect black.
    image.save(path)
    data = visa(root)
    np.testing.assert_array_equal(data.load(data.split().test_lesion[1]).lesion, spot())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("object,split", "thing,split", "lists no picture of candle|no column 'object'"),
        (
            "candle,test,anomaly",
            "candle,train,anomaly",
            "says split 'train' and label 'anomaly'; it must be the one-class",
        ),
        (",candle/Data/Masks/Anomaly/001.png", ",", "names no mask for candle/Data/Images/Anomaly/001.JPG"),
        ("Normal/0002.JPG", "Normal/0099.JPG", "0099.JPG does not exist, but .*1cls.csv lists it"),
    ],
)
def test_a_wrong_split_file_of_visa_is_explained(tmp_path: Path, old: str, new: str, words: str) -> None:
    root = fake_pictures.visa(tmp_path)
    path = root / "split_csv" / "1cls.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=words):
        visa(root).subjects()


def test_wrong_folders_of_visa_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lists no picture of fryum"):
        visa(fake_pictures.visa(tmp_path), part="fryum").subjects()
    with pytest.raises(BadParameter, match="one of: candle, capsules"):
        visa(tmp_path, part="cow")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; give the one that holds split_csv/1cls.csv"):
        visa(tmp_path / "nowhere").subjects()
    (tmp_path / "other").mkdir()
    fake_pictures.picture(tmp_path / "other" / "candle" / "Data" / "Images" / "Normal" / "0000.JPG")
    with pytest.raises(
        DataError, match=r"nothing like split_csv/1cls.csv or .*nearest layout that is known is candle/Data"
    ):
        visa(tmp_path / "other").subjects()
