"""Reads images from files: NIfTI volumes and pictures. Whatever is wrong with a file is one sentence that names it."""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from uadbench.arrays import FloatArray
from uadbench.errors import DataError
from uadbench.gzipped import inflated

NIFTI = (".nii.gz", ".nii")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

LARGEST = 2**29
"""Voxels of the largest volume that is read. A damaged header can claim any size."""

MOST_BYTES = {".gz": 1032, ".mgz": 1032, ".nii": 1, ".img": 1}
"""Bytes that one byte of a file can stand for, by its ending: 258 for each 2 bits is the most that deflate reaches."""

SAME_PLACE = 0.05
"""Largest difference of the affines of files that lie on one grid, mostly millimetres. Rounded headers differ by less."""

PADDING = 2**20
"""Bytes that may follow the last voxel of a compressed file."""

_REMEDIES = {
    203: "it is cut short: restore the file",
    204: "give one 3-D volume for each modality",
    205: "its header is damaged: restore the file",
}


@dataclass(frozen=True)
class Scan:
    """One 3-D image as it lies in a file, brought to RAS.

    Attributes:
        data: float32 (D, H, W), D from inferior to superior, H to anterior, W to the right.
        affine: 4x4, from voxel indices (W, H, D) to millimetres.
        spacing: millimetres (D, H, W).
        path: of the file.
    """

    data: FloatArray
    affine: FloatArray
    spacing: tuple[float, float, float]
    path: Path


def nifti_file(folder: Path, stem: str) -> Path | None:
    """Return the NIfTI file of a name without its ending in a folder, compressed or not; None if there is none."""
    return next((path for end in NIFTI if (path := folder / f"{stem}{end}").is_file()), None)


def read_volume(path: Path, owner: str) -> Scan:
    """Read a NIfTI (or Analyze) volume.

    Args:
        path: of the file.
        owner: name of the adapter, for messages.

    Raises:
        DataError: if it is missing, damaged, not 3-D, absurdly large, or too large for the memory.
    """
    try:
        header = open_volume(path)
        number, words = why_not_read(header, path)
        if number:
            raise DataError(f"{owner}: {path} {words}; {_REMEDIES[number]}")
        image, data = _voxels(header, path)
    except FileNotFoundError:
        raise DataError(f"{owner}: {path} does not exist; restore the file") from None
    except PermissionError:
        raise DataError(f"{owner}: {path} may not be read; give yourself the right to (chmod u+r)") from None
    except MemoryError:
        raise DataError(
            f"{owner}: {path} holds {_size(header.shape)} voxels, for which there is not enough free memory; end other "
            "programs, or use a machine with more memory"
        ) from None
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{owner}: {path} cannot be read ({error}); it may be cut short or damaged: restore the file"
        ) from error
    data = data.reshape(data.shape[:3])
    x, y, z = (float(s) for s in image.header.get_zooms()[:3])
    affine = np.asarray(image.affine, np.float64)
    return Scan(np.ascontiguousarray(data.transpose(2, 1, 0)), affine, (z, y, x), path)


def open_volume(path: Path) -> Any:
    """Return a volume as nibabel opens it, with its header only. What is raised is not printed too."""
    import nibabel

    logging.getLogger("nibabel.global").addFilter(_not_raised)
    return nibabel.load(path)


def _not_raised(record: logging.LogRecord) -> bool:
    return "not attempting fix" not in record.getMessage()


