"""From stored maps to numbers. Needs neither the method nor a GPU; the only place where lesion labels make numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Split, Subject, Volume
from uadbench.errors import DegenerateScores
from uadbench.metrics import Case, Metric, get_metric
from uadbench.metrics.bootstrap import interval, mean_draws, pooled_draws
from uadbench.postprocess import postprocess
from uadbench.protocol import Protocol, Threshold
from uadbench.result import Result, Value
from uadbench.thresholds import choose
from uadbench.volumes import inside

if TYPE_CHECKING:
    from uadbench.store import CellFolder

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """A result with the table by subject and the bootstrap draws by metric, each (draws,)."""

    result: Result
    subjects: list[Row]
    draws: dict[str, FloatArray]


def evaluate(
    folder: CellFolder,
    load: Callable[[Subject], Volume],
    split: Split,
    protocol: Protocol,
    *,
    each_subject: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate the stored maps of one cell under a protocol.

    The threshold is fixed before the first test subject is opened.

    Raises:
        DegenerateScores: if the maps of all test subjects are constant.
        StoreError: if a map is missing or damaged.
    """
    read = _Reader(folder, load, protocol)
    rows: list[Row] = []
    healthy_scores = []
    for subject in split.val:
        volume, score, where = read(subject, labels=False)
        healthy_scores.append(score[where])
        rows.append(_row("val", subject, volume, where))
        each_subject()
    threshold = choose(protocol.threshold, healthy_scores)
    metrics = [get_metric(name) for name in protocol.metrics]
    cases: dict[str, list[Case]] = {"lesion subjects": [], "healthy subjects": []}
    people: list[str] = []
    outside = [0, 0]
    ranges = []
    for role, over in (("test_lesion", "lesion subjects"), ("test_healthy", "healthy subjects")):
        for subject in getattr(split, role):
            volume, score, where = read(subject, labels=True)
            lesion = np.zeros(volume.grid, bool) if volume.lesion is None else volume.lesion
            case = Case(score[where], lesion[where], threshold, volume.voxel_ml)
            ranges.append((case.score.min(), case.score.max()) if case.score.size else (0.0, 0.0))
            row = _row(role, subject, volume, where)
            row |= _lesion_facts(case, lesion)
            row |= {m.name: m.compute(case) for m in metrics if m.over == over}
            rows.append(row)
            cases[over].append(case)
            people += [subject.id] if role == "test_lesion" and case.lesion.any() else []
            outside[0] += int(np.count_nonzero(lesion & ~where))
            outside[1] += int(np.count_nonzero(lesion))
            each_subject()
    if max(high for _, high in ranges) == min(low for low, _ in ranges):
        raise DegenerateScores(f"all scores of all test subjects are {ranges[0][0]:g}; a constant map ranks nothing")
    values, draws = _summarise(metrics, rows, cases, people, protocol)
    seen = sum(len(c.lesion) for c in cases["lesion subjects"])
    found = sum(int(np.count_nonzero(c.lesion)) for c in cases["lesion subjects"])
    result = Result(
        protocol=protocol.name,
        metrics=values,
        threshold=threshold,
        threshold_policy=describe_threshold(protocol.threshold),
        labels_used=protocol.threshold.labels_used,
        lesion_outside_foreground=outside[0] / outside[1] if outside[1] else float("nan"),
        prevalence=found / seen if seen else float("nan"),
    )
    return Evaluation(result, rows, draws)


def describe_threshold(rule: Threshold) -> str:
    """Return "healthy_fpr(0.05)"."""
    return f"{rule.policy}({rule.rate:g})"


class _Reader:
    """Loads a subject and its post-processed map."""

    def __init__(self, folder: CellFolder, load: Callable[[Subject], Volume], protocol: Protocol) -> None:
        self.folder, self.load, self.protocol = folder, load, protocol

    def __call__(self, subject: Subject, *, labels: bool) -> tuple[Volume, FloatArray, BoolArray]:
        """Return the volume, its map (D, H, W) and where metrics look."""
        volume = self.load(subject)
        volume = volume if labels else volume.without_labels()
        score = postprocess(self.folder.read_map(subject.key)[0], volume.foreground, self.protocol.postprocess)
        return volume, score, inside(volume)


