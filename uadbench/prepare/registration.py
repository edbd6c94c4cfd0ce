"""Linear registration of one image to another by mutual information, from coarse to fine, the same result every time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from uadbench.arrays import FloatArray
from uadbench.errors import DataError
from uadbench.prepare.images import LPS, Image, array, itk, one_thread

Kind = Literal["rigid", "affine"]

BINS = 32
TILTS = 0.35
"""Radians (20 degrees) by which the first guess is tilted about each axis, to find heads that were not straight."""
LEVELS = (8.0, 4.0, 2.0)
"""Millimetres of the levels."""
SHARE = {8.0: 1.0, 4.0: 0.5, 2.0: 0.1}
"""Share of the voxels that are looked at, by level."""
STEPS = {8.0: 30, 4.0: 20, 2.0: 20}
"""Largest number of steps, by level."""


@dataclass(frozen=True)
class Alignment:
    """Where the points of one image lie in another.

    Attributes:
        transform: from points of the fixed image to points of the moving one (SimpleITK).
        metric: negative mutual information at the finest level; lower is better.
    """

    transform: Any
    metric: float


@dataclass(frozen=True)
class _Level:
    fixed: Image
    mask: Image | None
    moving: Image
    mm: float


def align(
    fixed: Image,
    moving: Image,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    kind: Kind = "affine",
    seed: int = 0,
    finest: float = 2.0,
) -> Alignment:
    """Register `moving` to `fixed`.

    The first guess puts the centres of mass (of the masks, if both are given) onto each other; the best of 27 tilts of
    it, and the scanner's own coordinates, go on. Then a rigid transform or, for affine ones, a similarity is found at the
    coarsest level, and 12 free parameters from there on. Mattes' mutual information, conjugate gradients with line search.

    Args:
        fixed: the image that stays.
        moving: the image to be moved.
        fixed_mask: where the metric looks, with a margin of one voxel of the level; None for everywhere.
        moving_mask: the same tissue in the moving image, for the first guess.
        kind: "rigid" has 6 parameters, "affine" 12.
        seed: of the choice of voxels.
        finest: millimetres of the last level, at most 8.

    Raises:
        DataError: if the two images do not overlap in any position that was tried.
    """
    with one_thread():
        return _align(fixed, moving, fixed_mask, moving_mask, kind, seed, finest)


def _align(
    fixed: Image,
    moving: Image,
    fixed_mask: Image | None,
    moving_mask: Image | None,
    kind: Kind,
    seed: int,
    finest: float,
) -> Alignment:
    levels = [_level(fixed, moving, fixed_mask, mm) for mm in LEVELS if mm >= finest]
    guesses = _guesses(fixed, moving, fixed_mask, moving_mask, kind)
    rated = [(value, n, guess) for n, guess in enumerate(guesses) if (value := _value(levels[0], guess)) is not None]
    if not rated:
        raise DataError("the image and the template overlap nowhere; is it a brain, and is its header right?")
    tried = []
    for _, n, guess in sorted(rated)[:2]:
        tried.append((_optimise(levels[0], guess, seed), n, guess))
    value, _, transform = min(tried)
    if kind == "affine":
        transform = _as_affine(transform)
        value = _optimise(levels[0], transform, seed)
    for level in levels[1:]:
        value = _optimise(level, transform, seed)
    return Alignment(transform, float(value))


def _level(fixed: Image, moving: Image, mask: Image | None, mm: float) -> _Level:
    """Return both images smoothed and on grids of `mm`; after the first level the moving one is finer."""
    sitk = itk()
    small = _smaller(fixed, mm, mm)
    near = None
    if mask is not None:
        near = sitk.Resample(mask, small, sitk.Transform(), sitk.sitkNearestNeighbor)
        near = sitk.BinaryDilate(near, [1, 1, 1])
    return _Level(small, near, _smaller(moving, mm, mm if mm == LEVELS[0] else mm / 2), mm)


def _smaller(image: Image, smooth: float, mm: float) -> Image:
    """Return an image smoothed to what voxels of `smooth` millimetres show, on a grid of at most `mm`."""
    sitk = itk()
    if smooth > min(image.GetSpacing()) and min(image.GetSize()) >= 4:
        image = sitk.SmoothingRecursiveGaussian(image, smooth / 2)
    # 1.01: a spacing of 1.0001 mm is 1 mm.
    factors = [min(n, max(1, int(1.01 * mm / old))) for old, n in zip(image.GetSpacing(), image.GetSize(), strict=True)]
    return sitk.Shrink(image, factors)


def _guesses(fixed: Image, moving: Image, fixed_mask: Image | None, moving_mask: Image | None, kind: Kind) -> list[Any]:
    """Return transforms to begin with: Euler3D for rigid registration, Similarity3D for affine."""
    sitk = itk()
    masks = fixed_mask is not None and moving_mask is not None
    one, two = (sitk.Cast(m, sitk.sitkFloat32) for m in ((fixed_mask, moving_mask) if masks else (fixed, moving)))
    blank = sitk.Euler3DTransform() if kind == "rigid" else sitk.Similarity3DTransform()
    start = sitk.CenteredTransformInitializer(one, two, blank, sitk.CenteredTransformInitializerFilter.MOMENTS)
    scale = (_volume(two) / _volume(one)) ** (1 / 3) if masks and kind == "affine" else 1.0
    out = []
    for angles in itertools.product((0.0, -TILTS, TILTS), repeat=3):
        turn = sitk.Euler3DTransform()
        turn.SetRotation(*angles)
        guess = type(blank)(start)
        guess.SetMatrix((np.array(turn.GetMatrix()) * scale).tolist())
        out.append(guess)
    as_scanned = type(blank)(start)
    as_scanned.SetIdentity()
    as_scanned.SetCenter(start.GetCenter())
    return [*out, as_scanned]


def _volume(mask: Image) -> float:
    return float(array(mask).sum() * np.prod(mask.GetSpacing()))


def _method(level: _Level, seed: int) -> Any:
    sitk = itk()
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    if (share := SHARE[level.mm]) < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, seed + 1)  # 0 means the clock to ITK.
    if level.mask is not None:
        method.SetMetricFixedMask(level.mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _value(level: _Level, guess: Any) -> float | None:
    """Return the metric of a guess; None if the images do not overlap there."""
    method = _method(level, 0)
    method.SetInitialTransform(guess)
    try:
        return float(method.MetricEvaluate(level.fixed, level.moving))
    except RuntimeError:
        return None


def _optimise(level: _Level, transform: Any, seed: int) -> float:
    """Improve `transform` in place and return its metric; where the optimiser loses the image, keep what was."""
    before = type(transform)(transform)
    method = _method(level, seed)
    method.SetOptimizerAsConjugateGradientLineSearch(
        learningRate=1.0,
        numberOfIterations=STEPS[level.mm],
        convergenceMinimumValue=1e-5,
        convergenceWindowSize=5,
        lineSearchLowerLimit=0.0,
        lineSearchUpperLimit=5.0,
        lineSearchEpsilon=0.01,
        lineSearchMaximumIterations=12,
    )
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(level.fixed, level.moving)
        return float(method.GetMetricValue())
    except RuntimeError:
        transform.SetParameters(before.GetParameters())
        return 0.0


def _as_affine(similarity: Any) -> Any:
    out = itk().AffineTransform(3)
    out.SetCenter(similarity.GetCenter())
    out.SetMatrix(similarity.GetMatrix())
    out.SetTranslation(similarity.GetTranslation())
    return out


def matrix_of(transform: Any) -> FloatArray:
    """Return a linear transform as 4x4 matrix between RAS millimetres."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    out = np.eye(4)
    for axis in range(3):
        point = [0.0, 0.0, 0.0]
        point[axis] = 100.0
        out[:3, axis] = (np.array(transform.TransformPoint(tuple(point))) - origin) / 100.0
    out[:3, 3] = origin
    return np.asarray(LPS @ out @ LPS, np.float64)
