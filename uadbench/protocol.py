"""What decides a number besides the method and the data: an explicit, versioned protocol.

The field's rankings depend on such choices more than on the methods. So they are data, written into every result, and
results of different protocols, or of different versions of one, are never averaged.

A protocol has two halves. Its `Preparation` is what methods see; it is part of a cell's identity. Everything else is
applied to stored maps, so a cell can be evaluated under any protocol, as often as one likes, without being run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from uadbench.errors import BadParameter, UsageError, unknown_name

Policy = Literal[
    "healthy_fpr", "healthy_subject_max", "conformal", "val_best_dice", "val_bisection", "fixed", "oracle"
]  # fmt: skip

POLICIES: Mapping[Policy, tuple[str, str]] = {
    "healthy_fpr": ("none", "at most a share `rate` of the voxels of all healthy validation subjects lie above it"),
    "healthy_subject_max": (
        "none",
        "at most a share `rate` of the healthy validation subjects have any voxel above it",
    ),
    "conformal": ("none", "a new healthy subject has a voxel above it with a probability of at most `rate`"),
    "val_best_dice": ("val", "largest Dice of all labelled validation subjects together, over all thresholds"),
    "val_bisection": ("val", "the same, by ten steps of the greedy halving that was published with mDDPM"),
    "fixed": ("none", "the number `rate` itself"),
    "oracle": ("test", "largest Dice of all lesion test subjects together; such a result never ranks"),
}
"""Which lesion labels a policy reads, and what it promises."""

MAP_STEPS: Mapping[str, str] = {
    "median": "median over the foreground voxels in a cube of `size` voxels a side",
    "median_box": "median over all voxels in the cube, also those outside the foreground, mirrored at the border",
    "median_slices": "the same in squares within each slice",
    "gaussian": "Gaussian with a standard deviation of `size` voxels over the foreground",
    "erode": "sets to 0 what lies within `size` voxels of the foreground's border in the slice; 0: a 25th of its width",
}
"""Steps that change anomaly maps."""

FOUND_STEPS: Mapping[str, str] = {
    "remove_small": "takes away components (26 neighbours) of at most `size` voxels",
    "remove_small_filled": "the same, holes counted as if they were filled",
}
"""Steps that change what was called anomalous, after the threshold."""

REDUCTIONS: Mapping[str, str] = {
    "mean": "mean of the map",
    "max": "largest value of the map",
    "top1%": "mean of the largest 1 % of the map's voxels",
    "p95": "95th percentile of the map",
}
"""How the map of a subject or slice becomes one score."""


@dataclass(frozen=True)
class Intensity:
    """How a volume's intensities are brought to one scale, per channel: low -> 0, high -> 1, background = 0.

    Attributes:
        low: percentile of the foreground that becomes 0; darker voxels are clipped to 0.
        high: percentile of the foreground that becomes 1.
        clip_high: whether brighter voxels are clipped to 1. Clipping ties the brightest lesions with the brightest
            healthy tissue, which takes from the brightness baseline what it is good at.
    """

    low: float = 1.0
    high: float = 99.0
    clip_high: bool = False


@dataclass(frozen=True)
class Preparation:
    """What methods see.

    Attributes:
        intensity: normalisation before any method sees an image.
        train_foreground: a training slice has at least this share of the foreground of its volume's fullest slice.
    """

    intensity: Intensity = Intensity()
    train_foreground: float = 0.2


@dataclass(frozen=True)
class Grid:
    """The grid on which metrics are computed. Data whose voxel size is not known stay on their own.

    Attributes:
        spacing: millimetres (D, H, W); maps are interpolated linearly, masks take the nearest voxel.
        shape: (D, H, W) to which the result is cropped or padded with zeros about its centre.
    """

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Step:
    """One step of a post-processing chain, the same for all methods: a name of MAP_STEPS or FOUND_STEPS, and its size."""

    name: str
    size: float

    def __post_init__(self) -> None:
        """Refuse a name that does not exist."""
        if self.name not in {**MAP_STEPS, **FOUND_STEPS}:
            raise unknown_name("post-processing step", self.name, {**MAP_STEPS, **FOUND_STEPS})


@dataclass(frozen=True)
class Threshold:
    """How the threshold is chosen; `score > threshold` is called anomalous.

    Attributes:
        policy: a name of POLICIES.
        rate: what the policy promises, or the threshold itself for "fixed"; without meaning for the Dice policies.
    """

    policy: Policy = "healthy_fpr"
    rate: float = 0.05

    def __post_init__(self) -> None:
        """Refuse a policy that does not exist."""
        if self.policy not in POLICIES:
            raise unknown_name("threshold policy", self.policy, POLICIES)

    @property
    def labels_used(self) -> str:
        """Which lesion labels take part in the choice: "none", "val" or "test"."""
        return POLICIES[self.policy][0]

    @property
    def words(self) -> str:
        """The rule in short, "healthy_fpr(0.05)"."""
        return f"{self.policy}({self.rate:g})" if self.labels_used == "none" else self.policy

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Read "policy" or "policy:rate".

        Raises:
            UsageError: for an unknown policy or a rate that is no number.
        """
        name, colon, rate = text.partition(":")
        try:
            return cls(name, float(rate)) if colon else cls(name)  # type: ignore[arg-type]
        except ValueError:
            raise BadParameter(
                f"threshold {text!r}: {rate!r} is no number; write policy:rate, healthy_fpr:0.05"
            ) from None


