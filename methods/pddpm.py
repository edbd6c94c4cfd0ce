"""Patched DDPM: noise one box of the slice at a time and restore it from the clean rest around it.

Paper    Behrendt et al. 2023, MIDL, arXiv 2303.03758
Differs  random boxes always lie inside the slice; in the released code the border may cut them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from uadbench.diffusion import box_mask, draw_noise, grid_boxes, random_box
from uadbench.errors import BadParameter
from uadbench.method import Batch
from uadbench.methods.ddpm import DDPM
from uadbench.noise import generators

Region = Literal["whole", "grid_box", "random_box"]


@dataclass
class PDDPM(DDPM):
    """Anomaly map = |image - restored image|, the restored image stitched together box by box."""

    reference: ClassVar[str] = "Behrendt et al. 2023, MIDL, arXiv 2303.03758"
    tiny: ClassVar[Mapping[str, Any]] = {**DDPM.tiny, "scale_shift": True}

    noised_region: Annotated[
        Region, Field(description="what is noised in training: everything, a box of a fixed grid or a box anywhere")
    ] = "grid_box"
    loss_region: Annotated[Region, Field(description="where the loss looks: everywhere or in the noised box")] = (
        "grid_box"
    )
    box: Annotated[
        int | None, Field(ge=4, le=1024, description="side of a box in pixels; none is half of the slice's longer side")
    ] = None
    scale_shift: Annotated[bool, Field(description="the time scales and shifts features instead of being added")] = True

    def __post_init__(self) -> None:
        """Refuse a loss on a box that is not the noised one, and boxes that are not used or too large."""
        super().__post_init__()
        if self.loss_region not in ("whole", self.noised_region):
            raise ValueError(
                f"loss_region {self.loss_region!r} must be 'whole' or the noised_region {self.noised_region!r}"
            )
        if self.box and self.noised_region == "whole":
            raise ValueError(
                f"box={self.box} does nothing while noised_region is 'whole'; leave it out, or give "
                "noised_region=grid_box or random_box"
            )
        if self.box and self.image_size and self.box > self.image_size:
            raise ValueError(f"box={self.box} is larger than the slices; give 4 to image_size={self.image_size}")

    def build(self, shape: tuple[int, ...]) -> None:
        """Create the U-Net for images (C, H, W)."""
        if self.box and self.box > max(shape[1:]):
            raise BadParameter(f"box={self.box} is larger than the slices; give 4 to {max(shape[1:])}")
        super().build(shape)

    def regions(self, draws: Sequence[Generator], x_0: Tensor) -> tuple[Tensor, Tensor]:
        """Return where noise is added and where the loss looks, bool (B, 1, H, W)."""
        everywhere, _ = super().regions(draws, x_0)
        if self.noised_region == "whole":
            return everywhere, everywhere
        size = (x_0.shape[-2], x_0.shape[-1])
        side = self.side(size)
        if self.noised_region == "random_box":
            boxes = [random_box(g, size, side) for g in draws]
        else:
            grid = grid_boxes(size, side)
            boxes = [grid[int(torch.randint(len(grid), (1,), generator=g))] for g in draws]
        noised = box_mask(boxes, x_0)
        return noised, everywhere if self.loss_region == "whole" else noised

    def side(self, size: tuple[int, int]) -> int:
        """Return the side of a box for slices of `size` (H, W)."""
        return self.box or -(-max(size) // 2)

    def reconstruct(self, batch: Batch) -> Tensor:
        """Noise and restore every box of the grid in turn, keep each box and return the stitched images."""
        if self.noised_region == "whole":
            return super().reconstruct(batch)
        x_0 = 2.0 * batch.image - 1.0
        eps = draw_noise(self.noise, generators(batch.seed), x_0)
        stitched = x_0
        for box in grid_boxes((x_0.shape[-2], x_0.shape[-1]), self.side((x_0.shape[-2], x_0.shape[-1]))):
            inside = box_mask([box] * len(x_0), x_0)
            stitched = torch.where(inside, self.restore(x_0, eps, inside), stitched)
        return (stitched + 1.0) / 2.0
