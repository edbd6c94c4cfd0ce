"""Tests and effect sizes of paired differences: is their sign or their mean more than chance, and how large is it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray

EXACT_FLIPS = 14
"""Up to this many differences other than 0, all 2^n patterns of signs are gone through."""

EXACT_RANKS = 50
"""Up to this many differences other than 0, the distribution of the rank sum is counted out."""

ROUNDING = 1e-12
"""Share of the sum of absolute differences by which two sums of differences may differ and still count as equal."""

CHUNK = 512


def wilcoxon_p(differences: FloatArray) -> float:
    """Return the two-sided p-value of the Wilcoxon signed-rank test (Wilcoxon 1945) that differences lie around 0.

    Differences of 0 are left out, as Wilcoxon did. Tied absolute differences share their ranks. With at most 50 left, the
    distribution of the rank sum over all 2^n signs is exact, also with ties; with more, it is the normal approximation of
    scipy, corrected for ties and without continuity correction.

    Args:
        differences: (n,), finite.

    Returns:
        The p-value; 1 if all differences are 0 (the exact test of nothing); NaN without a difference.
    """
    if not len(differences):
        return float("nan")
    from scipy import stats

    kept = np.asarray(differences, np.float64)
    kept = kept[kept != 0.0]
    if len(kept) > EXACT_RANKS:
        return float(stats.wilcoxon(kept, zero_method="wilcox", correction=False, method="auto").pvalue)
    # Doubled, shared ranks are integers too.
    ranks = np.rint(2.0 * stats.rankdata(np.abs(kept))).astype(int)
    total = int(ranks.sum())
    ways = np.zeros(total + 1)
    ways[0] = 1.0
    for rank in ranks:
        ways[rank:] += ways[: total + 1 - rank].copy()
    distance = np.abs(2 * np.arange(total + 1) - total)
    seen = abs(2 * int(ranks[kept > 0.0].sum()) - total)
    return float(ways[distance >= seen].sum() / ways.sum())


def sign_flip_p(differences: FloatArray, *, rounds: int = 9999, seed: int = 0) -> NDArray[np.float64]:
    """Return the two-sided p-value of the permutation test that each row's mean is 0, by flipping signs (Fisher 1935).

    If the two methods are alike, every difference could have had the other sign. With at most 14 differences other than 0
    all patterns of signs are gone through and the p-value is exact: the share of patterns whose mean is at least as far
    from 0. Otherwise it is (k + 1) / (rounds + 1), where k of the random patterns are as far (Phipson and Smyth 2010);
    rows share the patterns.

    Args:
        differences: (m, n), finite.
        rounds: number of random patterns.
        seed: of the random patterns.

    Returns:
        (m,); 1 where all differences are 0; NaN without a difference.
    """
    rows = np.asarray(differences, np.float64)
    if not rows.shape[1]:
        return np.full(len(rows), np.nan)
    out = np.empty(len(rows))
    exact = np.count_nonzero(rows, axis=1) <= EXACT_FLIPS
    for i in np.flatnonzero(exact):
        kept = rows[i][rows[i] != 0.0]
        patterns = (np.arange(2 ** len(kept))[:, None] >> np.arange(len(kept))) & 1
        out[i] = _as_far(patterns.astype(np.float64), kept[None])[0] / len(patterns)
    if not exact.all():
        out[~exact] = (_random_as_far(rows[~exact], rounds, seed) + 1.0) / (rounds + 1.0)
    return out


def _random_as_far(rows: NDArray[np.float64], rounds: int, seed: int) -> NDArray[np.int64]:
    """Return how many of `rounds` random patterns are as far from 0 as each row, in pieces that fit into the cache."""
    n = rows.shape[1]
    rng = np.random.default_rng([seed, 1])  # Apart from the bootstrap, which uses the seed alone.
    found = np.zeros(len(rows), np.int64)
    for start in range(0, rounds, CHUNK):
        size = min(CHUNK, rounds - start)
        packed = rng.integers(0, 256, size=(size, (n + 7) // 8), dtype=np.uint8)
        found += _as_far(np.unpackbits(packed, axis=1, count=n).astype(np.float64), rows)
    return found


def _as_far(patterns: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many patterns of kept (1) and flipped (0) signs, (r, n), give each row a sum as far from 0 as its own."""
    total = rows.sum(axis=1)
    sums = 2.0 * (patterns @ rows.T) - total
    slack = ROUNDING * np.abs(rows).sum(axis=1)
    found: NDArray[np.int64] = (np.abs(sums) >= np.abs(total) - slack).sum(axis=0, dtype=np.int64)
    return found


def rank_biserial(differences: FloatArray) -> float:
    """Return the matched-pairs rank-biserial correlation (Kerby 2014) of `differences` (n,).

    It is the share of the rank sum with positive sign minus the share with negative sign, without differences of 0: 1 if
    all are positive, -1 if all are negative. NaN if all are 0.
    """
    from scipy.stats import rankdata

    kept = np.asarray(differences, np.float64)
    kept = kept[kept != 0.0]
    if not len(kept):
        return float("nan")
    ranks = rankdata(np.abs(kept))
    return float(np.dot(np.sign(kept), ranks) / ranks.sum())


def cohens_dz(differences: FloatArray) -> float:
    """Return the mean of `differences` (n,) in units of their standard deviation (n - 1 in the denominator).

    NaN with fewer than two differences, or if all are equal and there is no spread to measure in.
    """
    exact = np.asarray(differences, np.float64)
    if len(exact) < 2 or np.ptp(exact) <= ROUNDING * float(np.abs(exact).max()):
        return float("nan")
    return float(exact.mean() / exact.std(ddof=1))