@dataclass(frozen=True)
class Protocol:
    """All choices of an evaluation.

    Attributes:
        name: with its version, such as "brain-v1".
        summary: one sentence.
        metrics: names of the metrics, in the order of the table.
        rank_by: the metric that ranks.
        preparation: what methods see.
        grid: on which metrics are computed; None is the data's own.
        region: where metrics look, "foreground", or "box" for every voxel.
        postprocess: steps applied to every map, in order.
        threshold: the rule for the operating point.
        other_thresholds: rules whose thresholds some metrics use besides.
        found_steps: steps applied to what lies above the threshold.
        hit: when a lesion counts as found: "any" voxel, a "share" of 10 %, "iou" of 0.1, or its "centroid".
        min_lesion_ml: lesions and detections below this volume do not count in lesion-wise metrics.
        reduction: from a map to the score of a subject or slice.
        draws: bootstrap samples.
        level: of the confidence intervals.
        bootstrap_seed: of the resampling, the same for all methods so that their draws pair up.
        few: below this number of subjects a table says that n is too small.
    """

    name: str
    summary: str
    metrics: tuple[str, ...]
    rank_by: str
    preparation: Preparation = Preparation()
    grid: Grid | None = None
    region: Literal["foreground", "box"] = "foreground"
    postprocess: tuple[Step, ...] = ()
    threshold: Threshold = Threshold()
    other_thresholds: tuple[Threshold, ...] = ()
    found_steps: tuple[Step, ...] = ()
    hit: Literal["any", "share", "iou", "centroid"] = "any"
    min_lesion_ml: float = 0.0
    reduction: str = "top1%"
    draws: int = 2000
    level: float = 0.95
    bootstrap_seed: int = 2023
    few: int = 30

    def as_dict(self) -> dict[str, Any]:
        """Return all choices as plain values, as they are stored with every result."""
        return asdict(self)


_RANK = ("auprc", "auprc_median", "auroc", "auprc_pooled", "auroc_pooled")
_OVERLAP = ("dice", "dice_median", "iou", "precision", "recall", "specificity", "dice_pooled")
_ORACLE = ("oracle_dice", "oracle_dice_shared", "oracle_dice_subject")
_REGION = ("aupro", "aupro_05", "lesion_recall", "lesion_precision", "lesion_f1")
_BINS = ("lesion_recall_small", "lesion_recall_medium", "lesion_recall_large")
_FROC = ("froc_1", "froc_2", "froc_4", "froc_8")
_HEALTHY = (
    "healthy_fp_ml",
    "healthy_fpr",
    "healthy_realised",
    "healthy_components",
    "healthy_slices",
    "healthy_flagged",
)
_SUBJECT = (
    "subject_auroc",
    "subject_ap",
    "subject_tpr_fpr01",
    "subject_tpr_fpr05",
    "subject_tpr_fpr10",
    "subject_fpr_tpr95",
)
_SLICE = ("slice_auroc", "slice_ap", "slice_tpr_fpr01", "slice_tpr_fpr05", "slice_tpr_fpr10", "slice_fpr_tpr95")
_BOUNDARY = ("hd95", "nsd", "avd")

