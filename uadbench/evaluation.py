"""From stored maps to numbers. Needs neither the method nor a GPU; the only place where lesion labels make numbers.

One subject is in memory at a time: its own numbers are computed, what pooled metrics need of it is counted, and it is
let go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.bank import check_role
from uadbench.dataset import Role, Split, Subject, Volume
from uadbench.errors import DegenerateScores, Incompatible, StoreError, UADBenchError
from uadbench.metrics import Case, Metric, Restoration
from uadbench.metrics.bootstrap import centre, centre_draws, interval
from uadbench.metrics.pimo import SharedRate, shared_rate
from uadbench.metrics.ranking import largest_precision
from uadbench.metrics.table import get_metric
from uadbench.pool import WITHOUT, Answer, Pool
from uadbench.postprocess import on_grid, postprocess
from uadbench.preparation import inside, normalise
from uadbench.protocol import Protocol, Threshold
from uadbench.result import Result, Value
from uadbench.results import Evaluation, Row, evaluation_code
from uadbench.spool import Spool
from uadbench.thresholds import choose

if TYPE_CHECKING:
    from uadbench.store import CellFolder


def evaluate(
    folder: CellFolder,
    load: Callable[[Subject], Volume],
    split: Split,
    protocol: Protocol,
    *,
    each_subject: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate the stored maps of one cell under a protocol.

    Every threshold is fixed before the first test subject is opened, except that of the policy "oracle".

    Raises:
        DegenerateScores: if the maps of all test subjects are constant.
        Incompatible: if the protocol needs labelled validation subjects, and there are none.
        StoreError: if a map is missing or damaged, or is not on the grid of its subject.
    """
    return _Run(folder, load, split, protocol, each_subject).go()


@dataclass
class _Read:
    """A subject with its map after the chain."""

    volume: Volume
    score: FloatArray
    where: BoolArray
    dropped: BoolArray
    """What the chain sets to 0."""
    lesion_size: float
    """Of the lesion as annotated, before a grid crops it: millilitres, or voxels where their size is not known."""
    span: tuple[float, float]
    """Lowest and highest score in the foreground before the chain."""

    @property
    def values(self) -> FloatArray:
        return self.score[self.where]

    def lesion(self) -> BoolArray:
        return np.zeros(self.score.shape, bool) if self.volume.lesion is None else self.volume.lesion


@dataclass(frozen=True)
class _Lazy(Sequence[FloatArray]):
    """The scores of subjects, read when they are asked for."""

    subjects: Sequence[Subject]
    read: Callable[[Subject], FloatArray]

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, index: int) -> FloatArray:  # type: ignore[override]
        return self.read(self.subjects[index])


