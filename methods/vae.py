"""Variational autoencoder: an autoencoder whose codes are kept close to a standard normal distribution.

Paper    Kingma and Welling 2014 (the model); Baur et al. 2021, arXiv 2004.03271 (for anomalies)
Differs  mean l1 + 0.001 KL, the likely reading of Behrendt et al. 2023; reconstructed from the mean code
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from uadbench.method import Batch
from uadbench.methods.ae import AE
from uadbench.noise import generators


@dataclass
class VAE(AE):
    """Anomaly map = |image - decoded(mean code of the image)|, mean over channels."""

    reference: ClassVar[str] = "Baur et al. 2021, arXiv 2004.03271; KL weight of Behrendt et al. 2023, arXiv 2303.03758"
    codes: ClassVar[int] = 2

    dropout: Annotated[float, Field(ge=0, lt=1, description="beside the code")] = 0.1
    kl_weight: Annotated[float, Field(ge=0, le=1000, description="of the mean Kullback-Leibler term in the loss")] = (
        1e-3
    )

    def loss(self, batch: Batch) -> Tensor:
        """Return mean l1 + kl_weight x KL, the codes sampled from each image's own seed."""
        mean, log_variance = self.encode(batch)
        noise = torch.stack([torch.randn(self.latent, generator=g) for g in generators(batch.seed)]).to(mean.device)
        decoded: Tensor = self.net_["decoder"](mean + noise * (0.5 * log_variance).exp())
        kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1.0).sum(dim=1)
        return (decoded.float() - batch.image).abs().mean() + self.kl_weight * kl.mean()

    def reconstruct(self, batch: Batch) -> Tensor:
        """Return the decoded mean codes, (B, C, H, W)."""
        decoded: Tensor = self.net_["decoder"](self.encode(batch)[0])
        return decoded

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the codes, float32, each (B, latent)."""
        mean, log_variance = self.net_["encoder"](batch.image).float().chunk(2, dim=1)
        return mean, log_variance
