from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_pictures
import numpy as np
import pytest

from uadbench.contract import check_dataset
from uadbench.datasets.medianomaly import FOLDER, MedIAnomaly
from uadbench.errors import DataError
from uadbench.params import resolve


def make(root: Path, **given: Any) -> MedIAnomaly:
    return resolve(MedIAnomaly, [("test", {"root": root, **given})])[0]


@pytest.mark.parametrize("part", FOLDER)
def test_every_set_keeps_the_contract(tmp_path: Path, part: str) -> None:
    root = fake_pictures.medianomaly(tmp_path, part)
    data = make(root, part=part)
    check_dataset(data)
    split = data.split()
    assert (len(split.train), len(split.val), len(split.test_healthy), len(split.test_lesion)) == (3, 1, 2, 2)
    assert split.val_lesion == ()
    assert data.annotated() == (part == "brats2021")
    assert len(data.channel_names()) == (3 if part == "camelyon16" else 1)
    assert [s.key for s in make(root / FOLDER[part], part=part).subjects()] == [s.key for s in data.subjects()]


def test_roles_are_those_of_the_owners(tmp_path: Path) -> None:
    split = make(fake_pictures.medianomaly(tmp_path, "rsna"), part="rsna").split()
    assert {s.id for s in (*split.train, *split.val)} == {"t0", "t1", "t2", "t3"}
    assert [s.id for s in split.test_healthy] == ["x0", "x1"]
    assert [s.id for s in split.test_lesion] == ["y0", "y1"]
    split = make(fake_pictures.medianomaly(tmp_path, "isic2018"), part="isic2018").split()
    assert {s.id for s in (*split.train, *split.val)} == {"ISIC_01", "ISIC_02", "ISIC_04", "ISIC_05"}
    assert [s.id for s in split.test_healthy] == ["ISIC_11", "ISIC_14"]
    assert [s.id for s in split.test_lesion] == ["ISIC_12", "ISIC_13"]


def test_validation_is_a_share_by_seed(tmp_path: Path) -> None:
    root = fake_pictures.medianomaly(tmp_path, "rsna")
    drawn = {tuple(s.id for s in make(root, part="rsna", seed=seed).split().val) for seed in range(8)}
    assert 1 < len(drawn) <= 4
    assert len(make(root, part="rsna", val=0.5).split().val) == 2
    assert make(root, part="rsna").split() == make(root, part="rsna").split()


def test_masks_of_brats_are_matched_by_name(tmp_path: Path) -> None:
    root = fake_pictures.medianomaly(tmp_path, "brats2021")
    data = make(root)
    volume = data.load(data.split().test_lesion[0])
    expected = np.zeros((20, 24), bool)
    expected[fake_pictures.SPOT] = True
    np.testing.assert_array_equal(volume.lesion, expected[None])
    assert [s.id for s in data.split().test_lesion] == ["BraTS2021_00012", "BraTS2021_00013"]
    mask = root / "BraTS2021" / "test" / "annotation" / "BraTS2021_00013_seg_70.png"
    fake_pictures.mask(mask, size=(20, 25))
    with pytest.raises(
        DataError, match=r"seg_70.png has the shape \(20, 25\) but its picture .*flair_70.png \(20, 24\)"
    ):
        data.load(data.split().test_lesion[1])
    mask.unlink()
    with pytest.raises(DataError, match=r"BraTS2021_00013_seg_70.png does not exist, but .*flair_70.png asks for it"):
        make(root).subjects()


def test_a_patient_in_train_and_test_is_a_leak(tmp_path: Path) -> None:
    root = fake_pictures.medianomaly(tmp_path, "brats2021")
    fake_pictures.picture(root / "BraTS2021" / "test" / "normal" / "BraTS2021_00000_flair_75.png")
    for seed in range(3):
        with pytest.raises(DataError, match="'BraTS2021_00000' is in both .* and test"):
            make(root, seed=seed).split().check("medianomaly")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"data.json cannot be read \(JSONDecodeError"),
        ("[]", r"data.json cannot be read \(TypeError"),
        (
            '{"train": {"0": []}}',
            r"data.json cannot be read \(KeyError: 'test'\); it must hold train.0, test.0 and test.1",
        ),
        (
            '{"train": {"0": ["no.png"]}, "test": {"0": [], "1": []}}',
            "no.png does not exist, but .*data.json asks for it",
        ),
        (
            json.dumps({"train": {"0": ["t0.png"]}, "test": {"0": [], "1": ["t0.png"]}}),
            "t0.png is listed twice, for .* and test_lesion; list it once",
        ),
    ],
)
def test_a_wrong_list_is_explained(tmp_path: Path, text: str, words: str) -> None:
    root = fake_pictures.medianomaly(tmp_path, "lag")
    (root / "LAG" / "data.json").write_text(text)
    with pytest.raises(DataError, match=words):
        make(root, part="lag").subjects()


def test_wrong_tables_files_and_folders_are_named(tmp_path: Path) -> None:
    root = fake_pictures.medianomaly(tmp_path, "isic2018")
    table = next((root / "ISIC2018_Task3").glob("*Test_GroundTruth/*.csv"))
    text = table.read_text()
    table.write_text(text.replace("NV", "XX"))
    with pytest.raises(
        DataError, match=r"Test_GroundTruth.csv cannot be read \(KeyError: 'NV'\).*columns image and NV"
    ):
        make(root, part="isic2018").subjects()
    table.write_text(text + "ISIC_99,0,1,0,0,0,0,0\n")
    with pytest.raises(DataError, match=r"ISIC_99.jpg does not exist, but .*GroundTruth.csv asks for it"):
        make(root, part="isic2018").subjects()
    table.unlink()
    with pytest.raises(DataError, match=r"holds nothing like ISIC2018_Task3/ISIC2018_Task3_Training_GroundTruth/"):
        make(root, part="isic2018").subjects()
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; give the one that holds RSNA/data.json"):
        make(tmp_path / "nowhere", part="rsna").subjects()
    root = fake_pictures.medianomaly(tmp_path, "camelyon16")
    path = root / "Camelyon16" / "test" / "good" / "1.png"
    path.write_bytes(path.read_bytes()[:100])
    data = make(root, part="camelyon16")
    with pytest.raises(DataError, match="1.png cannot be read"):
        data.load(data.split().test_healthy[0])
