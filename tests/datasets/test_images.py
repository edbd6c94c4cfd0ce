from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_pictures
import numpy as np
import pytest
from PIL import Image

from uadbench.contract import check_dataset
from uadbench.datasets.images import Images
from uadbench.errors import BadParameter, DataError
from uadbench.params import resolve
from uadbench.reading import read_labels, read_picture


def make(root: Path, **given: Any) -> Images:
    return resolve(Images, [("test", {"root": root, **given})])[0]


@pytest.mark.parametrize("masks", ["beside", "inside", "central", "flat", "none"])
def test_masks_are_found_in_every_place(tmp_path: Path, masks: str) -> None:
    data = make(fake_pictures.images(tmp_path, masks))
    check_dataset(data)
    split = data.split()
    assert (len(split.train), len(split.val), len(split.test_healthy), len(split.test_lesion)) == (3, 1, 1, 2)
    assert [s.key for s in split.test_lesion] == ["test-cyst-c0", "test-cyst-c1"]
    assert split.test_lesion[0].groups == {"lesion_kind": "cyst"}
    assert data.annotated() == (masks != "none")
    lesion = data.load(split.test_lesion[0]).lesion
    if masks == "none":
        assert lesion is None
    else:
        expected = np.zeros((1, 20, 24), bool)
        expected[0][fake_pictures.SPOT] = True
        np.testing.assert_array_equal(lesion, expected)


def test_validation_folders_are_used_if_they_are_there(tmp_path: Path) -> None:
    root = fake_pictures.images(tmp_path)
    fake_pictures.picture(root / "val" / "good" / "v0.png")
    fake_pictures.picture(root / "val" / "v1.png")
    fake_pictures.picture(root / "val" / "cyst" / "v2.png")
    fake_pictures.mask(root / "val" / "cyst" / "v2_mask.png")
    fake_pictures.picture(root / "train" / "good" / "a9.png")
    data = make(root)
    check_dataset(data)
    split = data.split()
    assert [s.key for s in split.val] == ["val-v1", "val-good-v0"]
    assert [s.key for s in split.val_lesion] == ["val-cyst-v2"]
    assert len(split.train) == 5


