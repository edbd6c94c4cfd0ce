"""Average precision, AUROC and best Dice from counts, with the bounds that hold whatever the order inside a group.

Voxels are given as groups of similar score, most anomalous first. Between groups the order is known; inside a group it is
known only if all its scores are equal (`tied`). Every value then lies between two extremes that are reached: all lesion
voxels of a group at one score above its healthy ones, or each at its own score below them. Ties count as in scikit-learn:
one threshold for average precision, half for AUROC. With tied groups only, both extremes are the exact value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Counts = NDArray[Any]
"""Numbers of voxels: int64, or float64 where they are weighted."""


class Bounded(NamedTuple):
    """An estimate and the least and largest value that the counts allow; NaN where the metric is undefined."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """How far the bounds are apart; NaN where the metric is undefined."""
        return self.high - self.low


@dataclass(frozen=True)
class Steps:
    """The groups that hold lesion voxels, most anomalous first; the leading axes (...) may count resampled pools.

    Attributes:
        lesion: (..., K), lesion voxels in each group.
        healthy: (..., K), healthy voxels in each group.
        above: (..., K), healthy voxels that outscore the whole group.
        tied: bool (K,), whether all scores of the group are known to be equal.
        negatives: (...), healthy voxels in all, also those below the last group.
    """

    lesion: Counts
    healthy: Counts
    above: Counts
    tied: NDArray[np.bool_]
    negatives: Counts

    @property
    def positives(self) -> Counts:
        """Lesion voxels in all, (...)."""
        total: Counts = np.asarray(self.lesion.sum(-1))
        return total

    def lesion_above(self) -> NDArray[np.float64]:
        """Return the lesion voxels that outscore each group, (..., K)."""
        return np.asarray(np.subtract(np.cumsum(self.lesion, axis=-1), self.lesion, dtype=np.float64))


def _ratio(part: Counts, whole: Counts) -> NDArray[np.float64]:
    """Return part / whole, NaN where whole is 0."""
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=out, where=np.asarray(whole) > 0)
    return out


def _precision_when_tied(steps: Steps) -> NDArray[np.float64]:
    """Return the share of lesion voxels among all down to the end of each group; 0 above the first voxel."""
    tp = steps.lesion_above() + steps.lesion
    return np.nan_to_num(_ratio(tp, tp + steps.above + steps.healthy))


def average_precision(steps: Steps) -> NDArray[np.float64]:
    """Return the estimate of average precision, (...).

    In groups that are not tied, healthy voxels are taken to lie evenly between the lesion voxels: the i-th of `a` lesion
    voxels has precision (P + i) / (P + F + i (1 + b / (a + 1))), and the sum over i is taken as an integral.
    """
    a, p = steps.lesion, steps.lesion_above()
    slope = 1.0 + steps.healthy / (a + 1.0)
    start = p + steps.above
    spread = a / slope + (p - start / slope) / slope * np.log1p(a * slope / (start + slope / 2.0))
    gained = np.where(steps.tied, a * _precision_when_tied(steps), spread)
    return _ratio(gained.sum(-1), steps.positives)


def auroc(steps: Steps) -> NDArray[np.float64]:
    """Return AUROC with pairs inside a group counted half, (...); exact where all groups are tied."""
    a = steps.lesion.astype(np.float64)
    below = steps.negatives[..., None] - steps.above - steps.healthy / 2.0
    return _ratio((a * below).sum(-1), steps.positives * np.asarray(steps.negatives, np.float64))


def dice_at_steps(steps: Steps) -> NDArray[np.float64]:
    """Return the Dice of calling each group and all above it anomalous, (..., K)."""
    tp = steps.lesion_above() + steps.lesion
    return _ratio(2.0 * tp, tp + steps.above + steps.healthy + steps.positives[..., None])


def _reciprocals(start: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of 1 / (start + i) over i = 1 ... n; absolute error below 1e-14.

    A difference of two digammas loses too many digits for large arguments; the difference of their expansions does not.
    """
    middle, end = start + 0.5, start + n + 0.5
    far = np.log1p(n / middle) - (middle**-2 - end**-2) / 24.0
    near = start < 1000
    far[near] = digamma((start + n + 1.0)[near]) - digamma((start + 1.0)[near])
    return np.asarray(far)


