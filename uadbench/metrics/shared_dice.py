"""The largest mean of the subjects' Dice that one threshold for all can give: an oracle, exact over all thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.streaming import ScoreHistogram, sort_in_place

CUTS = 1024
"""Thresholds that are tried in each bootstrap sample."""


def best_shared_dice(read: Callable[[], Iterable[tuple[FloatArray, BoolArray]]]) -> float:
    """Return max over t of the mean over subjects of Dice(score >= t).

    Between two neighbouring lesion scores of any subjects a lower threshold adds healthy voxels only, so the maximum is at
    a lesion score. The first pass keeps those; the second adds up every subject's Dice at each of them.

    Args:
        read: gives scores (N_i,) and lesions bool (N_i,) of the subjects anew each time it is called (twice). Subjects
            without a lesion voxel have no Dice and are left out.

    Returns:
        NaN without a lesion voxel.
    """
    values = np.unique(np.concatenate([*(sort_in_place(s[m]) for s, m in read()), np.empty(0, np.float32)]))
    if not values.size:
        return float("nan")
    total, count = np.zeros(values.size), 0
    for score, lesion in read():
        found = sort_in_place(score[lesion])
        if not found.size:
            continue
        count += 1
        healthy = sort_in_place(score[~lesion])
        tp = found.size - found.searchsorted(values, "left")
        fp = healthy.size - healthy.searchsorted(values, "left")
        total += 2.0 * tp / (tp + fp + found.size)
    return float(total.max() / count)


def shared_dice_draws(
    histograms: Callable[[], Iterable[ScoreHistogram]], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the same of resampled subjects, from thresholds between bins only; callers shift it onto the exact value.

    Args:
        histograms: gives one a subject with lesion voxels anew each time it is called (twice).
        weights: (draws, subjects), how often each subject is in each sample.

    Returns:
        (draws,); NaN for a sample without subjects.
    """
    parts = [np.repeat(h.bins, np.minimum(h.lesion, CUTS)) for h in histograms()]
    bins = np.sort(np.concatenate([*parts, np.empty(0, np.int32)]))
    if not bins.size:
        return np.full(len(weights), np.nan)
    cuts = np.unique(bins[np.linspace(0, bins.size - 1, CUTS).astype(int)])
    dice = np.empty((weights.shape[1], cuts.size))
    for row, h in enumerate(histograms()):
        first = h.bins.searchsorted(cuts, "left")
        tp = np.append(np.cumsum(h.lesion[::-1])[::-1], 0)[first]
        fp = np.append(np.cumsum(h.healthy[::-1])[::-1], 0)[first]
        dice[row] = 2.0 * tp / (tp + fp + h.lesion.sum())
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ dice).max(axis=1) / weights.sum(axis=1))
