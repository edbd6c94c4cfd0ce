"""The multiverse: all the defensible ways to turn stored maps into a number, declared in a file as lists of choices.

A pipeline is one choice from every list. Where a choice makes no difference to a metric it is left out (the hit criterion
of a Dice), so that every pipeline is counted once: the pipelines of one metric are the product of the lists it depends on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from uadbench.benchmark import FOLDER, _read
from uadbench.dataset import Split
from uadbench.errors import BadParameter, Incompatible, UsageError, suggest, unknown_name
from uadbench.metrics.lesions import Hit
from uadbench.protocol import FOUND_STEPS, MAP_STEPS, Step, Threshold
from uadbench.thresholds import conformal_needs

Chain = tuple[Step, ...]

RANK = ("auprc", "auroc")
OVERLAP = {"dice": "dice", "iou": "iou", "precision": "precision", "recall": "recall"}
LESION = {"lesion_recall": "recall", "lesion_precision": "precision", "lesion_f1": "f1"}
"""Metrics of two kinds, and the attribute of the voxels' or lesions' counts that gives them. Higher is better in all."""

METRICS = (*RANK, *OVERLAP, *LESION)
AGGREGATES = ("mean", "median", "pooled")
RESOLUTIONS = ("native", "half")

DIMENSIONS: Mapping[str, str] = {
    "metric": "what is computed",
    "aggregate": "from subjects to one number: their mean, their median, or all voxels or lesions of all of them together",
    "resolution": "native, or half: means of 2x2x2 blocks of the map, masks where at least half of a block is",
    "postprocess": "steps applied to every map",
    "threshold": "rule for the operating point",
    "found_steps": "steps applied to what lies above the threshold",
    "hit": "when a lesion counts as found",
}
"""The lists of a grid, in the order of the columns."""

_EVERY = ("aggregate", "resolution", "postprocess")
USES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(RANK, _EVERY),
    **dict.fromkeys(OVERLAP, (*_EVERY, "threshold", "found_steps")),
    **dict.fromkeys(LESION, (*_EVERY, "threshold", "found_steps", "hit")),
}
"""Which dimensions a metric depends on."""


@dataclass(frozen=True)
class Pipeline:
    """One way to a number; the names of its choices, "" where a choice makes no difference to the metric."""

    metric: str
    aggregate: str
    resolution: str
    postprocess: str
    threshold: str = ""
    found_steps: str = ""
    hit: str = ""

    @property
    def column(self) -> tuple[str, ...]:
        """What has to be computed of each subject: all choices but the aggregation."""
        return (self.metric, self.resolution, self.postprocess, self.threshold, self.found_steps, self.hit)


@dataclass(frozen=True)
class PipelineGrid:
    """The choices of every dimension, by name. All but the plain words are kept with what they mean."""

    metric: tuple[str, ...]
    aggregate: tuple[str, ...]
    resolution: tuple[str, ...]
    postprocess: Mapping[str, Chain]
    threshold: Mapping[str, Threshold]
    found_steps: Mapping[str, Chain]
    hit: tuple[Hit, ...]

    def choices(self, dimension: str) -> tuple[str, ...]:
        """Return the names of the choices of a dimension."""
        return tuple(getattr(self, dimension))

    def pipelines(self) -> list[Pipeline]:
        """Return every distinct pipeline, metric by metric."""
        return [
            Pipeline(metric, **dict(zip(USES[metric], chosen, strict=True)))
            for metric in self.metric
            for chosen in product(*(self.choices(d) for d in USES[metric]))
        ]

    def count_in_words(self) -> list[str]:
        """Say how many pipelines there are and how the number comes about."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for metric in self.metric:
            groups.setdefault(USES[metric], []).append(metric)
        lines = []
        for used, metrics in groups.items():
            factors = " x ".join(f"{len(self.choices(d))} {d}" for d in used)
            one = math.prod(len(self.choices(d)) for d in used)
            each = " each" if len(metrics) > 1 else ""
            lines.append(f"{', '.join(metrics)}: {factors} = {one:,}{each}")
        full = math.prod(len(self.choices(d)) for d in DIMENSIONS)
        count = len(self.pipelines())
        same = f" (of {full:,} combinations; the others repeat one of these)" if full > count else ""
        return [f"{count:,} distinct pipelines{same}", *lines]

    def for_data(self, splits: Sequence[Split]) -> tuple[PipelineGrid, list[str]]:
        """Return the grid without threshold rules that these data do not allow, and a sentence for each of them.

        Raises:
            Incompatible: if no rule is left and a metric needs one.
        """
        left, notes = {}, []
        scans = min(len(split.val) for split in splits)
        for name, rule in self.threshold.items():
            if rule.labels_used == "val" and not all(split.val_lesion for split in splits):
                notes.append(f"{name} is left out: it needs labelled validation subjects, and this dataset has none")
            elif rule.policy == "conformal" and (needed := conformal_needs(rule.rate)) > scans:
                notes.append(
                    f"{name} is left out: it needs {needed} healthy validation subjects to find anything; there are {scans}"
                )
            else:
                left[name] = rule
        if not left and any("threshold" in USES[metric] for metric in self.metric):
            raise Incompatible("no threshold rule of the grid can be used: " + "; ".join(notes))
        return replace(self, threshold=left), notes