@dataclass
class _Run:
    """One evaluation while it is made."""

    folder: CellFolder
    load: Callable[[Subject], Volume]
    split: Split
    protocol: Protocol
    each_subject: Callable[[], None]
    rows: list[Row] = field(default_factory=list)
    lesions: list[Row] = field(default_factory=list)
    outside: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Lesion volume that no metric sees, and all of it."""
    range: list[float] = field(default_factory=lambda: [np.inf, -np.inf])
    """The `span` of all test subjects together."""
    seen: list[int] = field(default_factory=lambda: [0, 0])
    normal: SharedRate | None = None

    def go(self) -> Evaluation:
        protocol = self.protocol
        metrics = [get_metric(name) for name in protocol.metrics]
        thresholds = self._thresholds()
        if "aupimo" in protocol.metrics:
            self.normal = shared_rate(_Lazy(self.split.test_healthy, lambda s: self._read(s, labels=False).values))
        with Pool(metrics, protocol, frozenset(s.id for s in self.split.test_lesion)) as pool:
            tested: tuple[Role, ...] = ("test_healthy", "test_lesion")
            for role in tested:
                for subject in getattr(self.split, role):
                    case = self._case(role, subject, metrics, thresholds)
                    pool.add(role, subject.id, case)
                    self.each_subject()
            if not self.range[1] > self.range[0]:
                raise DegenerateScores(
                    f"all scores of all test subjects are {self.range[0]:g}; a constant map ranks nothing"
                )
            pooled = pool.finish()
        value = {name: answer.value for name, answer in pooled.values.items()}
        _check(value.get("auprc_pooled", np.nan), value.get("oracle_dice", np.nan), "all subjects together")
        values, draws = self._summarise(metrics, pooled.values)
        result = Result(
            protocol=protocol.as_dict(),
            metrics=values,
            threshold=thresholds[protocol.threshold.words],
            thresholds=thresholds,
            labels_used=protocol.threshold.labels_used,
            lesion_outside=self.outside[0] / self.outside[1] if self.outside[1] else float("nan"),
            prevalence=self.seen[0] / self.seen[1] if self.seen[1] else float("nan"),
            pooled=pooled.facts | ({"aupimo": self.normal.reason} if self.normal and self.normal.reason else {}),
            code=evaluation_code(),
        )
        return Evaluation(result, self.rows, self.lesions, draws)

    def _read(self, subject: Subject, *, labels: bool) -> _Read:
        volume = self.load(subject)
        if not labels:
            volume = replace(volume.without_labels(), ignore=volume.ignore)
        score = self.folder.read_map(subject.key, volume.grid)[0]
        if bad := score.size - int(np.isfinite(score).sum()):
            raise DegenerateScores(f"{bad} of {score.size} scores of {subject.key} are NaN or infinite")
        raw = score[inside(volume)]
        span = (float(raw.min()), float(raw.max())) if raw.size else (np.inf, -np.inf)
        size = 0.0 if volume.lesion is None else float(np.count_nonzero(volume.lesion))
        size *= volume.voxel_ml if volume.voxel_ml > 0 else 1.0
        volume, score = on_grid(volume, score, self.protocol.grid)
        score, kept = postprocess(score, volume.foreground, self.protocol.postprocess)
        everywhere = np.ones(score.shape, bool)
        where = inside(volume)
        if self.protocol.region == "box":
            where = everywhere if volume.ignore is None else ~volume.ignore
        return _Read(volume, score, where, ~kept, size, span)

    def _thresholds(self) -> dict[str, float]:
        """Choose the thresholds of all rules; test subjects are opened by the oracle alone."""
        out = {}
        with Spool() as healthy:
            for subject in self.split.val:
                read = self._read(subject, labels=False)
                healthy.add(read.values, np.zeros(read.values.shape, bool))
                self.rows.append(_row("val", subject, read))
                self.each_subject()
            for rule in (self.protocol.threshold, *self.protocol.other_thresholds):
                with Spool() as labelled:
                    try:
                        out[rule.words] = choose(rule, healthy.scores, partial(self._labelled, rule, labelled))
                    except ValueError as error:
                        raise Incompatible(f"the threshold {rule.words} cannot be chosen: {error}") from error
        return out

    def _labelled(self, rule: Threshold, spool: Spool) -> tuple[Sequence[FloatArray], Sequence[BoolArray]]:
        """Put the subjects whose labels a rule reads into the spool; of test subjects, those with a lesion in sight."""
        oracle = rule.labels_used == "test"
        subjects = self.split.test_lesion if oracle else self.split.val_lesion
        if not oracle and not subjects:
            raise Incompatible(
                f"{self.protocol.name} chooses its threshold by {rule.words} on labelled validation subjects, and this "
                "dataset has none; another rule is given by: uadbench evaluate --threshold healthy_fpr:0.05"
            )
        for subject in subjects:
            read = self._read(subject, labels=True)
            lesion = read.lesion()[read.where]
            if not oracle or lesion.any():
                spool.add(read.values, lesion)
        return spool.scores, spool.lesions

    def _case(self, role: Role, subject: Subject, metrics: Sequence[Metric], thresholds: dict[str, float]) -> Case:
        """Compute all that belongs to one test subject, and return what pooled metrics count."""
        read = self._read(subject, labels=True)
        check_role(role, read.volume, subject.key, self.protocol.masks)
        self.range = [min(self.range[0], read.span[0]), max(self.range[1], read.span[1])]
        lesion = read.lesion()
        rules: dict[str, float] = {
            rule.policy: thresholds[rule.words] for rule in (self.protocol.threshold, *self.protocol.other_thresholds)
        }
        case = Case(
            score=read.values,
            lesion=lesion[read.where],
            threshold=thresholds[self.protocol.threshold.words],
            voxel_ml=read.volume.voxel_ml,
            where=read.where,
            spacing=read.volume.spacing,
            thresholds=rules,
            protocol=self.protocol,
            annotated=read.volume.lesion is not None,
            normal=self.normal,
            restoration=self._restoration(subject) if any(m.name.startswith("recon_") for m in metrics) else None,
        )
        over = "lesion subjects" if role == "test_lesion" else "healthy subjects"
        row = _row(role, subject, read) | _facts(case, lesion)
        row[f"score {self.protocol.reduction}"] = case.reduced
        columns = {m.column: m.compute for m in metrics if m.compute is not None and m.over == over}
        # Without a lesion in sight a subject says nothing about how lesions are found, whatever a formula may give.
        mute = role == "test_lesion" and not case.lesion.any()
        row |= {name: float("nan") if mute else compute(case) for name, compute in columns.items()}
        self.rows.append(row)
        _check(row.get("auprc", np.nan), row.get("oracle_dice_subject", np.nan), subject.key)
        if role == "test_lesion":
            known = case.voxel_ml > 0
            seen = np.count_nonzero(lesion & read.where & ~read.dropped) * (case.voxel_ml if known else 1.0)
            self.outside[0] += max(0.0, read.lesion_size - seen)
            self.outside[1] += read.lesion_size
            self.seen[0] += int(np.count_nonzero(case.lesion))
            self.seen[1] += len(case.lesion)
            if any(m.column.startswith("lesion_") for m in metrics):
                counts = case.lesion_counts
                sizes = zip(counts.voxels.tolist(), counts.ml.tolist(), counts.hit.tolist(), strict=True)
                self.lesions += [
                    {"subject": subject.key, "person": subject.id, "voxels": n, "ml": ml, "hit": hit}
                    for n, ml, hit in sizes
                ]
        return case

    def _restoration(self, subject: Subject) -> Restoration | None:
        """Return image and reconstruction on the subject's own grid; None if no reconstruction is stored."""
        rebuilt = self.folder.read_reconstruction(subject.key)
        if rebuilt is None:
            return None
        volume = self.load(subject)
        if rebuilt.shape != volume.image.shape:
            raise StoreError(
                f"the reconstruction of {subject.key} has the shape {rebuilt.shape} but its image {volume.image.shape}; the "
                "data are not those of the run: restore them, or run again"
            )
        tissue = inside(volume)
        lesion = np.zeros(volume.grid, bool) if volume.lesion is None else volume.lesion & tissue
        return Restoration(normalise(volume, self.protocol.preparation.intensity), rebuilt, tissue, lesion)

    def _summarise(
        self, metrics: Sequence[Metric], pooled: dict[str, Answer]
    ) -> tuple[dict[str, Value], dict[str, FloatArray]]:
        """Return every metric with its interval, and the draws of those that are no mean over subjects."""
        values: dict[str, Value] = {}
        draws: dict[str, FloatArray] = {}
        level, count, seed = self.protocol.level, self.protocol.draws, self.protocol.bootstrap_seed
        for metric in metrics:
            if metric.compute is None:
                found = pooled[metric.name]
                exact, sample, n, excluded = found.value, found.draws, found.n, found.excluded
                draws[metric.name] = sample.astype(np.float32)
                draws[metric.name + WITHOUT] = found.without.astype(np.float32)
            else:
                per_person = by_person(self.rows, metric.column)
                n = int(np.isfinite(per_person).sum())
                exact, excluded = centre(per_person, metric.aggregate), len(per_person) - n
                sample = centre_draws(per_person, metric.aggregate, count, seed)
            values[metric.name] = Value(exact, *interval(sample, level), n, excluded)
        return values, draws


