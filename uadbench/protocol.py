"""What decides a number besides the method and the data: an explicit, versioned protocol.

The field's rankings depend on such choices more than on the methods. So they are data, written into every result, and
results of different protocols, or of different versions of one, are never averaged.

A protocol has two halves. Its `Preparation` is what methods see; it is part of a cell's identity. Everything else is
applied to stored maps, so a cell can be evaluated under any protocol, as often as one likes, without being run again.
"""

from __future__ import annotations

import math
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


HITS: Mapping[str, str] = {
    "any": "any found voxel",
    "share": "10 % of it",
    "iou": "a component with an IoU of 0.1",
    "centroid": "a component at its centre",
}
"""When a lesion counts as found: what it is hit by."""


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
        """Refuse a policy that does not exist, and a rate that it cannot promise."""
        if self.policy not in POLICIES:
            raise unknown_name("threshold policy", self.policy, POLICIES)
        low_open = self.policy == "conformal"
        rated = self.policy in ("healthy_fpr", "healthy_subject_max", "conformal")
        if not math.isfinite(self.rate) or (
            rated and not (self.rate > 0.0 if low_open else self.rate >= 0.0) * (self.rate < 1.0)
        ):
            span = "(0, 1)" if low_open else "[0, 1)" if rated else "finite"
            raise BadParameter(
                f"threshold {self.policy}: the rate {self.rate:g} must be {span if not rated else 'in ' + span}"
            )

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
        masks: whether lesion subjects must have lesion masks.
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
    masks: bool = True
    few: int = 30

    def as_dict(self) -> dict[str, Any]:
        """Return all choices as plain values, as they are stored with every result."""
        return asdict(self)


def prepared_as(protocol: Protocol, preparation: Mapping[str, Any], name: str) -> Protocol:
    """Return the protocol for cells that were prepared under another one, `name`: a protocol of its own if that differs."""
    if preparation == asdict(protocol.preparation):
        return protocol
    intensity = Intensity(**preparation["intensity"])
    own = Preparation(intensity, preparation["train_foreground"])
    return replace(protocol, name=f"{protocol.name} (prepared as {name})", preparation=own)


def variant(
    protocol: Protocol,
    *,
    threshold: Threshold | None = None,
    without: Sequence[str] = (),
    hit: str = "",
    reduction: str = "",
) -> Protocol:
    """Return the protocol with other choices, or without some steps of its chains; the name says so.

    Raises:
        UsageError: if a step that is to be left out is not there, or a choice does not exist.
    """
    if hit and hit not in HITS:
        raise unknown_name("hit criterion", hit, HITS)
    if reduction and reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)
    there = [s.name for s in (*protocol.postprocess, *protocol.found_steps)]
    if missing := [name for name in without if name not in there]:
        raise UsageError(f"{protocol.name} has no step {missing[0]!r}; its steps: {', '.join(there) or 'none'}")
    words = [f"without {name}" for name in without]
    if threshold is not None and threshold.words != protocol.threshold.words:
        words.append(threshold.words)
    if hit and hit != protocol.hit:
        words.append(f"hit by {hit}")
    if reduction and reduction != protocol.reduction:
        words.append(f"scored by {reduction}")
    if not words:
        return protocol
    unlabelled = threshold is not None and threshold.labels_used == "none"
    return replace(
        protocol,
        name=f"{protocol.name} ({', '.join(words)})",
        postprocess=tuple(s for s in protocol.postprocess if s.name not in without),
        found_steps=tuple(s for s in protocol.found_steps if s.name not in without),
        hit=hit or protocol.hit,  # type: ignore[arg-type]
        reduction=reduction or protocol.reduction,
        threshold=threshold or protocol.threshold,
        # A rule that reads no labels is given where there are none, so nothing else may ask for them.
        other_thresholds=() if unlabelled else protocol.other_thresholds,
        metrics=tuple(m for m in protocol.metrics if not (unlabelled and m == "dice_val_best")),
    )
