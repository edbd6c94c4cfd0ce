"""Free-response ROC: the share of lesions hit against the number of false components a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadbench.metrics.lesions import HitRule, IntArray, Overlaps, match


@dataclass(frozen=True)
class Candidates:
    """All that FROC needs of one volume.

    Attributes:
        lesion: (L,), the highest cut at which each lesion is hit by the components of at least that confidence; -inf if it
            never is.
        false: (F,), confidences of the false components.
    """

    lesion: NDArray[np.float64]
    false: NDArray[np.float64]


def candidates(found: Overlaps, voxel_ml: float, rule: HitRule | None = None) -> Candidates:
    """Return what FROC needs of one volume.

    A component is true or false once, as in `lesion_counts`, with all components at hand. Its extent is that at the
    protocol's threshold whatever the cut. Under "share" a lesion is hit from the cut on at which the components above it
    cover the share.

    Raises:
        ValueError: as `lesion_counts`, and if `found` has no confidences.
    """
    rule = rule or HitRule()
    if np.isnan(found.confidence).any():
        raise ValueError("an FROC curve needs the confidence of each component: give the scores to `overlaps`")
    counted, pair, _, false = match(found, voxel_ml, rule)
    lesion, confidence = found.lesion[pair], found.confidence[found.found[pair]]
    if rule.hit == "share":
        order = np.lexsort((-confidence, lesion))
        lesion, confidence = lesion[order], confidence[order]
        covered = np.cumsum(found.shared[pair][order])
        first = np.searchsorted(lesion, lesion)
        covered -= np.concatenate(([0], covered))[first]
        enough = covered / found.lesion_voxels[lesion] >= rule.share
        lesion, confidence = lesion[enough], confidence[enough]
    best = np.full(len(counted), -np.inf)
    np.maximum.at(best, lesion, confidence)
    return Candidates(best[counted], found.confidence[false])


def froc(volumes: Sequence[Candidates], at: Sequence[float] = (1, 2, 4, 8)) -> NDArray[np.float64]:
    """Return the share of lesions hit at the lowest cut with at most k false components a volume, for each k of `at`.

    Every confidence is tried; components of one confidence stand or fall together. Volumes without lesions count as
    volumes, and their components are false.

    Args:
        volumes: all volumes that are judged together.
        at: mean numbers of false components a volume.

    Returns:
        (len(at),); NaN if there is no lesion.
    """
    value: NDArray[np.float64] = froc_draws(volumes, np.ones((1, len(volumes))), at)[0]
    return value


def froc_draws(
    volumes: Sequence[Candidates], weights: NDArray[np.float64], at: Sequence[float] = (1, 2, 4, 8)
) -> NDArray[np.float64]:
    """Return `froc` of resampled volumes.

    Args:
        volumes: S of them.
        weights: (draws, S), how often each volume is in each sample.
        at: mean numbers of false components a volume.

    Returns:
        (draws, len(at)); NaN in samples without a lesion.
    """
    found, found_in = _descending([v.lesion for v in volumes])
    false, false_in = _descending([v.false for v in volumes])
    out = np.full((len(weights), len(at)), np.nan)
    if not len(found):
        return out
    allowed = np.multiply.outer(weights.sum(1), np.asarray(at, np.float64)) + 1e-9
    # Most false components lie far below every cut: look only as far down as the largest number allowed in any sample.
    depth = 256
    while (
        depth < len(false) and (weights @ np.bincount(false_in[:depth], minlength=len(volumes)) <= allowed.max(1)).any()
    ):
        depth *= 2
    false, false_in = np.append(false[:depth], -np.inf), false_in[:depth]
    for begin in range(0, len(weights), 64):
        part = weights[begin : begin + 64]
        hits, wrong = np.cumsum(part[:, found_in], axis=1), np.cumsum(part[:, false_in], axis=1)
        for column, most in enumerate(allowed[begin : begin + 64].T):
            # The first false component beyond what is allowed: a cut must lie above it.
            above = false[(wrong <= most[:, None]).sum(1)]
            number = np.searchsorted(-found, -above, side="left")
            hit = np.where(number > 0, np.take_along_axis(hits, number[:, None] - 1, 1)[:, 0], 0.0)
            some = hits[:, -1] > 0
            out[begin : begin + 64, column][some] = hit[some] / hits[some, -1]
    return out


def _descending(values: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], IntArray]:
    """Join and sort; return the values, largest first, and the number of the volume each is from."""
    joined = np.concatenate([*values, np.zeros(0)])
    origin = np.repeat(np.arange(len(values)), [len(v) for v in values])
    order = np.argsort(-joined, kind="stable")
    return joined[order], origin[order]
