"""The metrics: what each one is, in one table. Formulas live in the modules beside this file.

A metric is computed per lesion subject and averaged, over all lesion subjects pooled, or per healthy subject and averaged.
All of them see foreground voxels only, after the protocol's post-processing. No label takes part in a decision, except
in metrics that are called oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from uadbench.errors import unknown_name

if TYPE_CHECKING:
    from uadbench.arrays import BoolArray, FloatArray
    from uadbench.metrics.ranking import RankCurve

Over = Literal["lesion subjects", "pooled", "healthy subjects"]


@dataclass(frozen=True)
class Case:
    """What a metric sees: the foreground voxels of one subject, or of all subjects pooled.

    Attributes:
        score: (N,), higher is more anomalous.
        lesion: bool (N,).
        threshold: chosen on validation subjects; `score > threshold` is called anomalous.
        voxel_ml: millilitres of one voxel.
    """

    score: FloatArray
    lesion: BoolArray
    threshold: float
    voxel_ml: float

    @cached_property
    def curve(self) -> RankCurve:
        """All thresholds at once; sorted when first asked for."""
        from uadbench.metrics.ranking import rank_curve

        return rank_curve(self.score, self.lesion)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as in the CSV.
        title: as in tables, short.
        over: which subjects it is computed over, and whether they are averaged or pooled.
        higher_is_better: direction.
        compute: from a Case to a number; NaN where it is undefined.
        description: one sentence with definition and unit.
        oracle: it looks at test labels to take a decision. Such a metric never ranks and its name says so.
        group: the key of its draws in `bootstrap.pooled_draws`, for pooled metrics.
    """

    name: str
    title: str
    over: Over
    higher_is_better: bool
    compute: Callable[[Case], float]
    description: str
    oracle: bool = False
    group: str = ""

    def __post_init__(self) -> None:
        """Refuse an oracle that hides."""
        if self.oracle != self.name.startswith("oracle_"):
            raise ValueError(f"metric {self.name!r}: names of metrics that peek, and only those, begin with oracle_")


def _auprc(case: Case) -> float:
    from uadbench.metrics.ranking import average_precision

    return average_precision(case.curve)


def _auroc(case: Case) -> float:
    from uadbench.metrics.ranking import auroc

    return auroc(case.curve)


def _oracle_dice(case: Case) -> float:
    from uadbench.metrics.ranking import best_dice

    return best_dice(case.curve)[0]


def _dice(case: Case) -> float:
    from uadbench.metrics.overlap import dice

    return dice(case.score > case.threshold, case.lesion)


def _healthy_ml(case: Case) -> float:
    from uadbench.metrics.overlap import false_positive_ml

    return false_positive_ml(case.score, case.threshold, case.voxel_ml)


def _healthy_fpr(case: Case) -> float:
    from uadbench.metrics.overlap import false_positive_rate

    return false_positive_rate(case.score, case.threshold)


_ALL = (
    Metric(
        "auprc",
        "AUPRC",
        "lesion subjects",
        True,
        _auprc,
        "average precision over the foreground voxels of a subject, mean over lesion subjects",
    ),
    Metric(
        "dice",
        "Dice",
        "lesion subjects",
        True,
        _dice,
        "Dice at the threshold chosen on healthy validation subjects, mean over lesion subjects",
    ),
    Metric(
        "auroc",
        "AUROC",
        "lesion subjects",
        True,
        _auroc,
        "area under the ROC curve over the foreground voxels of a subject, mean over lesion subjects",
    ),
    Metric(
        "auprc_pooled",
        "AUPRC pooled",
        "pooled",
        True,
        _auprc,
        "average precision over the foreground voxels of all lesion subjects together",
        group="auprc",
    ),
    Metric(
        "auroc_pooled",
        "AUROC pooled",
        "pooled",
        True,
        _auroc,
        "area under the ROC curve over the foreground voxels of all lesion subjects together",
        group="auroc",
    ),
    Metric(
        "oracle_dice",
        "oracle Dice pooled",
        "pooled",
        True,
        _oracle_dice,
        "largest Dice over all thresholds, all lesion subjects together; it peeks at the test labels and never ranks",
        True,
        "oracle_dice",
    ),
    Metric(
        "oracle_dice_subject",
        "oracle Dice",
        "lesion subjects",
        True,
        _oracle_dice,
        "largest Dice over all thresholds of each subject, mean over lesion subjects; it peeks, so it never ranks",
        True,
    ),
    Metric(
        "healthy_fp_ml",
        "healthy FP ml",
        "healthy subjects",
        False,
        _healthy_ml,
        "millilitres above the threshold per healthy test subject, mean",
    ),
    Metric(
        "healthy_fpr",
        "healthy FPR",
        "healthy subjects",
        False,
        _healthy_fpr,
        "share of foreground voxels above the threshold per healthy test subject, mean; the threshold promises a rate",
    ),
)

METRICS: Mapping[str, Metric] = {m.name: m for m in _ALL}


def get_metric(name: str) -> Metric:
    """Return the metric `name`.

    Raises:
        UnknownName: with the nearest name.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]
