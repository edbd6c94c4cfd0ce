"""What is done to volumes and maps without torch: intensities on one scale, where metrics look, a table of slices."""

from __future__ import annotations

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Volume
from uadbench.errors import DataError
from uadbench.protocol import Intensity

SAMPLE = 2**12
"""Values that tell about where a quantile lies."""

CHUNK = 2**17
"""Voxels that are scaled at a time: the float64 values in between stay in the processor's cache."""


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
        low, high = (quantile(tissue, percent / 100) for percent in (rule.low, rule.high))
        if not high > low:
            raise DataError(
                f"E-DATA-402: {volume.subject}: channel {c} has the same value ({low:g}) in nearly all of its foreground; "
                "restore or remove this image"
            )
        scaled = np.empty(len(tissue), np.float32)
        for start in range(0, len(tissue), CHUNK):
            part = (tissue[start : start + CHUNK] - low) / (high - low)
            scaled[start : start + CHUNK] = np.clip(part, 0.0, 1.0 if rule.clip_high else None)
        out[c][inside] = scaled
    return out


def quantile(values: FloatArray, q: float) -> np.float64:
    """Return `np.quantile(values, [q])[0]` of finite values (N,), to the bit, in about a sixth of the time.

    Sorted values of a sample tell between which two bounds the quantile must be; only values between them are sorted.
    """
    n = len(values)
    sample = np.sort(values[:: max(1, n // SAMPLE)])
    place, spread = q * len(sample), 2 + 4 * (len(sample) * q * (1 - q)) ** 0.5  # four standard deviations
    first, last = int(place - spread), int(place + spread)
    low = sample[first] if first > 0 else -np.inf
    high = sample[last] if last < len(sample) else np.inf
    between = values[(values >= low) & (values <= high)]
    rank = q * (n - 1)
    begin = int(rank) - int(np.count_nonzero(values < low))
    if n < SAMPLE or not 0 <= begin < len(between) - 1:  # The sample was misleading.
        return np.float64(np.quantile(values, [q])[0])
    two = np.partition(between, [begin, begin + 1])[begin : begin + 2]
    return np.float64(np.quantile(two, [rank - int(rank)])[0])


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
