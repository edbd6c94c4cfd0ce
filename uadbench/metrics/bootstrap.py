"""Confidence intervals by resampling subjects, because voxels of one subject are not independent."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray

FEWEST = 3
"""With fewer subjects there is no interval: two values have at most three different bootstrap means."""


@lru_cache(maxsize=4)
def resamples(n: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Return how often each of `n` subjects is in each bootstrap sample, (draws, n), read-only; every row sums to n."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1.0 / n), size=draws).astype(np.float64)
    counts.flags.writeable = False  # All metrics of a table share them.
    return counts


def mean_draws(values: FloatArray, draws: int, seed: int) -> NDArray[np.float64]:
    """Return the mean of `values` (n,) in each bootstrap sample, (draws,). NaN values are left out first.

    The result is empty if fewer than `FEWEST` values are left.
    """
    kept = np.asarray(values, np.float64)
    kept = kept[np.isfinite(kept)]
    if len(kept) < FEWEST:
        return np.empty(0)
    return resamples(len(kept), draws, seed) @ kept / len(kept)


def median_draws(values: FloatArray, draws: int, seed: int) -> NDArray[np.float64]:
    """Return the median of `values` (n,) in each bootstrap sample, (draws,); otherwise as `mean_draws`."""
    kept = np.sort(np.asarray(values, np.float64)[np.isfinite(values)])
    n = len(kept)
    if n < FEWEST:
        return np.empty(0)
    upto = np.cumsum(resamples(n, draws, seed), axis=1)
    middle = [np.argmax(upto > place, axis=1) for place in ((n - 1) // 2, n // 2)]
    return np.asarray((kept[middle[0]] + kept[middle[1]]) / 2.0)


def centre(values: FloatArray, aggregate: str) -> float:
    """Return the "mean" or "median" of the defined values; NaN if there are none."""
    kept = np.asarray(values, np.float64)[np.isfinite(values)]
    return float((np.median if aggregate == "median" else np.mean)(kept)) if len(kept) else float("nan")


def centre_draws(values: FloatArray, aggregate: str, draws: int, seed: int) -> NDArray[np.float64]:
    """Return the same in each bootstrap sample, (draws,)."""
    return (median_draws if aggregate == "median" else mean_draws)(values, draws, seed)


def interval(draws: FloatArray, level: float) -> tuple[float, float]:
    """Return the percentile interval that holds a share `level` of the draws; (NaN, NaN) if there are none."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return float("nan"), float("nan")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(finite, [tail, 1.0 - tail])
    return float(low), float(high)
