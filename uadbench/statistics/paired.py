"""Two methods on the same subjects: how large the difference is, how sure, and on how many subjects it holds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uadbench.arrays import FloatArray
from uadbench.statistics.intervals import IntervalMethod, mean_intervals
from uadbench.statistics.signed import cohens_dz, rank_biserial, sign_flip_p, wilcoxon_p


@dataclass(frozen=True)
class PairedComparison:
    """Method a against method b.

    Attributes:
        difference: mean of a - b over subjects, in units of the metric; NaN without a pair.
        low: lower limit of its bootstrap interval; NaN with fewer than three pairs.
        high: upper limit.
        n: number of pairs, subjects with a value of both.
        excluded: number of subjects without a value of one or of both.
        wins: number of subjects on which a is better.
        ties: number of subjects on which they are equal.
        losses: number of subjects on which b is better.
        p_wilcoxon: two-sided p-value of the signed-rank test; see `wilcoxon_p`.
        p_permutation: two-sided p-value of the sign-flip test of the mean difference; see `sign_flip_p`.
        rank_biserial: of a - b, from -1 to 1; see `rank_biserial`.
        cohens_dz: of a - b; see `cohens_dz`.
    """

    difference: float
    low: float
    high: float
    n: int
    excluded: int
    wins: int
    ties: int
    losses: int
    p_wilcoxon: float
    p_permutation: float
    rank_biserial: float
    cohens_dz: float


def compare_pair(
    a: FloatArray,
    b: FloatArray,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    rounds: int = 9999,
    method: IntervalMethod = "bca",
    higher_is_better: bool = True,
) -> PairedComparison:
    """Compare two methods on the subjects on which both have a value.

    Args:
        a: (n,), one value a subject; NaN or infinite where undefined.
        b: (n,), of the same subjects in the same order.
        draws: bootstrap samples of the interval.
        seed: of the bootstrap and of random flips.
        level: of the interval.
        rounds: random flips of signs, where there are too many patterns for all of them.
        method: of the interval.
        higher_is_better: decides what a win is. The sign of difference and effect sizes is that of a - b, always.

    Raises:
        ValueError: if the shapes differ.
    """
    if np.ndim(a) != 1 or np.shape(a) != np.shape(b):
        raise ValueError(f"a {np.shape(a)} and b {np.shape(b)} must be of one shape (n,)")
    values = np.stack([np.asarray(a, np.float64), np.asarray(b, np.float64)])
    pairs = compare_pairs(
        values,
        draws=draws,
        seed=seed,
        level=level,
        rounds=rounds,
        method=method,
        higher_is_better=higher_is_better,
    )
    return pairs[0, 1]


def compare_pairs(
    values: FloatArray,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    rounds: int = 9999,
    method: IntervalMethod = "bca",
    higher_is_better: bool = True,
) -> dict[tuple[int, int], PairedComparison]:
    """Compare every two rows of `values` (m, n), each pair on its own common subjects.

    The result is that of `compare_pair`, but pairs with equally many subjects share resamples and flips, which is most of
    the time. p-values are not adjusted; see `holm`.

    Returns:
        {(i, j): row i against row j}, for all i < j.
    """
    exact = np.asarray(values, np.float64)
    if exact.ndim != 2:
        raise ValueError(f"values {exact.shape} must be (methods, subjects)")
    defined = np.isfinite(exact)
    subjects = exact.shape[1]
    by_count: dict[int, list[tuple[int, int]]] = {}
    for i, j in combinations(range(len(exact)), 2):
        by_count.setdefault(int((defined[i] & defined[j]).sum()), []).append((i, j))
    found: dict[tuple[int, int], PairedComparison] = {}
    for n, pairs in by_count.items():
        rows = np.stack([_differences(exact[i], exact[j]) for i, j in pairs])
        intervals = mean_intervals(rows, draws=draws, seed=seed, level=level, method=method)
        flips = sign_flip_p(rows, rounds=rounds, seed=seed)
        for pair, row, mean, p_permutation in zip(pairs, rows, intervals, flips, strict=True):
            above, below = int((row > 0).sum()), int((row < 0).sum())
            wins, losses = (above, below) if higher_is_better else (below, above)
            found[pair] = PairedComparison(
                difference=mean.value,
                low=mean.low,
                high=mean.high,
                n=n,
                excluded=subjects - n,
                wins=wins,
                ties=n - above - below,
                losses=losses,
                p_wilcoxon=wilcoxon_p(row),
                p_permutation=float(p_permutation),
                rank_biserial=rank_biserial(row),
                cohens_dz=cohens_dz(row),
            )
    return dict(sorted(found.items()))


def _differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    both = np.isfinite(a) & np.isfinite(b)
    return a[both] - b[both]


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted for their number by Holm's step-down rule (Holm 1979), in any shape.

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on; none may become smaller than the one before
    or larger than 1. Rejecting what is at most alpha keeps the chance of any false rejection at most alpha, whatever
    the tests have in common. NaN stays NaN and is not counted in m.

    Raises:
        ValueError: if a p-value is outside [0, 1].
    """
    raw = np.asarray(p_values, np.float64)
    out = raw.copy()
    tested = np.isfinite(raw)
    if (np.isinf(raw) | (raw < 0.0) | (raw > 1.0)).any():
        raise ValueError("a p-value is outside [0, 1]")
    given = raw[tested]
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty(len(given))
    adjusted[order] = np.minimum(stepped, 1.0)
    out[tested] = adjusted
    return out
