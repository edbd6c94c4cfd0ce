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


def components(mask: BoolArray) -> Regions:
    """Label the components of a mask; voxels that share a face, an edge or a corner belong together.

    Args:
        mask: bool (D, H, W).

    Returns:
        26-connected components; with D = 1, a picture, these are the 8-connected ones. None for an empty mask.

    Raises:
        ValueError: if the mask is not (D, H, W).
    """
    import cc3d

    if mask.ndim != 3:
        raise ValueError(f"mask {mask.shape} must be (D, H, W)")
    if not mask.any():
        return Regions(np.zeros(mask.shape, np.uint32), np.zeros(0, np.int64))
    # cc3d 4.1 fails on some thin bool masks.
    kind = np.ascontiguousarray(mask, np.bool_).view(np.uint8)
    labels, count = cc3d.connected_components(kind, connectivity=26, return_N=True, out_dtype=np.uint32)
    return Regions(labels, np.bincount(labels[mask], minlength=count + 1)[1:])


def components_by_slice(mask: BoolArray) -> Regions:
    """Label the 8-connected components of each slice by itself, as for a stack of pictures.

    Args:
        mask: bool (D, H, W).

    Raises:
        ValueError: if the mask is not (D, H, W).
    """
    if mask.ndim != 3:
        raise ValueError(f"mask {mask.shape} must be (D, H, W)")
    # With an empty slice between any two, 26-connected components cannot reach from one into the next.
    apart = np.zeros((2 * mask.shape[0], *mask.shape[1:]), bool)
    apart[::2] = mask
    labels, sizes = components(apart)
    return Regions(np.ascontiguousarray(labels[::2]), sizes)