def load_grid(path: Path | None = None) -> PipelineGrid:
    """Read a grid from a TOML file, the default one for None.

    Raises:
        UsageError: for an unknown key or choice, one that is given twice, an empty or a missing list.
    """
    path = path or FOLDER / "multiverse.toml"
    try:
        return parse_grid(_read(path))
    except UsageError as error:
        raise error if str(path) in str(error) else type(error)(f"{path}: {error}") from error


def parse_grid(values: Mapping[str, Any]) -> PipelineGrid:
    """Return the grid that a table of lists of texts declares.

    Raises:
        UsageError: as `load_grid`.
    """
    for key in values:
        if key not in DIMENSIONS:
            raise UsageError(f"{key!r} is no dimension.{suggest(key, DIMENSIONS)} Possible: {', '.join(DIMENSIONS)}")
    if missing := [key for key in DIMENSIONS if key not in values]:
        raise UsageError(f"{missing[0]} is missing; a dimension that is not varied has a list of one choice")
    for key, given in values.items():
        if not (isinstance(given, list) and given and all(isinstance(v, str) for v in given)):
            raise UsageError(f"{key} must be a list of one or more texts")
    words: dict[str, Sequence[str]] = {
        "metric": METRICS, "aggregate": AGGREGATES, "resolution": RESOLUTIONS, "hit": get_args(Hit),
    }  # fmt: skip
    plain = {key: tuple(_word(key, text, known) for text in values[key]) for key, known in words.items()}
    rich: dict[str, list[tuple[str, Any]]] = {
        "postprocess": [_chain("postprocess", text, MAP_STEPS) for text in values["postprocess"]],
        "threshold": [_rule(text) for text in values["threshold"]],
        "found_steps": [_chain("found_steps", text, FOUND_STEPS) for text in values["found_steps"]],
    }
    for key in DIMENSIONS:
        names = plain[key] if key in plain else tuple(name for name, _ in rich[key])
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"{key} lists {twice[0]!r} twice; every choice counts once")
    return PipelineGrid(**plain, **{key: dict(pairs) for key, pairs in rich.items()})  # type: ignore[arg-type]


def _word(key: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise unknown_name(f"choice of {key}", text, known)
    return text


def _chain(key: str, text: str, known: Mapping[str, str]) -> tuple[str, Chain]:
    """Read "none" or "name size + name size" and return its name and its steps."""
    if text.strip() == "none":
        return "none", ()
    steps = tuple(_steps(key, text, known))
    return " + ".join(f"{step.name} {step.size:g}" for step in steps), steps


def _steps(key: str, text: str, known: Mapping[str, str]) -> Iterator[Step]:
    for part in text.split("+"):
        name, _, size = part.strip().partition(" ")
        if name not in known:
            raise unknown_name(f"step of {key}", name, [*known, "none"])
        try:
            step = Step(name, float(size))
        except ValueError:
            raise BadParameter(f"{key} {text!r}: {size!r} is no size; write {name} 3") from None
        allowed, words = _SIZES.get(name, _SIZES[""])
        if not (math.isfinite(step.size) and allowed(step.size)):
            raise BadParameter(f"{key} {text!r}: the size of {name} must be {words}")
        yield step


_ODD: tuple[Callable[[float], bool], str] = (lambda size: size % 2 == 1 and size > 0, "an odd whole number")
_SIZES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys((name for name in MAP_STEPS if name.startswith("median")), _ODD),
    "gaussian": (lambda size: size > 0, "above 0"),
    "": (lambda size: size % 1 == 0 and size >= 0, "a whole number, 0 or more"),
}
"""Which sizes a step can have, and in words."""


def _rule(text: str) -> tuple[str, Threshold]:
    """Read "policy" or "policy:rate" and return its name and the rule."""
    rule = Threshold.parse(text)
    if rule.labels_used == "test":
        raise BadParameter(f"threshold {text!r} is chosen on test labels; what peeks does not rank")
    return rule.words, rule
