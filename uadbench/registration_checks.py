"""The registration gate: does every volume lie as the healthy ones do? Catches turned, mirrored and swapped axes.

Each volume becomes two small cubes, its foreground and its intensities, in a frame of its own: centred on the foreground,
scaled by its largest extent in millimetres. A volume is turned if its cubes, turned in one of the 48 ways that axes can be
swapped and mirrored, are clearly more like the mean of the healthy ones than they are as they lie. Where all volumes are
registered, a third and fourth cube cover the whole grid and tell whether it lies in the right place.

A mirror image from left to right of a symmetric organ has the same mask. Only for registered sets do intensities hint at
it: what is left of an image after its mirror image is subtracted correlates with that of the others. This works where images
come from one scanner, so it is never more than a warning. A set that is turned as a whole is seen only against another set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Role, Subject, Volume
from uadbench.findings import Finding, gathered
from uadbench.preparation import quantiles
from uadbench.split_checks import HEALTHY

SIDE = 24
"""Cells along a side of a cube: about 8 mm for a head."""

BETTER = 0.04
"""By how much a turned cube must correlate better. Of 32 heads none that lay right came above -0.07."""

ALIKE = 0.6
"""What it must correlate with at least, to say how it is turned."""

FEWEST = 3
"""Volumes that are compared with at least."""

NEAR, FAR = 0.05, 0.15
"""How far the overlap of a volume may lie below the median of the healthy ones until it is a warning, and an error. Heads
registered to one template, of two data sets, keep within 0.02; 10 mm beside it is 0.08."""

TYPICAL_ASYMMETRY = 0.3
"""Correlation of asymmetries that healthy volumes must have among themselves for left and right to be told apart."""

AXES = ("the slice axis", "front-back", "left-right")

Turn = tuple[tuple[int, int, int], tuple[int, int, int]]
Cube = NDArray[np.uint8]

STRAIGHT: Turn = ((0, 1, 2), (0, 0, 0))


@dataclass(frozen=True)
class Shape:
    """Small cubes of one volume, uint8, 255 is full or bright; `centre` of the foreground in mm of the grid."""

    subject: Subject
    role: Role | None
    cubes: tuple[Cube, Cube]
    placed: tuple[Cube, Cube] | None
    centre: tuple[float, ...]
    flat: bool


@dataclass
class Gate:
    """Collects shapes; `findings` compares them."""

    registered: bool
    shapes: list[Shape] = field(default_factory=list)

    def see(self, subject: Subject, role: Role | None, volume: Volume) -> None:
        """Keep what is needed of a volume. Pictures have no frame and are left out."""
        if volume.grid[0] == 1:
            return
        image = np.asarray(volume.image[0])
        inside = volume.foreground if volume.foreground is not None else image > 0.1 * np.percentile(image, 99)
        if not inside.any():
            return
        spacing = np.array(volume.spacing or (1.0, 1.0, 1.0))
        step = np.maximum(1, np.array(volume.grid) // (3 * SIDE))  # Some voxels of each cell tell enough.
        some = tuple(slice(int(s) // 2, None, int(s)) for s in step)
        image, inside = image[some], inside[some]
        places = [np.arange(n) * s + s // 2 for n, s in zip(inside.shape, step, strict=True)]
        counts = [inside.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
        if not counts[0].any():
            return
        low, high = (np.array([p[c > 0][end] for p, c in zip(places, counts, strict=True)]) for end in (0, -1))
        high += 1
        extent = (high - low) * spacing
        sides = np.full(3, extent.max())
        if volume.spacing is None:  # The distance of slices is not known: the slice axis has a scale of its own.
            sides = np.array([extent[0], extent[1:].max(), extent[1:].max()])
        grey = _grey(image[inside])
        each = int(np.prod(step))
        own = _cubes(places, inside, grey, (low + high) / 2, sides / spacing, each)
        whole = np.array(volume.grid)
        placed = _cubes(places, inside, grey, whole / 2, whole.astype(float), each) if self.registered else None
        middle = [float(p @ c / c.sum()) for p, c in zip(places, counts, strict=True)]
        centre = tuple((np.array(middle) * spacing).tolist())
        self.shapes.append(Shape(subject, role, own, placed, centre, volume.spacing is None))

    def findings(self) -> list[Finding]:
        """Return who lies otherwise than the healthy ones, or than all where these are too few."""
        healthy = [s for s in self.shapes if s.role in HEALTHY]
        reference = healthy if len(healthy) > FEWEST else self.shapes
        if len(reference) <= FEWEST:
            return []
        turned = self._turned(reference)
        out = gathered(308, turned)
        if self.registered:
            good = [s for s in reference if s.subject.key not in turned]
            rest = [s for s in self.shapes if s.subject.key not in turned]
            if len(good) > FEWEST:
                off = _displaced(rest, good)
                out += gathered(309, {key: words for key, (words, drop) in off.items() if drop > FAR})
                slightly = {key: words for key, (words, drop) in off.items() if drop <= FAR}
                out += gathered(309, slightly, severity="warning")
                out += gathered(310, _mirrored(rest, good))
        return out

    def _turned(self, reference: Sequence[Shape]) -> dict[str, str]:
        totals = _totals(reference, placed=False)
        members = {id(s) for s in reference}
        out = {}
        for shape in self.shapes:
            means = _means(totals, shape.cubes, len(reference), id(shape) in members)
            here = _likeness(shape.cubes, means, STRAIGHT)
            best, turn = max(((_likeness(shape.cubes, means, t), t) for t in _turns(shape.flat)), key=lambda x: x[0])
            if best > max(here + BETTER, ALIKE):
                out[shape.subject.key] = f"fits {best:.2f} with {_words(turn)}, {here:.2f} as it lies"
        return out


def _turns(flat: bool) -> Iterator[Turn]:
    """Yield the ways to turn a cube, but for those that differ by left and right only."""
    for order in itertools.permutations(range(3)):
        if flat and order[0] != 0:
            continue
        for flips in itertools.product((0, 1), (0, 1), (0,)):
            if (order, flips) != STRAIGHT:
                yield order, flips  # type: ignore[misc]


def _words(turn: Turn) -> str:
    order, flips = turn
    swapped = [AXES[i] for i in range(3) if order[i] != i]
    mirrored = [AXES[i] for i in range(3) if flips[i]]
    parts = ["axes swapped: " + ", ".join(swapped)] if swapped else []
    return ", ".join([*parts, *(f"{axis} mirrored" for axis in mirrored)])


def _turn(cube: Cube, turn: Turn) -> Cube:
    order, flips = turn
    return cube.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]


def _grey(values: FloatArray) -> FloatArray:
    low, high = quantiles(values, (0.01, 0.99))
    return np.asarray(np.clip((values - low) / max(float(high - low), 1e-12), 0, 1))


def _cubes(
    places: Sequence[NDArray[np.int64]],
    inside: BoolArray,
    grey: FloatArray,
    centre: FloatArray,
    sides: FloatArray,
    each: int,
) -> tuple[Cube, Cube]:
    """Return how full and how bright every cell is.

    Args:
        places: of the voxels along each axis of the volume.
        inside: which of them are foreground.
        grey: their intensities, 0 to 1.
        centre: of the cells, in voxels.
        sides: of all cells together along each axis, in voxels.
        each: how many voxels of the volume one of them stands for.
    """
    from scipy import ndimage

    d, h, w = (
        np.clip(((place + 0.5 - c) / s + 0.5) * SIDE, 0, SIDE - 1).astype(np.int32)
        for place, c, s in zip(places, centre, sides, strict=True)
    )
    flat = ((d[:, None, None] * SIDE + h[:, None]) * SIDE + w)[inside]
    voxels = np.bincount(flat, minlength=SIDE**3)
    light = np.bincount(flat, weights=grey, minlength=SIDE**3)
    # Thick slices leave cells empty that lie between them; then no cell holds less than a voxel's share.
    full = each * voxels / max(1.0, float(np.prod(sides)) / SIDE**3)
    bright = light / np.maximum(voxels, 1)
    smooth = (ndimage.gaussian_filter(x.reshape((SIDE,) * 3).clip(0, 1), 0.7) for x in (full, bright))
    first, second = (np.rint(255 * x).astype(np.uint8) for x in smooth)
    return first, second


def _totals(shapes: Sequence[Shape], *, placed: bool) -> tuple[FloatArray, FloatArray]:
    first, second = (np.zeros((SIDE,) * 3) for _ in range(2))
    for shape in shapes:
        cubes = shape.placed if placed and shape.placed else shape.cubes
        first += cubes[0]
        second += cubes[1]
    return first, second


def _means(
    totals: tuple[FloatArray, FloatArray], cubes: tuple[Cube, Cube], count: int, member: bool
) -> tuple[FloatArray, FloatArray]:
    """Return the mean cubes of the reference without the volume itself."""
    first, second = ((total - cube * member) / (count - member) for total, cube in zip(totals, cubes, strict=True))
    return first, second


def _likeness(cubes: tuple[Cube, Cube], means: tuple[FloatArray, FloatArray], turn: Turn) -> float:
    """Return the mean correlation of foreground and intensities."""
    return float(np.mean([_correlation(_turn(c, turn), m) for c, m in zip(cubes, means, strict=True)]))


def _correlation(a: Cube | FloatArray, b: FloatArray) -> float:
    x, y = (np.asarray(v, float) - float(np.mean(v)) for v in (a, b))
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale > 0 else 0.0


def _displaced(shapes: Sequence[Shape], reference: Sequence[Shape]) -> dict[str, tuple[str, float]]:
    """Return whose foreground overlaps less with the mean healthy foreground than healthy ones do: words, and how much."""
    totals = _totals(reference, placed=True)
    members = {id(s) for s in reference}
    middle = np.median([s.centre for s in reference], axis=0)
    overlap, distance = {}, {}
    for shape in shapes:
        if shape.placed is None:
            continue
        mean = _means(totals, shape.placed, len(reference), id(shape) in members)[0]
        own = shape.placed[0].astype(float)
        overlap[shape.subject.key] = 2 * float(np.minimum(own, mean).sum()) / float((own + mean).sum())
        distance[shape.subject.key] = float(np.linalg.norm(np.array(shape.centre) - middle))
    values = np.array([overlap[s.subject.key] for s in reference if s.subject.key in overlap])
    usual = float(np.median(values))
    spread = float(np.median(np.abs(values - usual)))
    return {
        key: (f"overlap {value:.2f}, of the healthy {usual:.2f}; centre {distance[key]:.0f} mm away", usual - value)
        for key, value in overlap.items()
        if usual - value > max(NEAR, 8 * spread)
    }


def _mirrored(shapes: Sequence[Shape], reference: Sequence[Shape]) -> dict[str, str]:
    """Return whose intensities are asymmetric in the opposite way to the healthy ones."""
    total = _totals(reference, placed=True)
    members = {id(s) for s in reference}
    found = {}
    for shape in shapes:
        if shape.placed is None:
            continue
        mean = _means(total, shape.placed, len(reference), id(shape) in members)[1]
        own = shape.placed[1].astype(float)
        found[shape.subject.key] = _correlation(own - own[:, :, ::-1], mean - mean[:, :, ::-1])
    usual = float(np.median([found[s.subject.key] for s in reference if s.subject.key in found]))
    if usual < TYPICAL_ASYMMETRY:
        return {}
    return {
        key: f"asymmetry correlates {value:.2f} with that of the healthy, theirs {usual:.2f}"
        for key, value in found.items()
        if value < -usual / 2
    }
