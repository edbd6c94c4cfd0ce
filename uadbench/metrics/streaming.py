"""Rank metrics of very many voxels: a histogram that adds across subjects, and the exact values where it is not enough.

Bins are the leading bits of a float32 score, so they are finest where floats are finest and need no range in advance. The
bits of negative scores are turned round, so that the order of bins is the order of scores, and -0.0 falls together with
0.0. float16 maps times a power of two have one score a bin: nothing is lost for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.bounds import (
    Bounded,
    RankMetrics,
    Steps,
    auroc_bounds,
    average_precision_bounds,
    best_dice_bounds,
)

BITS = 23
"""Sign, exponent and 14 bits of the fraction: 8 M bins, of which maps fill some 100,000. Scores that differ by 6e-5 of their
value are told apart; average precision is then certain to within 1e-4 for scores that are spread over octaves."""
SHIFT = 32 - BITS
HALF = 1 << (BITS - 1)
LOW_BITS = (1 << SHIFT) - 1
FINITE = 0x7F800000 >> SHIFT
"""Bins of finite scores are -FINITE ... FINITE - 1."""
SEVERAL = -(2**31)
"""The key of no finite score: a bin may hold several."""
CHUNK = 1 << 16
"""Voxels at a time; their bins fit into a core's cache."""
SORTED = 1 << 20
"""Up to so many voxels are sorted."""
WAITING = 1 << 19
"""Bins that may wait to be added."""

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


def _keys(score: FloatArray) -> Int32:
    """Return int32 keys (N,) in the order of the float32 scores (N,); equal scores have equal keys."""
    bits = score.view(np.int32)
    if bits.size and bits.min() < 0:
        bits = (score + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is 0.0
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return bits


def _scores(keys: Int32) -> FloatArray:
    """Return the float32 scores that have these keys."""
    return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).astype(np.int32).view(np.float32)


def _float32(score: FloatArray) -> tuple[FloatArray, bool]:
    """Return the scores in float32, and whether nothing was lost by that. Rounding keeps the order but may tie scores."""
    with np.errstate(over="ignore"):
        rounded = score.astype(np.float32, copy=False)
    return rounded, np.can_cast(score.dtype, np.float32) or bool((rounded == score).all())


