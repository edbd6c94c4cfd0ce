"""Filters of anomaly maps and masks: pure functions of arrays (D, H, W), D the slice axis.

The chain of the mDDPM and pDDPM papers is made of these: erosion of the brain mask slice by slice, a median over 5x5x5
voxels, and the removal of components of at most 7 voxels (Iqbal et al. 2023, arXiv 2305.19867; Behrendt et al. 2023,
arXiv 2303.03758). All sizes are in voxels. A volume with one slice is a picture and is filtered in its plane.

The results are those of scipy and scikit-image, bit by bit. They are faster because outside the brain a map is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.regions import components

ROWS = 1024
"""Neighbourhoods that are sorted at a time, so that they stay in the processor's cache."""

SHELL = 26
"""The fewest voxels that enclose a hole: all the neighbours of the one voxel in it."""


def median_cube(values: FloatArray, size: int) -> FloatArray:
    """Return the median over a cube of `size` voxels a side, float32 (D, H, W).

    Zeros take part like any other value, and at the border the map is mirrored: the same as
    `scipy.ndimage.median_filter(values, size, mode="reflect")`. `uadbench.postprocess.median` looks at the foreground only.

    Args:
        values: (D, H, W); float32, or converted to it. Maps without negative values are filtered several times faster.
        size: odd; 1 changes nothing.

    Raises:
        ValueError: if `size` is even or not positive.
    """
    # The mirror images of a single slice are that slice, so each value would be counted `size` times.
    return _median(values, size, depth=1 if len(values) == 1 else size)


def median_slices(values: FloatArray, size: int) -> FloatArray:
    """Return the median over a square of `size` voxels a side within each slice; otherwise as `median_cube`.

    Raises:
        ValueError: if `size` is even or not positive.
    """
    return _median(values, size, depth=1)


