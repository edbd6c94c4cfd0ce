"""Connected components: the regions of AUPRO, the lesions of lesion-wise metrics, the clusters that a method finds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray


class Regions(NamedTuple):
    """The components of a mask.

    Attributes:
        labels: uint32 (D, H, W), 0 outside the mask and k in component k = 1, ..., K.
        sizes: int64 (K,), voxels of each component.
    """

    labels: NDArray[np.uint32]
    sizes: NDArray[np.int64]


def components(mask: BoolArray, per_slice: bool = False) -> Regions:
    """Label the components of a mask; voxels that share a face, an edge or a corner belong together.

    Args:
        mask: bool (D, H, W).
        per_slice: label every slice by itself, as 2-D benchmarks do.

    Returns:
        26-connected components; with D = 1 or `per_slice` these are the 8-connected ones of the slices. None for an
        empty mask.

    Raises:
        ValueError: if the mask is not (D, H, W).
    """
    import cc3d

    if mask.ndim != 3:
        raise ValueError(f"mask {mask.shape} must be (D, H, W)")
    if not mask.any():
        return Regions(np.zeros(mask.shape, np.uint32), np.zeros(0, np.int64))
    kind, connectivity = (
        np.ascontiguousarray(mask, np.bool_).view(np.uint8),
        26,
    )  # cc3d 4.1 fails on some thin bool masks.
    if not per_slice or len(mask) == 1:
        labels, count = cc3d.connected_components(kind, connectivity=connectivity, return_N=True, out_dtype=np.uint32)
    else:
        labels, count = np.zeros(mask.shape, np.uint32), 0
        for plane, out in zip(kind, labels, strict=True):
            part, more = cc3d.connected_components(plane, connectivity=8, return_N=True, out_dtype=np.uint32)
            np.add(part, np.uint32(count), out=out, where=plane.view(np.bool_))
            count += more
    return Regions(labels, np.bincount(labels[mask], minlength=count + 1)[1:])
