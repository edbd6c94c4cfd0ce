"""Which of two methods is better, and how surely; which of many. Pairs are people: each was seen by all methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from uadbench.arrays import FloatArray
from uadbench.errors import UsageError, suggest
from uadbench.leaderboard import Board
from uadbench.metrics import Metric
from uadbench.metrics.bootstrap import FEWEST, interval, median_draws
from uadbench.rows import Row, per_person
from uadbench.statistics.groups import Groups, groups_by_test, pairwise_wilcoxon
from uadbench.statistics.paired import PairedComparison, compare_pairs, holm
from uadbench.statistics.rank_bootstrap import RankStability, bootstrap_ranks
from uadbench.statistics.ranks import Friedman, average_ranks, critical_difference, friedman

ALPHA = 0.05


@dataclass(frozen=True)
class Pair:
    """Two methods of a board. `p` is that of the permutation test, adjusted by Holm over all pairs of the command."""

    a: str
    b: str
    found: PairedComparison
    p: float
    p_wilcoxon: float

    def verdict(self, metric: Metric) -> str:
        """Return the answer in a sentence."""
        if not np.isfinite([self.found.difference, self.found.low, self.found.high]).all():
            return f"{self.a} and {self.b} cannot be compared: {self.found.n} subjects have a value of both"
        surely = self.found.low > 0 or self.found.high < 0
        if not surely or not (self.p <= ALPHA or np.isnan(self.p)):
            return f"{self.a} and {self.b} cannot be told apart by {metric.title} on these {self.found.n} subjects"
        first = (self.found.difference > 0) == metric.higher_is_better
        better, worse = (self.a, self.b) if first else (self.b, self.a)
        return f"{better} is better than {worse} by {abs(self.found.difference):.4f} {metric.title}"


@dataclass(frozen=True)
class All:
    """All methods of a board together.

    Attributes:
        names: of the methods, best average rank first; the rows of all arrays.
        ranks: (m,), average rank over subjects.
        groups: methods that Holm-adjusted Wilcoxon tests do not tell apart.
        difference: Nemenyi's critical difference of average ranks.
    """

    names: list[str]
    ranks: FloatArray
    groups: Groups
    difference: float
    friedman: Friedman
    stability: RankStability


def chosen_rows(board: Board, names: Sequence[str]) -> list[Row]:
    """Return the rows that are meant, all finished ones for no names.

    Rows that never rank are among them; see `Row.never`.

    Raises:
        UsageError: for a name that is not there or means several rows.
    """
    done = [row for row in board.rows if row.done]
    if not names:
        return done
    out = []
    for name in names:
        found = [r for r in done if r.method == name] or [r for r in done if r.name == name]
        there = [r.method for r in done]
        if not found:
            raise UsageError(
                f"{board.title} has no results of {name!r}.{suggest(name, there)} There: {', '.join(there)}."
            )
        if len(found) > 1:
            listed = "; ".join(repr(r.method) for r in found)
            raise UsageError(f"{name!r} means {len(found)} rows; give one of them in full: {listed}")
        out.append(found[0])
    return out


def by_tests(metric: Metric) -> bool:
    """Whether a metric is a mean over people, so that tests can pair it."""
    return metric.compute is not None and metric.aggregate == "mean"


def check_metric(metric: Metric, where: str = "", *, rank: bool = False) -> None:
    """Refuse a metric that cannot be compared fairly, or not on a part of the subjects, or not ranked by subject.

    Raises:
        UsageError: saying why.
    """
    if metric.oracle:
        raise UsageError(f"{metric.name} peeks at the test labels, so it gives no verdict and never ranks; take {TAKE}")
    if where and metric.compute is None:
        raise UsageError(f"{metric.name} is of all subjects together, so there is none of {where}; take {TAKE}")
    if rank and not by_tests(metric):
        raise UsageError(f"{metric.name} has no mean over subjects, so --all cannot rank by it; take {TAKE}")


TAKE = "auprc, dice, lesion_f1 ..."
"""Metrics that can be compared in every way."""


def values_of(rows: Sequence[Row], metric: Metric, where: str = "") -> FloatArray:
    """Return the metric of every method on every person, (m, n), averaged over seeds and folds; NaN where undefined.

    Raises:
        UsageError: for a metric that is no mean over people.
    """
    check_metric(metric, where, rank=True)
    return _columns(rows, metric, where)


def _columns(rows: Sequence[Row], metric: Metric, where: str) -> FloatArray:
    columns = [per_person(metric, [c for c in row.cells if c.state == "done"], where) for row in rows]
    return pd.concat(columns, axis=1).to_numpy(np.float64).T


def compare_rows(
    rows: Sequence[Row], metric: Metric, *, where: str = "", draws: int = 2000, seed: int = 2023, level: float = 0.95,
) -> list[Pair]:  # fmt: skip
    """Compare every two rows, with p-values adjusted over all pairs.

    Metrics of all subjects together, and medians, have an interval of the difference, from their paired bootstrap draws,
    and no tests.

    Raises:
        UsageError: for a metric that `check_metric` refuses.
    """
    check_metric(metric, where)
    names = [row.method for row in rows]
    if not by_tests(metric):
        found = [
            (_together(a, b, metric) if metric.compute is None else _medians(a, b, metric, where, draws, seed))
            for a, b in combinations(rows, 2)
        ]
        pairs = {k: _by_draws(*parts, level) for k, parts in zip(combinations(range(len(rows)), 2), found, strict=True)}
    else:
        pairs = compare_pairs(
            values_of(rows, metric, where),
            draws=draws,
            seed=seed,
            level=level,
            higher_is_better=metric.higher_is_better,
        )
    permutation = holm([found.p_permutation for found in pairs.values()])
    wilcoxon = holm([found.p_wilcoxon for found in pairs.values()])
    return [
        Pair(names[i], names[j], found, float(p), float(w))
        for ((i, j), found), p, w in zip(pairs.items(), permutation, wilcoxon, strict=True)
    ]


def _together(a: Row, b: Row, metric: Metric) -> tuple[float, FloatArray, int, int]:
    """Return the difference of a metric of all subjects together, its draws, and how many took part or could not.

    The methods' draws resample the same people alike; there are none if the methods were tested on different people.
    """
    first, second, value = a.draws(metric.name), b.draws(metric.name), a.values[metric.name]
    people = {c.people for row in (a, b) for c in row.cells if c.state == "done"}
    pair_up = len(people) == 1 and len(first) == len(second)
    sample = first - second if pair_up else np.empty(0)
    return value.value - b.values[metric.name].value, sample, value.n, value.excluded


def _medians(a: Row, b: Row, metric: Metric, where: str, draws: int, seed: int) -> tuple[float, FloatArray, int, int]:
    """Return the same for the medians of the people of whom both methods have a value."""
    values = _columns([a, b], metric, where)
    first, second = values[:, np.isfinite(values).all(axis=0)]
    n = len(first)
    sample = median_draws(first, draws, seed) - median_draws(second, draws, seed)
    return float(np.median(first) - np.median(second)) if n else np.nan, sample, n, values.shape[1] - n


def _by_draws(difference: float, sample: FloatArray, n: int, excluded: int, level: float) -> PairedComparison:
    nan = float("nan")
    low, high = interval(sample, level) if n >= FEWEST else (nan, nan)
    return PairedComparison(difference, low, high, n, excluded, 0, 0, 0, nan, nan, nan, nan)


def compare_all(rows: Sequence[Row], metric: Metric, *, where: str = "", draws: int = 2000, seed: int = 2023) -> All:
    """Rank all rows on the subjects on which all have a value.

    Raises:
        UsageError: for fewer than two methods, or without common subjects.
    """
    values = values_of(rows, metric, where)
    if len(rows) < 2 or np.isfinite(values).all(axis=0).sum() < 2:
        raise UsageError("two methods and two subjects on which all of them have a value are needed to rank them")
    up = metric.higher_is_better
    ranks = average_ranks(values, higher_is_better=up)
    order = np.argsort(ranks, kind="stable")
    values, ranks = values[order], ranks[order]
    tests = friedman(values)
    return All(
        [rows[i].method for i in order],
        ranks,
        groups_by_test(ranks, pairwise_wilcoxon(values), ALPHA),
        critical_difference(len(rows), tests.n),
        tests,
        bootstrap_ranks(values, higher_is_better=up, draws=draws, seed=seed),
    )


def pairs_table(pairs: Sequence[Pair], metric: Metric) -> pd.DataFrame:
    """Return one row a pair, plain numbers; wins, ties and losses are empty for metrics without a value of each subject."""
    table = pd.DataFrame(
        [
            {
                "a": p.a, "b": p.b, "metric": metric.name, "difference": p.found.difference, "ci_low": p.found.low,
                "ci_high": p.found.high, "n": p.found.n, "excluded": p.found.excluded, "wins": p.found.wins,
                "ties": p.found.ties, "losses": p.found.losses, "p_permutation": p.found.p_permutation,
                "p_permutation_holm": p.p, "p_wilcoxon": p.found.p_wilcoxon, "p_wilcoxon_holm": p.p_wilcoxon,
                "rank_biserial": p.found.rank_biserial, "cohens_dz": p.found.cohens_dz,
            }
            for p in pairs
        ]
    )  # fmt: skip
    return table if by_tests(metric) else table.assign(wins=None, ties=None, losses=None)


def ranks_table(found: All) -> pd.DataFrame:
    """Return one row a method: average rank, probability of being best, interval of the rank."""
    stable: Any = found.stability
    return pd.DataFrame(
        {
            "method": found.names,
            "average_rank": found.ranks,
            "mean": stable.by_mean.value,
            "rank_by_mean": stable.by_mean.rank,
            "probability_best": stable.by_mean.best,
            "rank_low": stable.by_mean.low,
            "rank_high": stable.by_mean.high,
        }
    )
