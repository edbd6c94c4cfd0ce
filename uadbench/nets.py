"""Networks that two or more methods share: the U-Net, the convolutional encoder and its decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


def pad_to_multiple(x: Tensor, multiple: int, mode: str = "constant") -> Tensor:
    """Pad images (B, C, H, W) at the bottom and right until both sides are multiples of `multiple`."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return functional.pad(x, (0, right, 0, bottom), mode=mode) if bottom or right else x


class UNet(nn.Module):
    """diffusers' U-Net, as mDDPM and pDDPM use it: residual blocks that also do the down- and upsampling.

    With channels (128, 256, 256), three blocks a level, attention in the middle and `scale_shift` it is the network of
    the released mDDPM code, parameter by parameter (37,513,857); without `scale_shift` that of its DDPM baseline
    (34,493,313). The last convolution of every residual branch starts at zero, which diffusers leaves out.
    """

    def __init__(
        self, image_channels: int, channels: Sequence[int], *, blocks: int, scale_shift: bool, attention: bool
    ) -> None:
        """Create an untrained network.

        Args:
            image_channels: C of its input and output.
            channels: of each level, finest first.
            blocks: residual blocks on each level.
            scale_shift: the time scales and shifts the features, instead of being added to them.
            attention: self-attention in the middle.
        """
        super().__init__()
        from diffusers.models.unets.unet_2d import UNet2DModel

        levels = len(channels)
        self.multiple = 2 ** (levels - 1)
        groups = math.gcd(32, *channels)
        self.net = UNet2DModel(
            in_channels=image_channels,
            out_channels=image_channels,
            layers_per_block=blocks,
            block_out_channels=tuple(channels),
            down_block_types=("ResnetDownsampleBlock2D",) * (levels - 1) + ("DownBlock2D",),
            up_block_types=("ResnetUpsampleBlock2D",) * (levels - 1) + ("UpBlock2D",),
            attention_head_dim=min(64, channels[-1]),
            norm_num_groups=groups,
            attn_norm_num_groups=groups,
            norm_eps=1e-5,
            resnet_time_scale_shift="scale_shift" if scale_shift else "default",
            flip_sin_to_cos=True,
            freq_shift=0,
            add_attention=attention,
        )
        for module in self.net.modules():
            if hasattr(module, "conv2") and isinstance(module.conv2, nn.Conv2d):
                _zero(module.conv2)
            if hasattr(module, "to_out"):
                _zero(module.to_out[0])
        _zero(self.net.conv_out)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the prediction (B, C, H, W) for noised images at the steps t (B,)."""
        padded = pad_to_multiple(x_t, self.multiple)
        out: Tensor = self.net(padded, t, return_dict=False)[0]
        return out[..., : x_t.shape[-2], : x_t.shape[-1]]


def _zero(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class ConvEncoder(nn.Module):
    """Strided 5x5 convolutions down to a grid of about 8x8, a 1x1 convolution and a dense layer (Baur et al. 2021)."""

    def __init__(
        self, shape: Sequence[int], *, width: int, max_width: int, latent: int, outputs: int, dropout: float
    ) -> None:
        """Create an untrained encoder.

        Args:
            shape: of an image, (C, H, W).
            width: channels of the first convolution; they double at each until `max_width`.
            max_width: largest number of channels.
            latent: size of one code.
            outputs: codes that are produced, such as 2 for mean and log-variance.
            dropout: in front of the dense layer.
        """
        super().__init__()
        self.depth = max(1, int(math.log2(max(shape[1:])) - 3))
        self.multiple = 2**self.depth
        widths = [min(max_width, width * 2**i) for i in range(self.depth)]
        layers: list[nn.Module] = []
        channels = shape[0]
        for out in widths:
            layers += [nn.Conv2d(channels, out, 5, stride=2, padding=2), nn.BatchNorm2d(out), nn.LeakyReLU(0.3)]
            channels = out
        self.convolutions = nn.Sequential(*layers)
        self.grid = tuple(-(-side // self.multiple) for side in shape[1:])
        narrow = max(1, channels // 8)
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(narrow * self.grid[0] * self.grid[1], latent * outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return codes (B, latent * outputs) of images (B, C, H, W)."""
        features = self.squeeze(self.convolutions(pad_to_multiple(x, self.multiple)))
        codes: Tensor = self.dense(self.dropout(features.flatten(1)))
        return codes


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: dense layer, 1x1 convolution, transposed 5x5 convolutions, linear 1x1 output."""

    def __init__(
        self, encoder: ConvEncoder, shape: Sequence[int], *, width: int, max_width: int, latent: int, dropout: float
    ) -> None:
        """Create an untrained decoder for the grid of `encoder`; the other arguments are as there."""
        super().__init__()
        self.size = (int(shape[1]), int(shape[2]))
        self.grid = encoder.grid
        wide = min(max_width, width * 2 ** (encoder.depth - 1))
        narrow = max(1, wide // 8)
        self.dense = nn.Linear(latent, narrow * self.grid[0] * self.grid[1])
        self.dropout = nn.Dropout(dropout)
        layers: list[nn.Module] = [nn.Conv2d(narrow, wide, 1), nn.BatchNorm2d(wide), nn.ReLU()]
        channels = wide
        for i in range(encoder.depth):
            out = max(width, max_width // 2**i)
            layers += [nn.ConvTranspose2d(channels, out, 5, stride=2, padding=2, output_padding=1)]
            layers += [nn.BatchNorm2d(out), nn.LeakyReLU(0.3)]
            channels = out
        self.convolutions = nn.Sequential(*layers, nn.Conv2d(channels, shape[0], 1))

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, C, H, W) from codes (B, latent)."""
        features = self.dropout(self.dense(z)).unflatten(1, (-1, *self.grid))
        out: Tensor = self.convolutions(features)
        return out[..., : self.size[0], : self.size[1]]
