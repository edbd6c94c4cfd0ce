"""How the template becomes maps. It is done once; the result is cached.

The template is an average of 152 people: its cortex is soft where people differ. The maps made here are sharpened, and
say how far a voxel is from being fluid or white matter instead of which grey value it has, so that every subject can
decide anew where its sulci and gyri run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadbench.arrays import BoolArray, FloatArray
from uadbench.datasets._phantom_template import HIGH, LOW

Map: TypeAlias = NDArray[Any]
"""Float32 (D, H, W), 1 mm, x from 0: the template is symmetric, and half of it is made in half the time."""

_COARSE = 3
_CLOSE = 4
_T1_FLUID, _T1_GREY, _T1_WHITE = 65.0, 165.0, 222.0
_IRON = (
    ((20, -5, -1), (6, 11, 6)),
    ((10, -16, -11), (6, 6, 4)),
    ((5, -20, -8), (4, 4, 4)),
    ((14, -58, -34), (7, 7, 6)),
)
"""Centres and radii (mm) of pallidum, substantia nigra, red nucleus and dentate nucleus, right side."""


def prepare(t1: FloatArray, grey: FloatArray, white: FloatArray) -> dict[str, NDArray[np.float16]]:
    """Return the maps "fine" and "coarse" that `_phantom_template` describes, "coarse" with 6 channels more in front.

    Args:
        t1: the template's T1, 0..255, (D, H, W), 1 mm, 0 outside the brain.
        grey: 255 times the probability of grey matter.
        white: 255 times the probability of white matter.
    """
    t1, grey, white = (m[..., -LOW[0] :] for m in (t1, grey / 255, white / 255))
    brain = np.asarray(ndimage.binary_fill_holes(t1 > 0))
    depth = _distance_inside(brain)
    fluid = np.clip(1 - grey - white, 0, 1)
    t1 = np.where(brain, t1, _T1_FLUID)
    white_t1 = _ramp(_unsharp(t1, 2.5, 0.7), _T1_GREY, _T1_WHITE)
    fine = [*_log_odds(fluid, grey, white, white_t1, depth), _detail(t1, fluid, grey, white, white_t1) * brain, depth]
    coarse: list[Map] = [*_push_and_distance(fluid), _undecided(fluid, white, depth), _iron(white_t1)]
    coarse += [1 - _below(), white, depth]
    smooth = [_mirror(_smooth(m, 1.0)[::_COARSE, ::_COARSE, ::_COARSE]) for m in coarse]
    smooth[0] *= np.sign(np.arange(LOW[0], HIGH[0] + 1, _COARSE))
    return {
        "fine": np.stack([_mirror(m) for m in fine]).clip(-8, 40).astype(np.float16),
        "coarse": np.stack([*smooth[:3], *_normals(_mirror(brain)), *smooth[3:]]).clip(-20, 60).astype(np.float16),
    }


def _mirror(half: Map) -> Map:
    """Return the whole head from its right half, x from 0."""
    return np.concatenate([half[..., :0:-1], half], axis=-1)


def _smooth(image: Map, sigma: float) -> Map:
    """Return `image` under a Gaussian of `sigma` mm; its first column is the plane of symmetry."""
    return np.asarray(ndimage.gaussian_filter(image, sigma, mode="mirror"))


def _log_odds(fluid: Map, grey: Map, white: Map, white_t1: Map, depth: Map) -> tuple[Map, Map]:
    """Return the log-odds of fluid against tissue and of white against grey matter."""
    sharp_fluid, sharp_grey, sharp_white = (_unsharp(p, 3.0, 2.0) for p in (fluid, grey, white))
    deep, thick = _deep(), _thick()
    sulci = _sulci(sharp_white > np.maximum(sharp_grey, sharp_fluid)) * (1 - np.maximum(deep, thick))
    log_fluid = 6.0 * (sharp_fluid - np.maximum(sharp_grey, sharp_white)) + sulci - _falx(depth)
    odds = np.clip(white_t1, 0.02, 0.98)
    log_white = (1 - deep) * 4.5 * (sharp_white - sharp_grey) + deep * np.log(odds / (1 - odds))
    return _smooth(log_fluid.clip(-8, 8), 0.75), log_white.clip(-7, 7)


def _detail(t1: Map, fluid: Map, grey: Map, white: Map, white_t1: Map) -> Map:
    """Return what the T1 shows and the tissue maps do not tell, fractions of white matter's intensity."""
    deep = _deep()
    share = (1 - deep) * white / np.maximum(white + grey, 0.05) + deep * np.clip(white_t1, 0.02, 0.98)
    tissue = _T1_GREY + (_T1_WHITE - _T1_GREY) * share
    return np.asarray(np.clip((t1 - fluid * _T1_FLUID - (1 - fluid) * tissue) / _T1_WHITE, -0.2, 0.2))


def _push_and_distance(fluid: Map) -> list[Map]:
    """Return a field pointing out of the lateral ventricles (x, y, z), and the millimetres to them, positive outside.

    The field is 0 in their middle, so that following it inward never leads across.
    """
    distance = -_smooth(_distance_inside(_ventricles(fluid)), 1.5)
    reach = np.where(distance > 0, np.exp(-((distance / 22) ** 2)), _ramp(distance, -3.5, 0))
    return [*(np.gradient(distance, axis=axis) * reach for axis in (2, 1, 0)), distance]


def _undecided(fluid: Map, white: Map, depth: Map) -> Map:
    """Return how much of the cortex around each voxel is neither here nor there, 0..0.9."""
    doubt = np.minimum(1 - np.maximum(white, fluid), 0.9)
    return _smooth(doubt, 5) * _ramp(-depth, -22, -14)