PROTOCOLS: Mapping[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            name="brain-v1",
            summary="volumes; foreground only; threshold from healthy validation subjects; ranked by mean AUPRC",
            # A 5x5x5 median, as published with mDDPM, erases every lesion of under about half a millilitre at 2 mm.
            postprocess=(Step("median", 3),),
            threshold=Threshold("healthy_fpr", 0.05),
            metrics=(
                "auprc", "dice", *(m for m in (*_RANK, *_OVERLAP) if m not in ("auprc", "dice")), *_ORACLE, *_REGION, *_BINS,
                *_FROC, "aupimo", *_BOUNDARY, *_HEALTHY, *_SUBJECT, *_SLICE,
            ),
            rank_by="auprc",
        ),
        Protocol(
            name="image-v1",
            summary="no masks needed: which subjects, which slices are anomalous; threshold conformal on healthy subjects",
            postprocess=(Step("median", 3),),
            threshold=Threshold("conformal", 0.2),
            metrics=(*_SUBJECT, *_SLICE, "healthy_flagged", "healthy_realised", "healthy_slices"),
            rank_by="subject_auroc",
        ),
        Protocol(
            name="mddpm-paper",
            summary="as the code released with mDDPM: 2 mm box, erosion, 5x5x5 median, threshold on labelled validation",
            preparation=Preparation(Intensity(clip_high=True)),
            grid=Grid((2.0, 2.0, 2.0), (50, 96, 96)),
            region="box",
            postprocess=(Step("erode", 0), Step("median_box", 5)),
            threshold=Threshold("val_bisection", 0.0),
            other_thresholds=(Threshold("val_best_dice", 0.0),),
            found_steps=(Step("remove_small_filled", 7),),
            metrics=(
                "dice", "dice_val_best", "auprc", "auroc", "oracle_dice_subject", "hd100", "precision", "recall",
                "specificity",
            ),
            rank_by="dice",
        ),
    )
}  # fmt: skip
_PAPER = PROTOCOLS["mddpm-paper"]
PROTOCOLS = {
    **PROTOCOLS,
    "mddpm-text": replace(
        _PAPER,
        name="mddpm-text",
        summary="as mddpm-paper in the order of the papers' texts: the median before the erosion",
        postprocess=tuple(reversed(_PAPER.postprocess)),
    ),
}

DEFAULT = "brain-v1"


def get_protocol(name: str) -> Protocol:
    """Return the protocol `name`.

    Raises:
        UnknownName: with the nearest name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def variant(protocol: Protocol, *, threshold: Threshold | None = None, without: Sequence[str] = ()) -> Protocol:
    """Return the protocol with another threshold, or without some steps of its chains; the name says so.

    Raises:
        UsageError: if a step that is to be left out is not there.
    """
    there = [s.name for s in (*protocol.postprocess, *protocol.found_steps)]
    if missing := [name for name in without if name not in there]:
        raise UsageError(f"{protocol.name} has no step {missing[0]!r}; its steps: {', '.join(there) or 'none'}")
    words = [f"without {name}" for name in without]
    if threshold is not None and threshold != protocol.threshold:
        words.append(threshold.words)
    if not words:
        return protocol
    unlabelled = threshold is not None and threshold.labels_used == "none"
    return replace(
        protocol,
        name=f"{protocol.name} ({', '.join(words)})",
        postprocess=tuple(s for s in protocol.postprocess if s.name not in without),
        found_steps=tuple(s for s in protocol.found_steps if s.name not in without),
        threshold=threshold or protocol.threshold,
        # A rule that reads no labels is given where there are none, so nothing else may ask for them.
        other_thresholds=() if unlabelled else protocol.other_thresholds,
        metrics=tuple(m for m in protocol.metrics if not (unlabelled and m == "dice_val_best")),
    )
