"""Overlap of a thresholded anomaly map with the lesion mask, and the volume found where there is no lesion."""

from __future__ import annotations

import numpy as np

from uadbench.arrays import BoolArray, FloatArray


def dice(found: BoolArray, lesion: BoolArray) -> float:
    """Return 2 |found and lesion| / (|found| + |lesion|).

    An empty reference has no Dice: the result is NaN, whatever was found. Such subjects are left out of the mean and
    counted; healthy subjects are judged by `false_positive_ml` instead.
    """
    if not lesion.any():
        return float("nan")
    return float(2.0 * np.count_nonzero(found & lesion) / (np.count_nonzero(found) + np.count_nonzero(lesion)))


def false_positive_ml(score: FloatArray, threshold: float, voxel_ml: float) -> float:
    """Return the volume in millilitres whose score is above the threshold, in a scan without lesions.

    NaN where the size of a voxel is not known.
    """
    return float(np.count_nonzero(score > threshold) * voxel_ml)


def false_positive_rate(score: FloatArray, threshold: float) -> float:
    """Return the share of voxels whose score is above the threshold, in a scan without lesions; NaN without voxels."""
    return float(np.mean(score > threshold)) if score.size else float("nan")
