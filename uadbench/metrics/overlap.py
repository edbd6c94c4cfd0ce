"""Overlap of a thresholded anomaly map with the lesion mask, and what is found where there is no lesion.

Masks are bool arrays of one shape, already restricted to the voxels that count, the foreground. Rules for the cases
without an answer, the same in all functions of this file: a ratio whose denominator is zero is NaN, and what is measured
against the lesion (Dice, IoU, recall) is NaN without a lesion voxel, whatever was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray
from uadbench.metrics.regions import components


@dataclass(frozen=True)
class Confusion:
    """Counts of voxels (or of slices, or of subjects). Sums pool: `sum(parts, Confusion())`.

    Ratios as in Taha and Hanbury, "Metrics for evaluating 3D medical image segmentation" (BMC Med. Imaging 2015):

    =============  =================  ====================  ===========  ============  ====================
    ratio          formula            no lesion voxel       found none   found all     all is lesion
    =============  =================  ====================  ===========  ============  ====================
    `dice`         2tp / (2tp+fp+fn)  NaN                   0            2p / (1 + p)  as formula
    `iou`          tp / (tp+fp+fn)    NaN                   0            p             as formula
    `recall`       tp / (tp+fn)       NaN                   0            1             as formula
    `precision`    tp / (tp+fp)       0, NaN if found none  NaN          p             1, NaN if found none
    `specificity`  tn / (tn+fp)       as formula            1            0             NaN
    =============  =================  ====================  ===========  ============  ====================

    where p is the share of lesion voxels; the columns "found none" and "found all" are for images with both kinds.

    Attributes:
        tp: lesion voxels that were found.
        fp: healthy voxels that were called anomalous.
        fn: lesion voxels that were missed.
        tn: healthy voxels that were left alone.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, found: BoolArray, lesion: BoolArray, ignore: BoolArray | None = None) -> Confusion:
        """Count hits, misses and false alarms.

        Args:
            found: bool, any shape: the voxels called anomalous.
            lesion: bool, the same shape.
            ignore: bool, the same shape: voxels that count nowhere, such as lesions of another kind; None for none.

        Raises:
            ValueError: if shapes differ or a mask is not bool; 0, 1 and 2 in a mask of labels would be counted wrongly.
        """
        masks = (found, lesion) if ignore is None else (found, lesion, ignore)
        if any(mask.shape != found.shape or mask.dtype != np.bool_ for mask in masks):
            given = ", ".join(f"{mask.dtype} {mask.shape}" for mask in masks)
            raise ValueError(f"masks must be bool and of one shape, got {given}")
        if ignore is not None and ignore.any():
            found, lesion = found[~ignore], lesion[~ignore]
        tp = int(np.count_nonzero(found & lesion))
        fp = int(np.count_nonzero(found)) - tp
        fn = int(np.count_nonzero(lesion)) - tp
        return cls(tp, fp, fn, found.size - tp - fp - fn)

    def __add__(self, other: Confusion) -> Confusion:
        """Return the counts of both together."""
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def dice(self) -> float:
        """2 |found and lesion| / (|found| + |lesion|); NaN without a lesion voxel. Dice 1945."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn) if self.tp + self.fn else float("nan")

    @property
    def iou(self) -> float:
        """|found and lesion| / |found or lesion|; NaN without a lesion voxel. Jaccard 1912."""
        return _ratio(self.tp, self.tp + self.fp + self.fn) if self.tp + self.fn else float("nan")

    @property
    def precision(self) -> float:
        """Share of the found voxels that are lesion; NaN if nothing was found."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the lesion voxels that were found; NaN without a lesion voxel."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Share of the healthy voxels that were left alone; NaN without a healthy voxel."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def false_positive_rate(self) -> float:
        """Share of the healthy voxels that were called anomalous; NaN without a healthy voxel."""
        return _ratio(self.fp, self.tn + self.fp)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def dice(found: BoolArray, lesion: BoolArray) -> float:
    """Return 2 |found and lesion| / (|found| + |lesion|).

    An empty reference has no Dice: the result is NaN, whatever was found. Such subjects are left out of the mean and
    counted; healthy subjects are judged by `false_positive_ml` instead.
    """
    if not lesion.any():
        return float("nan")
    return float(2.0 * np.count_nonzero(found & lesion) / (np.count_nonzero(found) + np.count_nonzero(lesion)))


def false_positive_ml(found: BoolArray, voxel_ml: float) -> float:
    """Return the volume in millilitres of what was found in a scan without lesions; NaN without the size of a voxel."""
    return float(np.count_nonzero(found) * voxel_ml)


def false_positive_rate(found: BoolArray) -> float:
    """Return the share of voxels that were found in a scan without lesions; NaN without voxels."""
    return float(np.mean(found)) if found.size else float("nan")


def false_components(found: BoolArray, sizes: NDArray[np.int64] | None = None, min_voxels: int = 1) -> int:
    """Return the number of components of `min_voxels` voxels or more in a scan without lesions.

    Args:
        found: bool (D, H, W).
        sizes: voxels of each component of `found`, if they are already counted.
        min_voxels: smaller components are not counted; 1 counts all.

    Raises:
        ValueError: if `min_voxels` is below 1.
    """
    _at_least_one(min_voxels)
    sizes = components(found).sizes if sizes is None else sizes
    return int(np.count_nonzero(sizes >= min_voxels))


def slices_with(mask: BoolArray, min_voxels: int = 1) -> BoolArray:
    """Return which slices of a mask (D, H, W) hold `min_voxels` voxels or more, bool (D,).

    Of the voxels found, these are the flagged slices; of the lesion mask, the slices that should be.

    Raises:
        ValueError: if `min_voxels` is below 1.
    """
    _at_least_one(min_voxels)
    return np.asarray(np.count_nonzero(mask, axis=(1, 2)) >= min_voxels)


def flagged_slice_share(found: BoolArray, where: BoolArray, min_voxels: int = 1) -> float:
    """Return the share of flagged slices among those with foreground, in a scan without lesions.

    Args:
        found: bool (D, H, W); what lies outside `where` is not counted.
        where: bool (D, H, W), the foreground; slices without any are not asked.
        min_voxels: a slice is flagged from this number of found voxels on; 1 means any.

    Returns:
        0 to 1; NaN without foreground.

    Raises:
        ValueError: if `min_voxels` is below 1.
    """
    asked = slices_with(where)
    return float(np.mean(slices_with(found & where, min_voxels)[asked])) if asked.any() else float("nan")


def flagged_subject(found: BoolArray, min_voxels: int = 1) -> bool:
    """Return whether a scan, any shape, has `min_voxels` found voxels or more; 1 means any.

    Raises:
        ValueError: if `min_voxels` is below 1.
    """
    _at_least_one(min_voxels)
    return bool(np.count_nonzero(found) >= min_voxels)


def realised_to_nominal(realised: float, nominal: float) -> float:
    """Return how many times the promised rate was realised on unseen healthy scans; 1 is a promise kept.

    The rate is whatever the threshold policy promises: of voxels (`Confusion.false_positive_rate` of the pooled counts, or
    the mean of `false_positive_rate`) or of scans (the mean of `flagged_subject`). NaN for a promise of zero.
    """
    return realised / nominal if nominal else float("nan")


def _at_least_one(min_voxels: int) -> None:
    if min_voxels < 1:
        raise ValueError(f"min_voxels must be 1 or more, got {min_voxels}; with 0 everything is flagged")
