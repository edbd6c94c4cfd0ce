"""What the diffusion methods share: the schedule, the regions that are noised, and the noise itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from uadbench import noise, training

QUICK: Mapping[str, Any] = {
    **training.QUICK, "channels": (16, 32, 64), "blocks": 1, "attention": False, "scale_shift": True,
}  # fmt: skip
"""The preset "quick" of the whole family."""

Noise = Literal["simplex", "gaussian"]
Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


def cosine_scheduler(timesteps: int) -> Any:
    """Return diffusers' scheduler with the cosine schedule, for networks that predict x_0.

    With 1000 steps, sqrt(abar) at index 499 is 0.70274. The released mDDPM and pDDPM codes use this schedule; the text
    of the pDDPM paper gives a linear one.
    """
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=timesteps, beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False
    )


def draw_noise(kind: Noise, draws: Sequence[Generator], like: Tensor) -> Tensor:
    """Return one noise image for each image of `like` (B, C, H, W), from that image's own generator."""
    channels, height, width = like.shape[1:]
    make = noise.simplex if kind == "simplex" else noise.gaussian
    return make(draws, (channels, height, width), like.device)


def draw_timesteps(draws: Sequence[Generator], timesteps: int, device: torch.device) -> Tensor:
    """Return a uniform step in 0..timesteps - 1 for each image, (B,)."""
    return torch.cat([torch.randint(timesteps, (1,), generator=g) for g in draws]).to(device)


def grid_boxes(size: tuple[int, int], box: int) -> list[Box]:
    """Return the boxes of a fixed grid that covers an image of `size` (H, W) without overlap; the last may be cut."""
    height, width = size
    return [
        (top, left, min(box, height - top), min(box, width - left))
        for top in range(0, height, box)
        for left in range(0, width, box)
    ]


def random_box(draw: Generator, size: tuple[int, int], box: int) -> Box:
    """Return a box at a random place that lies inside an image of `size` (H, W)."""
    height, width = min(box, size[0]), min(box, size[1])
    top = int(torch.randint(size[0] - height + 1, (1,), generator=draw))
    left = int(torch.randint(size[1] - width + 1, (1,), generator=draw))
    return top, left, height, width


def box_mask(boxes: Sequence[Box], like: Tensor) -> Tensor:
    """Return a mask bool (B, 1, H, W), True inside box b of image b."""
    mask = torch.zeros(len(boxes), 1, *like.shape[-2:], dtype=torch.bool)
    for b, (top, left, height, width) in enumerate(boxes):
        mask[b, 0, top : top + height, left : left + width] = True
    return mask.to(like.device)
