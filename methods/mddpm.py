"""Masked DDPM: hide or filter patches of the slice before noising it, and learn to restore the clean slice.

A lesion is then one more patch to be repaired. Nothing is masked when a test slice is scored.

Paper    Iqbal, Khalid, Chen, Hua 2023, MLMI, arXiv 2305.19867
Differs  the paper gives neither the number nor the size of its patches, nor the size of its frequency mask. Preset
         "paper" draws rectangles whose sides are 10 to 40 % of the tissue's extent until they cover a share of it that
         is uniform in 10..90 %, and takes the frequency mask from the released code, made symmetric.
         Preset "official" is what the released code does: boxes of a grid are noised, and few, small patches are
         filtered. Its rows run from left to right, which is the axis W here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from uadbench.diffusion import box_mask
from uadbench.errors import Incompatible
from uadbench.method import Batch
from uadbench.methods.pddpm import PDDPM, Region

Masking = Literal["none", "ipm", "fpm", "fpm_cm"]
Sampler = Literal["paper", "code"]

RECTANGLES = 160
"""Rectangles drawn by the sampler "paper" at the most: enough to cover 90 % of any tissue."""


@dataclass
class MDDPM(PDDPM):
    """Anomaly map = |image - restored image|; training slices are corrupted before they are noised."""

    needs: ClassVar[frozenset[str]] = frozenset({"foreground"})
    reference: ClassVar[str] = "Iqbal et al. 2023, MLMI, arXiv 2305.19867"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **PDDPM.presets,
        "official": {
            "mask_sampler": "code", "noised_region": "grid_box", "loss_region": "grid_box", "steps": 115_200,
        },
    }  # fmt: skip

    masking: Annotated[
        Masking,
        Field(
            description="none; ipm: patches become 0; fpm: the slice keeps only low or only high frequencies; "
            "fpm_cm: patches of the slice do"
        ),
    ] = "fpm_cm"
    mask_sampler: Annotated[
        Sampler, Field(description="paper: patches cover 10 to 90 % of the tissue; code: at most five small ones")
    ] = "paper"
    noised_region: Annotated[
        Region, Field(description="what is noised in training: everything, a box of a fixed grid or a box anywhere")
    ] = "whole"
    loss_region: Annotated[Region, Field(description="where the loss looks: everywhere or in the noised box")] = "whole"

    def corrupt(self, batch: Batch, draws: Sequence[Generator]) -> Tensor:
        """Return the masked images in [-1, 1], (B, C, H, W)."""
        x = batch.image
        if self.masking == "none":
            return 2.0 * x - 1.0
        if batch.foreground is None:
            raise Incompatible("mddpm masks the tissue only and needs a foreground mask; or use masking=none")
        tissue = batch.foreground[:, None]
        if self.masking == "fpm":
            masked = torch.where(tissue, self.filtered(x, draws), x)
        else:
            patches = self.patches(batch.foreground, draws) & tissue
            fill = self.filtered(x, draws) if self.masking == "fpm_cm" else torch.zeros_like(x)
            masked = torch.where(patches, fill, x)
        return 2.0 * masked - 1.0

    def patches(self, tissue: Tensor, draws: Sequence[Generator]) -> Tensor:
        """Return where the patches lie, bool (B, 1, H, W), for tissue masks (B, H, W)."""
        if self.mask_sampler == "paper":
            return paper_patches(tissue, draws)
        return torch.cat([code_patches(mask, g) for mask, g in zip(tissue, draws, strict=True)])

    def filtered(self, x: Tensor, draws: Sequence[Generator]) -> Tensor:
        """Return every image with only its low or only its high frequencies, by the toss of a coin."""
        half = torch.cat([torch.randint(2, 11, (1,), generator=g) for g in draws]).to(x.device)
        low = torch.cat([torch.randint(2, (1,), generator=g) for g in draws]).to(x.device) == 1
        return frequency_filter(x, half, low, symmetric=self.mask_sampler == "paper")


def frequency_filter(x: Tensor, half: Tensor, low: Tensor, *, symmetric: bool) -> Tensor:
    """Return images with the frequencies inside (low) or outside (high) of a centred square.

    Args:
        x: (B, C, H, W).
        half: half the side of each image's square in frequency bins, int (B,).
        low: bool (B,), True keeps what is inside.
        symmetric: bins -half..half; otherwise -half..half - 1, as in the released code, whose small imaginary part is
            dropped as there.
    """
    ky = torch.fft.fftfreq(x.shape[-2], 1.0 / x.shape[-2], device=x.device).round()
    kx = torch.fft.fftfreq(x.shape[-1], 1.0 / x.shape[-1], device=x.device).round()
    v = half.view(-1, 1, 1, 1)
    top = v if symmetric else v - 1
    rows = (ky >= -v) & (ky <= top)  # (B, 1, 1, H)
    columns = (kx >= -v) & (kx <= top)
    square = rows.transpose(-1, -2) & columns
    kept = torch.where(low.view(-1, 1, 1, 1), square, ~square)
    # Half precision has no Fourier transform on most devices.
    filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(x.float()) * kept).real
    return filtered


def paper_patches(tissue: Tensor, draws: Sequence[Generator]) -> Tensor:
    """Return random rectangles that cover a share r of the tissue, r uniform in 0.1..0.9 for each image.

    Rectangles are taken in the order they were drawn, up to the one after which the share is nearest to r, of those
    after which it lies in 0.1..0.9.

    Args:
        tissue: bool (B, H, W).
        draws: one generator for each image.

    Returns:
        bool (B, 1, H, W); all False where there is no tissue.
    """
    device = tissue.device
    share = torch.cat([0.1 + 0.8 * torch.rand(1, generator=g) for g in draws]).to(device)
    u = torch.stack([torch.rand(RECTANGLES, 4, generator=g) for g in draws]).to(device)
    height, width = tissue.shape[1:]
    y = torch.arange(height, device=device).view(1, -1, 1)
    x = torch.arange(width, device=device).view(1, 1, -1)
    (top, tall), (left, wide) = extent(tissue.any(2)), extent(tissue.any(1))
    # For every pixel, the number of the first rectangle that covers it.
    first = torch.full(tissue.shape, RECTANGLES, device=device)
    for k in reversed(range(RECTANGLES)):
        cy, cx, sy, sx = (u[:, k, i].view(-1, 1, 1) for i in range(4))
        near_y = (y - top - cy * tall).abs() <= (0.05 + 0.15 * sy) * tall
        near_x = (x - left - cx * wide).abs() <= (0.05 + 0.15 * sx) * wide
        first = torch.where(near_y & near_x, k, first)
    counts = torch.zeros(len(tissue), RECTANGLES + 1, device=device)
    counts.scatter_add_(1, first.flatten(1), tissue.flatten(1).float())
    covered = counts[:, :-1].cumsum(1) / counts.sum(1, keepdim=True).clamp(min=1.0)
    far = (covered - share[:, None]).abs() + ((covered < 0.1) | (covered > 0.9)).float()
    last = far.argmin(1).view(-1, 1, 1)
    return ((first <= last) & tissue.any(2).any(1).view(-1, 1, 1))[:, None]


def extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first True of each row (B, N) and the length up to the last one, both (B, 1, 1)."""
    n = occupied.shape[1]
    first = occupied.int().argmax(1)
    last = n - 1 - occupied.flip(1).int().argmax(1)
    return first.view(-1, 1, 1).float(), (last - first + 1).view(-1, 1, 1).float()


def code_patches(tissue: Tensor, draw: Generator) -> Tensor:
    """Return the patches of the released code for one slice: none to five, bool (1, 1, H, W).

    With R columns that hold tissue, the sides are uniform in {p..P}, P = int(0.18 R), p = int(P / 2), and a patch lies at
    least five pixels inside the bounding box of the tissue. A slice without room for one is left as it is, where the
    released code fails.
    """
    across, along = torch.nonzero(tissue.any(0))[:, 0], torch.nonzero(tissue.any(1))[:, 0]
    number = int(torch.randint(6, (1,), generator=draw))
    mask = torch.zeros(1, 1, *tissue.shape, dtype=torch.bool, device=tissue.device)
    largest = int(len(across) / 10 * 1.8)
    room = [(int(axis[0]), int(axis[-1]) - 10 - largest) for axis in (along, across) if len(axis)]
    if len(room) < 2 or largest < 2 or any(low > high for low, high in room):
        return mask
    for _ in range(number):
        h, w = (int(torch.randint(largest // 2, largest + 1, (1,), generator=draw)) for _ in range(2))
        y, x = (5 + int(torch.randint(low, high + 1, (1,), generator=draw)) for low, high in room)
        mask |= box_mask([(y, x, h, w)], mask)
    return mask
