"""What a step of a recipe is, and the steps that change intensities: N4, curvature flow, normalisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.errors import DataError
from uadbench.prepare.images import Image, array, itk, to_grid, with_data
from uadbench.prepare.scans import Scans

Note = dict[str, Any]
"""What a step says it did; it is kept in the record of the scan."""


@dataclass(frozen=True)
class Step(ABC):
    """One step of a recipe: a frozen dataclass whose fields are its parameters.

    Class facts:
        name: as written in a recipe.
        guided: it may use a modality that is not wanted in the end, such as the T1 for registration.
    """

    name: ClassVar[str]
    guided: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, scans: Scans) -> Note:
        """Change `scans` in place and say what was done.

        Raises:
            DataError: naming the scan and the remedy.
        """

    @property
    def by_template(self) -> bool:
        """Whether it goes by the template of an earlier step `register`."""
        return False

    def inputs(self) -> dict[str, str]:
        """Return the hashes of the files that decide what the step does.

        Raises:
            UsageError: if one of them, or a tool, is not there. This is asked before any scan is read.
        """
        return {}


@dataclass(frozen=True)
class N4(Step):
    """Take out the slow change of brightness across the image (N4, Tustison 2010)."""

    name: ClassVar[str] = "n4"

    inside: Annotated[
        Literal["foreground", "everywhere"], Field(description="voxels that the field is estimated from")
    ] = "foreground"
    iterations: Annotated[
        tuple[int, ...], Field(min_length=1, description="largest number of iterations, one number a level")
    ] = (50, 50, 50, 50)
    tolerance: Annotated[float, Field(gt=0, description="change at which a level ends")] = 1e-3
    shrink: Annotated[int, Field(ge=1, le=8, description="the field is estimated on a grid coarser by this factor")] = 4

    def __call__(self, scans: Scans) -> Note:
        """Divide every image by its field."""
        ranges = {}
        for name, image in scans.images.items():
            mask = scans.foreground_on(image)
            if self.inside == "foreground" and mask is None:
                raise DataError(
                    f"{scans.key}: n4 works inside the foreground and there is none; put the step skull_strip before it, or "
                    'give it inside = "everywhere"'
                )
            if mask is not None and not array(mask).any():
                raise nothing_there(scans, self.name, name)
            field = self._field(image, mask if self.inside == "foreground" else None)
            corrected = array(image) / field
            scans.images[name] = with_data(corrected.astype(np.float32), image)
            seen = field if mask is None else field[array(mask) > 0]
            ranges[name] = [round(float(v), 3) for v in np.percentile(seen / np.median(seen), (1, 99))]
        return {"field": ranges}

    def _field(self, image: Image, mask: Image | None) -> Any:
        sitk = itk()
        factors = [min(self.shrink, max(1, n // 8)) for n in image.GetSize()]
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(list(self.iterations))
        n4.SetConvergenceThreshold(self.tolerance)
        small = sitk.Shrink(image, factors)
        if mask is None:
            n4.Execute(small)
        else:
            near = sitk.Resample(mask, small, sitk.Transform(), sitk.sitkNearestNeighbor)
            n4.Execute(small, near if array(near).any() else sitk.Cast(small > 0, sitk.sitkUInt8))
        return np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)))


@dataclass(frozen=True)
class CurvatureFlow(Step):
    """Smooth within regions and keep their borders (curvature flow)."""

    name: ClassVar[str] = "curvature_flow"

    time_step: Annotated[float, Field(gt=0, le=0.125, description="of one iteration; more is not stable in 3-D")] = (
        0.125
    )
    iterations: Annotated[int, Field(ge=1, description="how often")] = 3

    def __call__(self, scans: Scans) -> Note:
        """Smooth every image."""
        sitk = itk()
        scans.images = {
            name: sitk.CurvatureFlow(image, self.time_step, self.iterations) for name, image in scans.images.items()
        }
        if scans.stripped:
            scans.strip()  # The flow also rounds off the edge of the brain.
        return {}


@dataclass(frozen=True)
class Normalise(Step):
    """Bring two percentiles of the foreground to 0 and 1; the background is 0."""

    name: ClassVar[str] = "normalise"

    low: Annotated[float, Field(ge=0, lt=100, description="percentile that becomes 0; what is below is 0 too")] = 1.0
    high: Annotated[float, Field(gt=0, le=100, description="percentile that becomes 1")] = 99.0
    clip_high: Annotated[bool, Field(description="what is above the high percentile is 1 too")] = False

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")

    def __call__(self, scans: Scans) -> Note:
        """Scale every image."""
        if "foreground" not in scans.masks:
            raise DataError(
                f"{scans.key}: normalise looks at the foreground and there is none; put skull_strip before it"
            )
        ranges = {}
        for name, image in scans.images.items():
            inside = array(to_grid(scans.masks["foreground"], image, nearest=True)) > 0
            if not inside.any():
                raise nothing_there(scans, self.name, name)
            values = np.asarray(array(image))
            low, high = (float(v) for v in np.percentile(values[inside], (self.low, self.high)))
            if not high > low:
                raise DataError(
                    f"{scans.key}: {name} has the value {low:g} in nearly all of its foreground; look at it"
                )
            scaled = np.clip((values - low) / (high - low), 0.0, 1.0 if self.clip_high else None)
            scans.images[name] = with_data(np.where(inside, scaled, 0.0).astype(np.float32), image)
            ranges[name] = [low, high]
        return {"range": ranges}


def nothing_there(scans: Scans, step: str, modality: str) -> DataError:
    """Return the error for an image that shows nothing of the foreground, which may lie on another grid."""
    return DataError(
        f"{scans.key}: {step} finds nothing of the brain in the {modality}; look at the image and its mask"
    )
