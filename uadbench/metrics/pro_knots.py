"""Coarse forms of cumulated counts, with which AUPRO is computed for thousands of resampled pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

SUBJECT_GROUPS = 512


@dataclass(frozen=True)
class Knots:
    """A coarse form of one subject's cumulated counts.

    Attributes:
        place: (K,), ascending numbers of bins.
        healthy: (K,), healthy voxels in these bins and all above.
        overlap: (K,), sum of the region shares there.
    """

    place: NDArray[np.int32]
    healthy: NDArray[np.int32]
    overlap: NDArray[np.float32]


def knots(low: int, healthy: NDArray[np.int64], overlap: Values) -> Knots:
    """Keep the counts at both ends of each group of bins; they are taken to grow evenly within a group, nowhere else."""
    used, count, share = cumulated(healthy, overlap)
    first, last = groups_of(count, share, SUBJECT_GROUPS)

    def ends(at_last: NDArray[Any], before_first: NDArray[Any], top: int) -> NDArray[Any]:
        """From the lowest score up: a group ends with what it and all above hold, and begins with what is above it."""
        return np.append(np.stack([at_last, before_first], 1)[::-1].reshape(-1), top)

    return Knots(
        ends(used[last], used[first] + 1, len(healthy)).astype(np.int32) + np.int32(low),
        ends(count[last], count[first] - healthy[used[first]], 0).astype(np.int32),
        ends(share[last], share[first] - overlap[used[first]], 0).astype(np.float32),
    )


def cumulated(healthy: NDArray[np.int64], overlap: Values) -> tuple[NDArray[np.intp], NDArray[np.int64], Values]:
    """Return the bins in use, highest scores first, and what is in each and above."""
    used = np.flatnonzero((healthy > 0) | (overlap > 0))[::-1]
    return used, np.cumsum(healthy[used]), np.cumsum(overlap[used])


def groups_of(count: NDArray[np.int64], share: Values, groups: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Join neighbouring bins to at most about twice `groups` groups, finest where the false positive rate is low.

    Returns:
        The first and the last bin of each group, as indices into `count`. Every bin is a group if there are few.
    """
    new = np.ones(len(count) + 1, bool)
    if len(count) > groups:
        by_rate = np.ceil(np.sqrt(count * (groups**2 / max(1, count[-1]))))
        by_share = np.ceil(share * (groups / max(share[-1], 1e-9)))
        new[1:-1] = (by_rate[1:] != by_rate[:-1]) | (by_share[1:] != by_share[:-1])
    return np.flatnonzero(new[:-1]), np.flatnonzero(new[1:])
