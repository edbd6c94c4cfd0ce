"""Writes small sets of pictures, and DICOM series, in the layout their owners distribute."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SPOT = (slice(4, 9), slice(5, 12))
"""Where every mask says lesion."""


def picture(path: Path, number: int = 0, size: tuple[int, int] = (20, 24), *, rgb: bool = False) -> Path:
    """Write a picture; the number stands in its first pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if rgb else size
    values = np.random.default_rng(number).integers(60, 200, shape).astype(np.uint8)
    values[0, 0] = number
    Image.fromarray(values).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (20, 24), value: int = 255) -> Path:
    """Write a mask with a lesion at SPOT; with the value 0 an empty one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(size, np.uint8)
    values[SPOT] = value
    Image.fromarray(values).save(path)
    return path


BMAD_NAMES = {
    "brain": ["00003_60", "00003_61", "00005_60", "00025_99", "00124_60", "00124_70", "00000_96", "00002_60", "00002_68"],
    "liver": ["1_40", "1_41", "2_40", "10_50", "10_51", "11_50", "12_50", "12_51", "13_50"],
    "resc": [
        f"{person}_MacularCube512x128_4-25-2013_9-32-13_OD_sn2218_cube_z_{k}"
        for person, k in zip(
            ["P0001", "P0001", "PC002", "P0365", "P0366", "P0366", "P0367", "P0368", "P0368"], range(9), strict=True
        )
    ],
    "oct2017": [
        "NORMAL-1001-1", "NORMAL-1001-2", "NORMAL-1002-1", "NORMAL-2001-1", "CNV-2002-1", "DME-2003-1", "NORMAL-3001-1",
        "DRUSEN-3002-1", "CNV-3002-1",
    ],
    "chest": [str(uuid.UUID(int=i)) for i in range(9)],
    "histopathology": ["1000", "1001", "1002", "1000", "1000", "1001", "1000", "1000", "1001"],
}  # fmt: skip
"""Three for training, one and two for validation, one and two for testing."""


def bmad(root: Path, part: str, layout: str = "readme", names: Sequence[str] | None = None) -> Path:
    """One part of BMAD: layout readme (img, anomaly_mask), code (img, label), or flat (no img and no masks)."""
    valid = "val" if layout == "code" else "valid"
    ungood = {"readme": "Ungood", "code": "ungood", "flat": "Ungood"}[layout]
    folders = (
        ["train/good"] * 3 + [f"{valid}/good"] + [f"{valid}/{ungood}"] * 2 + ["test/good"] + [f"test/{ungood}"] * 2
    )
    for k, (folder, name) in enumerate(zip(folders, names or BMAD_NAMES[part], strict=True)):
        picture(root / folder / ("" if layout == "flat" else "img") / f"{name}.png", k, rgb=part == "histopathology")
        if folder.lower().endswith("ungood") and layout != "flat":
            mask(root / folder / {"readme": "anomaly_mask", "code": "label"}[layout] / f"{name}.png")
    return root


def medianomaly(root: Path, part: str) -> Path:
    """One of the seven sets of MedIAnomaly-Data below `root`: four for training, two healthy and two others for testing."""
    if part == "isic2018":
        for stage, lines in {
            "Training": [("ISIC_01", 1), ("ISIC_02", 1), ("ISIC_03", 0), ("ISIC_04", 1), ("ISIC_05", 1)],
            "Test": [("ISIC_11", 1), ("ISIC_12", 0), ("ISIC_13", 0), ("ISIC_14", 1)],
        }.items():
            base = root / "ISIC2018_Task3"
            truth = base / f"ISIC2018_Task3_{stage}_GroundTruth" / f"ISIC2018_Task3_{stage}_GroundTruth.csv"
            truth.parent.mkdir(parents=True)
            with truth.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"])
                writer.writerows([name, float(1 - nv), float(nv), 0.0, 0.0, 0.0, 0.0, 0.0] for name, nv in lines)
            for k, (name, _) in enumerate(lines):
                picture(base / f"ISIC2018_Task3_{stage}_Input" / f"{name}.jpg", k, rgb=True)
    elif part == "camelyon16":
        for k, name in enumerate(
            [
                *(f"train/good/{1000 + i}" for i in range(4)),
                "test/good/1",
                "test/good/2",
                "test/Ungood/1",
                "test/Ungood/2",
            ]
        ):
            picture(root / "Camelyon16" / f"{name}.png", k, rgb=True)
    elif part == "brats2021":
        base = root / "BraTS2021"
        for i in range(4):
            picture(base / "train" / f"BraTS2021_{i:05d}_flair_60.png", i)
        for i in (10, 11):
            picture(base / "test" / "normal" / f"BraTS2021_{i:05d}_flair_60.png", i)
        for i in (12, 13):
            picture(base / "test" / "tumor" / f"BraTS2021_{i:05d}_flair_70.png", i)
            mask(base / "test" / "annotation" / f"BraTS2021_{i:05d}_seg_70.png")
    else:
        base = root / {"rsna": "RSNA", "vincxr": "VinCXR", "braintumor": "BrainTumor", "lag": "LAG"}[part]
        names = [f"{letter}{i}.png" for letter in "tuxy" for i in range(4)]
        for k, name in enumerate(names):
            picture(base / "images" / name, k)
        listed = {
            "train": {"0": names[:4], "unlabeled": {"0": names[4:6], "1": names[6:8]}},
            "test": {"0": names[8:10], "1": names[12:14]},
        }
        (base / "data.json").write_text(json.dumps(listed))
    return root


def medmnist(
    path: Path, labels: Mapping[str, Sequence[Any]], shape: tuple[int, ...] = (28, 28), *, compressed: bool = True
) -> Path:
    """A file of MedMNIST; the first value of every picture counts them."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for stage, values in labels.items():
        images = rng.integers(0, 256, (len(values), *shape)).astype(np.uint8)
        images.reshape(len(values), -1)[:, 0] = np.arange(len(values))
        arrays[f"{stage}_images"] = images
        arrays[f"{stage}_labels"] = np.array(values, np.uint8).reshape(len(values), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def mvtec(
    root: Path, category: str = "bottle", ending: str = "_mask", defects: Sequence[str] = ("scratch", "hole")
) -> Path:
    """One category: numbers start again in every folder, and masks are not in the order of the pictures' defects."""
    base = root / category
    for i in range(5):
        picture(base / "train" / "good" / f"{i:03d}.png", i, rgb=True)
    for i in range(2):
        picture(base / "test" / "good" / f"{i:03d}.png", 10 + i, rgb=True)
        for k, defect in enumerate(defects):
            picture(base / "test" / defect / f"{i:03d}.png", 20 + 10 * k + i, rgb=True)
            mask(base / "ground_truth" / defect / f"{i:03d}{ending}.png")
    return root


def visa(root: Path, thing: str = "candle") -> Path:
    """VisA as downloaded: masks hold numbers of defects, not 255."""
    lines = ["object,split,label,image,mask", "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,"]
    for i in range(6):
        name = f"{thing}/Data/Images/Normal/{i:04d}.JPG"
        picture(root / name, i, rgb=True)
        lines.append(f"{thing},{'train' if i < 4 else 'test'},normal,{name},")
    for i in range(2):
        name, label = f"{thing}/Data/Images/Anomaly/{i:03d}.JPG", f"{thing}/Data/Masks/Anomaly/{i:03d}.png"
        picture(root / name, 10 + i, rgb=True)
        mask(root / label, value=i + 1)
        lines.append(f"{thing},test,anomaly,{name},{label}")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")
    return root


def visa_converted(root: Path, thing: str = "candle") -> Path:
    """VisA as its owners' script writes it."""
    base = root / "1cls" / thing
    for i in range(4):
        picture(base / "train" / "good" / f"{i:04d}.JPG", i, rgb=True)
    for i in range(2):
        picture(base / "test" / "good" / f"{4 + i:04d}.JPG", 4 + i, rgb=True)
        picture(base / "test" / "bad" / f"{i:03d}.JPG", 10 + i, rgb=True)
        mask(base / "ground_truth" / "bad" / f"{i:03d}.png")
    return root


def images(root: Path, masks: str = "beside") -> Path:
    """A folder of a user's own; masks are beside, inside, central, flat or none."""
    for i in range(4):
        picture(root / "train" / f"a{i}.png", i)
    picture(root / "test" / "good" / "b0.jpg", 10)
    for i in range(2):
        name = f"c{i}"
        picture(root / "test" / "cyst" / f"{name}.tif", 20 + i)
        where = {
            "beside": root / "test" / "cyst" / f"{name}_mask.png",
            "inside": root / "test" / "cyst" / "masks" / f"{name}.png",
            "central": root / "masks" / "cyst" / f"{name}.png",
            "flat": root / "masks" / f"{name}.png",
        }.get(masks)
        if where:
            mask(where)
    return root


def dicom_series(
    folder: Path,
    data: np.ndarray,
    *,
    patient: str = "P1",
    date: str = "20200131",
    description: str = "AX FLAIR",
    rows_and_columns: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    origin: tuple[float, float, float] = (-10.0, 5.0, 7.0),
    spacing: tuple[float, float, float] = (3.0, 0.8, 0.5),
    slope: float = 1.0,
    intercept: float = 0.0,
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> list[Path]:
    """Write a series, stored values int16 (slices, rows, columns), under names in no order; returns the files by slice.

    `spacing` is from slice to slice, row to row and column to column; `tilt` moves every slice against the one before.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    along = np.array(rows_and_columns).reshape(2, 3)
    normal = np.cross(*along)
    shuffled = np.random.default_rng(len(data)).permutation(len(data))
    series, study, paths = generate_uid(), generate_uid(), []
    for k, plane in enumerate(data):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"IM{shuffled[k]:04d}"
        file = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        file.SeriesInstanceUID, file.StudyInstanceUID = series, study
        file.PatientID, file.StudyDate, file.SeriesDescription, file.Modality = patient, date, description, "MR"
        file.PatientSex, file.PatientAge, file.Manufacturer = "F", "045Y", "Maker"
        file.ImageOrientationPatient = [float(f"{v:.10f}") for v in rows_and_columns]
        place = np.array(origin) + k * (spacing[0] * normal + np.array(tilt))
        file.ImagePositionPatient = [float(f"{v:.10f}") for v in place]
        file.PixelSpacing = list(spacing[1:])
        file.SliceThickness = spacing[0]
        file.Rows, file.Columns = plane.shape
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
        file.RescaleSlope, file.RescaleIntercept = slope, intercept
        file.InstanceNumber = k + 1
        file.PixelData = plane.astype("<i2").tobytes()
        file.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