def test_people_are_read_from_names(tmp_path: Path) -> None:
    root = tmp_path
    for name in ("train/p1_a", "train/p1_b", "train/p2_a", "train/p3_a", "test/good/p4_a", "test/cyst/p4_b"):
        fake_pictures.picture(root / f"{name}.png")
    data = make(root, person=r"^(\w+?)_", val=0.5)
    check_dataset(data)
    split = data.split()
    assert {s.id for s in split.train}.isdisjoint({s.id for s in split.val})
    assert [s.id for s in (*split.test_healthy, *split.test_lesion)] == ["p4", "p4"]
    fake_pictures.picture(root / "test" / "cyst" / "p1_c.png")
    with pytest.raises(DataError, match="'p1' is in both .* and test"):
        make(root, person=r"^(\w+?)_").split().check("images")
    fake_pictures.picture(root / "test" / "cyst" / "nobody.png")
    with pytest.raises(DataError, match="the name of .*nobody.png does not say which person it shows"):
        make(root, person=r"^(\w+?)_").subjects()
    with pytest.raises(BadParameter, match="is no regular expression"):
        make(root, person="(")
    with pytest.raises(BadParameter, match="has no group in brackets"):
        make(root, person="p1")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no train", r"train holds no picture; put healthy pictures into it"),
        ("no lesions", r"has no anomalous pictures; put them into folders such as test/lesion"),
        ("loose", r"x.png lies right in .*test; put healthy pictures into test/good"),
        ("kinds in train", r"train/tumour is not understood; train holds healthy pictures"),
        ("shared mask", r"c0.png would be the mask of .*cyst/c0.tif and of .*scar/c0.tif"),
        ("stray mask", r"c7.png \(and 0 more\) is the mask of no picture; masks are matched by name"),
        ("same name", r"a0.jpg and .*a0.png are both called train-a0; rename one"),
        (
            "healthy mask",
            r"train/a0_mask.png is named as a mask, but healthy pictures have none; take it out, or rename",
        ),
        ("good mask", r"test/good/b0_mask.png is named as a mask, but healthy pictures have none; take it out"),
        ("lonely mask", r"test/cyst/c9_mask.png is the mask of no picture in its folder; put its picture beside it"),
        ("mask size", r"c1_mask.png has the shape \(9, 24\) but its picture c1.tif \(20, 24\)"),
        ("truncated", r"c1.tif cannot be read"),
        ("pages", r"c1.tif holds 2 pictures; write each into a file of its own"),
        ("text", r"a0.png cannot be read"),
    ],
)
def test_wrong_folders_and_files_are_explained(tmp_path: Path, what: str, words: str) -> None:
    root = fake_pictures.images(tmp_path, "flat" if what in ("shared mask", "stray mask") else "beside")
    cyst = root / "test" / "cyst"
    if what == "no train":
        (root / "train").rename(root / "training")
    elif what == "no lesions":
        cyst.rename(root / "cyst")
    elif what == "loose":
        fake_pictures.picture(root / "test" / "x.png")
    elif what == "kinds in train":
        fake_pictures.picture(root / "train" / "tumour" / "x.png")
    elif what == "shared mask":
        fake_pictures.picture(root / "test" / "scar" / "c0.tif")
    elif what == "stray mask":
        fake_pictures.mask(root / "masks" / "c7.png")
    elif what == "same name":
        fake_pictures.picture(root / "train" / "a0.jpg")
    elif what == "healthy mask":
        fake_pictures.mask(root / "train" / "a0_mask.png")
    elif what == "good mask":
        fake_pictures.mask(root / "test" / "good" / "b0_mask.png")
    elif what == "lonely mask":
        fake_pictures.mask(cyst / "c9_mask.png")
    elif what == "mask size":
        fake_pictures.mask(cyst / "c1_mask.png", size=(9, 24))
    elif what == "truncated":
        (cyst / "c1.tif").write_bytes((cyst / "c1.tif").read_bytes()[:100])
    elif what == "pages":
        pages = [Image.fromarray(np.full((20, 24), k, np.uint8)) for k in range(2)]
        pages[0].save(cyst / "c1.tif", save_all=True, append_images=pages[1:])
    elif what == "text":
        (root / "train" / "a0.png").write_text("hello")
    with pytest.raises(DataError, match=words):
        data = make(root)
        for subject in data.subjects():
            data.load(subject)


def test_a_folder_of_another_kind_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; give the one that holds train/a.png"):
        make(tmp_path / "nowhere").subjects()
    fake_pictures.picture(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"holds nothing like train/a.png or test/good/b.png .*it holds x.png"):
        make(tmp_path).subjects()


@pytest.mark.parametrize("kind", ["I;16", "I", "F"])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_more_than_8_bits_stay(tmp_path: Path, kind: str, channels: Any) -> None:
    values = np.array([[0, 300, 40000], [1, 2, 65535]])
    path = tmp_path / "deep.tif"
    Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[kind])).save(path)
    image = read_picture(path, "test", channels)
    assert image.shape == (channels or 1, 2, 3)
    assert all((channel == values).all() for channel in image)
    assert (read_labels(path, "test") == values).all()


def test_palettes_transparency_and_one_bit(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[1, 1] = (200, 10, 10)
    rgb = Image.fromarray(colours)
    rgb.convert("P", palette=Image.Palette.ADAPTIVE, colors=2).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png", "test"), colours.transpose(2, 0, 1))
    assert read_picture(tmp_path / "palette.png", "test", 1).shape == (1, 4, 4)
    rgb.putalpha(255)
    rgb.save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "rgba.png", "test"), colours.transpose(2, 0, 1))
    np.testing.assert_array_equal(read_labels(tmp_path / "rgba.png", "test"), colours.max(axis=2))
    bit = np.zeros((4, 4), bool)
    bit[2, 3] = True
    Image.fromarray(bit).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "bit.png", "test") > 0, bit)
    np.testing.assert_array_equal(read_picture(tmp_path / "bit.png", "test")[0] > 0, bit)


def test_a_mask_in_jpeg_has_no_halo(tmp_path: Path) -> None:
    drawn = np.zeros((48, 48), np.uint8)
    drawn[13:29, 11:30] = 255
    Image.fromarray(drawn).save(tmp_path / "mask.jpg", quality=50)
    raw = np.asarray(Image.open(tmp_path / "mask.jpg"))
    assert ((raw > 0) != (drawn > 0)).sum() > 20
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.jpg", "test") > 0, drawn > 0)