def average_precision_bounds(steps: Steps) -> Bounded:
    """Return average precision of one pool (K,) with its bounds.

    High: all lesion voxels of a group at one score above its healthy ones, a (P + a) / (P + a + F).
    Low: each at its own score below them, the sum of (P + i) / (P + i + F + b) over i = 1 ... a.
    """
    if not steps.lesion.size:
        return Bounded(float("nan"), float("nan"), float("nan"))
    a, p = steps.lesion.astype(np.float64), steps.lesion_above()
    healthy = (steps.above + steps.healthy).astype(np.float64)
    tied = a * _precision_when_tied(steps)
    low = np.where(steps.tied, tied, a - healthy * _reciprocals(p + healthy, a)).sum() / a.sum()
    high = np.where(steps.tied, tied, a * (p + a) / (p + a + steps.above)).sum() / a.sum()
    value = float(np.clip(average_precision(steps), low, high))
    return Bounded(value, float(low), float(high))


def auroc_bounds(steps: Steps) -> Bounded:
    """Return AUROC of one pool (K,) with its bounds: pairs inside a group that is not tied count 0 or 1."""
    value = float(auroc(steps))
    pairs = np.where(steps.tied, 0.0, steps.lesion.astype(np.float64) * steps.healthy).sum()
    half = float(_ratio(pairs / 2.0, steps.positives * np.asarray(steps.negatives, np.float64)))
    return Bounded(value, value - half, value + half)


def best_dice_bounds(steps: Steps) -> tuple[Bounded, int]:
    """Return the best Dice of one pool (K,) with its bounds, and the group that ends at the best known threshold.

    The value is the lower bound: a threshold at the end of a group reaches it. The upper bound is the Dice that a threshold
    inside a group could reach if all its lesion voxels came first. Without lesion voxels all is NaN and the group -1.
    """
    if not steps.lesion.size:
        return Bounded(float("nan"), float("nan"), float("nan")), -1
    dice = dice_at_steps(steps)
    best = int(np.argmax(dice))
    tp = steps.lesion_above() + steps.lesion
    first = 2.0 * tp / (tp + steps.above + steps.positives)
    high = max(float(dice[best]), float(first[~steps.tied].max(initial=0.0)))
    return Bounded(float(dice[best]), float(dice[best]), high), best


@dataclass(frozen=True)
class RankMetrics:
    """Average precision, AUROC and best Dice of one set of voxels, with bounds.

    Attributes:
        ap: average precision as scikit-learn defines it; NaN without a lesion voxel.
        auroc: NaN if one kind is absent.
        dice: best Dice over all thresholds, an oracle; from a histogram the best over the edges of its bins.
        dice_threshold: calling `score >= dice_threshold` anomalous gives `dice` (a histogram takes scores in float32).
        ap_low: the exact average precision is not below.
        ap_high: the exact average precision is not above.
        path: "histogram", or "exact" if every order was known; then all bounds are the values.
        auroc_low: as `ap_low`.
        auroc_high: as `ap_high`.
        dice_high: no threshold gives a larger Dice.
    """

    ap: float
    auroc: float
    dice: float
    dice_threshold: float
    ap_low: float
    ap_high: float
    path: Literal["histogram", "exact"]
    auroc_low: float
    auroc_high: float
    dice_high: float

    @classmethod
    def of(cls, steps: Steps, threshold: NDArray[np.floating], path: Literal["histogram", "exact"]) -> RankMetrics:
        """Compute all from the groups (K,) and their lowest scores (K,)."""
        ap, area = average_precision_bounds(steps), auroc_bounds(steps)
        dice, best = best_dice_bounds(steps)
        where = float(threshold[best]) if best >= 0 else float("nan")
        return cls(ap.value, area.value, dice.value, where, *ap[1:], path, *area[1:], dice.high)
