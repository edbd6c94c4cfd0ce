"""AUPRO: the area under the curve of per-region overlap against the false positive rate.

Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021. At every threshold, the overlap is the share found of a
region (a component of the lesion mask), averaged over all regions of all subjects, large or small; the rate is the share
of healthy voxels of all subjects that are called anomalous. Both grow from 0 to 1 as the threshold falls. The area is
taken up to a limit of the rate and divided by the limit.

The points of neighbouring distinct scores are joined by straight lines, also where the curve crosses the limit. So a
perfect map has 1, and a constant one has limit / 2, which is what random scores have on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.ordered import leading_bits
from uadbench.metrics.pro_exact import area, check_limit, exact_area
from uadbench.metrics.pro_knots import Knots, Values, cumulated, groups_of, knots
from uadbench.metrics.regions import Regions, components

POOL_GROUPS = 1024


def aupro(
    scores: Sequence[FloatArray],
    lesions: Sequence[BoolArray],
    limit: float = 0.3,
    where: Sequence[BoolArray] | None = None,
) -> float:
    """Return the exact AUPRO of all subjects together, from one sort of the healthy scores.

    All scores must fit into memory: tests and benchmarks compare with it; the evaluation uses `ProHistogram`.

    Args:
        scores: one (D, H, W) per subject, higher is more anomalous; finite.
        lesions: the matching bool (D, H, W).
        limit: largest false positive rate, in (0, 1].
        where: the matching foregrounds. What lies outside takes no part: a region is labelled whole, and is judged by its
            voxels inside; one without any is left out.

    Returns:
        In [0, 1]; NaN without a region or without a healthy voxel.

    Raises:
        ValueError: if shapes differ, a score is not finite or the limit is out of range.
    """
    check_limit(limit)
    inside, found, shares, count = [np.zeros(0, np.float32)], [], [], 0
    for number, (score, lesion) in enumerate(zip(scores, lesions, strict=True)):
        part = _voxels(score, components(lesion), None if where is None else where[number])
        inside.append(part.inside)
        found.append(part.lesion)
        shares.append(part.share)
        count += part.regions
    pool = np.concatenate(inside)
    healthy = len(pool) - sum(map(len, found))
    if not count or not healthy:
        return float("nan")
    pool.sort()
    level, group, number_at = np.unique(np.concatenate(found), return_inverse=True, return_counts=True)
    overlap = np.bincount(group, np.concatenate(shares)) / count
    return exact_area(
        np.asarray(len(pool) - np.searchsorted(pool, level, side="right")),
        np.asarray(len(pool) - np.searchsorted(pool, level, side="left")),
        number_at, overlap, healthy, limit,
    )  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """The foreground of one subject.

    Attributes:
        inside: (N,), all scores.
        lesion: (M,), those of lesion voxels.
        share: (M,), 1 / (voxels of their region).
        regions: number of regions.
    """

    inside: FloatArray
    lesion: FloatArray
    share: Values
    regions: int


def _voxels(score: FloatArray, regions: Regions, where: BoolArray | None) -> _Part:
    """Take one subject apart."""
    labels = regions.labels.reshape(-1)
    if score.shape != regions.labels.shape or (where is not None and where.shape != score.shape):
        raise ValueError(
            f"score {score.shape}, lesion {regions.labels.shape} and foreground must have one shape (D, H, W)"
        )
    inside = score.reshape(-1)
    if inside.dtype == np.float16:
        inside = inside.astype(np.float32)
    lesion = np.flatnonzero(labels != 0)
    if where is not None:
        lesion = lesion[where.reshape(-1)[lesion]]
    label = labels[lesion].astype(np.int64) - 1
    sizes = np.bincount(label, minlength=len(regions.sizes))
    found = inside[lesion]
    if where is not None:
        inside = inside[where.reshape(-1)]
    if inside.size and not np.isfinite([inside.min(), inside.max()]).all():
        raise ValueError("a score is NaN or infinite")
    return _Part(inside, found, 1.0 / sizes[label], int(np.count_nonzero(sizes)))


class ProHistogram:
    """AUPRO in one pass over the subjects, in memory that does not grow with their voxels.

    Voxels are counted by the leading bits of their float32 score: sign, exponent and the first 10 bits of the mantissa,
    which is all that a score stored as float16 has. For such scores the result is exact. For others it is that of scores
    rounded by 0.1 %, and `bounds` gives an interval that surely holds the exact value; where it is too wide, as for
    scores packed around an offset, there are `aupro` and `aupro_again`.

    What every subject adds is also kept in at most about a thousand groups of neighbouring bins, for `draws`.

    Args:
        bits: leading bits that make a bin, 10 to 24. Memory is 16 bytes times 2 ** bits.
    """

    def __init__(self, bits: int = 19) -> None:
        if not 10 <= bits <= 24:
            raise ValueError(f"bits {bits} must be in 10 to 24")
        self._bits = bits
        self._exact = True
        self._healthy = np.zeros(1 << bits, np.int64)
        self._overlap = np.zeros(1 << bits)
        self._regions: list[int] = []
        self._knots: list[Knots] = []

    @property
    def regions(self) -> int:
        """Number of regions so far."""
        return sum(self._regions)

    @property
    def subjects(self) -> int:
        """Number of subjects so far."""
        return len(self._regions)

    @property
    def exact(self) -> bool:
        """Whether scores of one bin were always equal, so that `value` is exact."""
        return self._exact

    def add(self, score: FloatArray, regions: Regions, where: BoolArray | None = None) -> None:
        """Add one subject.

        Args:
            score: (D, H, W), finite; read as float32.
            regions: components of its lesion mask; a healthy subject has none and adds to the rate only.
            where: its foreground, as in `aupro`.

        Raises:
            ValueError: if shapes differ or a score is not finite.
        """
        part = _voxels(score, regions, where)
        if part.inside.size:
            low, high = self._bins(np.array([part.inside.min(), part.inside.max()]))
            lesion = self._bins(part.lesion) - low
            healthy = np.bincount(self._bins(part.inside) - low) - np.bincount(lesion, minlength=high + 1 - low)
            overlap: Values = np.bincount(lesion, part.share, high + 1 - low).astype(np.float64, copy=False)
            self._healthy[low : high + 1] += healthy
            self._overlap[low : high + 1] += overlap
            self._knots.append(knots(low, healthy, overlap))
            self._exact = self._exact and self._fits(part.inside)
        else:
            self._knots.append(knots(0, np.zeros(1, np.int64), np.zeros(1)))
        self._regions.append(part.regions)

    def value(self, limit: float = 0.3) -> float:
        """Return the AUPRO; NaN without a region or without a healthy voxel."""
        check_limit(limit)
        rate, overlap = self._curve()
        return float(area(rate, overlap, limit)) if len(rate) else float("nan")

    def bounds(self, limit: float = 0.3) -> tuple[float, float]:
        """Return two numbers between which the exact AUPRO lies; (NaN, NaN) where it is not defined.

        They are what it would be if within every bin all healthy voxels came first, and if all lesion voxels did. If
        scores of one bin were always equal, both are the exact value.
        """
        check_limit(limit)
        rate, overlap = self._curve()
        if self._exact or not len(rate):
            return (self.value(limit),) * 2
        width = np.diff(np.minimum(rate, limit)) / limit
        return float(width @ overlap[:-1]), min(1.0, float(width @ overlap[1:]))

    def draws(self, weights: Values, limit: float = 0.3) -> Values:
        """Return the AUPRO of resampled subjects, (draws,).

        It is read from the groups of bins that were kept of each subject, and is exact if no subject has more than about
        500 distinct scores. Else it is off by well under 1e-3: shift the draws by the difference between `value` and the
        draw in which every subject is once.

        Args:
            weights: (draws, subjects), how often each subject is in each sample, subjects in the order they were added.
            limit: as in `aupro`.

        Returns:
            NaN in samples without a region or a healthy voxel.
        """
        check_limit(limit)
        if weights.shape[1:] != (self.subjects,):
            raise ValueError(f"weights {weights.shape} must be (draws, {self.subjects})")
        if not self._healthy.any():
            return np.full(len(weights), np.nan)
        used, healthy, overlap = cumulated(self._healthy, self._overlap)
        first, last = groups_of(healthy, overlap, POOL_GROUPS)
        cuts = np.unique(np.concatenate([used[first] + 1, used[last]]))[::-1]
        healthy = np.stack([np.interp(cuts, k.place, k.healthy) for k in self._knots])
        overlap = np.stack([np.interp(cuts, k.place, k.overlap) for k in self._knots])
        out = []
        for part in np.array_split(weights, max(1, len(weights) // 64)):
            with np.errstate(invalid="ignore"):
                rate = part @ healthy / (part @ healthy[:, -1])[:, None]
                share = part @ overlap / (part @ np.asarray(self._regions, np.float64))[:, None]
            out.append(area(rate, share, limit))
        return np.concatenate(out)

    def _bins(self, score: FloatArray) -> NDArray[np.intp]:
        return leading_bits(score, self._bits)

    def _fits(self, score: FloatArray) -> bool:
        """Return whether the bits that make a bin are all that these scores have."""
        short = score.astype(np.float32)
        rest = short.view(np.uint32) & np.uint32((1 << (32 - self._bits)) - 1)
        return not rest.any() and bool((short == score).all())

    def _curve(self) -> tuple[Values, Values]:
        """Return rate and overlap after each bin in use, highest scores first, from (0, 0); empty if not defined."""
        _, healthy, overlap = cumulated(self._healthy, self._overlap)
        if not self.regions or not healthy[-1:].any():
            return np.empty(0), np.empty(0)
        return np.concatenate(([0.0], healthy / healthy[-1])), np.concatenate(([0.0], overlap / self.regions))
