"""Autoencoder: squeeze a slice through a narrow code that only healthy anatomy fits through.

Paper    Baur et al. 2021, Medical Image Analysis, arXiv 2004.03271 (the dense autoencoder)
Differs  l1 is averaged over pixels; a fixed number of steps and the best healthy-validation weights instead of early
         stopping; scored by |residual| under the common protocol, without the intensity prior of that paper
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from uadbench.method import Batch
from uadbench.nets import ConvDecoder, ConvEncoder
from uadbench.training import QUICK, TrainedMethod


@dataclass
class AE(TrainedMethod):
    """Anomaly map = |image - decoded(encoded(image))|, mean over channels."""

    family: ClassVar[str] = "autoencoder"
    reference: ClassVar[str] = "Baur et al. 2021, Medical Image Analysis, arXiv 2004.03271"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": QUICK}
    tiny: ClassVar[Mapping[str, Any]] = {
        "image_size": 32, "width": 8, "max_width": 16, "latent": 8, "steps": 60, "batch_size": 8, "learning_rate": 3e-3,
    }  # fmt: skip

    image_size: Annotated[int | None, Field(ge=8, le=1024, description="longer side of a slice in pixels")] = 96
    latent: Annotated[int, Field(ge=1, le=4096, description="size of the code")] = 128
    width: Annotated[int, Field(ge=1, le=512, description="channels of the first convolution; they double")] = 32
    max_width: Annotated[int, Field(ge=1, le=1024, description="largest number of channels")] = 128
    dropout: Annotated[float, Field(ge=0, lt=1, description="beside the code")] = 0.2

    codes: ClassVar[int] = 1

    def build(self, shape: tuple[int, ...]) -> None:
        """Create encoder and decoder for images (C, H, W)."""
        widths = {"width": self.width, "max_width": self.max_width, "latent": self.latent, "dropout": self.dropout}
        encoder = ConvEncoder(shape, outputs=self.codes, **widths)  # type: ignore[arg-type]
        self.net_ = nn.ModuleDict({"encoder": encoder, "decoder": ConvDecoder(encoder, shape, **widths)})  # type: ignore[arg-type]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean l1 distance to the reconstruction."""
        return (self.reconstruct(batch).float() - batch.image).abs().mean()

    def reconstruct(self, batch: Batch) -> Tensor:
        """Return decoded codes, (B, C, H, W)."""
        decoded: Tensor = self.net_["decoder"](self.net_["encoder"](batch.image))
        return decoded
