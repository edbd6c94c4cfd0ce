from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import fake_pictures
import numpy as np
import pytest

from uadbench.contract import check_dataset
from uadbench.dataset import ROLES
from uadbench.datasets.medmnist import MedMNIST
from uadbench.errors import DataError, UsageError
from uadbench.params import resolve

LABELS = {"train": [1, 0, 0, 1, 0], "val": [0, 1, 0], "test": [1, 0, 1, 2]}


def make(root: Path, **given: Any) -> MedMNIST:
    return resolve(MedMNIST, [("test", {"root": root, **given})])[0]


def counts(data: MedMNIST) -> dict[str, list[int]]:
    """Which pictures of the file have which role, read from the pictures."""
    split = data.split()
    return {role: [int(data.load(s).image.ravel()[0]) for s in getattr(split, role)] for role in ROLES}


@pytest.mark.parametrize("compressed", [True, False])
def test_roles_follow_labels(tmp_path: Path, compressed: bool) -> None:
    path = fake_pictures.medmnist(tmp_path / "pneumoniamnist.npz", LABELS, compressed=compressed)
    data = make(path)
    check_dataset(data)
    assert counts(data) == {
        "train": [1, 2, 4], "val": [0, 2], "val_lesion": [1], "test_healthy": [1], "test_lesion": [0, 2, 3],
    }  # fmt: skip
    assert [s.key for s in data.split().test_lesion] == ["test-00000", "test-00002", "test-00003"]
    assert [s.groups["lesion_kind"] for s in data.split().test_lesion] == ["1", "1", "2"]
    volume = data.load(data.split().test_lesion[0])
    assert volume.image.shape == (1, 1, 28, 28)
    assert volume.lesion is None
    with np.load(path) as archive:
        np.testing.assert_array_equal(volume.image[0, 0], archive["test_images"][0])


def test_healthy_labels_come_from_the_table_or_from_a_parameter(tmp_path: Path) -> None:
    root = tmp_path
    breast = fake_pictures.medmnist(root / "breastmnist.npz", LABELS)
    assert counts(make(breast))["train"] == [0, 3]
    assert counts(make(breast, normal=(0,)))["train"] == [1, 2, 4]
    assert counts(make(breast, normal="0,1"))["test_lesion"] == [3]
    assert counts(make(breast, normal=(0,), anomalous=(2,)))["test_lesion"] == [3]
    with pytest.raises(UsageError, match="the label 0 is in normal and in anomalous"):
        make(breast, normal=(0,), anomalous=(0,)).subjects()
    blood = fake_pictures.medmnist(root / "bloodmnist.npz", LABELS)
    with pytest.raises(UsageError, match="which label is healthy in bloodmnist is not known .*-D normal=0"):
        make(blood).subjects()
    assert counts(make(blood, normal=(2,)))["test_healthy"] == [3]
    with pytest.raises(UsageError, match="bloodmnist.npz is bloodmnist, not octmnist"):
        make(blood, part="octmnist").subjects()
    other = fake_pictures.medmnist(root / "mine.npz", LABELS)
    assert counts(make(other, part="breastmnist"))["train"] == [0, 3]


def test_several_labels_a_picture(tmp_path: Path) -> None:
    labels = {
        "train": [[0, 0, 0], [1, 0, 0], [0, 0, 0]],
        "val": [[0, 0, 0], [0, 1, 1]],
        "test": [[0, 0, 0], [1, 0, 1], [0, 1, 0]],
    }
    path = fake_pictures.medmnist(tmp_path / "chestmnist.npz", labels)
    data = make(path)
    check_dataset(data)
    assert counts(data) == {"train": [0, 2], "val": [0], "val_lesion": [1], "test_healthy": [0], "test_lesion": [1, 2]}
    assert [s.groups["lesion_kind"] for s in data.split().test_lesion] == ["0+2", "1"]
    assert counts(make(path, anomalous=(1,)))["test_lesion"] == [2]
    with pytest.raises(UsageError, match="several labels a picture; those without any are healthy"):
        make(path, normal=(0,)).subjects()


