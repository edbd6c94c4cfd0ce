"""Thresholds, chosen on validation subjects. Nothing here has ever seen a test subject.

`score > threshold` is called anomalous. The policies that look at healthy subjects need no labels; `val_best_dice` and
`bisection` read the lesions of labelled validation subjects, which makes a method semi-supervised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.protocol import Threshold


def choose(
    rule: Threshold, healthy: Sequence[FloatArray], labelled: Iterable[tuple[FloatArray, BoolArray]] = ()
) -> float:
    """Return the threshold of `rule`; `score > threshold` is called anomalous.

    Args:
        rule: the policy of the protocol.
        healthy: scores of each healthy validation subject, (N_i,).
        labelled: scores and lesions (N_i,) of the subjects whose labels the policy reads; only such a policy opens them.

    Raises:
        ValueError: if the subjects do not allow a threshold.
    """
    if rule.policy == "fixed":
        return fixed(rule.rate)
    if rule.policy == "healthy_fpr":
        return healthy_fpr(np.concatenate(list(healthy)), rule.rate)
    if rule.policy == "healthy_subject_max":
        return healthy_subject_max(healthy, rule.rate)
    if rule.policy == "conformal":
        return conformal(healthy, rule.rate)
    parts = list(labelled)
    search = bisection if rule.policy == "val_bisection" else val_best_dice
    return search([score for score, _ in parts], [lesion for _, lesion in parts])


def healthy_fpr(scores: FloatArray, rate: float) -> float:
    """Return the lowest of `scores` above which at most a share `rate` of them lie.

    Tied scores are never split: the realised share can be below `rate`, and it is never above.

    Raises:
        ValueError: without scores, or for a rate outside [0, 1).
    """
    if not len(scores) or not 0.0 <= rate < 1.0:
        raise ValueError(
            f"{len(scores)} scores and a rate of {rate}: at least one score and a rate in [0, 1) are needed"
        )
    # At most `allowed` scores may exceed the threshold, so it is the score of that rank from above.
    allowed = int(np.floor(rate * len(scores)))
    return float(np.partition(scores, len(scores) - 1 - allowed)[len(scores) - 1 - allowed])


def healthy_subject_max(scores: Sequence[FloatArray], rate: float) -> float:
    """Return the lowest subject's maximum above which at most a share `rate` of the healthy subjects have any voxel.

    Labels used: none. The share holds for these subjects; see `conformal` for what holds for the next one.

    Args:
        scores: of each healthy validation subject, (N_i,). Subjects without voxels are left out.
        rate: share of subjects, in [0, 1).

    Raises:
        ValueError: without a subject that has voxels, or for a rate outside [0, 1).
    """
    return healthy_fpr(np.array([s.max() for s in scores if len(s)], np.float64), rate)


def conformal(
    scores: Sequence[FloatArray],
    alpha: float,
    *,
    rate: float = 0.0,
    too_few: Literal["infinity", "largest"] = "infinity",
) -> float:
    """Return a threshold that a new healthy subject fails with a probability of at most `alpha` (split conformal).

    A subject fails if more than a share `rate` of its voxels lie above the threshold; with the default 0, if any does. Each
    of the n subjects gives the lowest threshold that it does not fail, and the result is the k-th lowest of these,
    k = n + 1 - floor((n + 1) alpha) (Vovk et al. 2005; Angelopoulos and Bates 2021, arXiv 2107.07511). The promise is made
    before the n subjects are drawn and holds if they and the new one are exchangeable; ties only make it safer.

    Labels used: none.

    Args:
        scores: of each healthy validation subject, (N_i,). Subjects without voxels are left out.
        alpha: probability, in (0, 1).
        rate: share of a subject's voxels, in [0, 1).
        too_few: what to do with fewer than `conformal_needs(alpha)` subjects, when no finite threshold keeps the promise:
            "infinity" keeps it, and nothing is anomalous; "largest" returns the largest of the n, and the new subject
            fails with a probability of at most 1 / (n + 1).

    Raises:
        ValueError: without a subject that has voxels, or for an alpha or a rate outside its range.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    lowest = np.sort([healthy_fpr(s, rate) for s in scores if len(s)])
    n = len(lowest)
    if not n:
        raise ValueError("no subject has voxels")
    k = n + 1 - math.floor((n + 1) * alpha)
    if k > n and too_few == "infinity":
        return math.inf
    return float(lowest[min(k, n) - 1])


def conformal_needs(alpha: float) -> int:
    """Return the fewest subjects with which `conformal` has a finite threshold: 1 / alpha - 1, rounded up."""
    return next(n for n in itertools.count(max(1, math.ceil(1.0 / alpha) - 2)) if (n + 1) * alpha >= 1.0)


