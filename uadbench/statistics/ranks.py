"""Ranks of methods on the same subjects, the Friedman test, and Nemenyi's critical difference.

All as in Demsar (2006), "Statistical comparisons of classifiers over multiple data sets", with subjects for data sets.
Rank 1 is the best. Ties share the mean of their ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray


@dataclass(frozen=True)
class Friedman:
    """Whether methods differ at all.

    Attributes:
        statistic: Friedman's chi-squared, corrected for ties; NaN with fewer than two subjects or if every subject ties
            all methods.
        p: its p-value with m - 1 degrees of freedom. An approximation; for few subjects look at `p_f`.
        f_statistic: the F of Iman and Davenport (1980), less conservative; infinite if all subjects agree on one order.
        p_f: its p-value with m - 1 and (m - 1)(n - 1) degrees of freedom.
        n: number of subjects used.
        excluded: number of subjects without a value of every method.
    """

    statistic: float
    p: float
    f_statistic: float
    p_f: float
    n: int
    excluded: int


def complete(values: FloatArray) -> NDArray[np.float64]:
    """Return the columns of `values` (m, n), the subjects, in which every method has a finite value.

    Raises:
        ValueError: if there are fewer than two methods, or not two axes.
    """
    exact = np.asarray(values, np.float64)
    if exact.ndim != 2 or len(exact) < 2:
        raise ValueError(f"values {exact.shape} must be (methods, subjects) with two methods or more")
    return exact[:, np.isfinite(exact).all(axis=0)]


def subject_ranks(values: FloatArray, *, higher_is_better: bool = True) -> NDArray[np.float64]:
    """Return the rank of every method on every subject, (m, n); ties share the mean of their ranks.

    A subject on which a method has no value has no ranks: its column is NaN.

    Args:
        values: (m, n), methods by subjects.
        higher_is_better: whether the largest value gets rank 1.
    """
    from scipy.stats import rankdata

    kept = complete(values)
    out = np.full(np.shape(values), np.nan)
    out[:, np.isfinite(values).all(axis=0)] = rankdata(-kept if higher_is_better else kept, axis=0)
    return out


def average_ranks(values: FloatArray, *, higher_is_better: bool = True) -> NDArray[np.float64]:
    """Return the mean over complete subjects of each method's rank, (m,); NaN without such a subject."""
    ranks = subject_ranks(complete(values), higher_is_better=higher_is_better)
    return ranks.mean(axis=1) if ranks.shape[1] else np.full(len(ranks), np.nan)


def friedman(values: FloatArray) -> Friedman:
    """Test whether all methods are alike, on the subjects on which every method has a value.

    With R_j the rank sum of method j, the statistic is 12 / (n m (m + 1)) sum(R_j^2) - 3 n (m + 1), divided by
    1 - sum(t^3 - t) / (n (m^3 - m)) for groups of t tied methods within a subject.

    Args:
        values: (m, n), methods by subjects; which direction is better makes no difference.
    """
    from scipy.stats import chi2
    from scipy.stats import f as f_distribution

    kept = complete(values)
    m, n = kept.shape
    nan = float("nan")
    excluded = np.shape(values)[1] - n
    if n < 2:
        return Friedman(nan, nan, nan, nan, n, excluded)
    ranks = subject_ranks(kept)
    # The sum of squares within a subject is smaller by (t^3 - t) / 12 for every group of ties: no need to list them.
    within = float(((ranks - (m + 1) / 2.0) ** 2).sum())
    if within == 0.0:
        return Friedman(nan, nan, nan, nan, n, excluded)
    between = float(((ranks.sum(axis=1) - n * (m + 1) / 2.0) ** 2).sum()) / n
    statistic = n * (m - 1) * between / within
    p = float(chi2.sf(statistic, m - 1))
    rest = within - between
    if rest <= 1e-12 * within:
        return Friedman(statistic, p, float("inf"), 0.0, n, excluded)
    f_statistic = (n - 1) * between / rest
    return Friedman(
        statistic, p, f_statistic, float(f_distribution.sf(f_statistic, m - 1, (m - 1) * (n - 1))), n, excluded
    )


def critical_difference(methods: int, subjects: int, alpha: float = 0.05) -> float:
    """Return by how much average ranks must differ for Nemenyi's test to tell two methods apart.

    It is q sqrt(m (m + 1) / (6 n)), where q is the quantile of the studentized range of m normal values, divided by the
    square root of 2. NaN without subjects.

    Args:
        methods: m, at least 2.
        subjects: n, the number of subjects ranked.
        alpha: chance of calling any two methods different when all are alike.
    """
    if methods < 2:
        raise ValueError(f"{methods} methods cannot be compared; at least 2 are needed")
    if subjects < 1:
        return float("nan")
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1.0 - alpha, methods, np.inf)) / np.sqrt(2.0)
    return float(q * np.sqrt(methods * (methods + 1) / (6.0 * subjects)))
