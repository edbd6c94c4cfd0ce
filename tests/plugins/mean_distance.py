"""Mean distance: how far is a pixel from the mean healthy slice? For tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from uadbench import Batch, Images, Method, Run, require_fitted


@dataclass
class MeanDistance(Method):
    """Anomaly map = |image - mean| x factor."""

    family: ClassVar[str] = "tests"
    factor: Annotated[float, Field(gt=0, description="of the map")] = 1.0

    def fit(self, healthy: Images, *, val: Images, run: Run) -> MeanDistance:
        self.mean_ = torch.cat([batch.image for batch in healthy.batches(8)]).mean(dim=0)
        return self

    def score(self, batch: Batch) -> torch.Tensor:
        require_fitted(self, "mean_")
        return (batch.image - self.mean_).abs().mean(dim=1) * self.factor
