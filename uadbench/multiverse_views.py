"""How the pipelines of a multiverse see one subject: at each resolution, after each chain, above each threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Subject, Volume
from uadbench.metrics.lesions import Overlaps, overlaps
from uadbench.metrics.overlap import Confusion
from uadbench.metrics.regions import Regions, components
from uadbench.postprocess import clean, on_grid, postprocess
from uadbench.preparation import inside
from uadbench.protocol import Protocol, Step
from uadbench.store import CellFolder


@dataclass(frozen=True)
class Ground:
    """A subject at one resolution: what is the same for all methods.

    Attributes:
        whole: the volume as it was loaded.
        volume: its masks on the grid of the protocol, at this resolution.
        half: whether that is half the resolution of the protocol's grid.
        base: the protocol, for what pipelines do not vary.
    """

    whole: Volume
    volume: Volume
    half: bool
    base: Protocol

    @classmethod
    def of(cls, volume: Volume, resolution: str, base: Protocol) -> Ground:
        """Bring the masks of a volume to a resolution, "native" or "half"."""
        moved, _ = on_grid(volume, np.zeros(volume.grid, np.float32), base.grid)
        half = resolution == "half"
        return cls(volume, halved(moved) if half else moved, half, base)

    @cached_property
    def where(self) -> BoolArray:
        """Voxels that metrics look at, bool (D, H, W)."""
        if self.base.region == "foreground":
            return inside(self.volume)
        return np.ones(self.volume.grid, bool) if self.volume.ignore is None else ~self.volume.ignore

    @cached_property
    def lesion(self) -> BoolArray:
        """The lesion mask of these voxels, (N,)."""
        mask = self.volume.lesion
        return np.zeros(np.count_nonzero(self.where), bool) if mask is None else mask[self.where]

    @cached_property
    def regions(self) -> Regions:
        """The connected lesions."""
        return components(self.spread(self.lesion))

    def spread(self, values: BoolArray) -> BoolArray:
        """Return (N,) as (D, H, W), False elsewhere."""
        out = np.zeros(self.where.shape, bool)
        out[self.where] = values
        return out

    def map_of(self, folder: CellFolder, subject: Subject) -> FloatArray:
        """Return the stored map of the subject at this resolution, (D, H, W)."""
        moved, score = on_grid(self.whole, folder.read_map(subject.key, self.whole.grid)[0], self.base.grid)
        return halved_map(score, moved.foreground) if self.half else score

    def scores(self, anomaly_map: FloatArray, chain: Sequence[Step]) -> FloatArray:
        """Return the scores (N,) of a map of this resolution after a chain."""
        return postprocess(anomaly_map, self.volume.foreground, chain)[0][self.where]


def halved(volume: Volume) -> Volume:
    """Return a volume at half the resolution: a voxel is in a mask if at least half of its 2x2x2 block is.

    An axis of one voxel stays as it is; at an odd end the block is what is there. The image is left out: no metric looks at
    it.
    """

    def most(mask: BoolArray | None) -> BoolArray | None:
        return None if mask is None else 2 * _block_sum(mask) >= _block_sum(np.ones(mask.shape, bool))

    factors = _factors(volume.grid)
    shape = tuple(-(-n // f) for n, f in zip(volume.grid, factors, strict=True))
    d, h, w = (1.0, 1.0, 1.0) if volume.spacing is None else volume.spacing
    spacing = None if volume.spacing is None else (d * factors[0], h * factors[1], w * factors[2])
    return replace(
        volume,
        image=np.zeros((volume.image.shape[0], *shape), np.float32),
        foreground=most(volume.foreground),
        lesion=most(volume.lesion),
        ignore=most(volume.ignore),
        spacing=spacing,
        affine=None,
    )


def halved_map(score: FloatArray, foreground: BoolArray | None) -> FloatArray:
    """Return the mean of the foreground voxels of each 2x2x2 block of a map (D, H, W), float32; 0 where there is none."""
    where = np.ones(score.shape, bool) if foreground is None else foreground
    total, count = _block_sum(np.where(where, score, 0.0)), _block_sum(where)
    out = np.zeros(total.shape, np.float32)
    np.divide(total, count, out=out, where=count > 0, casting="same_kind")
    return out


def _factors(shape: Sequence[int]) -> list[int]:
    return [2 if n > 1 else 1 for n in shape]


def _block_sum(values: FloatArray | BoolArray) -> FloatArray:
    """Return the sums over the blocks, float64."""
    out = values.astype(np.float64)
    for axis, factor in enumerate(_factors(values.shape)):
        if factor == 2:
            out = np.add.reduceat(out, np.arange(0, out.shape[axis], 2), axis=axis)
    return out


@dataclass(frozen=True)
class Found:
    """What lies above one threshold: its components, and where they meet the lesions.

    Attributes:
        regions: the components.
        overlaps: of those that are kept.
    """

    regions: Regions
    overlaps: Overlaps

    @classmethod
    def of(cls, lesions: Regions, above: BoolArray) -> Found:
        """Label what is above the threshold, bool (D, H, W), and compare it with the lesions."""
        regions = components(above)
        return cls(regions, overlaps(lesions, regions))

    def after(self, steps: Sequence[Step]) -> Found:
        """Return what the steps leave. They take away whole components, so nothing is labelled again."""
        sizes = self.regions.sizes
        if all(step.name == "remove_small" for step in steps):
            keep = sizes > max((int(step.size) for step in steps), default=0)
        else:
            left = clean(self.regions.labels > 0, steps)
            keep = np.bincount(self.regions.labels[left], minlength=len(sizes) + 1)[1:] > 0
        return Found(self.regions, without(self.overlaps, keep))

    def confusion(self, voxels: int) -> Confusion:
        """Count voxels; `voxels` is the number that metrics look at."""
        found, tp = int(self.overlaps.found_voxels.sum()), int(self.overlaps.shared.sum())
        lesion = int(self.overlaps.lesion_voxels.sum())
        return Confusion(tp, found - tp, lesion - tp, voxels - found - lesion + tp)


def without(table: Overlaps, keep: BoolArray) -> Overlaps:
    """Return the table as if only the found components `keep`, bool (P,), had been found."""
    number = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1)  # The last entry is that of the centre in none.
    pair = keep[table.found]
    return replace(
        table,
        found_voxels=table.found_voxels[keep],
        centre=number[table.centre],
        lesion=table.lesion[pair],
        found=number[table.found[pair]],
        shared=table.shared[pair],
        confidence=table.confidence[keep],
    )
