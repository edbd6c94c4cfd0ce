"""Feature nearest neighbours: how far are a patch's features from those of any patch of a healthy slice?

Features come from a frozen backbone that was trained on photographs, or not at all.

Paper    Cohen and Hoshen 2020, arXiv 2005.02357 (SPADE); Roth et al. 2022, arXiv 2106.08265 (PatchCore)
Differs  the memory is a random subset of the healthy patches of tissue, not a coreset
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from typing_extensions import Self

from uadbench.features import PACKAGE_BACKBONE, FrozenFeatures, missing_weights, package_file
from uadbench.method import Batch, Images, Method, Run, derive_seed, require_fitted

CHUNK = 4096
"""Patches compared with the memory at a time."""


@dataclass
class FeatureKNN(Method):
    """Anomaly map = mean distance to the nearest neighbours in a memory of healthy patch features."""

    family: ClassVar[str] = "features"
    accepts_channels: ClassVar[tuple[int, ...]] = (1, 3)
    reference: ClassVar[str] = "Roth et al. 2022, CVPR, arXiv 2106.08265"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {"memory": 4000}}
    tiny: ClassVar[Mapping[str, Any]] = {"weights": "none", "backbone": "resnet10t", "stages": (1, 2), "memory": 300}

    backbone: Annotated[str, Field(description="name of a timm model")] = PACKAGE_BACKBONE
    weights: Annotated[
        str, Field(description="none (random), package (pip extra 'weights'), timm (its cache) or the path of a file")
    ] = "package"
    stages: Annotated[
        tuple[int, ...], Field(min_length=1, description="feature maps of the backbone that are used, 0 the finest")
    ] = (1, 2, 3)
    memory: Annotated[int, Field(ge=1, le=1_000_000, description="healthy patches that are kept")] = 20_000
    neighbours: Annotated[int, Field(ge=1, le=100, description="nearest patches whose distances are averaged")] = 3
    pool: Annotated[int, Field(ge=1, le=9, description="side of the window over which features are averaged, odd")] = 3

    def __post_init__(self) -> None:
        """Refuse an even window."""
        if self.pool % 2 == 0:
            raise ValueError(f"pool must be odd, got {self.pool}")

    def inputs(self) -> tuple[Path, ...]:
        """Return the file of weights, if it is known."""
        path = package_file() if self.weights == "package" else Path(self.weights).expanduser()
        return (path,) if self.weights not in ("none", "timm") and path and path.is_file() else ()

    def unavailable(self) -> str | None:
        """Return what is missing for these weights."""
        return missing_weights(self.backbone, self.weights)

    def unranked(self) -> str | None:
        """Random weights never rank."""
        return "random weights" if self.weights == "none" else None

    def fit(self, healthy: Images, *, val: Images, run: Run) -> Self:
        """Keep the features of randomly chosen patches of healthy tissue, (memory, F)."""
        self.seed_ = derive_seed(run.seed, "features")
        kept: list[Tensor] = []
        each = -(-self.memory // len(healthy))
        rng = torch.Generator().manual_seed(self.seed_)
        with run.bar("fit", len(healthy)) as advance:
            for batch in healthy.batches(16):
                features = self._features(batch.to(run.device)).cpu()
                for b, patches in enumerate(features.flatten(2).transpose(1, 2)):
                    where = torch.arange(len(patches))
                    if batch.foreground is not None:
                        tissue = functional.adaptive_max_pool2d(
                            self._network().padded(batch.foreground[b][None, None].float()), features.shape[-2:]
                        ).flatten()
                        where = where[tissue > 0]
                    kept.append(patches[where[torch.randperm(len(where), generator=rng)[:each]]])
                advance(len(batch))
        memory = torch.cat(kept)
        self.memory_ = memory[torch.randperm(len(memory), generator=rng)[: self.memory]].contiguous()
        return self

    def score(self, batch: Batch) -> Tensor:
        """Return the mean distance to the nearest neighbours, (B, H, W)."""
        require_fitted(self, "memory_")
        features = self._features(batch)
        memory = self.memory_.to(features.device)
        patches = features.permute(0, 2, 3, 1).flatten(0, 2)
        count = min(self.neighbours, len(memory))
        nearest = [
            torch.cdist(part, memory).topk(count, largest=False).values.mean(1) for part in torch.split(patches, CHUNK)
        ]
        maps = torch.cat(nearest).view(len(features), 1, *features.shape[-2:])
        # The backbone padded the images at the bottom and right; its maps cover the padded size.
        size = self._network().padded(batch.image).shape[-2:]
        full = functional.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0]
        return full[:, : batch.image.shape[-2], : batch.image.shape[-1]]

    def _network(self) -> FrozenFeatures:
        """Return the backbone, made on first use: it is not learned, so it is not saved."""
        if not hasattr(self, "_net"):
            self._net = FrozenFeatures(self.backbone, self.weights, self.stages, seed=self.seed_)
        return self._net

    def _features(self, batch: Batch) -> Tensor:
        """Return features averaged over small windows, (B, F, h, w)."""
        with torch.no_grad():
            features = self._network().to(batch.image.device)(batch.image)
        return functional.avg_pool2d(features, self.pool, stride=1, padding=self.pool // 2, count_include_pad=False)
