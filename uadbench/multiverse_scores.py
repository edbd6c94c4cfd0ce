"""Scores stored maps under every pipeline of a grid at once, sharing all work that pipelines have in common.

A subject is opened once for all methods, and its lesions are labelled once. Each map is post-processed once a chain, sorted
once for the rank metrics, and labelled once a threshold: components that a filter removes are struck from the list of
components, and one table of overlaps serves all hit criteria. Every number equals that of `uadbench.evaluation.evaluate`
under a protocol with the same choices.

Thresholds come from validation subjects only, and all of them are fixed before the first test subject is opened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Split, Subject, Volume
from uadbench.metrics.lesions import HitRule, LesionCounts, Overlaps, lesion_counts
from uadbench.metrics.overlap import Confusion
from uadbench.metrics.pooling import exact_pooled
from uadbench.metrics.ranking import auroc, average_precision, rank_curve
from uadbench.metrics.streaming import HistogramSum, ScoreHistogram
from uadbench.multiverse import LESION, OVERLAP, RANK, Pipeline, PipelineGrid
from uadbench.multiverse_views import Found, Ground
from uadbench.pool import TOLERANCE
from uadbench.protocol import Protocol, Step
from uadbench.store import CellFolder
from uadbench.thresholds import Labelled, choose

Key = tuple[str, ...]
Advance = Callable[[int], object]


def _nothing(chains: int) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Source:
    """The stored maps of one cell, with its data."""

    folder: CellFolder
    load: Callable[[Subject], Volume]
    split: Split


def score_methods(
    methods: Mapping[str, Sequence[Source]],
    grid: PipelineGrid,
    base: Protocol,
    *,
    keep: Callable[[Subject], bool] = lambda subject: True,
    each: Advance = _nothing,
) -> NDArray[np.float64]:
    """Return the value of every pipeline for every method, (pipelines, methods); NaN where it is undefined.

    Seeds and folds of a method are averaged per person first, as in the leaderboard, and pooled values afterwards.

    Args:
        methods: cells by method.
        grid: of pipelines, with threshold rules that the splits allow.
        base: the protocol, for what the grid does not vary.
        keep: which test subjects take part.
        each: is told how many maps were post-processed, of `work`.
    """
    pipelines = grid.pipelines()
    columns = {key: i for i, key in enumerate(dict.fromkeys(p.column for p in pipelines))}
    sources = [source for cells in methods.values() for source in cells]
    scans = {s.key: s for source in sources for s in source.split.test_lesion if keep(s)}
    tallies = [
        Tally(source, grid, base, thresholds_of(source, grid, base, each), columns, len(scans)) for source in sources
    ]
    for number, (name, subject) in enumerate(scans.items()):
        opened: dict[Callable[[Subject], Volume], dict[str, Ground]] = {}
        for tally in tallies:
            if name not in tally.tested:
                continue
            load = tally.source.load
            if load not in opened:  # Of cells that share their data only the first one opens them.
                volume = load(subject)
                opened[load] = {r: Ground.of(volume, r, base) for r in grid.resolution}
            tally.add(number, subject, opened[load])
            each(len(grid.resolution) * len(grid.postprocess))
    people = [subject.id for subject in scans.values()]
    out = np.full((len(pipelines), len(methods)), np.nan)
    there = iter(tallies)
    for place, cells in enumerate(methods.values()):
        mine = [next(there) for _ in cells]
        persons = _mean([by_person(tally.values, people) for tally in mine])
        pooled = np.mean([tally.pooled(list(scans.values())) for tally in mine], axis=0)
        out[:, place] = [_aggregate(p, persons[columns[p.column]], pooled[columns[p.column]]) for p in pipelines]
    return out


def work(sources: Sequence[Source], grid: PipelineGrid, keep: Callable[[Subject], bool] = lambda subject: True) -> int:
    """Return how many maps are post-processed, each under one chain at one resolution."""
    subjects = 0
    for split in (source.split for source in sources):
        subjects += sum(keep(subject) for subject in split.test_lesion)
        subjects += len(split.val) * bool(grid.threshold) + len(split.val_lesion) * _reads_labels(grid)
    return subjects * len(grid.resolution) * len(grid.postprocess)


def _reads_labels(grid: PipelineGrid) -> bool:
    return any(rule.labels_used == "val" for rule in grid.threshold.values())


def _aggregate(pipeline: Pipeline, people: NDArray[np.float64], pooled: float) -> float:
    if pipeline.aggregate == "pooled":
        return pooled
    kept = people[np.isfinite(people)]
    if not len(kept):
        return float("nan")
    return float(np.median(kept) if pipeline.aggregate == "median" else np.mean(kept))


def by_person(values: NDArray[np.float64], people: Sequence[str]) -> NDArray[np.float64]:
    """Return values (columns, scans) averaged over the scans of each person, (columns, persons); NaN where none is."""
    scans: dict[str, list[int]] = {}
    for place, person in enumerate(people):
        scans.setdefault(person, []).append(place)
    return np.stack([_mean(list(values[:, own].T)) for own in scans.values()], axis=1)


def _mean(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean of arrays of one shape, without NaN; NaN where all of them are."""
    if len(parts) == 1:
        return parts[0]
    every = np.stack(parts)
    count = np.isfinite(every).sum(axis=0)
    out = np.full(every.shape[1:], np.nan)
    np.divide(np.nan_to_num(every).sum(axis=0), count, out=out, where=count > 0)
    return out


