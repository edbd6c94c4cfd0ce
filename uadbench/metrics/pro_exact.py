"""AUPRO from exact counts: the area under the curve, and a form that reads subjects twice instead of holding them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray

Values = NDArray[np.float64]


def aupro_again(
    read: Callable[[], Iterable[tuple[FloatArray, BoolArray]]], sizes: NDArray[np.float32], limits: Sequence[float]
) -> list[float]:
    """Return the exact AUPRO of subjects that are read twice, for several limits at once.

    Only lesion voxels are in memory together, about 24 bytes each; `aupro` holds all voxels.

    Args:
        read: yields scores (N,) and lesion bool (N,) of each subject, in the same order every time; finite.
        sizes: (M,), for each lesion voxel in that order, how many voxels its region has.
        limits: largest false positive rates, each in (0, 1].

    Returns:
        One value for each limit, NaN without a region or without a healthy voxel.

    Raises:
        ValueError: if a limit is out of range or the sizes are not as many as lesion voxels.
    """
    for limit in limits:
        check_limit(limit)
    total, parts = 0, []
    for score, lesion in read():
        total += len(score)
        parts.append(score[lesion])
    found = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(found) != len(sizes):
        raise ValueError(f"{len(sizes)} sizes for {len(found)} lesion voxels")
    if not len(found) or total == len(found):
        return [float("nan")] * len(limits)
    level, group, number_at = np.unique(found, return_inverse=True, return_counts=True)
    share = 1.0 / sizes.astype(np.float64)
    overlap = np.bincount(group, share) / round(share.sum())
    # Of all voxels, how many lie above each level, and how many reach it: counted subject by subject.
    above, reach = np.zeros(len(level), np.int64), np.zeros(len(level), np.int64)
    for score, _ in read():
        for out, side in ((above, "left"), (reach, "right")):
            places = np.searchsorted(level, score, side=side)  # type: ignore[call-overload]
            out += np.bincount(places, minlength=len(level) + 1)[:0:-1].cumsum()[::-1]
    return [exact_area(above, reach, number_at, overlap, total - len(found), limit) for limit in limits]


def exact_area(
    above: NDArray[Any], reach: NDArray[Any], number_at: NDArray[Any], overlap: Values, healthy: int, limit: float
) -> float:
    """Return the AUPRO from counts at every score that lesion voxels have, ascending.

    Args:
        above: voxels of all kinds above each of these scores.
        reach: voxels of all kinds there and above.
        number_at: lesion voxels there.
        overlap: what they add to the mean overlap.
        healthy: number of healthy voxels.
        limit: largest false positive rate.
    """
    # The curve turns only at scores that lesion voxels have: it comes to each with the healthy voxels above it, and
    # leaves it with those that equal it too.
    at = np.cumsum(number_at[::-1])
    before, after = above[::-1] - (at - number_at[::-1]), reach[::-1] - at
    rate = np.concatenate(([0], np.stack([before, after], 1).reshape(-1), [healthy])) / healthy
    height = np.concatenate(([0.0, 0.0], np.repeat(np.cumsum(overlap[::-1]), 2)))
    return float(area(rate, height, limit))


def check_limit(limit: float) -> None:
    """Refuse what is no rate."""
    if not 0.0 < limit <= 1.0:
        raise ValueError(f"limit {limit} must be in (0, 1]")


def area(rate: Values, overlap: Values, limit: float) -> Values:
    """Return the area under the lines through (rate, overlap) up to `limit`, divided by it.

    Args:
        rate: (..., K), ascending from 0 to 1.
        overlap: (..., K).
        limit: in (0, 1].
    """
    left, right = rate[..., :-1], rate[..., 1:]
    low, high = overlap[..., :-1], overlap[..., 1:]
    width = np.minimum(right, limit) - np.minimum(left, limit)
    # Full steps have a mean height of (low + high) / 2; the one that crosses the limit is cut in proportion.
    share = np.divide(width, right - left, out=np.zeros_like(width), where=right > left)
    area: Values = (width * (low + (high - low) * share / 2.0)).sum(-1) / limit
    return np.minimum(area, 1.0)  # a perfect map may miss 1 by rounding
