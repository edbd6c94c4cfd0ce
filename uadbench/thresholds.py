"""Thresholds, chosen on validation subjects. Nothing here has ever seen a test subject, except for the policy oracle.

`score > threshold` is called anomalous. The policies that look at healthy subjects need no labels; `val_best_dice` and
`bisection` read the lesions of labelled validation subjects, which makes a method semi-supervised.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.ordered import ordered, score_of
from uadbench.protocol import Threshold

Labelled = tuple[Sequence[FloatArray], Sequence[BoolArray]]


def choose(
    rule: Threshold, healthy: Sequence[FloatArray], labelled: Callable[[], Labelled] = lambda: ((), ())
) -> float:
    """Return the threshold of `rule`; `score > threshold` is called anomalous.

    Args:
        rule: the policy of the protocol.
        healthy: scores of each healthy validation subject, (N_i,).
        labelled: gives scores and lesions (N_i,) of the subjects whose labels the policy reads; only such a policy calls
            it. All are read subject by subject, some several times, and need not be in memory together.

    Raises:
        ValueError: if the subjects do not allow a threshold.
    """
    if rule.policy == "fixed":
        return fixed(rule.rate)
    if rule.policy == "healthy_fpr":
        return pooled_fpr(healthy, rule.rate)
    if rule.policy == "healthy_subject_max":
        return healthy_subject_max(healthy, rule.rate)
    if rule.policy == "conformal":
        return conformal(healthy, rule.rate)
    search = bisection if rule.policy == "val_bisection" else val_best_dice
    return search(*labelled())


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


def pooled_fpr(scores: Sequence[FloatArray], rate: float) -> float:
    """Return `healthy_fpr` of the scores of all subjects together, in memory that does not grow with their number.

    The score of a rank is found 16 bits at a time: scores are counted by their leading bits, then those that share
    these by the next ones.

    Args:
        scores: of each subject, (N_i,), of one type, float32 or float64; read several times.
        rate: share of all scores, in [0, 1).

    Raises:
        ValueError: without scores, or for a rate outside [0, 1).
    """
    total = sum(len(s) for s in scores)
    if not total or not 0.0 <= rate < 1.0:
        raise ValueError(f"{total} scores and a rate of {rate}: at least one score and a rate in [0, 1) are needed")
    kind = np.result_type(*{s.dtype for s in scores})
    kind = np.dtype(np.float32 if kind == np.float32 else np.float64)
    width = 8 * kind.itemsize
    above, prefix = int(np.floor(rate * total)), 0
    for shift in range(width - 16, -1, -16):
        counts = np.zeros(1 << 16, np.int64)
        for part in scores:
            keys = ordered(part.astype(kind))
            if shift + 16 < width:
                keys = keys[keys >> (shift + 16) == prefix]
            counts += np.bincount((keys >> shift & 0xFFFF).astype(np.intp), minlength=1 << 16)
        at_least = counts[::-1].cumsum()[::-1]
        digit = int(np.flatnonzero(at_least > above)[-1])
        above -= int(at_least[digit] - counts[digit])
        prefix = prefix << 16 | digit
    return score_of(prefix, kind)


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

    def parts() -> Iterator[tuple[FloatArray, BoolArray]]:
        return ((s, m) for s, m in zip(scores, lesions, strict=True) if aggregate == "pooled" or m.any())

    # Between the scores of two lesion voxels a lower threshold only adds healthy voxels. So `score >= c` is best for one
    # of these candidates c, and nothing has to be counted anywhere else.
    candidates = np.unique(np.concatenate([s[m] for s, m in parts()]))

    def reached(values: FloatArray) -> NDArray[np.intp]:
        """Return how many of the values are at least as high as each candidate."""
        places = np.searchsorted(candidates, values, side="right")
        return np.bincount(places, minlength=len(candidates) + 1)[:0:-1].cumsum()[::-1]

    counts = ((reached(s[m]), reached(s[~m]), int(np.count_nonzero(m))) for s, m in parts())
    dice = np.zeros(len(candidates))
    if aggregate == "pooled":
        tp, fp, positives = functools.reduce(lambda a, b: (a[0] + b[0], a[1] + b[1], a[2] + b[2]), counts)
        dice = 2.0 * tp / (tp + fp + positives)
    else:
        for tp, fp, positives in counts:
            dice += 2.0 * tp / (tp + fp + positives)
    best = candidates[len(dice) - 1 - np.argmax(dice[::-1])]
    below = [lower.max() for s, _ in parts() if (lower := s[s < best]).size]
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
