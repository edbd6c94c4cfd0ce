"""How sure a ranking is: ranks of all methods in thousands of bootstrap samples of the subjects.

A ranking of means (aggregate, then rank) and a mean of rankings (rank, then aggregate) can differ, and neither is wrong;
both are given, with Kendall's tau between them. The idea follows Maier-Hein et al. (2018), "Why rankings of biomedical image
analysis competitions should be interpreted with care", and Wiesenfarth et al. (2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray
from uadbench.metrics.bootstrap import FEWEST, resamples
from uadbench.statistics.intervals import ROUNDING
from uadbench.statistics.ranks import complete, subject_ranks


@dataclass(frozen=True)
class Ranking:
    """One way to aggregate, with what the bootstrap says about it. Rank 1 is the best.

    Attributes:
        value: (m,), what is ranked: the mean of the metric, or the mean of the ranks.
        rank: (m,), on all subjects; ties share the mean of their ranks.
        probability: (m, m), share of bootstrap samples in which method i takes place j + 1. Methods that tie share their
            places evenly, so rows and columns add up to 1.
        best: (m,), first column of `probability`.
        low: (m,), lower limit of the interval that holds a share `level` of the samples' ranks; halves come from ties.
        high: (m,), upper limit.
    """

    value: NDArray[np.float64]
    rank: NDArray[np.float64]
    probability: NDArray[np.float64]
    best: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class RankStability:
    """Both ways to rank.

    Attributes:
        by_mean: aggregate, then rank.
        by_rank: rank, then aggregate.
        tau: Kendall's tau-b between the ranks of the two; NaN if one of them ties all methods.
        n: number of subjects used.
        excluded: number of subjects without a value of every method.
    """

    by_mean: Ranking
    by_rank: Ranking
    tau: float
    n: int
    excluded: int


def bootstrap_ranks(
    values: FloatArray, *, higher_is_better: bool = True, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> RankStability:
    """Rank the methods on all subjects and on resampled subjects; all methods see the same resamples.

    Subjects without a value of every method are left out, so that all methods are ranked on the same ones. With fewer than
    three left, probabilities and intervals are NaN; without any, ranks are too.

    Args:
        values: (m, n), methods by subjects; NaN or infinite where undefined.
        higher_is_better: whether the largest value gets rank 1.
        draws: number of bootstrap samples.
        seed: of the resampling.
        level: of the rank intervals.
    """
    from scipy.stats import kendalltau

    kept = complete(values)
    n = kept.shape[1]
    ranks = subject_ranks(kept, higher_is_better=higher_is_better)
    weights = resamples(n, draws, seed) if n >= FEWEST else np.empty((0, n))
    by_mean = _ranking(kept, weights, level, -1.0 if higher_is_better else 1.0)
    by_rank = _ranking(ranks, weights, level, 1.0)
    tau = float("nan")
    if n and np.ptp(by_mean.rank) > 0.0 and np.ptp(by_rank.rank) > 0.0:
        tau = float(kendalltau(by_mean.rank, by_rank.rank).statistic)
    return RankStability(by_mean, by_rank, tau, n, np.shape(values)[1] - n)


def _ranking(values: NDArray[np.float64], weights: NDArray[np.float64], level: float, sign: float) -> Ranking:
    """Rank the means of `values` (m, n), smallest first after multiplication with `sign`."""
    m, n = values.shape
    if not n:
        empty, square = np.full(m, np.nan), np.full((m, m), np.nan)
        return Ranking(empty, empty, square, empty, empty, empty)
    size = np.abs(values).max(axis=1)
    value = values.mean(axis=1)
    rank = _places(sign * value[None], size)[2][0]
    if not len(weights):
        empty, square = np.full(m, np.nan), np.full((m, m), np.nan)
        return Ranking(value, rank, square, empty, empty, empty)
    better, tied, drawn = _places(sign * (weights @ values.T) / n, size)
    shares = [((better <= place) & (place < better + tied)) / tied for place in range(m)]
    probability = np.stack([share.mean(axis=0) for share in shares], axis=1)
    ordered = np.sort(drawn, axis=0)
    cut = int(
        (1.0 - level) / 2.0 * len(drawn) + 1e-9
    )  # As many samples on either side; 0.025 x 200 is 5, not 5.000001.
    return Ranking(value, rank, probability, probability[:, 0], ordered[cut], ordered[-1 - cut])


def _places(
    values: NDArray[np.float64], size: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return how many methods are better (smaller), how many are equal, itself included, and the rank; each (draws, m).

    Sums of equal values in another order differ by rounding, so values are equal if they differ by a tiny share of `size`
    (m,), the largest value of either method.
    """
    slack = ROUNDING * np.maximum(size[:, None], size)
    ahead = values[:, :, None] - values[:, None, :]
    better = np.count_nonzero(ahead > slack, axis=2)
    tied = np.count_nonzero(np.abs(ahead) <= slack, axis=2)
    return better, tied, better + (tied + 1) / 2.0
