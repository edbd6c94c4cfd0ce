"""Denoising diffusion: noise a slice part of the way, restore it in one step, call what changed anomalous.

The network has only seen healthy slices, so what it restores is healthy anatomy.

Paper    Ho et al. 2020 (the model); Wyatt et al. 2022, AnoDDPM (partial noising, simplex noise);
         Behrendt et al. 2023 and Iqbal et al. 2023 (x_0 is predicted in one step)
Differs  one noise image per slice, drawn from the slice's own seed, where the released code shares one over a volume
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from uadbench.diffusion import QUICK, Noise, cosine_scheduler, draw_noise, draw_timesteps
from uadbench.method import Batch
from uadbench.nets import UNet
from uadbench.noise import generators
from uadbench.training import TrainedMethod


@dataclass
class DDPM(TrainedMethod):
    """Anomaly map = |image - restored image|, mean over channels."""

    family: ClassVar[str] = "diffusion"
    stochastic: ClassVar[bool] = True
    reference: ClassVar[str] = "Wyatt et al. 2022, CVPR Workshops; settings of Behrendt et al. 2023, arXiv 2303.03758"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": QUICK}
    tiny: ClassVar[Mapping[str, Any]] = {
        "image_size": 32, "channels": (8, 16), "blocks": 1, "attention": False, "steps": 60, "batch_size": 8,
        "learning_rate": 3e-3,
    }  # fmt: skip

    image_size: Annotated[int | None, Field(ge=8, le=1024, description="longer side of a slice in pixels")] = 96
    noise: Annotated[Noise, Field(description="kind of noise")] = "simplex"
    noise_level: Annotated[int, Field(ge=1, le=1000, description="steps of noise that are added to a test slice")] = 500
    timesteps: Annotated[int, Field(ge=2, le=1000, description="steps of the whole diffusion process")] = 1000
    channels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...],
        Field(min_length=1, description="of the U-Net's levels, finest first"),
    ] = (128, 256, 256)
    blocks: Annotated[int, Field(ge=1, le=8, description="residual blocks on each level")] = 3
    scale_shift: Annotated[bool, Field(description="the time scales and shifts features instead of being added")] = (
        False
    )
    attention: Annotated[bool, Field(description="self-attention in the middle of the U-Net")] = True

    def __post_init__(self) -> None:
        """Refuse levels of noise that the process does not have."""
        if self.noise_level > self.timesteps:
            raise ValueError(f"noise_level {self.noise_level} is above timesteps {self.timesteps}")

    @cached_property
    def scheduler(self) -> Any:
        """The noise schedule."""
        return cosine_scheduler(self.timesteps)

    def build(self, shape: tuple[int, ...]) -> None:
        """Create the U-Net for images (C, H, W)."""
        self.net_ = UNet(
            shape[0], self.channels, blocks=self.blocks, scale_shift=self.scale_shift, attention=self.attention
        )

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean l1 distance of the predicted x_0 to the clean images, over the region of the loss."""
        draws = generators(batch.seed)
        x_0 = 2.0 * batch.image - 1.0
        t = draw_timesteps(draws, self.timesteps, x_0.device)
        eps = draw_noise(self.noise, draws, x_0)
        noised, judged = self.regions(draws, x_0)
        seen = self.corrupt(batch, draws) if self.net_.training else x_0
        x_t = torch.where(noised, self.scheduler.add_noise(seen, eps, t), seen)
        error = (self.net_(x_t, t).float() - x_0).abs().mean(dim=1, keepdim=True) * judged
        by_image: Tensor = error.sum(dim=(1, 2, 3)) / judged.sum(dim=(1, 2, 3))
        return by_image.mean()

    def regions(self, draws: Sequence[Generator], x_0: Tensor) -> tuple[Tensor, Tensor]:
        """Return where noise is added and where the loss looks in training, bool (B, 1, H, W). Here: everywhere."""
        everywhere = torch.ones_like(x_0[:, :1], dtype=torch.bool)
        return everywhere, everywhere

    def corrupt(self, batch: Batch, draws: Sequence[Generator]) -> Tensor:
        """Return what is noised in training instead of x_0, in [-1, 1]. Here: x_0 itself."""
        return 2.0 * batch.image - 1.0

    def reconstruct(self, batch: Batch) -> Tensor:
        """Noise every image to `noise_level` and return the network's x_0, (B, C, H, W)."""
        x_0 = 2.0 * batch.image - 1.0
        eps = draw_noise(self.noise, generators(batch.seed), x_0)
        return (self.restore(x_0, eps, torch.ones_like(x_0, dtype=torch.bool)) + 1.0) / 2.0

    def restore(self, x_0: Tensor, eps: Tensor, noised: Tensor) -> Tensor:
        """Return the network's x_0 for images that are noised to `noise_level` where `noised` is True."""
        t = torch.full((len(x_0),), self.noise_level - 1, device=x_0.device)
        x_t = torch.where(noised, self.scheduler.add_noise(x_0, eps, t), x_0)
        predicted: Tensor = self.net_(x_t, t)
        return predicted.float()
