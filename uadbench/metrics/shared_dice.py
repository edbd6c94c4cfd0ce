"""The largest mean of the subjects' Dice that one threshold for all can give: an oracle, exact over all thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.ordered import leading_bits
from uadbench.metrics.streaming import ScoreHistogram, sort_in_place

CUTS = 1024
"""Thresholds that are tried in each bootstrap sample."""

BITS = 16
"""Leading bits of a score that make a bin, in which the maximum is first looked for."""
COARSE = 1 << BITS

Read = Callable[[], Iterable[tuple[FloatArray, BoolArray]]]


def best_shared_dice(read: Read) -> float:
    """Return max over t of the mean over subjects of Dice(score >= t).

    Between two neighbouring lesion scores of any subjects a lower threshold adds healthy voxels only, so the maximum is at
    a lesion score. The first pass finds the bins of scores in which it can be: no threshold in a bin gives a subject more
    than all lesion voxels down to the end of the bin and only the healthy ones above it would. The second pass collects
    the lesion scores in these bins, and the third adds up every subject's Dice at each of them.

    Args:
        read: gives scores (N_i,) and lesions bool (N_i,) of the subjects anew each time it is called (three times).
            Subjects without a lesion voxel have no Dice and are left out.

    Returns:
        NaN without a lesion voxel.
    """
    lower, upper, count = np.zeros(COARSE), np.zeros(COARSE), 0
    for score, lesion in read():
        positives = int(np.count_nonzero(lesion))
        if not positives:
            continue
        count += 1
        bins = leading_bits(score, BITS)
        tp = _from_above(np.bincount(bins[lesion], minlength=COARSE))
        fp = _from_above(np.bincount(bins[~lesion], minlength=COARSE))
        lower += 2.0 * tp / (tp + fp + positives)
        upper += 2.0 * tp / (tp + np.append(fp[1:], 0) + positives)
    if not count:
        return float("nan")
    likely = upper >= lower.max() * (1.0 - 1e-12)
    parts = [score[lesion & likely[leading_bits(score, BITS)]] for score, lesion in read()]
    values = np.unique(np.concatenate(parts))
    total = np.zeros(values.size)
    for score, lesion in read():
        positives = int(np.count_nonzero(lesion))
        if positives:
            high = score >= values[0]
            found, healthy = sort_in_place(score[lesion & high]), sort_in_place(score[high & ~lesion])
            tp = found.size - found.searchsorted(values, "left")
            fp = healthy.size - healthy.searchsorted(values, "left")
            total += 2.0 * tp / (tp + fp + positives)
    return float(total.max() / count)


def _from_above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many lie in each bin and above it."""
    return np.asarray(np.cumsum(counts[::-1])[::-1])


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
    parts = [np.repeat(h.bins, np.minimum(h.lesion, 1)) for h in histograms()]
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
