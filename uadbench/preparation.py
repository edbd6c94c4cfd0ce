"""What is done to volumes and maps without torch: intensities on one scale, where metrics look, a table of slices."""

from __future__ import annotations

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Volume
from uadbench.errors import DataError
from uadbench.protocol import Intensity


def normalise(volume: Volume, rule: Intensity) -> FloatArray:
    """Return the image (C, D, H, W) as float32 with healthy tissue in about 0..1 and the background exactly 0.

    Percentiles are taken over the foreground of the whole volume, for each channel. Where no foreground is known they
    are taken over the whole image.

    Raises:
        DataError: if a channel has one value only.
    """
    out = np.zeros(volume.image.shape, np.float32)
    inside = volume.foreground if volume.foreground is not None else np.ones(volume.grid, bool)
    for c, channel in enumerate(volume.image):
        tissue = channel[inside]
        low, high = np.percentile(tissue, [rule.low, rule.high])
        if not high > low:
            raise DataError(
                f"{volume.subject}: channel {c} has the same value ({low:g}) in nearly all of its foreground"
            )
        scaled = (tissue - low) / (high - low)
        out[c][inside] = np.clip(scaled, 0.0, 1.0 if rule.clip_high else None)
    return out


def inside(volume: Volume) -> BoolArray:
    """Return where metrics look, bool (D, H, W): the foreground without the ignored voxels."""
    where = np.ones(volume.grid, bool) if volume.foreground is None else volume.foreground
    return where if volume.ignore is None else where & ~volume.ignore


def slice_scores(volume: Volume, anomaly_map: FloatArray, own: dict[int, float]) -> list[dict[str, float | int | None]]:
    """Return one row for each slice with foreground: mean and maximum of its map, and the method's own score if any."""
    where = inside(volume)
    rows: list[dict[str, float | int | None]] = []
    for index in np.flatnonzero(where.any(axis=(1, 2))):
        values = anomaly_map[index][where[index]]
        rows.append(
            {
                "slice": int(index),
                "voxels": len(values),
                "mean": float(values.mean()),
                "max": float(values.max()),
                "method_score": own.get(int(index), own.get(-1)),
            }
        )
    return rows
