"""Lesions with exact masks: where they grow, which shape they take and how they look.

A lesion is planned in millimetres before the image exists, because a tumour pushes the anatomy aside, and painted over
the healthy intensities afterwards. A voxel of which it takes more than half is in its mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import uadbench.datasets._phantom_fields as fields
from uadbench.datasets._phantom_anatomy import Person, Push, brain_nodes
from uadbench.datasets._phantom_recipe import Contrast, Kind
from uadbench.datasets._phantom_template import Template
from uadbench.datasets._phantom_tissue import Tissue

Part = Literal["oedema", "core", "necrosis", "plaque", "iso", "hypo"]

VOLUMES: dict[Kind, tuple[float, float, float]] = {"tumour": (5, 22, 60), "iso": (3, 11, 30), "hypo": (2, 6.5, 20)}
"""Least, median and largest volume in millilitres."""

LEVELS: dict[Part, dict[Contrast, tuple[float, float]]] = {
    "oedema": {"t1": (0.88, 0.76), "t2": (1.5, 2.1), "flair": (1.3, 1.65)},
    "core": {"t1": (0.74, 0.58), "t2": (1.55, 2.1), "flair": (1.22, 1.55)},
    "necrosis": {"t1": (0.5, 0.36), "t2": (2.3, 2.9), "flair": (0.9, 0.55)},
    "plaque": {"t1": (0.84, 0.6), "t2": (1.55, 2.1), "flair": (1.3, 1.6)},
    "iso": {"t1": (0.73, 0.79), "t2": (1.3, 1.38), "flair": (1.09, 1.14)},
    "hypo": {"t1": (0.36, 0.2), "t2": (0.52, 0.26), "flair": (0.48, 0.24)},
}
"""Intensities in place of white matter, fractions of its intensity, faint and plain. "iso" is what cortex shows."""

_LEAST_ML = 0.6


@dataclass(frozen=True)
class Spot:
    """One ellipsoid of a lesion.

    Attributes:
        centre: (3,), millimetres (x, y, z) of the image.
        radius: of the sphere of the same volume, millimetres.
        shape: (3, 3); |shape (p - centre)| is how far a point p would be if the ellipsoid were that sphere.
        strength: 0 faint to 1 plain.
    """

    centre: Tensor
    radius: float
    shape: Tensor
    strength: float


@dataclass(frozen=True)
class Plan:
    """A person's lesions before they are painted.

    Attributes:
        kind: of all of them.
        spots: one, or several for "ms".
        rough: (1, 2, ...) on the lattice, about unit variance: raggedness of the border, unevenness inside.
        push: the anatomy that makes way, None if none does.
        core: share of the volume that is no oedema ("tumour").
        necrosis: share of the core that is dead.
    """

    kind: Kind
    spots: tuple[Spot, ...]
    rough: Tensor
    push: Push | None = None
    core: float = 0.0
    necrosis: float = 0.0


@dataclass(frozen=True)
class Canvas:
    """What lesions are painted on: tissue, intensities (N,), how much of each voxel is lesion (N,), and the contrast."""

    tissue: Tissue
    image: Tensor
    share: Tensor
    contrast: Contrast

    def voxels(self, spot: Spot) -> float:
        """Return how many voxels make up the volume of a spot."""
        return float(4 / 3 * np.pi * spot.radius**3 / np.prod(self.tissue.spacing))

    def level(self, part: Part, spot: Spot) -> float:
        """Return the intensity of a part of a lesion, as faint or plain as the spot is."""
        faint, plain = LEVELS[part][self.contrast]
        return faint + (plain - faint) * spot.strength


def plan_lesions(rng: np.random.Generator, kind: Kind, person: Person, template: Template) -> Plan:
    """Draw where a person's lesions lie, how large they are and how strong."""
    ventricle, _, _, supra, white, depth = template.coarse.at(template.places(person.home))
    rough = fields.smooth_noise(rng, 2, ((3.5, 0.8), (8.0, 0.6)))
    healthy = (white - 0.5).clamp(min=0) * supra
    if kind == "ms":
        chances = healthy * (ventricle > 1.5) * torch.exp(-ventricle / 9)
        return Plan(kind, _plaques(rng, chances, template, person.home), rough)
    least, median, most = VOLUMES[kind]
    volume = float(np.clip(median * np.exp(rng.normal(0, 0.6)), least, most))
    radius = _radius(volume)
    if kind == "tumour":
        aside = person.home[:, 0].abs() > 0.6 * radius
        allowed = (depth > 6 + 0.75 * radius) & (ventricle > 0.4 * radius) & aside
    elif kind == "iso":
        allowed = (depth > 5 + 0.3 * radius) & (depth < 14 + 0.4 * radius) & (ventricle > 0.8 * radius + 3)
    else:
        allowed = (depth > 6 + 0.5 * radius) & (ventricle > radius + 2)
    chances = healthy * allowed
    spot = _spot(rng, _choose(rng, chances if bool(chances.any()) else healthy), radius, stretch=0.16)
    if kind != "tumour":
        return Plan(kind, (spot,), rough)
    core, necrosis = float(rng.uniform(0.2, 0.55)), float(rng.uniform(0.25, 0.5) * (rng.random() < 0.6))
    push = Push(spot.centre, _radius(volume * core), shift=float(rng.uniform(0.15, 0.32)) * radius)
    return Plan(kind, (spot,), rough, push, core, necrosis)


