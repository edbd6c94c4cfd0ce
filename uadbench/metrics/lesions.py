"""Lesion-wise metrics: which lesions are found, and which found components are false.

What a hit is changes the numbers more than most methods do, so it is a parameter (`HitRule`). A volume is labelled once;
the small arrays of `Overlaps` are all that is needed to count under every rule, to draw an FROC curve and to resample
subjects.

Two kinds of component are left out when a rule has a smallest size `min_ml`. A found component below it is dropped: it
neither hits nor is false. A lesion below it is neither hit nor missed, and a found component that touches it is not
false either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray
from uadbench.metrics.regions import Regions

Hit = Literal["any", "share", "iou", "centroid"]
IntArray = NDArray[np.int64]

SIZE_EDGES = (0.1, 1.0)
"""Edges in ml between small, medium and large lesions: spheres of 5.8 and 12.4 mm. No bins are agreed on in the field."""


@dataclass(frozen=True)
class HitRule:
    """When a lesion counts as found, and a found component as true.

    Attributes:
        hit: "any": a found component shares a voxel with the lesion; it is true if it shares one with any lesion. "share":
            all found voxels together cover at least `share` of the lesion; a component is true if it touches such a
            lesion. "iou": one component has an intersection over union of at least `iou` with the lesion, and is true if
            it has that with any lesion. "centroid": a component holds the lesion's centre, which is the lesion voxel
            nearest to its centroid, and is true if it holds any.
        share: of the lesion's voxels, for "share".
        iou: for "iou".
        min_ml: smallest lesion and smallest found component that are counted, in ml.
    """

    hit: Hit = "any"
    share: float = 0.1
    iou: float = 0.1
    min_ml: float = 0.0


@dataclass(frozen=True)
class Overlaps:
    """Where the L lesions and the P found components of one volume meet, in K pairs.

    Attributes:
        lesion_voxels: (L,), size of each lesion.
        found_voxels: (P,), size of each found component.
        centre: (L,), number of the found component at the lesion's centre, or -1.
        lesion: (K,), number of the lesion of each pair, from 0.
        found: (K,), number of the found component of each pair, from 0.
        shared: (K,), voxels in both, at least 1.
        confidence: (P,), largest score in each found component; NaN if no scores were given.
    """

    lesion_voxels: IntArray
    found_voxels: IntArray
    centre: IntArray
    lesion: IntArray
    found: IntArray
    shared: IntArray
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class LesionCounts:
    """What was found, in one volume or in several. Left-out lesions and components are not in it.

    Attributes:
        voxels: (L,), size of each lesion.
        ml: (L,), the same in millilitres.
        hit: bool (L,).
        predicted: number of found components, true or false.
        false: number of false ones.
    """

    voxels: IntArray
    ml: NDArray[np.float64]
    hit: NDArray[np.bool_]
    predicted: int
    false: int

    @property
    def recall(self) -> float:
        """Share of lesions hit; NaN without a lesion."""
        return float(self.hit.mean()) if len(self.hit) else float("nan")

    @property
    def precision(self) -> float:
        """Share of found components that are true; NaN if none was found, 0 if there is no lesion to be found."""
        return 1.0 - self.false / self.predicted if self.predicted else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision; 0 if no lesion is hit, NaN without a lesion."""
        if not len(self.hit):
            return float("nan")
        if not self.hit.any():
            return 0.0
        return 2.0 * self.recall * self.precision / (self.recall + self.precision)