def thresholds_of(source: Source, grid: PipelineGrid, base: Protocol, each: Advance = _nothing) -> dict[Key, float]:
    """Return the threshold of every (resolution, postprocess, threshold) of a grid. Opens validation subjects only."""
    out: dict[Key, float] = {}
    for resolution in grid.resolution if grid.threshold else ():
        for name, chain in grid.postprocess.items():
            # One chain at a time: the scores of all validation subjects are in memory together.
            healthy = [
                _read(source, subject, resolution, chain, base, labels=False, each=each)[0]
                for subject in source.split.val
            ]
            labelled = [
                _read(source, subject, resolution, chain, base, labels=True, each=each)
                for subject in (source.split.val_lesion if _reads_labels(grid) else ())
            ]
            for word, rule in grid.threshold.items():
                out[resolution, name, word] = choose(rule, healthy, partial(_apart, labelled))
    return out


def _apart(pairs: Sequence[tuple[FloatArray, BoolArray]]) -> Labelled:
    return [score for score, _ in pairs], [lesion for _, lesion in pairs]


def _read(
    source: Source, subject: Subject, resolution: str, chain: Sequence[Step], base: Protocol, *, labels: bool,
    each: Advance = _nothing,
) -> tuple[FloatArray, BoolArray]:  # fmt: skip
    """Return the scores and lesions (N,) of one subject after a chain; without labels no voxel is a lesion."""
    volume = source.load(subject)
    ground = Ground.of(volume if labels else volume.without_labels(), resolution, base)
    scores = ground.scores(ground.map_of(source.folder, subject), chain)
    each(1)
    return scores, ground.lesion


