"""Post-processing of anomaly maps: a declared, ordered chain, the same for all methods of a protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.errors import UsageError
from uadbench.protocol import Step

CHUNK = 32768
"""Voxels that are filtered at a time, so that their neighbourhoods stay in the processor's cache."""


def postprocess(anomaly_map: FloatArray, foreground: BoolArray | None, chain: Sequence[Step]) -> FloatArray:
    """Return the map (D, H, W) after all steps, float32; outside the foreground it is 0.

    Raises:
        UsageError: for an unknown step.
    """
    out = np.asarray(anomaly_map, np.float32)
    where = np.ones(out.shape, bool) if foreground is None else foreground
    out = np.where(where, out, np.float32(0.0))
    for step in chain:
        if step.name != "median":
            raise UsageError(f"no post-processing step is called {step.name!r}; known: median")
        out = median(out, where, step.size)
    return out


def median(values: FloatArray, where: BoolArray, size: int) -> FloatArray:
    """Return the median over the part of a cube of `size` voxels a side that lies inside `where`; 0 outside `where`.

    Zeros outside the foreground take no part. If they did, scores near its border would be pulled down, and lesions,
    which lie further in, would stand out even in random maps (AUROC 0.56 instead of 0.50 on LGG slices).

    Args:
        values: (D, H, W). A volume with one slice is filtered in the plane.
        where: bool (D, H, W).
        size: odd.

    Raises:
        ValueError: if `size` is even.
    """
    if size % 2 != 1:
        raise ValueError(f"the size of a median must be odd, got {size}")
    reach = [size // 2 if length > 1 else 0 for length in values.shape]
    padded = np.pad(np.where(where, values, np.inf), [(r, r) for r in reach], constant_values=np.inf)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    cube = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3) @ strides
    centres = (np.argwhere(where) + reach) @ strides
    flat = padded.ravel()
    result = np.empty(len(centres), np.float32)
    for start in range(0, len(centres), CHUNK):
        neighbours = np.sort(flat[centres[start : start + CHUNK, None] + cube], axis=1)
        count = np.isfinite(neighbours).sum(axis=1)
        rows = np.arange(len(neighbours))
        result[start : start + CHUNK] = (neighbours[rows, (count - 1) // 2] + neighbours[rows, count // 2]) / 2.0
    out = np.zeros(values.shape, np.float32)
    out[where] = result
    return out
