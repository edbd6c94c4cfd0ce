"""Groups of methods that the data do not tell apart, for the bars of a critical-difference diagram.

A group is a run of methods next to one another in the order of average ranks, no two of which are told apart, and which no
neighbour could join. Two methods can be alike without sharing a group, if one between them differs from either; the table
of pairs shows it, a bar cannot.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray
from uadbench.statistics.paired import holm
from uadbench.statistics.signed import wilcoxon_p

Groups = list[tuple[int, ...]]
"""Each group holds the indices of its methods, best first. A method that differs from its neighbours is in none."""


def pairwise_wilcoxon(values: FloatArray) -> NDArray[np.float64]:
    """Return the p-value of every two methods, (m, m), symmetric, adjusted by Holm over all m (m - 1) / 2 pairs.

    Each pair is tested on its own common subjects, so what is found about two methods depends on the others by the
    adjustment only (Benavoli, Corani and Mangili 2016, prefer this to Nemenyi's test for that reason). NaN on the diagonal
    and where two methods have no subject in common.

    Args:
        values: (m, n), methods by subjects; NaN or infinite where undefined.
    """
    exact = np.asarray(values, np.float64)
    defined = np.isfinite(exact)
    first, second = np.triu_indices(len(exact), 1)
    both = defined[first] & defined[second]
    raw = [wilcoxon_p(exact[i][b] - exact[j][b]) for i, j, b in zip(first, second, both, strict=True)]
    out = np.full((len(exact), len(exact)), np.nan)
    out[first, second] = out[second, first] = holm(raw)
    return out


def groups_by_test(average_ranks: FloatArray, p_values: FloatArray, alpha: float = 0.05) -> Groups:
    """Return the groups in which no pair has p <= alpha. A p-value that is NaN tells nothing apart.

    Args:
        average_ranks: (m,), 1 is the best.
        p_values: (m, m), symmetric and adjusted, as from `pairwise_wilcoxon`.
        alpha: level of the tests.
    """
    if np.shape(p_values) != (len(average_ranks), len(average_ranks)):
        raise ValueError(f"p_values {np.shape(p_values)} do not belong to {len(average_ranks)} methods")
    differs = np.asarray(p_values) <= alpha
    return _runs(average_ranks, lambda i, j: bool(differs[i, j]))


def groups_by_difference(average_ranks: FloatArray, critical_difference: float) -> Groups:
    """Return the groups in which average ranks differ by less than Nemenyi's critical difference.

    Args:
        average_ranks: (m,), 1 is the best.
        critical_difference: as from `uadbench.statistics.ranks.critical_difference`.
    """
    return _runs(average_ranks, lambda i, j: bool(abs(average_ranks[i] - average_ranks[j]) >= critical_difference))


def _runs(average_ranks: FloatArray, differs: Callable[[int, int], bool]) -> Groups:
    if not np.isfinite(average_ranks).all():
        raise ValueError("an average rank is NaN or infinite; rank the methods on subjects that all have a value for")
    order = [int(i) for i in np.argsort(average_ranks, kind="stable")]
    found: Groups = []
    end = 0
    for start in range(len(order)):
        last = start + 1
        while last < len(order) and not any(differs(order[last], other) for other in order[start:last]):
            last += 1
        # A run that ends where an earlier one ends lies inside it.
        if last > end and last - start > 1:
            found.append(tuple(order[start:last]))
        end = max(end, last)
    return found
