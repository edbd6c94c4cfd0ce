"""The step register: the images of one scan onto each other, and together onto a template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.arrays import FloatArray
from uadbench.errors import UsageError
from uadbench.prepare.grids import How, clipped
from uadbench.prepare.images import Image, array, itk, same_grid, to_grid, with_data
from uadbench.prepare.registration import Kind, align, matrix_of
from uadbench.prepare.scans import Scans
from uadbench.prepare.steps import Note, Step
from uadbench.prepare.template import (
    ICBM152,
    Template,
    load_template,
    modality_of,
    template_hashes,
)


@dataclass(frozen=True)
class Register(Step):
    """Bring all images onto a template with one interpolation each.

    One modality is registered to the template. The others follow: with the same transform if they lie on its grid, else
    each is first registered to it rigidly.
    """

    name: ClassVar[str] = "register"
    guided: ClassVar[bool] = True

    template: Annotated[
        str,
        Field(
            description='"icbm152" (T1, comes with nilearn), or the file of a brain; {modality} in it stands for t1, t2...'
        ),
    ] = ICBM152
    kind: Annotated[Kind, Field(description="rigid keeps sizes, affine does not")] = "affine"
    by: Annotated[str, Field(description="modality that is registered if there is one; else the first")] = "t1"
    mm: Annotated[float, Field(gt=0, description="edge of the voxels of the result")] = 1.0
    how: Annotated[How, Field(description="interpolation of images")] = "linear"
    masks: Annotated[
        Literal["nearest", "linear"],
        Field(description="interpolation of masks; linear, with all above 0 kept, makes lesions larger"),
    ] = "nearest"
    finest: Annotated[Literal[2, 4, 8], Field(description="millimetres of the last level of the search")] = 2
    seed: Annotated[int, Field(ge=0, description="of the choice of voxels that are compared")] = 0

    def inputs(self) -> dict[str, str]:
        """Return the hashes of the template's files."""
        return template_hashes(self.template)

    def __call__(self, scans: Scans) -> Note:
        """Register and resample everything."""
        leader = modality_of(self.template, list(scans.images), self.by)
        try:
            template = load_template(self.template, leader, self.mm)
            fine = load_template(self.template, leader, None)
        except UsageError as error:
            raise UsageError(f"{error} (for the {leader} of {scans.key})") from error
        image = scans.images[leader]
        brain = scans.foreground_on(image) if scans.stripped else None
        if brain is None:
            scans.flags.append("registered with the skull")
        found = align(
            fine.image,
            image,
            fixed_mask=fine.mask,
            moving_mask=brain,
            kind=self.kind,
            seed=self.seed,
            finest=self.finest,
        )
        own = {leader: found.transform}
        note: dict[str, Any] = {"template": template.name, "by": leader, "metric": round(found.metric, 4)}
        for name, other in scans.images.items():
            if name != leader:
                own[name], said = self._follow(image, other, brain, found.transform)
                note |= {f"{name} to {leader}": said}
        matrix = matrix_of(found.transform)
        scans.matrix, scans.metric, scans.template = matrix, found.metric, template
        self._resample(scans, template, own)
        note["matrix"] = _rows(matrix)
        note["zoom"] = [round(float(v), 4) for v in np.linalg.svd(matrix[:3, :3])[1]]
        return note

    def _follow(self, leader: Image, other: Image, brain: Image | None, transform: Any) -> tuple[Any, Any]:
        """Return the transform from the template to another image of the same scan, and what to say of it."""
        if same_grid(leader, other):
            return transform, "same grid"
        sitk = itk()
        near = align(leader, other, fixed_mask=brain, kind="rigid", seed=self.seed, finest=self.finest)
        # The last one of a composite is applied first.
        said = {"metric": round(near.metric, 4), "matrix": _rows(matrix_of(near.transform))}
        return sitk.CompositeTransform([near.transform, transform]), said

    def _resample(self, scans: Scans, template: Template, own: dict[str, Any]) -> None:
        sitk = itk()
        images = {}
        for name, image in scans.images.items():
            out = to_grid(image, template.image, own[name], nearest=False, how=self.how)
            images[name] = clipped(out, image)
        masks = {}
        for name, mask in scans.masks.items():
            transform = own[scans.homes[name]]
            if self.masks == "nearest":
                masks[name] = to_grid(mask, template.image, transform, nearest=True)
            else:
                soft = to_grid(sitk.Cast(mask, sitk.sitkFloat32), template.image, transform, nearest=False)
                masks[name] = with_data((array(soft) > 0).astype(np.uint8), soft)
        scans.images, scans.masks = images, masks
        if scans.stripped:
            scans.strip()


def _rows(matrix: FloatArray) -> list[list[float]]:
    return [[round(float(v), 6) for v in row] for row in matrix]