@pytest.mark.parametrize(
    ("name", "shape", "image", "channels"),
    [
        ("retinamnist_64", (64, 64, 3), (3, 1, 64, 64), ("red", "green", "blue")),
        ("adrenalmnist3d", (28, 28, 28), (1, 28, 28, 28), ("grey",)),
        ("octmnist_64", (64, 64), (1, 1, 64, 64), ("grey",)),
    ],
)
def test_colour_volumes_and_sizes(
    tmp_path: Path, name: str, shape: tuple[int, ...], image: tuple[int, ...], channels: tuple[str, ...]
) -> None:
    path = fake_pictures.medmnist(tmp_path / f"{name}.npz", LABELS, shape)
    data = make(path, normal=(0,), foreground="all")
    check_dataset(data)
    volume = data.load(data.split().train[0])
    assert volume.image.shape == image
    assert data.channel_names() == channels
    with np.load(path) as archive:
        first = archive["train_images"][1]
    np.testing.assert_array_equal(
        volume.image[:, 0].transpose(1, 2, 0) if len(channels) == 3 else volume.image.squeeze(), first
    )


def test_a_file_is_found_by_name_and_size(tmp_path: Path) -> None:
    fake_pictures.medmnist(tmp_path / "octmnist.npz", LABELS)
    assert make(tmp_path).path.name == "octmnist.npz"
    fake_pictures.medmnist(tmp_path / "octmnist_64.npz", LABELS, (64, 64))
    with pytest.raises(UsageError, match="holds octmnist.npz, octmnist_64.npz; choose one with -D part="):
        make(tmp_path).subjects()
    assert make(tmp_path, part="octmnist").path.name == "octmnist.npz"
    assert make(tmp_path, part="octmnist", size=64).path.name == "octmnist_64.npz"
    with pytest.raises(DataError, match=r"holds nothing like octmnist_224.npz; it holds octmnist.npz, octmnist_64.npz"):
        make(tmp_path, part="octmnist", size=224).subjects()
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; give the one that holds pneumoniamnist.npz"):
        make(tmp_path / "nowhere").subjects()
    with pytest.raises(UsageError, match="fold 0 only, not 2"):
        make(tmp_path, part="octmnist", normal=(0,)).split(2)


@pytest.mark.parametrize("what", ["truncated", "text", "images", "labels", "damaged"])
def test_wrong_files_are_explained(tmp_path: Path, what: str) -> None:
    path = fake_pictures.medmnist(tmp_path / "octmnist.npz", LABELS)
    raw = path.read_bytes()
    if what == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif what == "text":
        path.write_text("hello")
    elif what == "damaged":  # The file ends as it should, but some bytes in the middle are others.
        at = raw.index(b"train_images.npy") + 300
        path.write_bytes(raw[:at] + bytes(200) + raw[at + 200 :])
    else:
        with np.load(path) as archive:
            kept = {name: archive[name] for name in archive.files if name != f"train_{what}"}
        np.savez(path, **kept)
    with pytest.raises(DataError, match=r"octmnist.npz gives no \w+ .*download it again"):
        data = make(path, normal=(0,))
        data.channel_names()
        for subject in data.subjects():
            data.load(subject)


def test_a_file_with_other_arrays_is_no_medmnist(tmp_path: Path) -> None:
    path = fake_pictures.medmnist(tmp_path / "octmnist.npz", LABELS, (28,))
    with pytest.raises(DataError, match=r"holds pictures of the shape \(28,\); it is no file of MedMNIST"):
        make(path, normal=(0,)).channel_names()
    assert zipfile.is_zipfile(path)


def test_moving_a_file_keeps_the_fingerprint_and_changing_it_does_not(tmp_path: Path) -> None:
    path = fake_pictures.medmnist(tmp_path / "octmnist.npz", LABELS)
    before = make(path).content()
    moved = path.rename(tmp_path / "moved_octmnist.npz")
    assert make(moved).content() == before
    fake_pictures.medmnist(moved, {**LABELS, "train": [0, 0, 0, 1, 0]})
    assert make(moved).content() != before


def test_the_real_chest_x_rays(real_data: Path) -> None:
    data = make(next((real_data / "pneumoniamnist").glob("*.npz")))
    check_dataset(data)
    split = data.split()
    sizes = {role: len(getattr(split, role)) for role in ROLES}
    assert sizes == {"train": 1214, "val": 135, "val_lesion": 389, "test_healthy": 234, "test_lesion": 390}
    healthy = np.stack([data.load(s).image[0, 0] for s in split.test_healthy])
    sick = np.stack([data.load(s).image[0, 0] for s in split.test_lesion])
    # Lungs are dark where there is air: pneumonia makes them brighter than they are in the healthy.
    lungs = np.s_[:, 8:18, 5:11]
    assert sick[lungs].mean() > healthy[lungs].mean() + 10