def _row(role: str, subject: Subject, volume: Volume, where: BoolArray) -> Row:
    """Return the columns that describe a subject."""
    groups = {f"group:{name}": value for name, value in subject.groups.items()}
    return {
        "subject": subject.key,
        "person": subject.id,
        "role": role,
        **groups,
        "voxels": int(np.count_nonzero(where)),
    }


def _lesion_facts(case: Case, lesion: BoolArray) -> Row:
    found = case.score > case.threshold
    return {
        "lesion_ml": float(np.count_nonzero(lesion) * case.voxel_ml),
        "lesion_share": float(np.mean(case.lesion)) if case.lesion.size else float("nan"),
        "found_ml": float(np.count_nonzero(found) * case.voxel_ml),
        "score_mean": float(np.mean(case.score)) if case.score.size else float("nan"),
        "score_max": float(np.max(case.score)) if case.score.size else float("nan"),
    }


def _summarise(
    metrics: list[Metric],
    rows: list[Row],
    cases: Mapping[str, list[Case]],
    people: list[str],
    protocol: Protocol,
) -> tuple[dict[str, Value], dict[str, FloatArray]]:
    """Return every metric with its interval, and its draws; `people` belong to the cases that have lesions."""
    values: dict[str, Value] = {}
    draws: dict[str, FloatArray] = {}
    annotated = [c for c in cases["lesion subjects"] if c.lesion.any()]
    pooled = _pooled(metrics, annotated, people, protocol)
    for metric in metrics:
        if metric.over == "pooled":
            exact, sample = pooled.get(metric.name, (float("nan"), np.empty(0)))
            n, excluded = len(annotated), len(cases["lesion subjects"]) - len(annotated)
        else:
            per_subject = by_person(rows, metric.name)
            kept = per_subject[np.isfinite(per_subject)]
            n, excluded = len(kept), len(per_subject) - len(kept)
            exact = float(kept.mean()) if n else float("nan")
            sample = mean_draws(per_subject, protocol.draws, protocol.bootstrap_seed)
        values[metric.name] = Value(exact, *interval(sample, protocol.level), n, excluded)
        draws[metric.name] = sample.astype(np.float32)
    return values, draws


def by_person(rows: list[Row], name: str) -> FloatArray:
    """Return a metric averaged over the scans of each person, in order of appearance; NaN where none is defined."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if name in row:
            found.setdefault(row["person"], []).append(float(row[name]))
    means = [[v for v in values if np.isfinite(v)] for values in found.values()]
    return np.array([np.mean(values) if values else np.nan for values in means], np.float64)


def _pooled(
    metrics: list[Metric], cases: list[Case], people: list[str], protocol: Protocol
) -> dict[str, tuple[float, FloatArray]]:
    """Return the exact pooled value and the draws of each pooled metric; {} without lesion voxels."""
    wanted = [m for m in metrics if m.over == "pooled"]
    if not wanted or not cases:
        return {}
    scores, lesions = [c.score for c in cases], [c.lesion for c in cases]
    pool = Case(np.concatenate(scores), np.concatenate(lesions), cases[0].threshold, cases[0].voxel_ml)
    scans = [[i for i, other in enumerate(people) if other == person] for person in dict.fromkeys(people)]
    joined = [[np.concatenate([part[i] for i in scan]) for scan in scans] for part in (scores, lesions)]
    binned = pooled_draws(joined[0], joined[1], protocol.draws, protocol.bootstrap_seed) if len(scans) > 1 else {}
    out: dict[str, tuple[float, FloatArray]] = {}
    for metric in wanted:
        exact = metric.compute(pool)
        sample: FloatArray = np.empty(0)
        if binned:
            # Bins blur the value a little; the draws are moved onto the exact one.
            sample = binned[metric.group][1:] - binned[metric.group][0] + exact
        out[metric.name] = (exact, sample)
    return out
