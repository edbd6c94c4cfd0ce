"""What a metric is. The table of all of them is in `table.py`; formulas live in the modules beside it.

All metrics see the voxels that the protocol looks at, after its post-processing. No label takes part in a decision,
except in metrics that are called oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from uadbench.arrays import BoolArray, FloatArray
    from uadbench.metrics.lesions import HitRule, LesionCounts, Overlaps
    from uadbench.metrics.overlap import Confusion
    from uadbench.metrics.pimo import SharedRate
    from uadbench.metrics.ranking import RankCurve
    from uadbench.metrics.regions import Regions
    from uadbench.metrics.surface import SurfaceDistances
    from uadbench.protocol import Protocol

Over = Literal["lesion subjects", "healthy subjects", "pooled", "subjects", "slices"]


@dataclass(frozen=True)
class Restoration:
    """An image and what a method made of it, on the subject's own grid and before any post-processing.

    Attributes:
        image: (C, D, H, W), as the method saw it: healthy tissue in about 0..1.
        reconstruction: the same shape.
        tissue: bool (D, H, W), the foreground.
        lesion: bool (D, H, W), the part of the lesions inside it.
    """

    image: FloatArray
    reconstruction: FloatArray
    tissue: BoolArray
    lesion: BoolArray


@dataclass(frozen=True)
class Case:
    """What a metric sees of one subject. What several metrics need is computed once, when it is first asked for.

    Attributes:
        score: (N,), of the voxels in `where`, higher is more anomalous.
        lesion: bool (N,).
        threshold: the operating point; `score > threshold` is called anomalous.
        voxel_ml: millilitres of one voxel, NaN if not known.
        where: bool (D, H, W), which voxels the N are; None for metrics of voxels alone.
        spacing: millimetres (D, H, W) or None.
        thresholds: by policy, also those of the protocol's other rules.
        protocol: for its chain after the threshold, hit criterion and so on; None for neither.
        annotated: whether there is a lesion mask at all; without one `lesion` is False, which does not mean healthy.
        normal: what AUPIMO knows of the healthy test subjects.
        restoration: None for a method without reconstructions.
    """

    score: FloatArray
    lesion: BoolArray
    threshold: float
    voxel_ml: float
    where: BoolArray | None = None
    spacing: tuple[float, float, float] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    protocol: Protocol | None = None
    annotated: bool = True
    normal: SharedRate | None = None
    restoration: Restoration | None = None

    @cached_property
    def curve(self) -> RankCurve:
        """All thresholds at once."""
        from uadbench.metrics.ranking import rank_curve

        return rank_curve(self.score, self.lesion)

    @cached_property
    def reduced(self) -> float:
        """The subject's one score, by the protocol's reduction; NaN without voxels."""
        from uadbench.metrics.detection import reduce_map

        assert self.protocol is not None
        return reduce_map(self.score, self.protocol.reduction)

    @cached_property
    def found(self) -> BoolArray:
        """What is called anomalous after the protocol's last steps, bool (N,)."""
        return self.found_at(self.threshold)

    def found_at(self, threshold: float) -> BoolArray:
        """Return the same for another threshold."""
        found = self.score > threshold
        if self.where is None or self.protocol is None or not self.protocol.found_steps:
            return found
        from uadbench.postprocess import clean

        return np.asarray(clean(self.spread(found), self.protocol.found_steps)[self.where])

    def spread(self, values: BoolArray) -> BoolArray:
        """Return (N,) as (D, H, W), False elsewhere."""
        assert self.where is not None
        out = np.zeros(self.where.shape, bool)
        out[self.where] = values
        return out

    @cached_property
    def score_volume(self) -> FloatArray:
        """The scores as (D, H, W), the lowest one elsewhere."""
        assert self.where is not None
        out = np.full(self.where.shape, self.score.min() if self.score.size else 0.0, np.float32)
        out[self.where] = self.score
        return out

    @cached_property
    def lesion_volume(self) -> BoolArray:
        """The lesions as (D, H, W)."""
        return self.spread(self.lesion)

    @cached_property
    def found_volume(self) -> BoolArray:
        """What was found as (D, H, W)."""
        return self.spread(self.found)

    @cached_property
    def confusion(self) -> Confusion:
        """True and false, positive and negative voxels at the threshold."""
        from uadbench.metrics.overlap import Confusion

        return Confusion.of(self.found, self.lesion)

    @cached_property
    def lesion_regions(self) -> Regions:
        """The connected lesions."""
        from uadbench.metrics.regions import components

        return components(self.lesion_volume)

    @cached_property
    def lesion_regions_2d(self) -> Regions:
        """The connected lesions of each slice by itself."""
        from uadbench.metrics.regions import components_by_slice

        return components_by_slice(self.lesion_volume)

    @cached_property
    def overlaps(self) -> Overlaps:
        """Where lesions and found components meet."""
        from uadbench.metrics.lesions import overlaps
        from uadbench.metrics.regions import components

        return overlaps(self.lesion_regions, components(self.found_volume), self.score_volume)

    @property
    def hit_rule(self) -> HitRule:
        """When a lesion counts as found, by the protocol; the smallest size holds where the size of a voxel is known."""
        from uadbench.metrics.lesions import HitRule

        if self.protocol is None:
            return HitRule()
        return HitRule(self.protocol.hit, min_ml=self.protocol.min_lesion_ml if self.voxel_ml > 0 else 0.0)

    @cached_property
    def lesion_counts(self) -> LesionCounts:
        """Which lesions were hit, and how many found components hit nothing."""
        from uadbench.metrics.lesions import lesion_counts

        return lesion_counts(self.overlaps, self.voxel_ml, self.hit_rule)

    @cached_property
    def surface(self) -> SurfaceDistances:
        """Distances between the surfaces of what was found and of the lesions."""
        from uadbench.metrics.surface import surface_distances

        return surface_distances(self.found_volume, self.lesion_volume, self.spacing)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as in the CSV.
        title: as in tables, short.
        over: what it is computed over: each lesion or healthy subject, then averaged; all lesion subjects pooled; or the
            scores of all test subjects or slices.
        higher_is_better: direction.
        description: one sentence with definition and unit.
        source: where it is defined.
        compute: from a Case to a number, NaN where it is undefined; None for what is computed over all subjects at once.
        aggregate: of the subjects' values.
        of: the column of the table by subject that is aggregated, if it is another metric's.
        oracle: it looks at test labels to take a decision. Such a metric never ranks and its name says so.
    """

    name: str
    title: str
    over: Over
    higher_is_better: bool
    description: str
    source: str = ""
    compute: Callable[[Case], float] | None = None
    aggregate: Literal["mean", "median"] = "mean"
    of: str = ""
    oracle: bool = False

    def __post_init__(self) -> None:
        """Refuse an oracle that hides."""
        if self.oracle != self.name.startswith("oracle_"):
            raise ValueError(f"metric {self.name!r}: names of metrics that peek, and only those, begin with oracle_")

    @property
    def column(self) -> str:
        """The column of the table by subject that is aggregated."""
        return self.of or self.name
