"""Random scores: what every metric says when nothing was learned.

Average precision and Dice of chance depend on how much lesion there is, so a table without this row cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from uadbench.method import Batch, Images, Method, Run, Square, require_fitted
from uadbench.noise import generators


@dataclass
class Random(Method):
    """Anomaly map = independent uniform numbers, drawn from the seed of each slice."""

    family: ClassVar[str] = "baseline"
    stochastic: ClassVar[bool] = True

    def fit(self, healthy: Images, *, val: Images, run: Run) -> Self:
        """Learn nothing."""
        self.fitted_ = True
        return self

    def score(self, batch: Batch) -> Tensor:
        """Return uniform numbers in [0, 1), (B, H, W)."""
        require_fitted(self, "fitted_")
        size = batch.image.shape[-2:]
        return torch.stack([torch.rand(size, generator=g) for g in generators(batch.seed)]).to(batch.image.device)

    def detects(self) -> frozenset[Square]:
        """Claim nothing."""
        return frozenset()
