"""One person's brain as a map: where in the template each place of that person's image comes from.

The person differs from the template by an affine, a deformation of several scales that does not fold, ventricles that
widen with age, and what a growing tumour pushes aside. What becomes of the tissue there is `_phantom_tissue`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

import uadbench.datasets._phantom_fields as fields
from uadbench.datasets._phantom_fields import MIDDLE
from uadbench.datasets._phantom_recipe import AGES
from uadbench.datasets._phantom_template import Template, load_template

SEMI_AXES = torch.tensor([70.0, 88.0, 72.0])
"""Of an ellipsoid that is about as large as the brain, millimetres (x, y, z)."""
FOLD_MM = 21.0
"""Wavelength of the ripples; sulci lie half of it apart."""

_WARP: fields.Scales = ((26.0, 3.4), (11.0, 1.7), (5.5, 0.9))
_HEAD: fields.Scales = ((38.0, 1.4),)
_STEPS = 2
_MARGIN_MM = 18.0


@dataclass(frozen=True)
class Push:
    """A mass effect: tissue that makes way for something that grows.

    Attributes:
        centre: (3,), millimetres (x, y, z) of the image.
        radius: of what grows, millimetres.
        shift: how far its edge is moved outward, millimetres.
        reach: over how many millimetres the shift dies away.
    """

    centre: Tensor
    radius: float
    shift: float
    reach: float = 22.0


@dataclass(frozen=True)
class Person:
    """What is drawn once for a person. Fields are on the lattice.

    Attributes:
        ventricles: by how much the walls of the ventricles lie outside the template's, millimetres.
        sulci: widening of the sulci, log-odds of fluid.
        linear: (3, 3), from the image's millimetres to the template's.
        offset: (3,), millimetres.
        warp: (1, 3, ...), displacement in millimetres.
        folds: (1, 1, ...), ripples whose zeros become sulci.
        tissue: (1, 4, ...), changes of the log-odds of fluid and of white matter, by how much skull stripping took less
            (mm), slow texture of unit variance.
        home: (M, 3), where in the template each of `brain_nodes` comes from, without mass effect.
    """

    ventricles: float
    sulci: float
    linear: Tensor
    offset: Tensor
    warp: Tensor
    folds: Tensor
    tissue: Tensor
    home: Tensor


def draw_person(rng: np.random.Generator, template: Template, age: float) -> Person:
    """Draw everything that tells one person of that age (years) from another."""
    years = (age - AGES[0]) / (AGES[1] - AGES[0])
    linear, offset = _affine(rng)
    warp = fields.integrate(_velocity(rng))
    ventricles = float(-1.2 + 5.0 * years**1.5 + rng.normal(0, 0.9))
    sulci = float(-0.7 + 1.5 * years + rng.normal(0, 0.4))
    folds = fields.ripples(rng, FOLD_MM)
    tissue = [
        fields.smooth_noise(rng, 1, ((7.0, 0.7), (20.0, 0.5))),
        fields.smooth_noise(rng, 1, ((6.0, 0.6), (20.0, 0.3))),
        fields.smooth_noise(rng, 1, ((10.0, 0.8),)),
        fields.smooth_noise(rng, 1, ((5.0, 0.5), (14.0, 0.5))),
    ]
    warped = (fields.nodes() + warp.flatten(2)[0].T)[brain_nodes()]
    home = _widen(template, warped @ linear.T + offset, ventricles)
    return Person(ventricles, sulci, linear, offset, warp, folds, torch.cat(tissue, dim=1), home)


@lru_cache(maxsize=1)
def brain_nodes() -> Tensor:
    """Return the indices (M,) of the lattice's nodes in and around the brain, wherever a person's brain may reach."""
    template = load_template()
    depth = template.coarse.at(template.places(fields.nodes()))[-1]
    return torch.nonzero(depth > -_MARGIN_MM).flatten()


def _affine(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a matrix near identity and an offset in mm: what a registration to the template leaves over."""
    turns = np.deg2rad(rng.normal(0, 1.0, 3))
    skew = np.array([[0, -turns[2], turns[1]], [turns[2], 0, -turns[0]], [-turns[1], turns[0], 0]])
    matrix = (np.eye(3) + skew + rng.normal(0, 0.006, (3, 3))) * (1 + rng.normal(0, 0.012, 3))
    linear = torch.from_numpy(matrix.astype(np.float32))
    offset = torch.from_numpy(rng.normal(0, 0.6, 3).astype(np.float32))
    return linear, MIDDLE - linear @ MIDDLE + offset


def _velocity(rng: np.random.Generator) -> Tensor:
    """Return a velocity (1, 3, ...) that moves cortex more than the core and hardly ever across the brain's surface."""
    strength, normal = _freedom()
    velocity = fields.smooth_noise(rng, 3, _WARP) * strength
    velocity = velocity - (velocity * normal).sum(1, keepdim=True) * normal
    return velocity + fields.smooth_noise(rng, 3, _HEAD)


@lru_cache(maxsize=1)
def _freedom() -> tuple[Tensor, Tensor]:
    """Return how much each node may move along x, y, z (1, 3, ...), and the normals of the brain's surface (1, 3, ...)."""
    template, nodes = load_template(), fields.nodes()
    outward = torch.linalg.vector_norm((nodes - MIDDLE) / SEMI_AXES, dim=1)
    strength = (0.15 + 0.9 * outward).clamp(max=1.0).expand(3, -1).clone()
    strength[0] *= (0.3 + nodes[:, 0].abs() / 28).clamp(max=1)
    return fields.as_field(strength), fields.as_field(template.normal.at(template.places(nodes)))


def _widen(template: Template, points: Tensor, ventricles: float) -> Tensor:
    """Follow `points` (N, 3, mm of the template) towards the ventricles, in steps too small to cross their middle."""
    for _ in range(_STEPS):
        points = points - (ventricles / _STEPS) * template.push.at(template.places(points)).T
    return points


def home_of(person: Person, template: Template, push: Push | None = None) -> Tensor:
    """Return where in the template (M, 3) each of `brain_nodes` comes from, in millimetres."""
    if push is None:
        return person.home
    depth = template.coarse.at(template.places(person.home))[-1]
    points = _pull_back(fields.nodes()[brain_nodes()], push, room=(depth[:, None] / 14).clamp(0, 1))
    points = points + fields.read(person.warp, points).T
    return _widen(template, points @ person.linear.T + person.offset, person.ventricles)


def _pull_back(points: Tensor, push: Push, room: Tensor) -> Tensor:
    """Undo a mass effect: return where the `points` were before. `room` (N, 1) is 0 at the skull, which stays."""
    away = points - push.centre
    distance = torch.linalg.vector_norm(away, dim=1, keepdim=True).clamp(min=1e-3)
    outside = (distance - push.radius).clamp(min=0) * (1 / push.reach)
    shift = room * push.shift * torch.exp(-outside.square()) * (distance / push.radius).clamp(max=1)
    return points.sub(away * (shift / distance))
