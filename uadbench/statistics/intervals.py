"""Bootstrap intervals: percentile and BCa, for the mean over subjects and for any statistic with draws and a jackknife.

BCa moves the percentiles to correct for the bias of the draws and for a spread that changes with the value. It comes from
Efron (1987), "Better bootstrap confidence intervals"; formulas as in DiCiccio and Efron (1996), "Bootstrap confidence
intervals".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray
from uadbench.metrics.bootstrap import FEWEST, interval, resamples

IntervalMethod: TypeAlias = Literal["bca", "percentile"]

ROUNDING = 1e-12
"""Differences below this share of the values are rounding, and the values are taken as equal."""


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval.

    Attributes:
        value: the mean, in units of the metric; NaN without a defined value.
        low: lower limit; NaN where there is no interval.
        high: upper limit; NaN where there is no interval.
        n: number of subjects with a defined value.
        method: "bca" or "percentile".
    """

    value: float
    low: float
    high: float
    n: int
    method: IntervalMethod


def mean_interval(
    values: FloatArray, *, draws: int = 2000, seed: int = 0, level: float = 0.95, method: IntervalMethod = "bca"
) -> Interval:
    """Return the mean of `values` (n,) with its interval. The rules are those of `mean_intervals`."""
    row = np.asarray(values, np.float64)[None]
    return mean_intervals(row, draws=draws, seed=seed, level=level, method=method)[0]


def mean_intervals(
    values: FloatArray, *, draws: int = 2000, seed: int = 0, level: float = 0.95, method: IntervalMethod = "bca"
) -> list[Interval]:
    """Return the mean over subjects, with its interval, of every method.

    Values that are NaN or infinite are left out, row by row. Rows with the same number of defined values share their
    resamples. With fewer than three defined values the limits are NaN; if all defined values are equal, both limits are
    that value.

    Args:
        values: (m, n), methods by subjects.
        draws: number of bootstrap samples.
        seed: of the resampling.
        level: share of intervals that should hold the true mean.
        method: "bca", or "percentile" for plain quantiles of the draws.

    Raises:
        ValueError: if `level` or `method` is impossible, or `values` has no two axes.
    """
    _check(values, level, method)
    rows = [row[np.isfinite(row)] for row in np.asarray(values, np.float64)]
    found: dict[int, Interval] = {}
    for n in sorted({len(row) for row in rows}):
        members = [i for i, row in enumerate(rows) if len(row) == n]
        if n < FEWEST:
            nan = float("nan")
            found |= {i: Interval(float(rows[i].mean()) if n else nan, nan, nan, n, method) for i in members}
            continue
        means = resamples(n, draws, seed) @ np.stack([rows[i] for i in members]).T / n
        for i, sample in zip(members, means.T, strict=True):
            low, high = _mean_limits(rows[i], sample, level, method)
            found[i] = Interval(float(rows[i].mean()), low, high, n, method)
    return [found[i] for i in range(len(rows))]


def jackknife_means(values: FloatArray) -> NDArray[np.float64]:
    """Return the mean of `values` (n,) without subject i, for every i, (n,). Needs two values or more."""
    exact = np.asarray(values, np.float64)
    without: NDArray[np.float64] = (exact.sum() - exact) / (len(exact) - 1)
    return without


def acceleration(jackknife: FloatArray) -> float:
    """Return how fast the standard error changes with the value: a sixth of the skewness of the jackknife's influence.

    With d_i = mean of the jackknife - jackknife_i, it is sum(d^3) / (6 sum(d^2)^(3/2)) (Efron 1987). For a mean, d_i is
    the value's distance from the mean over n - 1, so it is exact: the same as with the empirical influence function.

    Args:
        jackknife: (n,), the statistic without subject i; finite.

    Returns:
        The acceleration; 0 if all entries are equal.
    """
    exact = np.asarray(jackknife, np.float64)
    distance = exact.mean() - exact
    largest = float(np.abs(distance).max())
    if largest <= 1e-15 * float(np.abs(exact).max()):
        return 0.0
    distance = distance / largest  # The ratio does not depend on the unit; tiny ones would underflow.
    return float((distance**3).sum() / (6.0 * (distance**2).sum() ** 1.5))


def limits(
    draws: FloatArray, without: FloatArray, value: float, level: float, method: IntervalMethod
) -> tuple[float, float]:
    """Return the interval of a value from its bootstrap draws (draws,) and the values without each person (n,).

    (NaN, NaN) without draws, or where BCa has no answer.
    """
    return bca(draws, without, value, level) if method == "bca" else interval(draws, level)


def bca(draws: FloatArray, jackknife: FloatArray, estimate: float, level: float = 0.95) -> tuple[float, float]:
    """Return the BCa interval of any statistic.

    Draws equal to the estimate count half below and half above it. Draws that are NaN or infinite are left out.

    Args:
        draws: (draws,), the statistic in each bootstrap sample of subjects.
        jackknife: (n,), the statistic without subject i.
        estimate: the statistic of all subjects.
        level: share of intervals that should hold the true value.

    Returns:
        Lower and upper limit. Both are the estimate if all draws equal it. Both are NaN if the estimate or an entry of
        the jackknife is not defined, if there are no draws or no jackknife, if the estimate lies outside the draws (no
        bias correction is possible), or if the acceleration is too large for the level.
    """
    from scipy.special import ndtr, ndtri

    nothing = float("nan"), float("nan")
    kept = np.asarray(draws, np.float64)
    kept = kept[np.isfinite(kept)]
    if not len(kept) or not len(jackknife) or not np.isfinite(estimate) or not np.isfinite(jackknife).all():
        return nothing
    slack = ROUNDING * max(float(np.abs(kept).max()), abs(estimate))
    below = np.count_nonzero(kept < estimate - slack)
    above = np.count_nonzero(kept > estimate + slack)
    if not below and not above:
        return float(estimate), float(estimate)
    share = 0.5 + (below - above) / (2.0 * len(kept))
    if not 0.0 < share < 1.0:
        return nothing
    bias = float(ndtri(share))
    tail = (1.0 - level) / 2.0
    shifted = bias + ndtri(np.array([tail, 1.0 - tail]))
    scale = 1.0 - acceleration(jackknife) * shifted
    if (scale <= 0.0).any():
        return nothing
    low, high = np.quantile(kept, ndtr(bias + shifted / scale))
    return float(low), float(high)


def _mean_limits(
    values: NDArray[np.float64], sample: NDArray[np.float64], level: float, method: IntervalMethod
) -> tuple[float, float]:
    if np.ptp(values) == 0.0:
        return float(values[0]), float(values[0])
    if method == "percentile":
        return interval(sample, level)
    return bca(sample, jackknife_means(values), float(values.mean()), level)


def _check(values: FloatArray, level: float, method: str) -> None:
    if np.ndim(values) != 2:
        raise ValueError(f"values {np.shape(values)} must be (methods, subjects)")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level {level} must lie between 0 and 1, such as 0.95")
    if method not in ("bca", "percentile"):
        raise ValueError(f"no interval is called {method!r}; there are 'bca' and 'percentile'")