def _plaques(rng: np.random.Generator, chances: Tensor, template: Template, home: Tensor) -> tuple[Spot, ...]:
    """Draw 3 to 25 small lesions; those at the ventricles stand upright on their walls."""
    count = int(np.clip(round(9 * np.exp(rng.normal(0, 0.6))), 3, 25))
    radii = np.clip(3.2 * np.exp(rng.normal(0, 0.4, count)), 1.6, 6.0)
    total = float((4.19e-3 * radii**3).sum())
    radii = np.clip(radii * max(1.0, (_LEAST_ML / total) ** (1 / 3)), 1.6, 6.0)
    spots = []
    for radius in radii:
        node = _choose(rng, chances)
        wall = template.push.at(template.places(home[node : node + 1]))[:, 0]
        spots.append(_spot(rng, node, float(radius), stretch=0.12, along=wall))
    return tuple(spots)


def _spot(rng: np.random.Generator, node: int, radius: float, stretch: float, along: Tensor | None = None) -> Spot:
    """Draw an ellipsoid near one of `brain_nodes`, turned at random, longer along `along` (3,) if that has a length."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    logs = rng.normal(0, stretch, 3)
    shape = torch.from_numpy((turn * np.exp(logs - logs.mean())) @ turn.T).float()
    if along is not None and (length := float(torch.linalg.vector_norm(along))) > 0.1:
        outer = torch.outer(along / length, along / length)
        shape = shape @ ((torch.eye(3) - outer) * 1.2 + outer * 0.7)
    jitter = torch.from_numpy(rng.uniform(-fields.STEP / 2, fields.STEP / 2, 3).astype(np.float32))
    return Spot(fields.nodes()[brain_nodes()[node]] + jitter, radius, shape, float(rng.uniform()))


def _choose(rng: np.random.Generator, chances: Tensor) -> int:
    """Draw one of `brain_nodes`, each with its chance (M,)."""
    total = np.cumsum(chances.numpy().astype(np.float64))
    return int(np.searchsorted(total, rng.uniform() * total[-1], side="right").clip(max=len(total) - 1))


def _radius(volume: float) -> float:
    """Return the radius in mm of a sphere of `volume` millilitres."""
    return float((volume * 1000 * 3 / (4 * np.pi)) ** (1 / 3))


def paint(plan: Plan, tissue: Tissue, clean: Tensor, contrast: Contrast) -> tuple[Tensor, Tensor]:
    """Return the intensities (N,) with the lesions in them, and how much of each voxel is lesion (N,), 0..1."""
    canvas = Canvas(tissue, clean.clone(), torch.zeros_like(clean), contrast)
    if plan.kind == "tumour":
        _paint_tumour(plan, canvas)
    elif plan.kind == "ms":
        _paint_plaques(plan, canvas)
    else:
        _paint_mass(plan, canvas, plan.kind)
    return canvas.image, canvas.share


def _paint_tumour(plan: Plan, canvas: Canvas) -> None:
    """Paint core and oedema. Oedema follows white matter and spares sulci; the core replaces everything."""
    (spot,) = plan.spots
    rows, distance, ragged, uneven = _around(plan, spot, canvas.tissue, reach=2.3)
    fluid, white = canvas.tissue.fluid[rows], canvas.tissue.white[rows]
    whole, solid = canvas.voxels(spot), distance + 0.12 * spot.radius * ragged
    core = _fill(solid, plan.core * whole, 0.8)
    dead = _fill(solid, plan.core * plan.necrosis * whole, 0.8) if plan.necrosis else torch.zeros_like(core)
    across = (-canvas.tissue.points(rows)[:, 0] * torch.sign(spot.centre[0])).clamp(min=0)
    spread = distance + spot.radius * (0.2 * ragged + 0.45 * (1 - white) + 0.8 * fluid) + across
    spread = torch.where(core > 0.5, spread.min() - 1, spread)
    oedema = _fill(spread, whole, 1.1) * (1 - fluid)
    before = canvas.image[rows]
    swollen = canvas.level("oedema", spot) * (0.6 + 0.4 * before) * (1 + 0.03 * uneven)
    tumour = canvas.level("core", spot) * (1 + 0.09 * uneven)
    tumour = torch.lerp(tumour, torch.full_like(tumour, canvas.level("necrosis", spot)), dead)
    canvas.image[rows] = torch.lerp(torch.lerp(before, swollen, oedema), tumour, core)
    canvas.share[rows] = 1 - (1 - core) * (1 - oedema)


def _paint_plaques(plan: Plan, canvas: Canvas) -> None:
    for planned in plan.spots:
        spot = _settled(planned, canvas.tissue)
        rows, distance, ragged, uneven = _around(plan, spot, canvas.tissue, reach=2.0)
        edge = spot.radius * (1 + 0.22 * ragged).clamp(min=0.5) - distance
        here = torch.sigmoid(edge / 0.5) * (1 - canvas.tissue.fluid[rows])
        before, taken = canvas.image[rows], canvas.share[rows]
        target = canvas.level("plaque", spot) * (0.7 + 0.3 * before) * (1 + 0.04 * uneven)
        canvas.image[rows] = torch.lerp(before, target, here * (1 - taken))
        canvas.share[rows] = torch.maximum(taken, here)


def _paint_mass(plan: Plan, canvas: Canvas, part: Literal["iso", "hypo"]) -> None:
    """Paint one mass, smooth inside, that replaces white matter, cortex and sulci alike."""
    (spot,) = plan.spots
    rows, distance, ragged, uneven = _around(plan, spot, canvas.tissue, reach=1.7)
    here = _fill(distance + 0.2 * spot.radius * ragged, canvas.voxels(spot), 0.8)
    target = canvas.level(part, spot) * (1 + 0.02 * uneven)
    canvas.image[rows] = torch.lerp(canvas.image[rows], target, here)
    canvas.share[rows] = here


def _settled(spot: Spot, tissue: Tissue) -> Spot:
    """Return the spot with its centre on the nearest voxel of white matter, so that thick slices do not miss it."""
    rows = tissue.near(spot.centre, 1.5 * max(tissue.spacing))
    if not len(rows):
        return spot
    away = torch.linalg.vector_norm(tissue.points(rows) - spot.centre, dim=1)
    wrong = (tissue.white[rows] * (1 - tissue.fluid[rows]) < 0.6) | (tissue.depth[rows] < 2)
    best = int(torch.argmin(away + 100 * wrong))
    return replace(spot, centre=tissue.points(rows[best : best + 1])[0])


def _around(plan: Plan, spot: Spot, tissue: Tissue, reach: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the rows (n,) near a spot, their distance in mm, the border's raggedness and the unevenness inside."""
    rows = tissue.near(spot.centre, reach * spot.radius + 4)
    points = tissue.points(rows)
    distance = torch.linalg.vector_norm((points - spot.centre) @ spot.shape, dim=1)
    ragged, uneven = fields.read(plan.rough, points)
    return rows, distance, ragged, uneven


def _fill(values: Tensor, count: float, softness: float) -> Tensor:
    """Return 0..1 (n,), above a half for the `count` lowest values (at least one), with an edge of `softness` mm."""
    rank = max(1, round(count))
    if rank >= len(values):
        return torch.ones_like(values)
    below, above = np.partition(values.numpy(), (rank - 1, rank))[rank - 1 : rank + 1]
    return torch.sigmoid((float(below + above) / 2 - values) / softness)
