"""Voxel z-score: how many standard deviations is each voxel from the same place in healthy volumes?

The classical baseline of brain imaging. It needs volumes that are registered to one template.

Paper    none in particular; voxel-wise comparison with a healthy group
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from typing_extensions import Self

from uadbench.errors import Incompatible
from uadbench.method import Batch, Images, Method, Run, require_fitted


@dataclass
class VoxelZScore(Method):
    """Anomaly map = |smoothed volume - mean of healthy| / standard deviation of healthy, mean over channels."""

    ndim: ClassVar[Literal[2, 3]] = 3
    needs: ClassVar[frozenset[str]] = frozenset({"registered"})
    family: ClassVar[str] = "statistics"

    smoothing: Annotated[float, Field(ge=0, le=10, description="sigma of the Gaussian smoothing in voxels")] = 1.0
    floor: Annotated[
        float, Field(gt=0, le=1, description="smallest standard deviation, as a share of the image's scale of 1")
    ] = 0.03

    def fit(self, healthy: Images, *, val: Images, run: Run) -> Self:
        """Keep mean and standard deviation (C, D, H, W) of the smoothed healthy volumes."""
        total, squares = torch.zeros(healthy.shape), torch.zeros(healthy.shape)
        with run.bar("fit", len(healthy)) as advance:
            for batch in healthy.batches(1):
                smoothed = self._smooth(batch.image)[0]
                total += smoothed
                squares += smoothed**2
                advance(1)
        self.mean_ = total / len(healthy)
        variance = (squares / len(healthy) - self.mean_**2).clamp(min=0.0)
        self.std_ = variance.sqrt().clamp(min=self.floor)
        return self

    def score(self, batch: Batch) -> Tensor:
        """Return maps (B, D, H, W) of volumes (B, C, D, H, W)."""
        require_fitted(self, "mean_")
        if batch.image.shape[1:] != self.mean_.shape:
            raise Incompatible(
                f"voxel_zscore was fitted on volumes {tuple(self.mean_.shape)} and cannot score one of "
                f"{tuple(batch.image.shape[1:])}; register all volumes to one grid"
            )
        mean, std = self.mean_.to(batch.image.device), self.std_.to(batch.image.device)
        return ((self._smooth(batch.image) - mean) / std).abs().mean(dim=1)

    def _smooth(self, image: Tensor) -> Tensor:
        """Return images (B, C, D, H, W) after a separable Gaussian, borders repeated."""
        if self.smoothing == 0:
            return image
        reach = max(1, round(3.0 * self.smoothing))
        offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (offsets / self.smoothing) ** 2)
        kernel /= kernel.sum()
        out = image.flatten(0, 1)[:, None]
        for axis in range(3):
            shape = [1, 1, 1, 1, 1]
            shape[2 + axis] = -1
            pad = [0] * 6
            pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = reach
            out = functional.conv3d(functional.pad(out, pad, mode="replicate"), kernel.view(shape))
        return out.reshape(image.shape)
