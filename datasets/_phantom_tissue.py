"""A person's tissues at the voxels of an image.

Where the template, an average, leaves the cortex undecided or keeps two banks of a sulcus together, the person's own
ripples decide where fluid runs in and how far white matter reaches out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import uadbench.datasets._phantom_fields as fields
from uadbench.datasets._phantom_anatomy import FOLD_MM, SEMI_AXES, Person, Push, brain_nodes, home_of
from uadbench.datasets._phantom_fields import MIDDLE
from uadbench.datasets._phantom_recipe import CENTRE, FIELD
from uadbench.datasets._phantom_template import Template

_OUTSIDE_MM = 2.0
_STRIP_MM = -0.45
_WHITER = 0.6


@dataclass(frozen=True)
class Tissue:
    """Tissues at the N voxels in or near the brain; voxels a little outside it are what blurring mixes in.

    Attributes:
        size: (D, H, W) of the image.
        rows: (D, H, W), int64: where each voxel of the image stands among the N, -1 if it does not.
        index: (N,), flat indices of the N in the image.
        fluid: (N,), fraction of cerebrospinal fluid.
        white: (N,), fraction of white matter in what is not fluid; the rest is grey.
        detail: (N,), what the template's T1 adds, fraction of white matter's intensity.
        iron: (N,), 0..1.
        texture: (N,), slow variation of unit variance.
        ventricle: (N,), millimetres to the lateral ventricles.
        depth: (N,), millimetres to the edge of the brain, positive inside.
        inside: (N,), bool: the foreground, as skull stripping left it.
    """

    size: tuple[int, int, int]
    rows: Tensor
    index: Tensor
    fluid: Tensor
    white: Tensor
    detail: Tensor
    iron: Tensor
    texture: Tensor
    ventricle: Tensor
    depth: Tensor
    inside: Tensor

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres along D, H, W."""
        return FIELD[0] / self.size[0], FIELD[1] / self.size[1], FIELD[2] / self.size[2]

    def points(self, rows: Tensor) -> Tensor:
        """Return the centres (n, 3) of the voxels `rows` (n,) in millimetres (x, y, z)."""
        index, (_, h, w) = self.index[rows], self.size
        voxels = (index // (h * w), index // w % h, index % w)
        along = [
            (voxel + 0.5) * step + (middle - length / 2)
            for voxel, step, middle, length in zip(voxels, self.spacing, reversed(CENTRE), FIELD, strict=True)
        ]
        return torch.stack(along[::-1], dim=1)

    def near(self, centre: Tensor, reach: float) -> Tensor:
        """Return the rows of the foreground in a box of +-`reach` mm, and a voxel more, about `centre` (x, y, z)."""
        box = []
        for axis, count, length in zip((2, 1, 0), self.size, FIELD, strict=True):
            voxels = count / length
            middle = (float(centre[axis]) - CENTRE[axis] + length / 2) * voxels
            first, last = int(middle - reach * voxels) - 1, int(middle + reach * voxels) + 2
            box.append(slice(min(max(first, 0), count - 1), min(max(last, 1), count)))
        rows = self.rows[box[0], box[1], box[2]].flatten()
        rows = rows[rows >= 0]
        return rows[self.inside[rows]]


def tissue_of(person: Person, template: Template, size: tuple[int, int, int], push: Push | None = None) -> Tissue:
    """Return the person's tissues at the voxels of an image of `size` (D, H, W)."""
    dense = fields.upsample(_lattice(person, template, push), size)
    index = torch.nonzero(dense[3] > -_OUTSIDE_MM).flatten()
    x, y, z, _, ventricle, iron, strength, ripple, more_fluid, more_white, strip, texture = dense.index_select(1, index)
    log_fluid, log_white, detail, depth = template.fine.at(torch.stack([x, y, z], dim=1))
    distance = ripple.abs() * (FOLD_MM / (2 * np.pi))
    fold_fluid = strength * (1 - distance / 1.3).clamp(-0.3, 1)
    fold_white = strength * ((distance - 2.7) / 1.3).clamp(-1, 0.8)
    fluid = torch.sigmoid(log_fluid + more_fluid + fold_fluid + person.sulci * (1 - 0.5 * (ventricle < 4)))
    white = torch.sigmoid(log_white + more_white + fold_white + _WHITER)
    inside = (depth + strip > _STRIP_MM + 1.3 * fluid) & (z > -0.99)
    rows = torch.full((size[0] * size[1] * size[2],), -1)
    rows[index] = torch.arange(len(index))
    return Tissue(size, rows.view(size), index, fluid, white, detail, iron, texture, ventricle, depth, inside)


def _lattice(person: Person, template: Template, push: Push | None) -> Tensor:
    """Return what is interpolated to the voxels, (1, 12, ...)."""
    home = home_of(person, template, push)
    places = template.places(home)
    ventricle, undecided, iron, supra, _, depth = template.coarse.at(places)
    lateral = 1 - torch.exp(-((home[:, 0] / 6) ** 2))
    strength = lateral * supra * (4.0 * undecided + 4.0 * ((17 - depth) / 8).clamp(0, 1))
    parts = torch.stack([*places.T, depth, ventricle, iron, strength, _upright(person.folds)])
    everywhere = torch.full((len(parts), len(fields.nodes())), -2 * _OUTSIDE_MM)
    everywhere[:, brain_nodes()] = parts
    return torch.cat([fields.as_field(everywhere), person.tissue], dim=1)


def _upright(folds: Tensor) -> Tensor:
    """Return the ripples (M,) at `brain_nodes`, read along rays from the centre so that sulci stand upright."""
    away = fields.nodes()[brain_nodes()] - MIDDLE
    radius = torch.linalg.vector_norm(away / SEMI_AXES, dim=1, keepdim=True).clamp(min=0.3)
    return fields.read(folds, away * radius**-0.75 + MIDDLE)[0]