def overlaps(lesion: Regions, found: Regions, score: FloatArray | None = None) -> Overlaps:
    """Compare the lesions with the found components of one volume.

    Args:
        lesion: components of the reference mask.
        found: components of what is called anomalous, on the same grid.
        score: (D, H, W), for confidences.

    Raises:
        ValueError: if the grids differ.
    """
    if lesion.labels.shape != found.labels.shape or (score is not None and score.shape != found.labels.shape):
        raise ValueError(
            f"lesions {lesion.labels.shape}, components {found.labels.shape} and scores must share one grid"
        )
    in_lesion = np.flatnonzero(lesion.labels)
    in_found = np.flatnonzero(found.labels)
    here = lesion.labels.reshape(-1)[in_lesion].astype(np.int64) - 1
    there = found.labels.reshape(-1)[in_lesion].astype(np.int64) - 1
    width = max(1, len(found.sizes))
    both = there >= 0
    code, shared = np.unique(here[both] * width + there[both], return_counts=True)
    confidence = np.full(len(found.sizes), np.nan)
    if score is not None:
        confidence[:] = -np.inf
        np.maximum.at(confidence, found.labels.reshape(-1)[in_found] - 1, score.reshape(-1)[in_found])
    centre = there[_centres(here, in_lesion, lesion)]
    return Overlaps(lesion.sizes, found.sizes, centre, code // width, code % width, shared.astype(np.int64), confidence)


def _centres(label: IntArray, place: NDArray[np.intp], regions: Regions) -> NDArray[np.intp]:
    """Return for each region which of its voxels is nearest to its centroid, as an index into `place`.

    Distances are in voxels; of equally near voxels the first in memory is taken. Coordinates are multiplied by the
    region's size, which keeps them whole numbers, so that equal distances are equal.
    """
    size = regions.sizes
    distance = np.zeros(len(place))
    for coordinate in np.unravel_index(place, regions.labels.shape):
        total = np.bincount(label, coordinate, len(size)).astype(np.int64)
        distance += (coordinate * size[label] - total[label]).astype(np.float64) ** 2
    order = np.lexsort((place, distance, label))
    return order[np.searchsorted(label[order], np.arange(len(size)))]


def match(found: Overlaps, voxel_ml: float, rule: HitRule) -> tuple[NDArray[np.bool_], ...]:
    """Return which lesions count (L,), which pairs make a hit (K,), which components are true and which are false (P,)."""
    if rule.hit not in ("any", "share", "iou", "centroid"):
        raise ValueError(f"hit {rule.hit!r} must be any, share, iou or centroid")
    if rule.min_ml > 0.0 and not voxel_ml > 0.0:
        raise ValueError("a smallest size in ml needs the size of a voxel")
    # A size of exactly min_ml counts, whatever the division rounds to.
    limit = rule.min_ml / voxel_ml * (1.0 - 1e-9) if rule.min_ml > 0.0 else 0.0
    counted, large = found.lesion_voxels >= limit, found.found_voxels >= limit
    pair = counted[found.lesion] & large[found.found]
    size = found.lesion_voxels[found.lesion]
    if rule.hit == "share":
        covered = np.bincount(found.lesion[pair], found.shared[pair], len(counted))
        pair &= covered[found.lesion] / size >= rule.share
    elif rule.hit == "iou":
        pair &= found.shared / (size + found.found_voxels[found.found] - found.shared) >= rule.iou
    elif rule.hit == "centroid":
        pair &= found.centre[found.lesion] == found.found
    true = np.zeros(len(large), bool)
    true[found.found[pair]] = True
    false = large & ~true
    false[found.found[~counted[found.lesion]]] = False
    return counted, pair, true, false


def lesion_counts(found: Overlaps, voxel_ml: float, rule: HitRule | None = None) -> LesionCounts:
    """Count hits, misses and false components of one volume under one rule.

    Args:
        found: of `overlaps`.
        voxel_ml: millilitres of one voxel; NaN if it is not known.
        rule: one shared voxel is a hit if none is given.

    Raises:
        ValueError: if the rule is unknown, or has a smallest size while the size of a voxel is not known.
    """
    counted, pair, true, false = match(found, voxel_ml, rule or HitRule())
    hit = np.zeros(len(counted), bool)
    hit[found.lesion[pair]] = True
    voxels = found.lesion_voxels[counted]
    ml = voxels.astype(np.float64) * voxel_ml
    wrong = int(np.count_nonzero(false))
    return LesionCounts(voxels, ml, hit[counted], int(np.count_nonzero(true)) + wrong, wrong)


def recall_by_size(counts: LesionCounts, edges: Sequence[float] = SIZE_EDGES) -> NDArray[np.float64]:
    """Return the share of lesions hit in each bin of size, smallest first, (len(edges) + 1,).

    Args:
        counts: of one volume or of several.
        edges: in ml, ascending; a lesion of exactly an edge belongs to the larger bin.

    Returns:
        NaN for a bin without lesions, and for all bins if the size of a voxel is not known.
    """
    known = np.isfinite(counts.ml)
    place = np.searchsorted(np.asarray(edges), counts.ml[known], side="right")
    number = np.bincount(place, minlength=len(edges) + 1)
    hits = np.bincount(place, counts.hit[known], len(edges) + 1)
    recall = np.full(len(number), np.nan)
    np.divide(hits, number, out=recall, where=number > 0)
    return recall