def _iron(white_t1: Map) -> Map:
    """Return how much iron darkens T2, 0..1: nuclei whose T1 lies between grey and white."""
    places = [_ellipsoid(centre, radii) for centre, radii in _IRON]
    odds = np.clip(white_t1, 0.02, 0.98)
    return np.asarray(np.exp(-(_nearest(places) ** 4)) * np.clip(4.5 * odds * (1 - odds), 0, 1))


def _deep() -> Map:
    """Return a weight, 1 where the T1 tells more than the tissue maps: basal ganglia, brain stem, cerebellum."""
    inside = [
        _ellipsoid((0, -6, 3), (35, 31, 19)),
        _ellipsoid((0, -28, -40), (19, 19, 42)),
        _ellipsoid((0, -64, -38), (56, 36, 30)),
    ]
    return _ramp(-_nearest(inside), -1.08, -0.92)


def _below() -> Map:
    """Return a weight, 1 in brain stem and cerebellum."""
    inside = [_ellipsoid((0, -28, -40), (22, 22, 44)), _ellipsoid((0, -64, -40), (58, 40, 30))]
    return _ramp(-_nearest(inside), -1.1, -0.9)


def _thick() -> Map:
    """Return a weight, 1 in hippocampus and amygdala, grey matter that is thick by nature."""
    return _ramp(-_ellipsoid((25, -15, -17), (11, 24, 12)), -1.1, -0.9)


def _sulci(white: BoolArray) -> Map:
    """Return the log-odds of fluid to add where sulci must be: half-way between two walls of white matter.

    The average leaves grey matter there, as wide as two cortices. Its middle is a ridge of the distance to white matter.
    """
    distance = np.asarray(ndimage.distance_transform_edt(~white), dtype=np.float32)
    return 5.8 * _ramp(-ndimage.gaussian_laplace(distance, 1.1, mode="mirror"), 0.12, 0.47) * _ramp(distance, 1.7, 2.9)


def _falx(depth: Map) -> Map:
    """Return the log-odds of fluid to take away between the hemispheres, where the average keeps them too far apart."""
    x, y, z = _axes()
    outer = _ramp(np.sqrt(((y + 20) / 52) ** 2 + ((z - 8) / 38) ** 2), 1.0, 1.2) * (z > -30)
    return np.asarray(3.0 * np.exp(-((x / 3.5) ** 2)) * outer * (depth > 3))


def _normals(brain: BoolArray) -> FloatArray:
    """Return the normals (3, d, h, w) of the brain's hull on the coarse grid: length 1 at its surface, 0 far from it."""
    coarse = brain[::_COARSE, ::_COARSE, ::_COARSE]
    margin = [(0, _CLOSE), (_CLOSE, _CLOSE), (_CLOSE, _CLOSE)]
    padded = np.pad(np.pad(coarse, margin), [(_CLOSE, 0), (0, 0), (0, 0)], mode="edge")
    grown = ndimage.distance_transform_edt(~padded) <= _CLOSE - 0.3
    closed = _distance_inside(ndimage.distance_transform_edt(grown) >= _CLOSE - 0.3)
    hull = ndimage.gaussian_filter(closed.clip(-3, 3), 4.0 / _COARSE)
    normal = np.stack([np.gradient(hull, axis=axis) for axis in (2, 1, 0)])
    normal /= np.maximum(np.sqrt((normal**2).sum(0)), 0.6)
    return normal[:, _CLOSE:-_CLOSE, _CLOSE:-_CLOSE, _CLOSE:-_CLOSE]


def _ventricles(fluid: Map) -> BoolArray:
    """Return the lateral ventricle: the fluid that hangs together with its body."""
    parts, _ = ndimage.label(fluid > 0.5)
    return np.asarray((parts > 0) & (parts == parts[20 - LOW[2], -5 - LOW[1], 10]))


def _axes() -> tuple[Map, Map, Map]:
    """Return x, y and z in millimetres, shaped to broadcast to (D, H, W) of the right half."""
    x, y, z = (np.arange(low, high + 1, dtype=np.float32) for low, high in zip((0, *LOW[1:]), HIGH, strict=True))
    return x[None, None, :], y[None, :, None], z[:, None, None]


def _ellipsoid(centre: Sequence[float], radii: Sequence[float]) -> Map:
    """Return the distance from `centre` in units of `radii` (both x, y, z in mm): 1 on the surface."""
    x, y, z = (((axis - c) / r) ** 2 for axis, c, r in zip(_axes(), centre, radii, strict=True))
    return np.asarray(np.sqrt(x + y + z))


def _nearest(distances: Sequence[Map]) -> Map:
    return np.asarray(np.minimum.reduce(distances), dtype=np.float32)


def _ramp(values: Map, low: float, high: float) -> Map:
    """Return 0 below `low`, 1 above `high`, and a straight line between."""
    return np.asarray(np.clip((values - low) / (high - low), 0, 1))


def _unsharp(image: Map, sigma: float, strength: float) -> Map:
    """Return `image` with what a Gaussian of `sigma` voxels takes away added `strength` times."""
    return image + strength * (image - _smooth(image, sigma))


def _distance_inside(mask: BoolArray) -> Map:
    """Return voxels to the edge of `mask`, positive inside. What lies at the border of the grid goes on beyond it."""
    signed = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return np.asarray(signed - 0.5 * np.sign(signed), dtype=np.float32)
