"""Rank metrics of pools of subjects: of one pool exactly, and of thousands of resampled pools at once.

Only lesion scores matter as thresholds. The healthy voxels of each subject are counted in the zones that lesion scores, or
groups of neighbouring ones, cut the axis of scores into; a pool is then a weighted sum of the subjects' counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.bounds import Counts, RankMetrics, Steps, auroc, average_precision, dice_at_steps
from uadbench.metrics.streaming import HistogramSum, ScoreHistogram, checked, sort_in_place

GROUPS = 2048
DRAWS = 256
"""Resampled pools that are computed at a time."""

Read = Callable[[], Iterable[tuple[FloatArray, BoolArray]]]
"""Gives the scores and the lesions (bool, of one shape) of each subject, anew and in the same order at each call."""

Draws = dict[str, NDArray[np.float64]]


def exact_pooled(read: Read) -> RankMetrics:
    """Return the exact metrics of all subjects together, holding one subject and the lesion scores of all.

    The first pass keeps the lesion scores, which are few. The second sorts the healthy scores of each subject and counts
    how many lie at and between the distinct lesion scores.

    Args:
        read: is called twice.

    Raises:
        ValueError: if shapes differ, a score is NaN or infinite, or the second pass has another number of lesion voxels.
    """
    values, counts = _lesion_scores(read)
    zones, seen = np.zeros(2 * values.size + 1, np.int64), 0
    for found, healthy in _split(read):
        np.add.at(zones, _zone(healthy, values, values), 1)
        seen += found.size
    if seen != counts.sum():
        raise ValueError(f"the first pass had {counts.sum()} lesion voxels, the second {seen}")
    return RankMetrics.of(_steps(counts, zones, np.ones(values.size, bool)), values[::-1], "exact")


def pooled_from_scores(read: Read, weights: NDArray[np.float64]) -> Draws:
    """Return average precision, AUROC and best Dice of weighted pools of subjects that are read again, in two passes.

    With up to `GROUPS` distinct lesion scores the values are exact. More are joined to groups that each hold about
    1 / GROUPS of the lesion voxels: the error is then below one such step of recall (some 1e-4), and the best Dice, taken
    at the ends of groups, never too high; callers shift the draws onto the exact value of the pool. Scores packed into a
    narrow range make no difference.

    Args:
        read: is called twice.
        weights: (draws, subjects), how often each subject is in each pool; not negative.

    Returns:
        "auprc", "auroc" and "oracle_dice", each (draws,); NaN where a pool lacks the voxels that define it.

    Raises:
        ValueError: if shapes differ or a score is NaN or infinite.
    """
    values, counts = _lesion_scores(read)
    first, last = _groups(counts)
    low, high = values[first], values[last]
    lesion, zones = np.zeros((weights.shape[1], low.size)), np.zeros((weights.shape[1], 2 * low.size + 1))
    for row, (found, healthy) in enumerate(_split(read)):
        lesion[row] = np.bincount(_zone(found, low, high), minlength=zones.shape[1])[1::2]
        zones[row] = np.bincount(_zone(healthy, low, high), minlength=zones.shape[1])
    return _draws(lesion, zones, first == last, weights)


def pooled_from(
    histograms: Sequence[ScoreHistogram] | Callable[[], Iterable[ScoreHistogram]], weights: NDArray[np.float64]
) -> Draws:
    """Return what `pooled_from_scores` does, from histograms: no voxel is read again.

    The order inside bins is lost: if the bounds of the sum of all histograms are wide, so is the error here.

    Args:
        histograms: one a subject; or a function that gives them anew, in the same order, at each of two calls, and then
            only one is held at a time.
        weights: (draws, subjects), how often each subject is in each pool; not negative.

    Returns:
        "auprc", "auroc" and "oracle_dice", each (draws,); NaN where a pool lacks the voxels that define it.
    """
    parts = histograms if callable(histograms) else lambda: histograms
    added = HistogramSum()
    for part in parts():
        added.add(part)
    total = added.histogram()
    kept = np.flatnonzero(total.lesion)
    first, last = _groups(total.lesion[kept])
    low, high = total.bins[kept[first]], total.bins[kept[last]]
    lesion, zones = np.zeros((weights.shape[1], low.size)), np.zeros((weights.shape[1], 2 * low.size + 1))
    for row, part in enumerate(parts()):
        zone = _zone(part.bins, low, high)
        lesion[row] = np.bincount(zone, part.lesion, minlength=zones.shape[1])[1::2]
        zones[row] = np.bincount(zone, part.healthy, minlength=zones.shape[1])
    return _draws(lesion, zones, total.steps.tied[::-1][first] & (first == last), weights)


def _split(read: Read) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the lesion scores and the healthy scores of each subject, both ascending."""
    for part in read():
        score, lesion = checked(*part)
        yield sort_in_place(score[lesion]), sort_in_place(score[~lesion])


def _lesion_scores(read: Read) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the distinct lesion scores of all subjects, ascending, and how many voxels have each."""
    found = [score[lesion] for score, lesion in (checked(*part) for part in read())]
    values, counts = np.unique(np.concatenate([*found, np.empty(0, np.float32)]), return_counts=True)
    return values, counts.astype(np.int64)


def _groups(lesion: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Join neighbours to at most 3 * GROUPS groups, and none if there are only GROUPS.

    Args:
        lesion: (K,), lesion voxels at each threshold, ascending.

    Returns:
        first and last threshold of each group.
    """
    if lesion.size <= GROUPS:
        return np.arange(lesion.size), np.arange(lesion.size)
    share = (np.cumsum(lesion) - lesion) * GROUPS // lesion.sum()
    large = lesion * GROUPS >= lesion.sum()  # such a score, often the background, is a group of its own
    first = np.flatnonzero(np.append(True, (share[1:] != share[:-1]) | large[1:] | large[:-1]))
    return first, np.append(first[1:], lesion.size) - 1


def _zone(score: NDArray[np.generic], low: NDArray[np.generic], high: NDArray[np.generic]) -> NDArray[np.intp]:
    """Return where each score lies: 2 k + 1 in group k (low[k] ... high[k]), 2 k below it and above group k - 1."""
    return np.searchsorted(low, score, side="right") + np.searchsorted(high, score, side="left")


def _steps(lesion: Counts, zones: Counts, tied: NDArray[np.bool_]) -> Steps:
    """Return groups from lesion voxels (..., K) in them and healthy voxels in all zones (..., 2 K + 1), both ascending."""
    above = np.cumsum(zones[..., ::-1], axis=-1)  # entry 2 j: above the j-th group from the top
    return Steps(lesion[..., ::-1], zones[..., 1::2][..., ::-1], above[..., :-1:2], tied[::-1], above[..., -1])


def _draws(lesion: Counts, zones: Counts, tied: NDArray[np.bool_], weights: NDArray[np.float64]) -> Draws:
    """Return the metrics of pools (draws,) from counts a subject, (subjects, K) and (subjects, 2 K + 1), ascending."""
    out: dict[str, list[NDArray[np.float64]]] = {"auprc": [], "auroc": [], "oracle_dice": []}
    for block in np.array_split(weights, max(1, -(-len(weights) // DRAWS))):
        steps = _steps(block @ lesion, block @ zones, tied)
        dice = dice_at_steps(steps).max(-1, initial=0.0)
        out["auprc"].append(average_precision(steps))
        out["auroc"].append(auroc(steps))
        out["oracle_dice"].append(np.where(steps.positives > 0, dice, np.nan))
    return {name: np.concatenate(values) for name, values in out.items()}
