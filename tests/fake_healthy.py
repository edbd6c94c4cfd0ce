"""Writes small data sets of whole volumes, healthy ones and stroke, in the layout their owners distribute."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import fake_data
import numpy as np

IXI = ("IXI002-Guys-0828", "IXI012-HH-1211", "IXI013-HH-1212", "IXI014-HH-1236", "IXI035-IOP-0873", "IXI116-Guys-0739")
"""Real ids; the last one has no T2 image in the mDDPM release."""

SHAPE = (8, 10, 4)


def volume(number: int) -> np.ndarray:
    """A skull-stripped blob whose first voxel that is not 0 tells which one it is."""
    data = fake_data.brain(number, SHAPE)
    data[4, 5, 2] = 1000 + number
    return data


def ixi(
    root: Path, people: Sequence[str] = IXI, kinds: Sequence[str] = ("T1", "T2", "PD"), folders: bool = False
) -> Path:
    """The owners' archives unpacked into one folder, or each into one of its own; image k of person i is number 10 i + k."""
    for i, person in enumerate(people):
        for k, kind in enumerate(kinds):
            folder = root / f"IXI-{kind}" if folders else root
            fake_data.nifti(folder / f"{person}-{kind}.nii.gz", volume(10 * i + k))
    return root


def ixi_renamed(root: Path, people: Sequence[str] = IXI) -> Path:
    """Folders t1, t2, mask with names in lower case, as the mDDPM release has them."""
    for i, person in enumerate(people):
        for k, kind in enumerate(("t1", "t2")):
            fake_data.nifti(root / kind / f"{person}_{kind}.nii.gz", volume(10 * i + k) + 1)
        fake_data.nifti(root / "mask" / f"{person}_mask.nii.gz", (volume(10 * i) > 0).astype(np.uint8))
    return root


def xls(path: Path, rows: Sequence[Sequence[str | float | None]]) -> Path:
    """A sheet in the oldest Excel format, BIFF2, which needs no package to be written; None is an empty cell."""
    data = struct.pack("<HHHH", 0x0009, 4, 7, 0x0010)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            at = struct.pack("<HH3x", i, j)
            if isinstance(value, str):
                body = at + bytes([len(value)]) + value.encode("latin-1")
                data += struct.pack("<HH", 0x0004, len(body)) + body
            elif value is not None:
                body = at + struct.pack("<d", value)
                data += struct.pack("<HH", 0x0003, len(body)) + body
    path.write_bytes(data + struct.pack("<HH", 0x000A, 0))
    return path


def camcan(root: Path, people: int = 5) -> Path:
    """The tree of release 004 from cc700 on; returns the folder that holds the people."""
    top = root / "cc700/mri/pipeline/release004/BIDS_20190411/anat"
    lines = ["participant_id\tage\thand\tgender_code\ttiv_cubicmm"]
    for i in range(people):
        name = f"sub-CC11003{i}"
        for k, kind in enumerate(("T1w", "T2w")):
            fake_data.nifti(top / name / "anat" / f"{name}_{kind}.nii.gz", volume(10 * i + k))
            (top / name / "anat" / f"{name}_{kind}.json").write_text("{}")
        lines.append(f"{name}\t{20 + i}\t95\t{1 + i % 2}\tn/a")
    (top / "participants.tsv").write_text("\n".join(lines) + "\n")
    return top


def isles22(root: Path, people: int = 4, challenge: bool = False) -> Path:
    """The public release, or that for the challenge (images in rawdata, in the session's own folder); FLAIR is finer."""
    for i in range(1, people + 1):
        name = f"sub-strokecase{i:04d}"
        stem = f"{name}_ses-0001"
        home = root / ("rawdata" if challenge else "") / name / "ses-0001"
        image, mask = volume(i), np.zeros(SHAPE, np.uint8)
        mask[3:5, 4:6, 1:3] = 1
        fake_data.nifti(home / ("" if challenge else "dwi") / f"{stem}_dwi.nii.gz", image + np.float32(500) * mask)
        fake_data.nifti(home / ("" if challenge else "dwi") / f"{stem}_adc.nii.gz", image - np.float32(50) * mask)
        fine = np.ones((16, 20, 4), np.float32)
        word = "flair" if challenge else "FLAIR"
        fake_data.nifti(home / ("" if challenge else "anat") / f"{stem}_{word}.nii.gz", fine, np.diag([1.0, 1, 3, 1]))
        fake_data.nifti(root / "derivatives" / name / "ses-0001" / f"{stem}_msk.nii.gz", mask)
    return root
