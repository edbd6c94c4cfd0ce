"""How far the boundary of what was found lies from the boundary of the lesion, and how far the volumes differ.

Definitions, the same for all metrics of this file:

* A surface voxel is a voxel of the mask with a face neighbour outside the mask. What lies beyond the edge of the array is
  outside, but a picture (D = 1) has no neighbours along D, so its surface is a contour.
* Distances are Euclidean, between centres of voxels, in mm: each surface voxel of one mask to the nearest surface voxel of
  the other.
* Everything is NaN where one of the masks is empty or the spacing is not known. Such subjects are left out of means and
  counted.
* Cut both masks to the foreground first, and take voxels to be ignored out of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, generate_binary_structure
from scipy.spatial import KDTree

from uadbench.arrays import BoolArray


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm between two surfaces, in both directions; all metrics are cheap from here on.

    Attributes:
        to_lesion: (N,), from each surface voxel of what was found to the lesion's surface.
        to_found: (M,), from each surface voxel of the lesion to the surface of what was found.
    """

    to_lesion: NDArray[np.float64]
    to_found: NDArray[np.float64]

    @property
    def defined(self) -> bool:
        """Whether both masks have voxels and the spacing is known."""
        return len(self.to_lesion) > 0 and len(self.to_found) > 0

    def hausdorff(self, percentile: float = 95.0) -> float:
        """Return the larger of the two directed percentiles in mm: HD95, or with 100 the Hausdorff distance.

        The percentile is taken in each direction by itself, with linear interpolation, and then the maximum, as in MONAI's
        `compute_hausdorff_distance` and in the WMH challenge (Kuijf et al., IEEE TMI 2019). MONAI's surface is the one used
        here; the challenge looks for edges within each slice only, which makes its surfaces thicker. Tools that take one
        percentile of both directions joined (MedPy) give smaller or equal values.
        """
        if not self.defined:
            return float("nan")
        return float(max(np.percentile(self.to_lesion, percentile), np.percentile(self.to_found, percentile)))

    def surface_dice(self, tolerance: float) -> float:
        """Return NSD, the share of the voxels of both surfaces that lie within `tolerance` mm of the other surface.

        Nikolov et al., "Clinically applicable segmentation of head and neck anatomy" (JMIR 2021), with surface voxels
        counted instead of weighted by area, as in Seidlitz et al. (MedIA 2022) and by default in MONAI. A distance equal
        to the tolerance is within it.

        Raises:
            ValueError: if the tolerance is negative or NaN.
        """
        if not tolerance >= 0:
            raise ValueError(f"the tolerance must be 0 mm or more, got {tolerance}")
        if not self.defined:
            return float("nan")
        near = np.count_nonzero(self.to_lesion <= tolerance) + np.count_nonzero(self.to_found <= tolerance)
        return float(near / (len(self.to_lesion) + len(self.to_found)))


def surface_distances(
    found: BoolArray, lesion: BoolArray, spacing: tuple[float, float, float] | None
) -> SurfaceDistances:
    """Return the distances between the surfaces of two masks.

    Nearest neighbours come from a tree over surface voxels, which is exact and much faster than two distance transforms of
    the volume: surfaces are few voxels.

    Args:
        found: bool (D, H, W).
        lesion: bool (D, H, W).
        spacing: mm between voxel centres along D, H, W; None if not known.

    Returns:
        The distances; both arrays are empty where they are not defined.

    Raises:
        ValueError: if shapes differ or a spacing is not positive.
    """
    if found.shape != lesion.shape or found.ndim != 3:
        raise ValueError(f"found {found.shape} and lesion {lesion.shape} must be of one shape (D, H, W)")
    if spacing is not None and not all(0 < step < np.inf for step in spacing):
        raise ValueError(f"spacing must be positive and finite, got {spacing}")
    if spacing is None or not found.any() or not lesion.any():
        return SurfaceDistances(np.empty(0), np.empty(0))
    ours = _surface_points(found, spacing)
    theirs = _surface_points(lesion, spacing)
    return SurfaceDistances(_nearest(ours, theirs), _nearest(theirs, ours))


def volume_difference(found: BoolArray, lesion: BoolArray) -> float:
    """Return | |found| - |lesion| | / |lesion| in percent; NaN where one of the masks is empty.

    The average over subjects is the average volume difference of the WMH challenge (Kuijf et al., IEEE TMI 2019). It says
    nothing about where the volume lies.
    """
    volume, reference = np.count_nonzero(found), np.count_nonzero(lesion)
    return float(100.0 * abs(volume - reference) / reference) if volume and reference else float("nan")


def surface(mask: BoolArray) -> BoolArray:
    """Return the voxels of a mask (D, H, W) with a face neighbour outside it, bool (D, H, W)."""
    neighbours = generate_binary_structure(3, 1)
    return mask & ~binary_erosion(mask, neighbours if len(mask) > 1 else neighbours[1:2])


def bounding_box(mask: BoolArray, margin: Sequence[int]) -> tuple[slice, ...]:
    """Return the smallest box that holds all voxels of a mask, widened by `margin` voxels an axis within the array.

    Args:
        mask: bool, any shape, with at least one voxel.
        margin: one number an axis.
    """
    box = []
    for axis, extra in enumerate(margin):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(int(used[0]) - extra, 0), int(used[-1]) + 1 + extra))
    return tuple(box)


def _surface_points(mask: BoolArray, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the centres of all surface voxels in mm, (N, 3)."""
    # With a voxel of margin a flat mask in a volume does not look like a picture.
    box = bounding_box(mask, (1, 1, 1))
    corner = np.array([part.start for part in box])
    return np.asarray((np.argwhere(surface(mask[box])) + corner) * np.array(spacing), np.float64)


def _nearest(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance from each of `points` to the nearest of `others`."""
    # Balancing and compacting the tree cost more than they save on voxel grids.
    tree = KDTree(others, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(points)[0], np.float64)
