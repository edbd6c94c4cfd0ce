"""Noise images drawn per image from its own seed: Gaussian, and multi-octave simplex noise.

One seed, one noise image: whatever else is in the batch, and on whatever device it is computed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

OCTAVES = 6
PERSISTENCE = 0.8
BASE = 64.0
"""Wave length of the first octave in pixels; each further octave halves it. As in the released mDDPM code."""

# Directions of the gradients at the points of the lattice, and the factor that brings the noise to about [-1, 1].
# Both belong to the definition of OpenSimplex noise (K. Spencer, 2014), two-dimensional.
_GRADIENTS = torch.tensor([(5, 2), (2, 5), (-5, 2), (-2, 5), (5, -2), (2, -5), (-5, -2), (-2, -5)], dtype=torch.float32)
_NORM = 47.0
_SQUISH = (math.sqrt(3.0) - 1.0) / 2.0
_STRETCH = (1.0 / math.sqrt(3.0) - 1.0) / 2.0


def generators(seeds: Tensor) -> list[Generator]:
    """Return one random generator for each of the seeds (B,)."""
    return [Generator().manual_seed(int(seed)) for seed in seeds]


def gaussian(draws: Sequence[Generator], shape: tuple[int, int, int], device: torch.device | str) -> Tensor:
    """Return noise (B, C, H, W) with mean 0 and variance 1, image b from generator b."""
    return torch.stack([torch.randn(shape, generator=g) for g in draws]).to(device)


def simplex(draws: Sequence[Generator], shape: tuple[int, int, int], device: torch.device | str) -> Tensor:
    """Return simplex noise (B, C, H, W): the sum over k of 0.8^k s(y / f_k, x / f_k) with f_k = 64 / 2^k, k = 0..5.

    s is OpenSimplex noise with a random gradient at each lattice point; all channels of an image share one noise image.
    Pooled over images the standard deviation is about 0.577; single images differ much in mean and spread.

    The pixel grid never changes, so the noise is linear in the gradients with fixed coefficients: one sparse product.
    """
    channels, height, width = shape
    weights, points = _lattice(height, width, str(device))
    chosen = torch.stack([torch.randint(len(_GRADIENTS), (len(points),), generator=g) for g in draws])
    gradients = _GRADIENTS[chosen].reshape(len(draws), len(points) * 2).to(device)
    with torch.autocast(weights.device.type, enabled=False):  # Noise is drawn in fp32, whatever networks compute in.
        noise: Tensor = torch.sparse.mm(weights, gradients.T).T
    return noise.reshape(len(draws), 1, height, width).expand(-1, channels, -1, -1)


@lru_cache(maxsize=16)
def _lattice(height: int, width: int, device: str) -> tuple[Tensor, NDArray[np.int64]]:
    """Return the coefficients (H W, 2 L) of the noise in the gradients of the lattice points, and the points (L, 2)."""
    y, x = np.mgrid[0:height, 0:width].reshape(2, -1).astype(np.float64)
    rows, points, values = [], [], []
    for octave in range(OCTAVES):
        wave = BASE / 2.0**octave
        px, py = x / wave, y / wave
        # Skewed coordinates turn the triangular lattice into integer points.
        skew = (px + py) * _STRETCH
        i0, j0 = np.floor(px + skew).astype(int), np.floor(py + skew).astype(int)
        # No lattice point further away than these reaches a pixel of the cell.
        for i, j in ((i0 + di, j0 + dj) for di in (-1, 0, 1, 2) for dj in (-1, 0, 1, 2)):
            dx, dy = px - i - (i + j) * _SQUISH, py - j - (i + j) * _SQUISH
            falloff = 2.0 - dx**2 - dy**2
            near = np.flatnonzero(falloff > 0.0)
            scale = PERSISTENCE**octave * falloff[near] ** 4 / _NORM
            rows.append(np.repeat(near, 2))
            points.append(np.stack([i[near], j[near]], 1).repeat(2, axis=0))
            values.append(np.stack([scale * dx[near], scale * dy[near]], 1).ravel())
    unique, which = np.unique(np.concatenate(points), axis=0, return_inverse=True)
    columns = which.reshape(-1) * 2 + np.tile([0, 1], len(which.reshape(-1)) // 2)
    index = torch.from_numpy(np.stack([np.concatenate(rows), columns]))
    entries = torch.from_numpy(np.concatenate(values).astype(np.float32))
    weights = torch.sparse_coo_tensor(index, entries, (height * width, 2 * len(unique)), check_invariants=False)
    with warnings.catch_warnings():
        # torch calls the layout a beta; products with it are several times faster than with the COO layout.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        return weights.coalesce().to_sparse_csr().to(device), unique
