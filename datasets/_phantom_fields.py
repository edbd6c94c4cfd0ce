"""Smooth random fields and deformations on a coarse lattice that spans the phantom's field of view.

The lattice is fixed in millimetres, so a subject has the same anatomy at every image size. Points are (N, 3) in
millimetres, order x, y, z; fields are float32 tensors (1, C, D, H, W) on the lattice.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadbench.datasets._phantom_recipe import CENTRE, FIELD
from uadbench.datasets._phantom_template import Maps

STEP = 4.0
"""Distance of the lattice's nodes in millimetres."""
SHAPE = (43, 50, 43)
"""Its nodes along D, H, W; the outer ones lie on the edge of the field of view."""
MIDDLE = torch.tensor(CENTRE)
"""Centre of the field of view, millimetres (x, y, z)."""

_HALF = torch.tensor([FIELD[2], FIELD[1], FIELD[0]]) / 2
_PERIOD = (45, 54, 45)
_SQUARINGS = 3

Scales = tuple[tuple[float, float], ...]
"""Pairs (width, amplitude) in millimetres and the field's unit: sigma of a Gaussian, standard deviation it leads to."""


def read(field: Tensor, points: Tensor) -> Tensor:
    """Return the values (C, N) of a field at `points`."""
    return Maps(field[0]).at((points - MIDDLE) / _HALF)


@lru_cache(maxsize=1)
def nodes() -> Tensor:
    """Return the positions (N, 3) of the lattice's nodes."""
    z, y, x = (torch.arange(n, dtype=torch.float32) * STEP for n in SHAPE)
    mesh = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack([mesh[2].flatten(), mesh[1].flatten(), mesh[0].flatten()], dim=1) + (MIDDLE - _HALF)


def as_field(values: Tensor) -> Tensor:
    """Return values (C, N) at the nodes as a field."""
    return values.reshape(1, -1, *SHAPE)


def upsample(field: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Return a field's values (C, D*H*W) at the voxels of an image of `size`, by linear interpolation."""
    depth, height, width = (_interpolation(n, m) for n, m in zip(size, SHAPE, strict=True))
    rows = height @ (field[0] @ width.T)
    return (depth @ rows.flatten(2)).flatten(1)


def smooth_noise(rng: np.random.Generator, channels: int, scales: Scales) -> Tensor:
    """Return `channels` independent Gaussian random fields, each with the detail of all `scales`."""
    return _draw(rng, channels, _smoothing(scales))


def ripples(rng: np.random.Generator, wavelength: float) -> Tensor:
    """Return a random field of unit variance in which `wavelength` (mm) prevails; its zeros form a maze of lines."""
    return _draw(rng, 1, _band(wavelength))


def integrate(velocity: Tensor) -> Tensor:
    """Return the displacement (1, 3, D, H, W) that a constant velocity field (mm) leads to. It does not fold."""
    grid = (nodes() - MIDDLE) / _HALF
    flow = velocity * 0.5**_SQUARINGS
    for _ in range(_SQUARINGS):
        flow = flow + as_field(Maps(flow[0]).at(grid + flow.flatten(2)[0].T / _HALF))
    return flow


@lru_cache(maxsize=16)
def _interpolation(voxels: int, count: int) -> Tensor:
    """Return the matrix (voxels, count) that takes values at `count` nodes to the centres of voxels between them."""
    position = (torch.arange(voxels, dtype=torch.float64) + 0.5) * (count - 1) / voxels
    below = position.floor().long().clamp(max=count - 2)
    matrix = torch.zeros(voxels, count, dtype=torch.float64)
    matrix[torch.arange(voxels), below] = 1 - (position - below)
    matrix[torch.arange(voxels), below + 1] = position - below
    return matrix.float()


@lru_cache(maxsize=1)
def _wave_numbers() -> NDArray[np.float64]:
    """Return |k| in radians per millimetre for half the spectrum of `_PERIOD`."""
    z, y = (np.fft.fftfreq(n, STEP) for n in _PERIOD[:2])
    x = np.fft.rfftfreq(_PERIOD[2], STEP)
    squares = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    return np.asarray(2 * np.pi * np.sqrt(squares), dtype=np.float64)


@lru_cache(maxsize=16)
def _smoothing(scales: Scales) -> NDArray[np.float32]:
    waves = _wave_numbers()
    parts = [amplitude * _normalised(np.exp(-((waves * width) ** 2) / 2)) for width, amplitude in scales]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float32)


@lru_cache(maxsize=4)
def _band(wavelength: float) -> NDArray[np.float32]:
    centre = 2 * np.pi / wavelength
    return _normalised(np.exp(-(((_wave_numbers() - centre) / (0.28 * centre)) ** 2))).astype(np.float32)


def _normalised(response: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the half spectrum of a filter such that `_draw` makes a field of unit variance with it."""
    power = np.full(response.shape[-1], 4.0)
    power[0] = 2.0
    response = response * np.prod(_PERIOD) / np.sqrt((response**2 * power).sum())
    response[..., 0] *= np.sqrt(2)
    return response


def _draw(rng: np.random.Generator, channels: int, response: NDArray[np.float32]) -> Tensor:
    """Return random fields whose spectrum is complex white noise times `response`."""
    white = rng.standard_normal((channels, *response.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    field = np.fft.irfftn(white * response, s=_PERIOD, axes=(1, 2, 3))
    d, h, w = SHAPE
    return torch.from_numpy(np.ascontiguousarray(field[None, :, :d, :h, :w], dtype=np.float32))