def val_best_dice(
    scores: Sequence[FloatArray],
    lesions: Sequence[BoolArray],
    aggregate: Literal["pooled", "mean"] = "pooled",
) -> float:
    """Return the threshold with the best Dice on labelled validation subjects, exact over all thresholds.

    Labels used: those of validation subjects. Where several thresholds are equally good it is the highest of them, and
    always a score that occurs (or the number just below the lowest one, if everything is best called anomalous).

    Args:
        scores: of each validation subject, (N_i,).
        lesions: the matching bool (N_i,).
        aggregate: "pooled", the Dice of all voxels together; "mean", the mean Dice of the subjects. Subjects without lesion
            voxels have no Dice of their own and do not take part in the mean; in the pool they do.

    Raises:
        ValueError: if shapes differ, a score is NaN, or no voxel is a lesion.
    """
    _check(scores, lesions)
    pairs = [(s, m) for s, m in zip(scores, lesions, strict=True) if aggregate == "pooled" or m.any()]
    found, false = [s[m] for s, m in pairs], [s[~m] for s, m in pairs]
    if aggregate == "pooled":
        found, false = [np.concatenate(found)], [np.concatenate(false)]
    for part in (*found, *false):
        part.sort()
    # Between the scores of two lesion voxels a lower threshold only adds healthy voxels. So `score >= c` is best for one
    # of these candidates c, and nothing has to be counted anywhere else.
    candidates = np.unique(np.concatenate(found))[::-1]
    dice = np.zeros(len(candidates))
    for pos, neg in zip(found, false, strict=True):
        tp = len(pos) - np.searchsorted(pos, candidates)
        fp = len(neg) - np.searchsorted(neg, candidates)
        dice += 2.0 * tp / (tp + fp + len(pos))
    best = candidates[np.argmax(dice)]
    below = [part[i - 1] for part in (*found, *false) if (i := np.searchsorted(part, best))]
    return float(max(below)) if below else float(np.nextafter(best, best.dtype.type(-np.inf)))


def bisection(scores: Sequence[FloatArray], lesions: Sequence[BoolArray], steps: int = 10) -> float:
    """Return the threshold that the released mDDPM and pDDPM codes find on labelled validation subjects.

    Labels used: those of validation subjects. The search begins with the range from 0 to the largest score. In each step it
    compares the pooled Dice a quarter and three quarters up the range, keeps the half with the better one (the lower half
    if they are equal), and remembers the best point so far (the latest of equal ones). That is right if Dice has one peak;
    in general the result is worse than that of `val_best_dice`.

    Points are float64; like every threshold they are rounded to the type of the scores for the comparison. Zeros outside
    the foreground never lie above a point, but a lesion there counts: pass whole volumes to reproduce published numbers.

    Args:
        scores: of each validation subject, (N_i,).
        lesions: the matching bool (N_i,).
        steps: number of halvings.

    Raises:
        ValueError: if shapes differ, a score is NaN, or no voxel is a lesion.
    """
    _check(scores, lesions)
    found = [s[m] for s, m in zip(scores, lesions, strict=True)]
    positives = sum(len(s) for s in found)

    def dice(point: float) -> float:
        tp = sum(int(np.count_nonzero(s > point)) for s in found)
        return 2.0 * tp / (sum(int(np.count_nonzero(s > point)) for s in scores) + positives)

    low, high = 0.0, max(float(s.max()) for s in scores if len(s))
    best, threshold = 0.0, 0.0
    for _ in range(steps):
        if low == high:
            high = 1.0  # the code's own rule: a map of zeros is searched from 0 to 1
        width = high - low
        lower, upper = dice(low + 0.25 * width), dice(low + 0.75 * width)
        better, point = (lower, low + 0.25 * width) if lower >= upper else (upper, low + 0.75 * width)
        if better >= best:
            best, threshold = better, point
        low, high = (low, low + 0.5 * width) if lower >= upper else (low + 0.5 * width, high)
    return threshold


def fixed(threshold: float) -> float:
    """Return a threshold that was set beforehand, for scores with a scale of their own. Labels used: none.

    Raises:
        ValueError: if it is NaN.
    """
    if math.isnan(threshold):
        raise ValueError("the threshold is NaN")
    return float(threshold)


def _check(scores: Sequence[FloatArray], lesions: Sequence[BoolArray]) -> None:
    """Refuse what has no Dice."""
    shapes, masks = [s.shape for s in scores], [m.shape for m in lesions]
    if shapes != masks:
        raise ValueError(f"scores {shapes} and lesions {masks} must have the same shapes")
    if not any(m.any() for m in lesions):
        raise ValueError("no voxel of these subjects is a lesion; a threshold by Dice needs some")
    if any(np.isnan(s).any() for s in scores):
        raise ValueError("a score is NaN")
