"""The steps that change the grid: reorient, resample, crop_to_brain, crop_pad, downsample, slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.errors import DataError
from uadbench.prepare.images import Image, array, itk, orient, orientation_of, to_grid
from uadbench.prepare.scans import Scans
from uadbench.prepare.steps import Note, Step
from uadbench.prepare.template import cube_grid

How = Literal["linear", "bspline"]
Around = Literal["grid", "brain", "template"]
Size = tuple[
    Annotated[int, Field(ge=1)],
    Annotated[int, Field(ge=1)],
    Annotated[int, Field(ge=1)],
]


@dataclass(frozen=True)
class Reorient(Step):
    """Turn and flip the axes of the files; nothing is interpolated."""

    name: ClassVar[str] = "reorient"

    to: Annotated[
        Literal["RAS", "LPS", "LAS", "LPI"],
        Field(description="where the axes point to: right or left, anterior or posterior, superior or inferior"),
    ] = "RAS"

    def __call__(self, scans: Scans) -> Note:
        """Reorient everything."""
        was = {name: orientation_of(image) for name, image in scans.images.items()}
        scans.change(lambda image, _: orient(image, self.to))
        return {"was": was}


@dataclass(frozen=True)
class Resample(Step):
    """Bring voxels to cubes; masks by nearest neighbour."""

    name: ClassVar[str] = "resample"

    mm: Annotated[float, Field(gt=0, description="edge of a voxel")] = 1.0
    how: Annotated[How, Field(description="interpolation of images")] = "linear"
    clip: Annotated[bool, Field(description="keep values within those that were there; B-splines overshoot")] = True

    def __call__(self, scans: Scans) -> Note:
        """Resample everything."""
        was = {name: [round(v, 3) for v in image.GetSpacing()] for name, image in scans.images.items()}

        def action(image: Image, is_mask: bool) -> Image:
            if np.allclose(image.GetSpacing(), self.mm, atol=1e-3):
                return image
            out = to_grid(image, cube_grid(image, self.mm), nearest=is_mask, how=self.how)
            return out if is_mask or not self.clip else clipped(out, image)

        scans.change(action)
        return {"was": was}


@dataclass(frozen=True)
class Downsample(Step):
    """Average blocks of voxels; a block belongs to a mask if at least half of it does, so that nothing moves.

    Volumes of lesions change: 0.95 to 1.11 times in lesions of 1 to 80 ml at factor 2, and those of a few voxels lose more;
    `lesion_kept` in the quality table says by how much.
    """

    name: ClassVar[str] = "downsample"

    factor: Annotated[int, Field(ge=2, le=8, description="voxels along one edge of a block")] = 2

    def __call__(self, scans: Scans) -> Note:
        """Downsample everything; voxels that fill no block are left out."""
        sitk = itk()

        def action(image: Image, is_mask: bool) -> Image:
            if min(image.GetSize()) < self.factor:
                raise DataError(f"{scans.key}: an image of {image.GetSize()} voxels cannot be downsampled")
            small = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), [self.factor] * 3)
            return sitk.Cast(small >= 0.5, sitk.sitkUInt8) if is_mask else small

        scans.change(action)
        if scans.stripped:
            scans.strip()
        return {}


@dataclass(frozen=True)
class CropToBrain(Step):
    """Cut away what is outside the box around the brain."""

    name: ClassVar[str] = "crop_to_brain"

    around: Annotated[
        Literal["brain", "template"],
        Field(
            description="brain: each scan's own, so that scans are no longer registered; template: the same box for all"
        ),
    ] = "template"
    margin: Annotated[float, Field(ge=0, description="millimetres that are kept around it")] = 0.0
    last_plane: Annotated[bool, Field(description="keep the last plane with brain along each axis")] = True

    @property
    def by_template(self) -> bool:
        """Whether the box is the template's."""
        return self.around == "template"

    def __call__(self, scans: Scans) -> Note:
        """Crop everything."""
        reference = scans.one_grid(self.name)
        low, high = _box(scans, self.around, self.name)
        margin = np.ceil(self.margin / np.array(reference.GetSpacing())).astype(int)
        first = np.maximum(low - margin, 0)
        last = np.minimum(high + margin - (0 if self.last_plane else 1), np.array(reference.GetSize()) - 1)
        if (last < first).any():
            raise DataError(f"{scans.key}: the brain is one plane thick and crop_to_brain cuts it; look at the mask")
        _cut(scans, first, last - first + 1)
        return {"size": [int(n) for n in last - first + 1]}


