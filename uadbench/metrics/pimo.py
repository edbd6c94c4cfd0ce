"""AUPIMO: how much of each subject's lesions is found at very low false positive rates of healthy images.

Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance", BMVC 2024. The
shared rate of a threshold is the mean over healthy images of the share of voxels above it. A subject's value is its
recall, averaged over the logarithm of the shared rate between two bounds. There is one value per subject with lesions, and
lesions of other subjects have no part in it.

The paper uses a grid of thresholds; here every score of a healthy voxel is one. At an allowed rate z the threshold is the
lowest one whose shared rate is at most z, so recall is a step function of z and its mean is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray

BOUNDS = (1e-5, 1e-4)


@dataclass(frozen=True)
class SharedRate:
    """The thresholds that healthy images give, and how much each counts.

    Attributes:
        threshold: (K,), descending; `score > threshold` is called anomalous.
        weight: (K,), the share of the range of log rates in which each holds; the sum is 1.
        reason: why there are none, else empty.
    """

    threshold: FloatArray
    weight: NDArray[np.float64]
    reason: str = ""


def shared_rate(healthy: Sequence[FloatArray], bounds: tuple[float, float] = BOUNDS) -> SharedRate:
    """Find the thresholds between two shared false positive rates.

    The bounds are never widened: values under different bounds do not compare. If one voxel of one image alone is more
    than the lower bound, that bound cannot be told from zero, and the result says so instead: with S images of n
    foreground voxels, S n must be at least 1 / bound.

    Args:
        healthy: the foreground scores of each healthy image, (N_i,), finite. A lazy sequence is read one image at a time,
            and only scores that can matter are kept.
        bounds: lower and upper rate, 0 < lower < upper <= 1.

    Raises:
        ValueError: if a score is not finite or the bounds are out of order.
    """
    low, high = bounds
    if not 0.0 < low < high <= 1.0:
        raise ValueError(f"bounds {bounds} must be ascending and in (0, 1]")
    images = len(healthy)
    kept, steps = [np.zeros(0)], [np.zeros(0)]
    for number in range(images):
        score = np.asarray(healthy[number]).reshape(-1)
        if not np.isfinite(score).all():
            raise ValueError("a score is NaN or infinite")
        if score.size * images * low < 1.0 - 1e-9:
            return SharedRate(
                np.zeros(0),
                np.zeros(0),
                f"a healthy image of {score.size} voxels, {images} images: a rate of {low:g} is less than one voxel",
            )
        # No rate up to the upper bound lets through more of this image than if it took all false positives alone.
        most = min(score.size, int(np.ceil(high * images * score.size)) + 1)
        kept.append(np.partition(score, score.size - most)[score.size - most :].astype(np.float64))
        steps.append(np.full(most, 1.0 / (images * score.size)))
    if not images:
        return SharedRate(np.zeros(0), np.zeros(0), "no healthy image")
    score, step = np.concatenate(kept), np.concatenate(steps)
    level, group = np.unique(score, return_inverse=True)
    rate_at = np.cumsum(np.bincount(group, step)[::-1])
    rate_above = np.append(0.0, rate_at[:-1])
    # A threshold holds for allowed rates from its own up to that of the next lower one.
    start, stop = np.log(np.clip([rate_above, rate_at], low, high))
    weight = (stop - start) / np.log(high / low)
    used = weight > 0.0
    return SharedRate(level[::-1][used], weight[used])


def aupimo(lesion_scores: FloatArray, shared: SharedRate) -> float:
    """Return the mean recall of one subject over the logarithm of the shared rate, in [0, 1].

    Args:
        lesion_scores: scores of the subject's lesion voxels in the foreground, (N,).
        shared: of the healthy images.

    Returns:
        1 if all lesion voxels outscore the healthy ones; NaN without a lesion voxel, or where `shared` has no thresholds.
    """
    if not lesion_scores.size or not len(shared.threshold):
        return float("nan")
    ordered = np.sort(lesion_scores.reshape(-1).astype(np.float64))
    above = len(ordered) - np.searchsorted(ordered, shared.threshold, side="right")
    return min(1.0, float(shared.weight @ above / len(ordered)))  # the weights add up to 1 but for rounding
