"""Average precision, AUROC and the best Dice, all from one sort of the scores.

Computed from ranks in the scores' own precision: nothing is squashed to [0, 1] and nothing is binned, so every result is
unchanged by a strictly increasing map of the scores. Counts are integers and ratios float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray


@dataclass(frozen=True)
class RankCurve:
    """What is found at every threshold that makes a difference. Entry k calls `score >= threshold[k]` anomalous.

    Attributes:
        threshold: (K,), the distinct scores, descending.
        tp: int64 (K,), lesion voxels found.
        fp: int64 (K,), healthy voxels found.
    """

    threshold: FloatArray
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]

    @property
    def positives(self) -> int:
        """Number of lesion voxels."""
        return int(self.tp[-1]) if len(self.tp) else 0

    @property
    def negatives(self) -> int:
        """Number of healthy voxels."""
        return int(self.fp[-1]) if len(self.fp) else 0


def rank_curve(score: FloatArray, lesion: BoolArray) -> RankCurve:
    """Sort once and count.

    Args:
        score: (N,), higher is more anomalous; finite.
        lesion: bool (N,).

    Raises:
        ValueError: if shapes differ or a score is not finite.
    """
    if score.shape != lesion.shape or score.ndim != 1:
        raise ValueError(f"score {score.shape} and lesion {lesion.shape} must be of one shape (N,)")
    if not np.isfinite(score).all():
        raise ValueError("a score is NaN or infinite")
    ordered = np.sort(score)  # faster than argsort; labels then need not be reordered
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    values = ordered[first]
    found = np.bincount(np.searchsorted(values, np.sort(score[lesion])), minlength=len(values))
    tp = np.cumsum(found[::-1], dtype=np.int64)
    return RankCurve(values[::-1], tp, (len(ordered) - first)[::-1].astype(np.int64) - tp)


def average_precision(curve: RankCurve) -> float:
    """Return sum of (recall step x precision) over all thresholds, without interpolation; NaN without a lesion voxel.

    The same definition as scikit-learn's `average_precision_score`; tied scores count as one threshold.
    """
    if curve.positives == 0:
        return float("nan")
    precision = curve.tp / (curve.tp + curve.fp)
    step = np.diff(curve.tp, prepend=0)
    return float(np.dot(step, precision) / curve.positives)


def auroc(curve: RankCurve) -> float:
    """Return the probability that a lesion voxel outscores a healthy one, ties counted half; NaN if one kind is absent."""
    if curve.positives == 0 or curve.negatives == 0:
        return float("nan")
    height = (curve.tp + np.concatenate(([0], curve.tp[:-1]))) / 2.0
    width = np.diff(curve.fp, prepend=0)
    return float(np.dot(width, height) / (float(curve.positives) * float(curve.negatives)))


def largest_precision(dice: float) -> float:
    """Return the largest average precision that a curve can have whose Dice never exceeds `dice`.

    Dice 2pr / (p + r) <= f bounds precision by min(1, f r / (2 r - f)) at recall r, which falls with r; the area below is
    f / (2 - f) + the integral of the bound from there to 1. Values above it come from a bug, such as a maximum that was
    searched on a grid of thresholds.
    """
    if not 0.0 < dice < 1.0:
        return 1.0 if dice >= 1.0 else 0.0
    start = dice / (2.0 - dice)
    logs = np.log((2.0 - dice) / (2.0 * start - dice))
    return float(start + dice * ((1.0 - start) / 2.0 + dice / 4.0 * logs))


def best_dice(curve: RankCurve) -> tuple[float, float]:
    """Return the largest Dice over all thresholds and the threshold that gives it (score >= threshold).

    This looks at the labels it is judged on: it is an oracle, an upper limit, never a result. NaN without a lesion voxel.
    """
    if curve.positives == 0:
        return float("nan"), float("nan")
    dice = 2.0 * curve.tp / (curve.tp + curve.fp + curve.positives)
    best = int(np.argmax(dice))
    return float(dice[best]), float(curve.threshold[best])