def checked(score: FloatArray, lesion: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Return both as (N,), or raise ValueError if they do not match."""
    if score.shape != lesion.shape or lesion.dtype != np.bool_:
        raise ValueError(
            f"score {score.shape} and lesion {lesion.shape} {lesion.dtype} must be of one shape, lesion bool"
        )
    return score.reshape(-1), lesion.reshape(-1)


def _run_starts(ordered: Int32) -> NDArray[np.intp]:
    """Return where a new value begins in ordered values (N,)."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: ordered.size])


@dataclass(frozen=True)
class ScoreHistogram:
    """How many lesion and healthy voxels have a score in each bin; only bins that hold any are kept.

    Histograms add: `a + b`, `sum(...)`, or `HistogramSum` for many.

    Attributes:
        bins: int32 (K,), ascending numbers of bins.
        lesion: int64 (K,), lesion voxels in each.
        healthy: int64 (K,), healthy voxels in each.
        only: int32 (K,), the key of the score that all voxels of the bin have, `SEVERAL` if that is not known.
    """

    bins: Int32
    lesion: Int64
    healthy: Int64
    only: Int32

    @classmethod
    def of(cls, score: FloatArray, lesion: BoolArray) -> ScoreHistogram:
        """Count voxels: up to a million with one sort, more in chunks and 64 MB of counters.

        Args:
            score: any shape; higher is more anomalous; finite. float64 is rounded to float32, float16 is kept.
            lesion: bool, of the same shape.

        Raises:
            ValueError: if shapes differ or a score is NaN, infinite or too large for float32.
        """
        score, lesion = checked(score, lesion)
        histogram = _sort(score, lesion) if score.size <= SORTED else _count(score, lesion)
        ends = histogram.bins[[0, -1]] if histogram.bins.size else np.zeros(2, np.int32)
        if ends[0] < -FINITE or ends[1] >= FINITE:
            raise ValueError("a score is NaN or infinite, or too large for float32")
        return histogram

    @cached_property
    def steps(self) -> Steps:
        """The bins with lesion voxels, most anomalous first."""
        lesion, healthy, only = self.lesion[::-1], self.healthy[::-1], self.only[::-1]
        above = np.cumsum(healthy) - healthy
        kept = np.flatnonzero(lesion)
        tied = (only[kept] != SEVERAL) | (lesion[kept] + healthy[kept] == 1)
        return Steps(lesion[kept], healthy[kept], above[kept], tied, np.asarray(healthy.sum()))

    @property
    def exact(self) -> bool:
        """Whether every bin with lesion voxels holds one score only: then all metrics are exact."""
        return bool(self.steps.tied.all())

    def average_precision(self) -> Bounded:
        """Return average precision with its bounds; NaN without a lesion voxel."""
        return average_precision_bounds(self.steps)

    def auroc(self) -> Bounded:
        """Return AUROC with its bounds; NaN if one kind is absent."""
        return auroc_bounds(self.steps)

    def best_dice(self) -> Bounded:
        """Return the best Dice over all thresholds (an oracle) with its bounds; NaN without a lesion voxel."""
        return best_dice_bounds(self.steps)[0]

    def rank_metrics(self) -> RankMetrics:
        """Return all three, and the threshold of the best Dice."""
        kept = np.flatnonzero(self.lesion)[::-1]
        lowest = np.where(self.only[kept] == SEVERAL, self.bins[kept] << SHIFT, self.only[kept])
        return RankMetrics.of(self.steps, _scores(lowest), "exact" if self.exact else "histogram")


def _sort(score: FloatArray, lesion: BoolArray) -> ScoreHistogram:
    """Count with one sort, which also shows where all scores of a bin are equal."""
    rounded, lossless = _float32(score)
    keys = _keys(rounded)
    ordered = np.sort(keys)
    bins = ordered >> SHIFT
    first = _run_starts(bins)
    ends = np.append(first[1:], bins.size)[: first.size]
    found = np.bincount(np.searchsorted(bins[first], np.sort(keys[lesion]) >> SHIFT), minlength=first.size)
    one = lossless & (ordered[first] == ordered[ends - 1])
    only = np.where(one, ordered[first], np.int32(SEVERAL))
    return ScoreHistogram(bins[first], found, ends - first - found, only)


def _count(score: FloatArray, lesion: BoolArray) -> ScoreHistogram:
    """Count in chunks that stay in the cache. Bin numbers index the counters directly: negative ones from their end."""
    one = np.int32(1) if score.size < 2**31 else np.int64(1)  # of the counters' type, or numpy adds forty times slower
    every, found = np.zeros((2, 2 * HALF), one.dtype)
    index = np.empty(CHUNK, np.int64)
    zeros, short = 0, True
    for start in range(0, score.size, CHUNK):
        rounded, lossless = _float32(score[start : start + CHUNK])
        keys = _keys(rounded)
        bins = np.right_shift(keys, SHIFT, out=index[: keys.size])
        np.add.at(every, bins, one)
        np.add.at(found, bins[np.flatnonzero(lesion[start : start + CHUNK])], one)
        zeros += int(keys.size - np.count_nonzero(keys)) if lossless else 0
        short = short and lossless and not np.bitwise_or.reduce(keys ^ (keys >> 31)) & LOW_BITS
    bins = np.flatnonzero(every)
    bins = np.concatenate([bins[bins >= HALF] - 2 * HALF, bins[bins < HALF]])
    only = np.full(bins.size, SEVERAL, np.int32)
    if short:  # the bits below the bin are zero in all scores, as in stored float16
        only[:] = (bins << SHIFT) | np.where(bins < 0, LOW_BITS, 0)
    elif zeros == every[0]:  # background: no other score is so small
        only[bins == 0] = 0
    lesions, voxels = found[bins].astype(np.int64), every[bins].astype(np.int64)
    return ScoreHistogram(bins.astype(np.int32), lesions, voxels - lesions, only)


class HistogramSum:
    """The sum of any number of histograms; holds the bins of the sum and at most as many, or half a million, to be added."""

    def __init__(self) -> None:
        empty = np.empty(0, np.int64)
        self._sum = ScoreHistogram(empty.astype(np.int32), empty, empty, empty.astype(np.int32))
        self._waiting: list[ScoreHistogram] = []

    def add(self, part: ScoreHistogram) -> None:
        """Add the voxels of one histogram."""
        self._waiting.append(part)
        if sum(each.bins.size for each in self._waiting) > max(WAITING, self._sum.bins.size):
            self.histogram()

    def histogram(self) -> ScoreHistogram:
        """Return the sum so far."""
        parts, self._waiting = [self._sum, *self._waiting], []
        bins = np.concatenate([part.bins for part in parts])
        order = np.argsort(bins)
        first = _run_starts(bins[order])
        if first.size:
            only = np.concatenate([part.only for part in parts])[order]
            least, largest = np.minimum.reduceat(only, first), np.maximum.reduceat(only, first)
            self._sum = ScoreHistogram(
                bins[order[first]],
                np.add.reduceat(np.concatenate([part.lesion for part in parts])[order], first),
                np.add.reduceat(np.concatenate([part.healthy for part in parts])[order], first),
                np.where(least == largest, least, np.int32(SEVERAL)),
            )
        return self._sum


def rank_metrics(score: FloatArray, lesion: BoolArray, tolerance: float = 1e-4) -> RankMetrics:
    """Return average precision, AUROC and best Dice of one array, from the histogram if it is good enough, else from a sort.

    For scripts and tests; the evaluation adds up the histograms of subjects (`HistogramSum`).

    Args:
        score: any shape; higher is more anomalous; finite.
        lesion: bool, of the same shape.
        tolerance: the histogram is used if its bounds of average precision and of AUROC are at most so far apart. Up to a
            million voxels the sort costs no more than the histogram and is always used.

    Raises:
        ValueError: if shapes differ, or a score is NaN, infinite or, beyond a million voxels, too large for float32.
    """
    score, lesion = checked(score, lesion)
    if score.size > SORTED:
        metrics = ScoreHistogram.of(score, lesion).rank_metrics()
        if not max(metrics.ap_high - metrics.ap_low, metrics.auroc_high - metrics.auroc_low) > tolerance:
            return metrics
    return exact_rank_metrics(score, lesion)


def exact_rank_metrics(score: FloatArray, lesion: BoolArray) -> RankMetrics:
    """Return average precision, AUROC and best Dice with one sort of each kind; extra memory 5 bytes a float32 score.

    Only the places of lesion scores among the sorted healthy ones are needed: recall changes nowhere else. Histograms are
    compared with it in tests and benchmarks.

    Args:
        score: any shape; higher is more anomalous; finite.
        lesion: bool, of the same shape.

    Raises:
        ValueError: if shapes differ or a score is NaN or infinite.
    """
    score, lesion = checked(score, lesion)
    found, healthy = sort_in_place(score[lesion]), sort_in_place(score[~lesion])
    values, counts = np.unique(found, return_counts=True)
    left, right = healthy.searchsorted(values, "left"), healthy.searchsorted(values, "right")
    tied = np.ones(values.size, bool)
    negatives = np.asarray(healthy.size)
    steps = Steps(counts[::-1], (right - left)[::-1], (healthy.size - right)[::-1], tied, negatives)
    return RankMetrics.of(steps, values[::-1], "exact")


def sort_in_place(score: FloatArray) -> FloatArray:
    """Sort a copy (N,) that nobody else holds, in place; numpy sorts float16 slowly, so that becomes float32."""
    if score.dtype == np.float16:
        score = score.astype(np.float32)
    score.sort()
    if score.size and not np.isfinite(score[[0, -1]]).all():  # NaN is sorted to the end
        raise ValueError("a score is NaN or infinite")
    return score
