"""What a multiverse says: ranks, flips of pairs, and which choice explains how much. Pure functions of arrays and tables.

All look at ranks, so metrics of different scales can be put side by side. Every pipeline counts once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uadbench.arrays import FloatArray
from uadbench.multiverse import DIMENSIONS, Pipeline

REST = "interactions"
"""What is left when every dimension by itself has been accounted for."""


@dataclass(frozen=True)
class RankRow:
    """The ranks of one method over all pipelines; 1 is best.

    Attributes:
        low, high: 5th and 95th percentile; like the median a rank that occurs.
        best: share of pipelines in which it is best; methods that are best together share it.
        by_metric: median rank under the pipelines of each metric.
    """

    method: str
    least: float
    low: float
    median: float
    high: float
    most: float
    mean: float
    best: float
    by_metric: dict[str, float]


@dataclass(frozen=True)
class Flip:
    """Two methods: `better` comes first in more pipelines than `worse` does.

    Attributes:
        flip: share of pipelines with the opposite order.
        tie: share of pipelines in which both are equal.
    """

    better: str
    worse: str
    flip: float
    tie: float


@dataclass(frozen=True)
class Multiverse:
    """Methods under all pipelines.

    Attributes:
        methods: M names.
        pipelines: P of them.
        values: (P, M), NaN where undefined.
        ranks: (P, M), see `ranks_of`.
    """

    methods: list[str]
    pipelines: list[Pipeline]
    values: NDArray[np.float64]
    ranks: NDArray[np.float64]

    @classmethod
    def of(cls, methods: Sequence[str], pipelines: Sequence[Pipeline], values: NDArray[np.float64]) -> Multiverse:
        """Rank the methods, and put them in the order of their mean ranks."""
        ranks = ranks_of(values)
        order = np.argsort(ranks.mean(axis=0), kind="stable")
        return cls([methods[i] for i in order], list(pipelines), values[:, order], ranks[:, order])

    def levels(self) -> dict[str, NDArray[np.str_]]:
        """Return the choice of every pipeline in every dimension that has several, (P,); "" where it has none."""
        every = {name: np.array([getattr(p, name) for p in self.pipelines]) for name in DIMENSIONS}
        return {name: given for name, given in every.items() if len(set(given.tolist()) - {""}) > 1}

    def rows(self) -> list[RankRow]:
        """Return the ranks of every method in numbers."""
        metrics = np.array([p.metric for p in self.pipelines])
        best = self.ranks == self.ranks.min(axis=1, keepdims=True)
        share = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
        out = []
        for i, method in enumerate(self.methods):
            mine = self.ranks[:, i]
            low, middle, high = _quantiles(mine)
            ends = float(mine.min()), float(mine.max())
            by_metric = {m: float(_quantiles(mine[metrics == m])[1]) for m in dict.fromkeys(metrics.tolist())}
            out.append(
                RankRow(method, ends[0], low, middle, high, ends[1], float(mine.mean()), float(share[i]), by_metric)
            )
        return out

    def flips(self) -> list[Flip]:
        """Return every pair of methods, the most unsure ones first."""
        first = first_shares(self.ranks)
        out = []
        for i in range(len(self.methods)):
            for j in range(i + 1, len(self.methods)):
                a, b = (i, j) if first[i, j] >= first[j, i] else (j, i)
                tie = float(1.0 - first[a, b] - first[b, a])
                out.append(Flip(self.methods[a], self.methods[b], float(first[b, a]), max(tie, 0.0)))
        return sorted(out, key=lambda pair: -pair.flip)

    def variance(self) -> dict[str, float]:
        """Return `variance_shares` of the ranks, the largest first and what is left last."""
        shares = variance_shares(self.ranks, self.levels())
        rest = shares.pop(REST)
        return dict(sorted(shares.items(), key=lambda item: -item[1])) | {REST: rest}

    def table(self) -> pd.DataFrame:
        """Return one row a pipeline and method: all choices, value and rank."""
        choices = pd.DataFrame([asdict(p) for p in self.pipelines])
        table = choices.loc[choices.index.repeat(len(self.methods))].reset_index(names="pipeline")
        table["method"] = self.methods * len(self.pipelines)
        table["value"], table["rank"] = self.values.ravel(), self.ranks.ravel()
        return table


def ranks_of(values: FloatArray) -> NDArray[np.float64]:
    """Return the rank of each method under each pipeline, (P, M); 1 is best, equal values share their mean rank.

    Args:
        values: (P, M), higher is better. A method without a value, NaN, comes last.
    """
    from scipy.stats import rankdata

    known = np.where(np.isnan(values), -np.inf, values)
    return np.asarray(rankdata(-known, axis=1), np.float64)


def first_shares(ranks: FloatArray) -> NDArray[np.float64]:
    """Return the share of pipelines in which method i comes before method j, (M, M), from ranks (P, M)."""
    return np.stack([(ranks[:, [i]] < ranks).mean(axis=0) for i in range(ranks.shape[1])])


def variance_shares(scores: FloatArray, levels: Mapping[str, NDArray[np.str_]]) -> dict[str, float]:
    """Return which share of the variance over pipelines every dimension explains by itself: its main effect.

    For one method, with score y and mean m over all P pipelines, the total is the sum of (y - m)^2. The main effect of a
    dimension is the sum, over the pipelines that have a choice in it, of (mean of the pipelines with the same choice - mean
    of those with any choice)^2. A share is the sum of the effects of all methods over the sum of their totals: the mean
    over methods, weighted by how much they vary.

    If every metric's pipelines are the product of the lists it depends on, the effects are orthogonal: shares add up to
    at most 1, and what is left, `REST`, is due to combinations of choices.

    Args:
        scores: (P, M), such as ranks.
        levels: of each dimension the choice of every pipeline, (P,), "" where it has none.

    Returns:
        by dimension, and `REST`; all NaN if no method varies.
    """
    scores = np.asarray(scores, np.float64)
    total = float(((scores - scores.mean(axis=0)) ** 2).sum())
    out = {}
    for name, given in levels.items():
        mine, choices = scores[given != ""], given[given != ""]
        groups = [mine[choices == choice] for choice in dict.fromkeys(choices.tolist())]
        effect = sum(len(g) * float(((g.mean(axis=0) - mine.mean(axis=0)) ** 2).sum()) for g in groups)
        out[name] = effect / total if total > 0 else float("nan")
    rest = 1.0 - sum(out.values()) if total > 0 else float("nan")
    # Rounding must not leave a share below zero.
    return out | {REST: 0.0 if abs(rest) < 1e-12 else rest}


def _quantiles(ranks: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the 5th, 50th and 95th percentile, each a rank that occurs."""
    low, middle, high = np.quantile(ranks, [0.05, 0.5, 0.95], method="inverted_cdf")
    return float(low), float(middle), float(high)