def _voxels(image: Any, path: Path) -> tuple[Any, FloatArray]:
    """Return an image brought to RAS, and its voxels. A compressed file is read to its end, where its checksum lies.

    nibabel stops after the last voxel, and would not see that a byte was changed. Of images in two files the checksum is not
    looked at.
    """
    import nibabel

    if path.suffix.lower() not in (".gz", ".mgz") or not hasattr(image, "from_stream"):
        image = nibabel.as_closest_canonical(image)
        return image, np.asarray(image.dataobj, dtype=np.float32)
    # The header was looked at before: it claims no more than the file can hold.
    raw = inflated(path, image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize + PADDING)
    image = nibabel.as_closest_canonical(type(image).from_stream(io.BytesIO(raw)))
    return image, np.asarray(image.dataobj, dtype=np.float32)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the file that holds the voxels and, where the header lies in another one (Analyze, .hdr and .img), that too."""
    found = re.fullmatch(r"(.+)\.(img|hdr)(\.gz)?", path.name)
    if not found:
        return (path,)
    both = (path.with_name(f"{found[1]}.{end}{found[3] or ''}") for end in ("img", "hdr"))
    return tuple(file for file in both if file.is_file()) or (path,)


def why_not_read(image: Any, path: Path) -> tuple[int, str]:
    """Say from a header alone why the voxels of a volume must not be read.

    Args:
        image: as nibabel opened it.
        path: of the file.

    Returns:
        The number of a code of `uadbench.findings` and what follows the file's name in a sentence; 0 and "" for a volume
        that may be read.
    """
    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        return 204, f"has {len(shape)} axes {shape}"
    kind = image.get_data_dtype()
    if kind.fields:
        return 204, "holds colours, not one grey value for each voxel"
    if kind.kind == "c":
        return 204, "holds complex numbers, not one grey value for each voxel"
    need = math.prod(shape) * int(kind.itemsize) + int(getattr(image.dataobj, "offset", 0))
    # The voxels of Analyze images lie in another file than the header.
    voxels = Path(image.file_map["image"].filename or path)
    times = MOST_BYTES.get(voxels.suffix.lower())
    if times and need > times * (size := voxels.stat().st_size):
        return 205 if times > 1 else 203, (
            f"has a header that claims {_size(shape)} voxels, {need:,} bytes, but with its {size:,} bytes it can hold at "
            f"most {times * size:,}"
        )
    if math.prod(shape) > LARGEST or min(shape) < 1:
        return 205, f"has a header that claims {_size(shape)} voxels; possible are 1 to {LARGEST:,}"
    axes = np.asarray(image.affine, np.float64)[:3, :3]
    if not np.isfinite(axes).all() or np.linalg.matrix_rank(axes) < 3:
        return 205, "has an affine that does not give every voxel a place of its own"
    return 0, ""


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def read_like(path: Path, reference: Scan, owner: str) -> FloatArray:
    """Read another file of the same subject, (D, H, W), and check that it lies on the same grid.

    Raises:
        DataError: if it does not, or cannot be read.
    """
    scan = read_volume(path, owner)
    if scan.data.shape != reference.data.shape:
        raise DataError(
            f"{owner}: {path} has the shape {scan.data.shape[::-1]} but {reference.path.name} has "
            f"{reference.data.shape[::-1]}; resample it to the image's grid (nearest neighbour for masks)"
        )
    if not (worst := apart(scan.affine, reference.affine)) <= SAME_PLACE:
        raise DataError(
            f"{owner}: {path} has another affine than {reference.path.name} (largest difference {worst:.3g}); resample it "
            "to the image's grid, or correct the header if the voxels do match"
        )
    return scan.data


def apart(a: FloatArray, b: FloatArray) -> float:
    """Return the largest difference of two affines; NaN if one holds NaN."""
    return float(np.abs(a - b).max())


def read_picture(path: Path, owner: str, channels: Literal[1, 3] | None = None) -> FloatArray:
    """Read a picture as float32 (C, H, W), in the units of the file: 16 bits stay 16 bits.

    Args:
        path: of the file.
        owner: name of the adapter, for messages.
        channels: 1 makes it grey, 3 makes it coloured, None takes 1 for grey files and 3 for others.

    Raises:
        DataError: if it is missing or damaged.
    """

    def pixels(image: Any) -> Any:
        deep = image.mode.startswith(_DEEP)
        want = channels or (1 if deep or image.mode in ("1", "L", "LA") else 3)
        if not deep:
            return np.asarray(image.convert("L" if want == 1 else "RGB"))
        # Pillow clips 16 bits where it converts them.
        data = np.asarray(image)
        return data if want == 1 else np.stack([data] * 3, axis=-1)

    data = _open_picture(path, owner, pixels)
    return np.ascontiguousarray(data[None] if data.ndim == 2 else data.transpose(2, 0, 1), dtype=np.float32)


def read_labels(path: Path, owner: str) -> FloatArray:
    """Read a picture that holds a label for every pixel, float32 (H, W); 0 is the background.

    A palette's indices are the labels, whatever their colours; of a coloured picture it is the largest channel.

    Raises:
        DataError: if it is missing or damaged.
    """

    def labels(image: Any) -> Any:
        if image.mode.startswith(("1", "L", "P", *_DEEP)):
            data = np.asarray(image)
            data = data if data.ndim == 2 else data[..., 0]
        else:
            data = np.asarray(image.convert("RGB")).max(axis=-1)
        # JPEG leaves faint values around what was drawn.
        return np.where(data < 128, 0, data) if image.format == "JPEG" else data

    return np.ascontiguousarray(_open_picture(path, owner, labels), dtype=np.float32)


_DEEP = ("I", "F")
"""How Pillow's names of modes with more than 8 bits begin."""


def _open_picture(path: Path, owner: str, take: Callable[[Any], Any]) -> Any:
    """Return what `take` makes of an opened picture."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            # A photo may hold a preview as second frame; the frames of a TIFF are images of their own.
            if image.format == "TIFF" and (frames := getattr(image, "n_frames", 1)) > 1:
                raise DataError(f"{owner}: {path} holds {frames} pictures; write each into a file of its own")
            return take(image)
    except FileNotFoundError:
        raise DataError(f"{owner}: {path} does not exist; restore the file") from None
    except PermissionError:
        raise DataError(f"{owner}: {path} may not be read; give yourself the right to (chmod u+r)") from None
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{owner}: {path} cannot be read ({error}); it may be cut short or damaged: restore the file"
        ) from error


def unknown_layout(owner: str, root: Path, layouts: Sequence[str]) -> DataError:
    """Return the error for a folder that holds nothing an adapter knows.

    Args:
        owner: name of the adapter.
        root: the folder that was given.
        layouts: one example path below the root for each layout that the adapter reads.
    """
    joined = f"(-D {owner}.root=... where two sets take part)"
    if not root.exists():
        return DataError(
            f"{owner}: there is no folder {root}; give the one that holds {layouts[0]} with --root {joined}, or set "
            f"UADBENCH_DATA to the folder above one called {owner}"
        )
    if not root.is_dir():
        return DataError(f"{owner}: {root} is a file; give the folder that holds {layouts[0]} with --root")
    found = _some_files(root)
    words = ", ".join(found) or "nothing"
    nearest = ""
    if found and len(layouts) > 1:
        import difflib

        best = max(layouts, key=lambda text: difflib.SequenceMatcher(None, text, found[0]).ratio())
        nearest = f"; the nearest layout that is known is {best}"
    return DataError(
        f"{owner}: {root} holds nothing like {' or '.join(layouts)}; it holds {words}{nearest}; give the right folder with "
        f"--root {joined}"
    )


def _some_files(root: Path, number: int = 3) -> list[str]:
    """Return the first few files below a folder, relative to it, without walking all of it."""
    out: list[str] = []
    folders = [root]
    while folders and len(out) < number:
        folder = folders.pop(0)
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        out += [str(p.relative_to(root)) for p in entries if p.is_file() and not p.name.startswith(".")]
        folders = [p for p in entries if p.is_dir()][:number] + folders
    return out[:number]