@dataclass(frozen=True)
class CropPad(Step):
    """Cut or pad with 0 to a number of voxels."""

    name: ClassVar[str] = "crop_pad"

    size: Annotated[Size, Field(description="voxels from left to right, back to front, bottom to top")] = (
        192,
        192,
        160,
    )
    centre: Annotated[Around, Field(description="of what: the grid, each scan's own brain, or the template's")] = "grid"

    @property
    def by_template(self) -> bool:
        """Whether the middle is the template's."""
        return self.centre == "template"

    def __call__(self, scans: Scans) -> Note:
        """Crop or pad everything."""
        reference = scans.one_grid(self.name)
        axial(reference, scans.key, self.name)
        if self.centre == "grid":
            middle = np.array(reference.GetSize()) / 2
        else:
            low, high = _box(scans, self.centre, self.name)
            middle = (low + high + 1) / 2
        _cut(scans, np.floor(middle - np.array(self.size) / 2 + 0.5).astype(int), np.array(self.size))
        return {"lost": round(scans.lost, 4)}


@dataclass(frozen=True)
class Slices(Step):
    """Leave out axial slices at the bottom and at the top."""

    name: ClassVar[str] = "slices"

    bottom: Annotated[int, Field(ge=0, description="slices left out at the bottom")] = 0
    top: Annotated[int, Field(ge=0, description="slices left out at the top")] = 0

    def __call__(self, scans: Scans) -> Note:
        """Crop everything."""
        reference = scans.one_grid(self.name)
        upwards = axial(reference, scans.key, self.name)
        size = np.array(reference.GetSize())
        if size[2] <= self.bottom + self.top:
            raise DataError(f"{scans.key}: it has {size[2]} slices and {self.bottom + self.top} are to be left out")
        first = np.array([0, 0, self.bottom if upwards else self.top])
        lost = scans.lost
        _cut(scans, first, size - [0, 0, self.bottom + self.top])
        scans.lost = lost  # These slices were meant to go.
        return {"kept": int(size[2] - self.bottom - self.top)}


def clipped(image: Image, like: Image) -> Image:
    """Return an image with its values within those of another."""
    values = array(like)
    return itk().Clamp(image, image.GetPixelID(), float(values.min()), float(values.max()))


def axial(image: Image, key: str, step: str) -> bool:
    """Return whether the last axis of an image points upwards.

    Raises:
        DataError: if the axes are not left-right, back-front, bottom-top.
    """
    word = orientation_of(image)
    if word[0] not in "RL" or word[1] not in "AP":
        raise DataError(f"{key}: {step} needs axial slices and the axes are {word}; put the step reorient before it")
    return word[2] == "S"


def _box(scans: Scans, around: Literal["brain", "template"], step: str) -> tuple[Any, Any]:
    """Return the first and the last voxel (x, y, z) of the brain."""
    reference = scans.images[scans.first]
    if around == "template":
        if scans.template is None:
            raise DataError(
                f"{scans.key}: {step} goes by the template and there is none; put the step register before it"
            )
        mask = to_grid(scans.template.mask, reference, nearest=True)
    elif "foreground" in scans.masks:
        mask = scans.masks["foreground"]
    else:
        raise DataError(
            f"{scans.key}: {step} goes by the brain and there is no mask; put the step skull_strip before it"
        )
    places = np.argwhere(array(mask))[:, ::-1]
    if not len(places):
        raise DataError(f"{scans.key}: no brain is left for {step}; look at the steps before it")
    return places.min(axis=0), places.max(axis=0)


def _cut(scans: Scans, first: Any, size: Sequence[int] | Any) -> None:
    """Crop or pad everything to `size` voxels from the voxel `first`, which may lie outside."""
    sitk = itk()
    reference = scans.images[scans.first]
    old = np.array(reference.GetSize())
    last = first + np.array(size)
    below, above = np.maximum(-first, 0), np.maximum(last - old, 0)
    before = int(array(scans.masks["foreground"]).sum()) if "foreground" in scans.masks else 0

    def action(image: Image, _: bool) -> Image:
        padded = sitk.ConstantPad(image, [int(n) for n in below], [int(n) for n in above], 0.0)
        return sitk.RegionOfInterest(padded, [int(n) for n in size], [int(n) for n in first + below])

    scans.change(action)
    if before:
        scans.lost = 1 - (1 - scans.lost) * float(array(scans.masks["foreground"]).sum()) / before
