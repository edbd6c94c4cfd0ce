"""From tissues to an image: contrast, scanner, texture, blur, bias field and Rician noise.

All intensities are told as fractions of healthy white matter's and scaled to some hundreds at the end. The fractions were
compared with skull-stripped T1, T2 and FLAIR scans of real people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import uadbench.datasets._phantom_fields as fields
from uadbench.datasets._phantom_recipe import Contrast, Scanner
from uadbench.datasets._phantom_tissue import Tissue

_DURA = 0.08
"""Intensity of the dark skin around the brain; skull stripping never takes all of it away."""
LARGEST = 65535
"""Intensities are whole numbers, as scanners write them."""


@dataclass(frozen=True)
class Look:
    """How tissues look in one contrast, as fractions of white matter's intensity.

    Attributes:
        fluid: cerebrospinal fluid.
        grey: grey matter.
        spread: standard deviation between people of their distance from white matter, relative.
        detail: weight of what the template's T1 adds.
        iron: change where iron is.
        rim: change in the millimetre of tissue that lines the ventricles.
        patchy: standard deviation of the slow variation within a tissue.
        grain: standard deviation of the tissue's fine texture.
        noise: standard deviation of each channel of the receiver.
    """

    fluid: float
    grey: float
    spread: float
    detail: float
    iron: float
    rim: float
    patchy: float
    grain: float
    noise: float


LOOKS: dict[Contrast, Look] = {
    "t1": Look(
        fluid=0.26, grey=0.70, spread=0.06, detail=0.9, iron=0.04, rim=0.0, patchy=0.012, grain=0.02, noise=0.012
    ),
    "t2": Look(
        fluid=3.1, grey=1.42, spread=0.09, detail=-0.9, iron=-0.38, rim=0.0, patchy=0.05, grain=0.035, noise=0.022
    ),
    "flair": Look(
        fluid=0.24, grey=1.25, spread=0.07, detail=-0.5, iron=-0.2, rim=0.1, patchy=0.035, grain=0.03, noise=0.024
    ),
}


@dataclass(frozen=True)
class Machine:
    """What tells one scanner from another: factors and levels, all mild.

    Attributes:
        level: mean intensity of white matter.
        noise: factor of the noise.
        contrast: factor of the distance of grey matter and fluid from white matter.
        bias: standard deviation of the logarithm of the bias field.
        blur: weight of each neighbour in the point spread function along D, H, W.
    """

    level: float
    noise: float
    contrast: float
    bias: float
    blur: tuple[float, float, float]


MACHINES: dict[Scanner, Machine] = {
    "a": Machine(level=420.0, noise=0.9, contrast=1.04, bias=0.04, blur=(0.08, 0.11, 0.11)),
    "b": Machine(level=560.0, noise=1.25, contrast=0.95, bias=0.06, blur=(0.11, 0.14, 0.14)),
}


@dataclass(frozen=True)
class Palette:
    """The intensities of one scan, fractions of white matter's, after all that varies between people and scanners."""

    fluid: float
    grey: float
    look: Look
    machine: Machine


def draw_palette(rng: np.random.Generator, contrast: Contrast, scanner: Scanner) -> Palette:
    """Draw the intensities of one scan."""
    look, machine = LOOKS[contrast], MACHINES[scanner]
    fluid, grey = (1 + (v - 1) * machine.contrast * rng.normal(1, look.spread) for v in (look.fluid, look.grey))
    return Palette(fluid=max(fluid, 0.08), grey=grey, look=look, machine=machine)


def intensity(tissue: Tissue, palette: Palette) -> Tensor:
    """Return the intensities (N,) of healthy tissue, fractions of white matter's, before the scanner adds its own."""
    look = palette.look
    solid = palette.grey + (1 - palette.grey) * tissue.white
    solid = solid + look.iron * tissue.iron + look.patchy * tissue.texture
    if look.rim:
        solid = solid + look.rim * torch.exp(-(((tissue.ventricle - 0.5) / 1.5) ** 2))
    mixed = palette.fluid * tissue.fluid + solid * (1 - tissue.fluid) + look.detail * tissue.detail
    return mixed * (tissue.depth / 1.4).clamp(_DURA, 1)


def acquire(rng: np.random.Generator, clean: Tensor, tissue: Tissue, palette: Palette) -> Tensor:
    """Return what the scanner makes of the intensities `clean` (N,): whole numbers in float32, (N,)."""
    look, machine = palette.look, palette.machine
    image = torch.zeros(tissue.rows.shape)
    image.view(-1)[tissue.index] = clean * (1 + look.grain * _normal(rng, len(clean)))
    seen = _blur(image, machine.blur).view(-1)[tissue.index]
    seen = seen * _bias(rng, tissue, machine.bias)
    noise = look.noise * machine.noise
    seen = torch.sqrt((seen + noise * _normal(rng, len(clean))) ** 2 + (noise * _normal(rng, len(clean))) ** 2)
    level = machine.level * float(rng.normal(1, 0.08))
    return (seen * level).round().clamp(1, LARGEST)


def _normal(rng: np.random.Generator, count: int) -> Tensor:
    """Return normal random numbers (count,)."""
    return torch.from_numpy(rng.standard_normal(count, dtype=np.float32))


def _bias(rng: np.random.Generator, tissue: Tissue, strength: float) -> Tensor:
    """Return a smooth positive factor (N,) whose logarithm has about the standard deviation `strength`."""
    slope = torch.from_numpy(rng.normal(0, strength / 75, 3).astype(np.float32))
    logarithm = fields.smooth_noise(rng, 1, ((40.0, strength),)) + fields.as_field((fields.nodes() @ slope)[None])
    return fields.upsample(torch.exp(logarithm), tissue.size)[0][tissue.index]


def _blur(image: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Return `image` (D, H, W) where along every axis each neighbour counts with its weight and the voxel with the rest."""
    for axis, weight in enumerate(weights):
        if image.shape[axis] < 3:
            continue
        length = image.shape[axis]
        out = image * (1 - 2 * weight)
        out.narrow(axis, 1, length - 1).add_(image.narrow(axis, 0, length - 1), alpha=weight)
        out.narrow(axis, 0, length - 1).add_(image.narrow(axis, 1, length - 1), alpha=weight)
        image = out
    return image
