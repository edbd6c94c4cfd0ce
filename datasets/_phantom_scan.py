"""A subject's arrays, and how they lie in a file. Needs no torch, so that stored subjects are read without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray


@dataclass(frozen=True)
class Scan:
    """A subject's arrays, all (D, H, W): whole-number intensities, 0 outside the foreground, and the two masks."""

    image: NDArray[np.uint16]
    foreground: BoolArray
    lesion: BoolArray


def scatter(size: tuple[int, int, int], index: NDArray[Any], values: NDArray[Any], lesion: NDArray[Any]) -> Scan:
    """Return the scan with foreground at the flat indices `index` (n,), where it has `values` (n,) and `lesion` (n,)."""
    scan = Scan(np.zeros(size, np.uint16), np.zeros(size, np.bool_), np.zeros(size, np.bool_))
    scan.image.reshape(-1)[index] = values
    scan.foreground.reshape(-1)[index] = True
    scan.lesion.reshape(-1)[index] = lesion
    return scan


def to_arrays(scan: Scan) -> dict[str, NDArray[Any]]:
    """Return a scan as it is stored: a bit a voxel for the foreground, and the rest for its voxels alone."""
    return {
        "size": np.array(scan.image.shape),
        "foreground": np.packbits(scan.foreground),
        "values": scan.image[scan.foreground],
        "lesion": np.packbits(scan.lesion[scan.foreground]),
    }


def from_arrays(arrays: Mapping[str, NDArray[Any]], size: tuple[int, int, int]) -> Scan | None:
    """Return the scan that `to_arrays` stored, or None if the arrays are not those of a scan of `size`."""
    if set(arrays) != {"size", "foreground", "values", "lesion"} or tuple(arrays["size"].tolist()) != size:
        return None
    if arrays["foreground"].size != -(-int(np.prod(size)) // 8) or arrays["foreground"].dtype != np.uint8:
        return None
    index = np.flatnonzero(np.unpackbits(arrays["foreground"], count=int(np.prod(size))))
    if arrays["values"].shape != index.shape or arrays["lesion"].size != -(-len(index) // 8):
        return None
    return scatter(size, index, arrays["values"], np.unpackbits(arrays["lesion"], count=len(index)).astype(np.bool_))