def _median(values: FloatArray, size: int, depth: int) -> FloatArray:
    if size < 1 or size % 2 != 1:
        raise ValueError(f"the size of a median must be odd, got {size}")
    values = np.asarray(values, np.float32)
    window = (depth, size, size)
    if np.signbit(values).any() or np.isnan(values).any():
        from scipy.ndimage import median_filter

        return np.asarray(median_filter(values, size=window, mode="reflect"), np.float32)
    padded = np.pad(values, [(n // 2, n // 2) for n in window], mode="symmetric")
    middle = depth * size * size // 2
    # Where fewer than half of the neighbours are above zero, the median is zero and nothing has to be sorted.
    wanted = _window_sum(padded > 0, window) > middle
    # Floats that are not negative are ordered like the integers with the same bits, and integers are sorted faster.
    bits = padded.view(np.int32)
    # With the slices of a window side by side, each of its rows is one run in memory.
    slab = np.empty((*padded.shape[1:], depth), np.int32)
    row, column, item = slab.strides
    shape = (*values.shape[1:], size, size * depth)
    windows = np.lib.stride_tricks.as_strided(slab, shape, (row, column, row, item), writeable=False)
    out = np.zeros(values.shape, np.int32)
    for plane in np.flatnonzero(wanted.any(axis=(1, 2))):
        slab[:] = np.moveaxis(bits[plane : plane + depth], 0, -1)
        h, w = np.nonzero(wanted[plane])
        for start in range(0, len(h), ROWS):
            part = slice(start, start + ROWS)
            neighbours = windows[h[part], w[part]].reshape(-1, depth * size * size)
            neighbours.sort(axis=1)
            out[plane, h[part], w[part]] = neighbours[:, middle]
    return out.view(np.float32)


def _window_sum(mask: BoolArray, window: Sequence[int]) -> NDArray[np.unsignedinteger]:
    """Return how many voxels of each window are True; smaller than `mask` by `window` - 1."""
    total = mask.astype(np.min_scalar_type(int(np.prod(window))))
    for axis, size in enumerate(window):
        parts = np.moveaxis(total, axis, 0)
        length = len(parts) - size + 1
        summed = parts[:length].copy()
        for shift in range(1, size):
            summed += parts[shift : shift + length]
        total = np.moveaxis(summed, 0, axis)
    return total


def erode_slices(mask: BoolArray, iterations: int) -> BoolArray:
    """Return each slice of the mask (D, H, W) eroded `iterations` times by a cross of 5 voxels.

    A voxel stays if it and its 4 neighbours in the slice are in the mask; outside the picture nothing is. The same as
    `scipy.ndimage.binary_erosion` slice by slice. mDDPM's code erodes `size // 25` times, `size` being a side of the slice.

    Args:
        mask: bool (D, H, W).
        iterations: 0 changes nothing (scipy would go on until nothing is left).

    Raises:
        ValueError: if `iterations` is negative.
    """
    if iterations < 0:
        raise ValueError(f"a mask cannot be eroded {iterations} times")
    out = np.array(mask, bool)
    for _ in range(iterations):
        before = out.copy()
        for axis in (1, 2):
            now, was = np.moveaxis(out, axis, 0), np.moveaxis(before, axis, 0)
            now[1:] &= was[:-1]
            now[:-1] &= was[1:]
            now[0] = now[-1] = False
    return out


def remove_small(mask: BoolArray, voxels: int, *, filled: bool = False) -> BoolArray:
    """Return the mask without its components of at most `voxels` voxels.

    Voxels that share a face, an edge or a corner belong together (26 neighbours; 8 in a volume with one slice). The same
    as `skimage.morphology.remove_small_objects(mask, max_size=voxels, connectivity=3)`.

    Args:
        mask: bool (D, H, W).
        voxels: the largest size that is removed; 0 removes nothing.
        filled: count the holes of a component as part of it, as the released code of mDDPM does (`area_filled` of
            `skimage.measure.regionprops`); the holes stay open. A hole is what 26-connected paths from outside do not
            reach, so its shell has at least 26 voxels, and up to `voxels` = 25 this makes no difference. Nor does it in a
            volume with one slice, which is open above and below.

    Raises:
        ValueError: if `voxels` is negative.
    """
    if voxels < 0:
        raise ValueError(f"a component cannot have {voxels} voxels")
    out = np.array(mask, bool, order="C")
    labels, sizes = components(out)
    keep = sizes > voxels
    # Filling makes components larger, so only those that would go have to be looked at.
    doubtful = np.flatnonzero(~keep & (sizes >= SHELL))
    if filled and len(doubtful):
        import cc3d

        boxes = cc3d.statistics(labels)["bounding_boxes"][1:]  # the first is that of the background
        for k in doubtful:
            keep[k] = _filled_size(labels[boxes[k]] == k + 1) > voxels
    out[out] = keep[labels[out] - 1]
    return out


def _filled_size(component: BoolArray) -> int:
    """Return the number of voxels of a component, cut out by its bounding box, and of its holes."""
    from scipy.ndimage import binary_fill_holes

    return int(np.count_nonzero(binary_fill_holes(component, np.ones((3, 3, 3), bool))))


def gaussian(values: FloatArray, where: BoolArray, sigma: float) -> FloatArray:
    """Return the Gaussian mean over the part of the neighbourhood that lies inside `where`; 0 outside it. float32.

    A normalised convolution (Knutsson and Westin 1993): weighted values divided by the weights inside `where`, so that what
    lies outside takes no part and a constant stays the same constant up to the border.

    Args:
        values: (D, H, W).
        where: bool (D, H, W).
        sigma: standard deviation in voxels, along all axes; the kernel ends at 4 of them. 0 changes nothing inside.

    Raises:
        ValueError: if `sigma` is negative.
    """
    from scipy.ndimage import gaussian_filter

    if sigma < 0:
        raise ValueError(f"the width of a Gaussian cannot be {sigma}")
    weight = gaussian_filter(where.astype(np.float64), sigma, mode="constant")
    total = gaussian_filter(np.where(where, values, 0.0).astype(np.float64), sigma, mode="constant")
    out = np.zeros(values.shape, np.float32)
    out[where] = total[where] / weight[where]
    return out
