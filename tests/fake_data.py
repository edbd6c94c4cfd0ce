"""Writes small data sets in the layout their owners distribute."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

KAGGLE = [f"TCGA_CS_{4940 + i}_1997022{i}" for i in range(5)]


def kaggle_3m(root: Path, slices: int = 12) -> Path:
    """Five patients of TIFF slices with unpadded numbers; the slice number is written into the first pixel."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    head = (y / 0.8) ** 2 + (x / 0.7) ** 2 < 1
    for name in KAGGLE:
        (root / name).mkdir(parents=True)
        for k in range(1, slices + 1):
            image = (head[..., None] * (90 + 20 * rng.random((64, 64, 3)))).astype(np.uint8)
            image[30, 30] = 100 + k
            mask = np.zeros((64, 64), np.uint8)
            if 5 <= k <= 7:
                mask[20:30, 20:30] = 255
                image[20:30, 20:30, 1] = 240
            Image.fromarray(image).save(root / name / f"{name}_{k}.tif")
            Image.fromarray(mask).save(root / name / f"{name}_{k}_mask.tif")
    return root


def nifti(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write an array (x, y, z) as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(data, np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine).to_filename(path)
    return path


def brain(seed: int = 0, shape: tuple[int, int, int] = (20, 24, 6)) -> np.ndarray:
    """A skull-stripped blob, float32 (x, y, z)."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = (grid[:2] ** 2).sum(0) < 0.8
    return (inside * (100 + 20 * rng.random(shape))).astype(np.float32)


def nifti_set(root: Path) -> Path:
    """A manifest with four healthy subjects and two with lesions; returns its path."""
    lines = ["subject,split,image,lesion,foreground,site"]
    for i, split in enumerate(["train", "train", "val", "test_healthy", "test_lesion", "test_lesion"]):
        data = brain(i)
        lesion = ""
        if split == "test_lesion":
            mask = np.zeros(data.shape, np.uint8)
            mask[8:12, 8:12, 2:4] = 1
            data[mask > 0] = 300
            nifti(root / f"s{i}_lesion.nii.gz", mask)
            lesion = f"s{i}_lesion.nii.gz"
        nifti(root / f"s{i}.nii.gz", data)
        lines.append(f"s{i},{split},s{i}.nii.gz,{lesion},,{'ab'[i % 2]}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root / "manifest.csv"