def _check(precision: float, dice: float, what: str) -> None:
    """Refuse two numbers that cannot both be right.

    Raises:
        UADBenchError: naming them.
    """
    if np.isfinite(dice) and precision > largest_precision(dice) + 1e-6:
        raise UADBenchError(
            f"{what}: an average precision of {precision:.6f} is impossible with a largest Dice of {dice:.6f}; this is an "
            "error of uadbench, please report it with the maps"
        )


def _row(role: str, subject: Subject, read: _Read) -> Row:
    """Return the columns that describe a subject."""
    groups = {f"group:{name}": value for name, value in subject.groups.items()}
    voxels = int(np.count_nonzero(read.where))
    return {"subject": subject.key, "person": subject.id, "role": role, **groups, "voxels": voxels}


def _facts(case: Case, lesion: BoolArray) -> Row:
    return {
        "lesion_ml": float(np.count_nonzero(lesion) * case.voxel_ml),
        "lesion_share": float(np.mean(case.lesion)) if case.lesion.size else float("nan"),
        "found_ml": float(np.count_nonzero(case.found) * case.voxel_ml),
        "score_mean": float(np.mean(case.score)) if case.score.size else float("nan"),
        "score_max": float(np.max(case.score)) if case.score.size else float("nan"),
    }


def by_person(rows: list[Row], name: str) -> FloatArray:
    """Return a metric averaged over the scans of each person, in order of appearance; NaN where none is defined."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if name in row:
            found.setdefault(row["person"], []).append(float(row[name]))
    means = [[v for v in values if np.isfinite(v)] for values in found.values()]
    return np.array([np.mean(values) if values else np.nan for values in means], np.float64)
