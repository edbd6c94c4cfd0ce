"""Brightness itself: the brighter, or the further from the median, the more anomalous. Hard to beat on FLAIR.

Paper    Meissen, Kaissis, Rueckert 2021, arXiv 2109.06578 (histogram-equalised FLAIR)
Differs  the mode "median" also finds what is too dark
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from uadbench.method import Batch, Images, Method, Run, Square, require_fitted


@dataclass
class Intensity(Method):
    """Anomaly map = a function of each voxel's own intensity, mean over channels. Sees whole volumes."""

    ndim: ClassVar[Literal[2, 3]] = 3
    family: ClassVar[str] = "baseline"
    reference: ClassVar[str] = "Meissen et al. 2021, arXiv 2109.06578"

    mode: Annotated[
        Literal["raw", "equalised", "median"],
        Field(
            description="raw: the intensity; equalised: its rank among the volume's tissue; "
            "median: its distance from the median of the volume's tissue"
        ),
    ] = "raw"

    def fit(self, healthy: Images, *, val: Images, run: Run) -> Self:
        """Learn nothing: the score of a volume depends on that volume alone."""
        self.fitted_ = True
        return self

    def score(self, batch: Batch) -> Tensor:
        """Return maps (B, D, H, W) of volumes (B, C, D, H, W)."""
        require_fitted(self, "fitted_")
        maps = []
        for b, image in enumerate(batch.image):
            tissue = torch.ones_like(image[0], dtype=torch.bool) if batch.foreground is None else batch.foreground[b]
            maps.append(torch.stack([self._channel(channel, tissue) for channel in image]).mean(0))
        return torch.stack(maps)

    def _channel(self, channel: Tensor, tissue: Tensor) -> Tensor:
        if self.mode == "raw":
            return channel
        if self.mode == "median":
            return (channel - channel[tissue].median()).abs()
        ordered = channel[tissue].sort().values
        return torch.searchsorted(ordered, channel.contiguous()).float() / max(1, len(ordered))

    def detects(self) -> frozenset[Square]:
        """Claim bright squares, and dark ones with the mode "median"."""
        return frozenset({"bright", "dark"} if self.mode == "median" else {"bright"})