@dataclass
class Tally:
    """What one cell gives: every metric of every subject, and sums over subjects for what is pooled.

    Attributes:
        columns: number of every column, a pipeline without its aggregation.
        scans: number of test subjects.
        values: (columns, scans), NaN where undefined or not a test subject of this cell.
    """

    source: Source
    grid: PipelineGrid
    base: Protocol
    thresholds: Mapping[Key, float]
    columns: Mapping[Key, int]
    scans: int
    values: NDArray[np.float64] = field(init=False)
    _histograms: dict[Key, HistogramSum] = field(default_factory=lambda: defaultdict(HistogramSum))
    _confusion: dict[Key, Confusion] = field(default_factory=lambda: defaultdict(Confusion))
    _lesions: dict[Key, NDArray[np.int64]] = field(default_factory=lambda: defaultdict(lambda: np.zeros(4, np.int64)))

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.values = np.full((len(self.columns), self.scans), np.nan)

    @cached_property
    def tested(self) -> frozenset[str]:
        """The test subjects of this cell."""
        return frozenset(subject.key for subject in self.source.split.test_lesion)

    def add(self, scan: int, subject: Subject, grounds: Mapping[str, Ground]) -> None:
        """Count one test subject under all pipelines; `grounds` are its resolutions.

        Where it has no lesion voxel in sight it has no value, and does not take part in what is pooled.
        """
        for resolution, ground in grounds.items():
            if not ground.lesion.any():
                continue
            anomaly_map = ground.map_of(self.source.folder, subject)
            for name, chain in self.grid.postprocess.items():
                self._chain(scan, ground, ground.scores(anomaly_map, chain), (resolution, name))

    def _put(self, metric: str, key: Key, scan: int, value: float) -> None:
        place = self.columns.get((metric, *key, *[""] * (5 - len(key))))
        if place is not None:
            self.values[place, scan] = value

    def _asks(self, metrics: Sequence[str] | Mapping[str, str]) -> bool:
        return any(metric in metrics for metric in self.grid.metric)

    def _chain(self, scan: int, ground: Ground, values: FloatArray, key: Key) -> None:
        pooled = "pooled" in self.grid.aggregate
        if self._asks(RANK):
            curve = rank_curve(values, ground.lesion)
            self._put("auprc", key, scan, average_precision(curve))
            self._put("auroc", key, scan, auroc(curve))
            if pooled:
                self._histograms[key].add(ScoreHistogram.of(values, ground.lesion))
                self._histograms[key].histogram()  # Joined at once, as hundreds of sums are open at a time.
        if not self._asks(OVERLAP) and not self._asks(LESION):
            return
        labelled = self._asks(LESION) or any(self.grid.found_steps.values())
        for word in self.grid.threshold:
            above = values > self.thresholds[(*key, word)]
            found = Found.of(ground.regions, ground.spread(above)) if labelled else None
            for steps_word, steps in self.grid.found_steps.items():
                here = (*key, word, steps_word)
                left = found.after(steps) if found and steps else found
                counts = left.confusion(len(values)) if left and steps else Confusion.of(above, ground.lesion)
                for metric, ratio in OVERLAP.items():
                    self._put(metric, here, scan, getattr(counts, ratio))
                if pooled:
                    self._confusion[here] += counts
                if left and self._asks(LESION):
                    self._hits(scan, ground.volume.voxel_ml, left.overlaps, here, pooled)

    def _hits(self, scan: int, voxel_ml: float, found: Overlaps, key: Key, pooled: bool) -> None:
        smallest = self.base.min_lesion_ml if voxel_ml > 0 else 0.0
        for hit in self.grid.hit:
            counts = lesion_counts(found, voxel_ml, HitRule(hit, min_ml=smallest))
            for metric, ratio in LESION.items():
                self._put(metric, (*key, hit), scan, getattr(counts, ratio))
            if pooled:
                numbers = (len(counts.hit), int(counts.hit.sum()), counts.predicted, counts.false)
                self._lesions[(*key, hit)] += np.array(numbers)

    def pooled(self, scans: Sequence[Subject]) -> NDArray[np.float64]:
        """Return the metric of all subjects together for every column, (columns,); NaN if they are not pooled."""
        out = np.full(len(self.columns), np.nan)
        rank: dict[Key, dict[str, float]] = {key: self._rank(key, scans) for key in self._histograms}
        for (metric, *rest), place in self.columns.items():
            key = tuple(word for word in rest if word)
            if key in rank and metric in RANK:
                out[place] = rank[key][metric]
            elif key in self._confusion and metric in OVERLAP:
                out[place] = getattr(self._confusion[key], OVERLAP[metric])
            elif key in self._lesions and metric in LESION:
                out[place] = getattr(_counts(*self._lesions[key].tolist()), LESION[metric])
        return out

    def _rank(self, key: Key, scans: Sequence[Subject]) -> dict[str, float]:
        """Return pooled rank metrics, exactly if the histograms are too coarse."""
        found = self._histograms[key].histogram().rank_metrics()
        if max(found.ap_high - found.ap_low, found.auroc_high - found.auroc_low) > TOLERANCE:
            found = exact_pooled(lambda: self._again(key, scans))
        return {"auprc": found.ap, "auroc": found.auroc}

    def _again(self, key: Key, scans: Sequence[Subject]) -> Iterator[tuple[FloatArray, BoolArray]]:
        """Read the test subjects that were pooled once more."""
        for subject in scans:
            if subject.key in self.tested:
                part = _read(self.source, subject, key[0], self.grid.postprocess[key[1]], self.base, labels=True)
                if part[1].any():
                    yield part


def _counts(lesions: int, hits: int, predicted: int, false: int) -> LesionCounts:
    """Return pooled counts; the sizes of the lesions are not known."""
    unknown = np.zeros(lesions, np.int64)
    return LesionCounts(unknown, np.full(lesions, np.nan), np.arange(lesions) < hits, predicted, false)
