from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_data
import numpy as np
import pytest
from PIL import Image

from uadbench.contract import check_dataset
from uadbench.datasets.lgg import LGG
from uadbench.errors import DataError, UsageError
from uadbench.params import resolve


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_data.kaggle_3m(tmp_path / "kaggle_3m")


def make(root: Path, **given: Any) -> LGG:
    return resolve(LGG, [("test", {"root": root, **given})])[0]


def test_it_keeps_the_contract(root: Path) -> None:
    check_dataset(make(root))


def test_slices_are_in_the_order_of_their_numbers(root: Path) -> None:
    data = make(root)
    subject = next(s for s in data.subjects() if not s.scan.endswith("healthy"))
    assert data.load(subject).image[0, :, 30, 30].tolist() == [100.0 + k for k in range(1, 13)]


def test_healthy_volumes_hold_slices_far_from_any_tumour(root: Path) -> None:
    for margin, expected in (
        (0, [1, 2, 3, 4, 8, 9, 10, 11, 12]),
        (1, [1, 2, 3, 9, 10, 11, 12]),
        (2, [1, 2, 10, 11, 12]),
    ):
        data = make(root, margin=margin)
        volume = data.load(data.split(0).train[0])
        assert (volume.image[0, :, 30, 30] - 100).tolist() == expected
        assert volume.lesion is not None
        assert not volume.lesion.any()
    with pytest.raises(DataError, match="no slice further than 9"):
        data = make(root, margin=9)
        data.load(data.split(0).train[0])


@pytest.mark.parametrize(
    ("modality", "channels"), [("pre", [0]), ("flair", [1]), ("post", [2]), ("pre+flair+post", [0, 1, 2])]
)
def test_modalities_are_channels(root: Path, modality: str, channels: list[int]) -> None:
    data = make(root, modality=modality)
    subject = data.split(0).test_lesion[0]
    raw = np.asarray(Image.open(subject.files[0]))
    np.testing.assert_array_equal(data.load(subject).image[:, 0], raw[..., channels].transpose(2, 0, 1))
    assert len(data.channel_names()) == len(channels)


def test_patients_are_in_one_stage_and_folds_differ(root: Path) -> None:
    data = make(root)
    splits = [data.split(fold) for fold in range(5)]
    for split in splits:
        split.check("lgg")
        assert (len(split.train), len(split.val), len(split.test_lesion)) == (2, 1, 2)
    assert {s.id for split in splits for s in split.test_lesion} == {
        name.rpartition("_")[0] for name in fake_data.KAGGLE
    }
    with pytest.raises(UsageError, match="folds 0 to 4, not 5"):
        data.split(5)
    assert make(root, seed=1).split(0) != splits[0] or make(root, seed=2).split(0) != splits[0]


def test_the_foreground_is_the_head(root: Path) -> None:
    data = make(root)
    volume = data.load(data.split(0).test_lesion[0])
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    head = (y / 0.8) ** 2 + (x / 0.7) ** 2 < 1
    assert volume.foreground is not None
    overlap = (volume.foreground & head).sum() / (volume.foreground | head).sum()
    assert overlap > 0.95


def wreck(root: Path, what: str) -> None:
    folder = root / fake_data.KAGGLE[1]
    image = folder / f"{folder.name}_3.tif"
    mask = folder / f"{folder.name}_3_mask.tif"
    if what == "truncated":
        image.write_bytes(image.read_bytes()[:200])
    elif what == "missing mask":
        mask.unlink()
    elif what == "mask size":
        Image.fromarray(np.zeros((32, 64), np.uint8)).save(mask)
    elif what == "grey":
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(image)
    elif what == "size":
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image)
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(mask)
    elif what == "empty folder":
        for path in folder.iterdir():
            path.unlink()
    elif what == "not an image":
        image.write_text("hello")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("truncated", "_3.tif cannot be read"),
        ("missing mask", "_3_mask.tif does not exist"),
        ("mask size", r"_3_mask.tif has the shape \(32, 64\) but its image \(64, 64\)"),
        ("grey", r"_3.tif has 1 channels; 3 are expected"),
        ("size", "differ in size"),
        ("empty folder", "holds no file called"),
        ("not an image", "_3.tif cannot be read"),
    ],
)
def test_wrong_files_are_named(root: Path, what: str, words: str) -> None:
    wreck(root, what)
    with pytest.raises(DataError, match=words):
        data = make(root)
        for subject in data.subjects():
            data.load(subject)


def test_a_wrong_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere.*--root"):
        make(tmp_path / "nowhere").subjects()
    (tmp_path / "BraTS").mkdir()
    with pytest.raises(DataError, match="holds no folder called like TCGA_CS_4942_19970222; it holds BraTS"):
        make(tmp_path).subjects()


def test_changing_a_file_changes_the_fingerprint_and_moving_the_folder_does_not(root: Path, tmp_path: Path) -> None:
    before = make(root).content()
    moved = root.rename(tmp_path / "elsewhere")
    assert make(moved).content() == before
    path = moved / fake_data.KAGGLE[0] / f"{fake_data.KAGGLE[0]}_1.tif"
    Image.fromarray(np.full((64, 64, 3), 7, np.uint8)).save(path)
    assert make(moved).content() != before


def test_the_real_slices_are_read(real_data: Path) -> None:
    data = make(real_data / "kaggle_3m")
    check_dataset(data)
    volume = data.load(next(s for s in data.subjects() if s.id == "TCGA_CS_4942" and not s.scan.endswith("healthy")))
    assert volume.image.shape == (1, 20, 256, 256)
    assert volume.lesion is not None
    assert volume.foreground is not None
    assert 0.2 < volume.foreground.mean() < 0.7
    assert (volume.lesion & ~volume.foreground).sum() < 0.01 * volume.lesion.sum()
    # Tumours are bright on FLAIR.
    assert volume.image[0][volume.lesion].mean() > 1.3 * volume.image[0][volume.foreground & ~volume.lesion].mean()
