"""What is counted of every test subject for the metrics of all of them together, in little memory, and those metrics.

People are resampled, not scans: the scans of one person are drawn together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from uadbench.arrays import BoolArray
from uadbench.metrics import Case, Metric
from uadbench.metrics.bootstrap import FEWEST, resamples
from uadbench.metrics.detection import detection, detection_draws, reduce_map
from uadbench.metrics.froc import Candidates, candidates, froc, froc_draws
from uadbench.metrics.pooling import exact_pooled, pooled_from, pooled_from_scores
from uadbench.metrics.pro import ProHistogram
from uadbench.metrics.pro_exact import aupro_again
from uadbench.metrics.shared_dice import best_shared_dice, shared_dice_draws
from uadbench.metrics.streaming import HistogramSum, ScoreHistogram
from uadbench.protocol import Protocol
from uadbench.spool import Spool

TOLERANCE = 1e-4
"""Bounds of pooled values from histograms may be so far apart; beyond it they are computed exactly, in two more passes."""

KEPT = 128
"""Subjects whose histograms are kept, 1 to 2 MB each; of more subjects they are made again when they are needed."""

RANK = {"auprc_pooled": "auprc", "auroc_pooled": "auroc", "oracle_dice": "oracle_dice"}
PRO = ("aupro", "aupro_2d")
LIMITS = {"": 0.3, "_05": 0.05}
REGION = tuple(kind + ending for kind in PRO for ending in LIMITS)
NOTHING = np.empty(0)
WITHOUT = "/without"
"""Ends the names of jackknife values among stored draws."""


@dataclass(frozen=True)
class Answer:
    """One metric of all subjects together.

    Attributes:
        value: NaN where it is undefined.
        draws: (draws,), of the bootstrap over people; empty if there is none.
        without: (people,), the value without each of them, for BCa intervals; empty likewise.
        n: people that took part.
        excluded: scans that could not.
    """

    value: float
    draws: NDArray[np.float64]
    without: NDArray[np.float64]
    n: int
    excluded: int


@dataclass(frozen=True)
class Pooled:
    """The metrics of all subjects together, by name, and how the rank metrics among them were computed."""

    values: dict[str, Answer]
    facts: dict[str, Any]


@dataclass
class _Items:
    """One score each for subjects or slices."""

    score: list[float] = field(default_factory=list)
    positive: list[bool] = field(default_factory=list)
    ill: list[bool] = field(default_factory=list)
    person: list[str] = field(default_factory=list)


@dataclass
class Pool:
    """Counts subjects one after the other.

    Attributes:
        metrics: all of the protocol; those without a `compute` are made here.
        protocol: for the bootstrap, the reduction and the hit criterion.
        ill: the people with lesions. Healthy slices of theirs are in the scans with lesions already.
    """

    metrics: Sequence[Metric]
    protocol: Protocol
    ill: frozenset[str] = frozenset()
    people: list[str] = field(default_factory=list)
    empty: int = 0
    _total: HistogramSum = field(default_factory=HistogramSum)
    _spool: Spool = field(default_factory=Spool)
    _histograms: list[ScoreHistogram] = field(default_factory=list)
    _confusion: list[tuple[int, int, int]] = field(default_factory=list)
    _candidates: list[Candidates] = field(default_factory=list)
    _pro: dict[str, ProHistogram] = field(default_factory=dict)
    _sizes: dict[str, Spool] = field(default_factory=dict)
    _items: dict[str, _Items] = field(default_factory=lambda: {"subjects": _Items(), "slices": _Items()})

    def __post_init__(self) -> None:
        """Find out what has to be counted."""
        self.wanted = {m.name for m in self.metrics if m.compute is None}
        self.over = {m.over for m in self.metrics if m.compute is None}

    def add(self, role: str, person: str, case: Case) -> None:
        """Count one test subject."""
        ill = role == "test_lesion"
        if not case.score.size:
            self.empty += ill
            return
        if "subjects" in self.over:
            self._item("subjects", case.reduced, ill, ill, person)
        if "slices" in self.over:
            self._slices(ill, person, case)
        if not ill:
            return
        if not case.lesion.any():
            self.empty += 1
            return
        self.people.append(person)
        if self.wanted & {*RANK, *REGION, "oracle_dice_shared"}:
            self._spool.add(case.score, case.lesion)
        if self.wanted & {*RANK, "oracle_dice_shared"}:
            histogram = ScoreHistogram.of(case.score, case.lesion)
            self._total.add(histogram)
            if len(self.people) <= KEPT:
                self._histograms.append(histogram)
        counts = case.confusion
        self._confusion.append((counts.tp, counts.fp, counts.fn))
        if any(name.startswith("froc_") for name in self.wanted):
            self._candidates.append(candidates(case.overlaps, case.voxel_ml, case.hit_rule))
        for kind in PRO:
            if self.wanted & {kind, f"{kind}_05"}:
                regions = case.lesion_regions if kind == "aupro" else case.lesion_regions_2d
                if kind not in self._pro:
                    self._pro[kind], self._sizes[kind] = ProHistogram(), Spool()
                self._pro[kind].add(case.score_volume, regions, case.where)
                label = regions.labels[case.where][case.lesion].astype(np.intp) - 1
                sizes = np.bincount(label)[label].astype(np.float32)
                self._sizes[kind].add(sizes, np.ones(len(sizes), bool))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for spool in (self._spool, *self._sizes.values()):
            spool.close()

    def finish(self) -> Pooled:
        """Return all metrics."""
        values: dict[str, Answer] = {}
        weights = _weights(self.people, self.protocol.draws, (self.protocol.bootstrap_seed,))
        facts: dict[str, Any] = {}

        def parts() -> Iterable[ScoreHistogram]:
            if len(self.people) <= KEPT:
                return self._histograms
            return (ScoreHistogram.of(score, lesion) for score, lesion in self._spool())

        if self.wanted & set(RANK):
            found = self._total.histogram().rank_metrics()
            coarse = max(found.ap_high - found.ap_low, found.auroc_high - found.auroc_low) > TOLERANCE
            exact = exact_pooled(self._spool) if coarse else found
            facts |= {"path": exact.path, "ap_low": exact.ap_low, "ap_high": exact.ap_high}
            point = {"auprc_pooled": exact.ap, "auroc_pooled": exact.auroc, "oracle_dice": exact.dice}
            drawn = {}
            if self.people:
                drawn = pooled_from_scores(self._spool, weights) if coarse else pooled_from(parts, weights)
            for name in self.wanted & set(RANK):
                values[name] = self._answer(drawn.get(RANK[name], NOTHING), point[name])
        if "oracle_dice_shared" in self.wanted:
            best = best_shared_dice(self._spool)
            values["oracle_dice_shared"] = self._answer(shared_dice_draws(parts, weights), best)
        if "dice_pooled" in self.wanted:
            both = weights @ np.array(self._confusion, np.float64).reshape(-1, 3)
            with np.errstate(invalid="ignore", divide="ignore"):
                dice = 2 * both[:, 0] / (2 * both[:, 0] + both[:, 1] + both[:, 2])
            values["dice_pooled"] = self._answer(dice, float(dice[0]))
        self._regions(values, facts, weights)
        for over in ("subjects", "slices"):
            self._detection(values, over)
        return Pooled(values, facts)

    def _answer(self, drawn: NDArray[np.float64], value: float) -> Answer:
        """Return draws from joined bins, moved so that the pool itself, entry 0, has its exact value."""
        n = len(dict.fromkeys(self.people))
        moved = drawn - drawn[0] + value if n >= FEWEST and len(drawn) else NOTHING
        return Answer(value, moved[1 + n :], moved[1 : 1 + n], n, self.empty)

    def _regions(self, values: dict[str, Answer], facts: dict[str, Any], weights: NDArray[np.float64]) -> None:
        for kind in PRO:
            asked = [ending for ending in LIMITS if kind + ending in self.wanted]
            if not asked:
                continue
            counted = self._pro.get(kind) or ProHistogram()
            bounds = {ending: counted.bounds(LIMITS[ending]) for ending in asked}
            point = {ending: counted.value(LIMITS[ending]) for ending in asked}
            coarse = any(high - low > TOLERANCE for low, high in bounds.values())
            if coarse:
                sizes = np.concatenate(list(self._sizes[kind].scores))
                exact = aupro_again(self._spool, sizes, [LIMITS[ending] for ending in asked])
                point = dict(zip(asked, exact, strict=True))
                bounds = {ending: (value, value) for ending, value in point.items()}
            facts[f"{kind}_path"] = "exact" if coarse else "histogram"
            for ending in asked:
                facts[f"{kind}{ending}_low"], facts[f"{kind}{ending}_high"] = bounds[ending]
                drawn = counted.draws(weights, LIMITS[ending]) if self.people else NOTHING
                values[kind + ending] = self._answer(drawn, point[ending])
        at = sorted(int(name.removeprefix("froc_")) for name in self.wanted if name.startswith("froc_"))
        if at:
            points, drawn = froc(self._candidates, at), froc_draws(self._candidates, weights, at)
            values |= {f"froc_{k}": self._answer(drawn[:, i], float(points[i])) for i, k in enumerate(at)}

    def _detection(self, values: dict[str, Answer], over: str) -> None:
        """Add the metrics of one score a subject or slice; healthy and lesion people are resampled apart."""
        prefix = over.removesuffix("s") + "_"
        names = [name for name in self.wanted if name.startswith(prefix)]
        if not names:
            return
        items = self._items[over]
        score, positive = np.array(items.score, np.float64), np.array(items.positive, bool)
        ids = {person: i for i, person in enumerate(dict.fromkeys(items.person))}
        column = np.array([ids[p] for p in items.person], np.intp)
        ill = np.zeros(len(ids), bool)
        ill[column[np.array(items.ill, bool)]] = True
        drawn: dict[str, NDArray[np.float64]] = {}
        if ill.sum() > 1 and (~ill).sum() != 1 and len(ids) > 2:
            seed = self.protocol.bootstrap_seed  # One seed for both would draw groups of one size alike.
            weights = _weights(list(ids), self.protocol.draws, (seed, seed + 1), ill)
            drawn = detection_draws(score, positive, weights, column)
        point, n = detection(score, positive), len(ids)
        for name in names:
            key = name.removeprefix(prefix)
            sample = drawn.get(key, NOTHING)
            values[name] = Answer(point[key], sample[1 + n :], sample[1 : 1 + n], n, 0)

    def _item(self, over: str, score: float, positive: bool, ill: bool, person: str) -> None:
        items = self._items[over]
        items.score.append(score)
        items.positive.append(positive)
        items.ill.append(ill)
        items.person.append(person)

    def _slices(self, ill: bool, person: str, case: Case) -> None:
        """Count the slices with foreground; those of lesion subjects without masks cannot be judged and are left out."""
        if case.where is None or (ill and not case.annotated) or (not ill and person in self.ill):
            return
        ends = np.cumsum(case.where.sum(axis=(1, 2)))
        for start, end in zip(np.append(0, ends[:-1]), ends, strict=True):
            if end > start:
                part = case.score[start:end]
                self._item(
                    "slices", reduce_map(part, self.protocol.reduction), bool(case.lesion[start:end].any()), ill, person
                )


def _weights(
    people: Sequence[str], draws: int, seeds: tuple[int, ...], ill: BoolArray | None = None
) -> NDArray[np.float64]:
    """Return how often each scan takes part, (1 + persons + draws, scans).

    Row 0 has every scan once; the next ones leave out one person each; the others are bootstrap samples of people, drawn
    within the groups of `ill` (persons,), each with its seed, if that is given.
    """
    ids = {person: i for i, person in enumerate(dict.fromkeys(people))}
    sample = np.zeros((draws, len(ids)))
    groups = (np.ones(len(ids), bool),) if ill is None else (ill, ~ill)
    for group, seed in zip(groups, seeds, strict=True):
        if group.any():
            sample[:, group] = resamples(int(group.sum()), draws, seed)
    rows = np.vstack([np.ones((1, len(ids))), 1.0 - np.eye(len(ids)), sample])
    return rows[:, [ids[p] for p in people]]
