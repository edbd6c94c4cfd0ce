"""Fitted state to disk and back, by safe loading: tensors and plain values only, no pickled code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from uadbench.errors import NotFitted, UADBenchError

if TYPE_CHECKING:
    from uadbench.method import Method

FILE = "fitted.pt"


def fitted(method: Method) -> dict[str, Any]:
    """Return the fitted attributes of `method`, those whose names end in one underscore."""
    return {k: v for k, v in vars(method).items() if k.endswith("_") and not k.startswith("_")}


def count_parameters(method: Method) -> int:
    """Return the number of parameters of all networks that `method` holds."""
    nets = (v for v in vars(method).values() if isinstance(v, nn.Module))
    return sum(p.numel() for net in nets for p in net.parameters())


def save_fitted(method: Method, folder: Path) -> None:
    """Write all fitted attributes of `method` to `folder`.

    Raises:
        NotFitted: if there is nothing to save.
        UADBenchError: if an attribute is not a network, a tensor, an array or a plain value.
    """
    state = fitted(method)
    if not state:
        raise NotFitted(f"{type(method).__name__}.save() was called before fit(); there is nothing to save")
    folder.mkdir(parents=True, exist_ok=True)
    save_atomic({name: _plain(method, name, value) for name, value in state.items()}, folder / FILE)


def save_atomic(state: dict[str, Any], path: Path) -> None:
    """Write what `torch.load(weights_only=True)` reads; `path` holds all of it or what it held before."""
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_fitted(method: Method, folder: Path) -> None:
    """Set the fitted attributes of `method` from `folder`; networks are made by `method.build(shape_)` first.

    Raises:
        UADBenchError: if the file is missing, damaged or does not fit the method's parameters.
    """
    path = folder / FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UADBenchError(f"{path} does not exist: nothing was saved for this method there") from None
    except Exception as error:
        raise UADBenchError(f"{path} cannot be read as saved weights ({error}); train the cell again") from error
    if any(isinstance(v, dict) and "module" in v for v in state.values()):
        method.build(tuple(state["shape_"]))
    for name, value in state.items():
        if isinstance(value, dict) and "module" in value:
            getattr(method, name).load_state_dict(value["module"])
            getattr(method, name).eval()
        elif isinstance(value, dict) and "array" in value:
            setattr(method, name, value["array"].numpy())
        else:
            setattr(method, name, value)


def _plain(method: Method, name: str, value: Any) -> Any:
    """Return `value` as something that `torch.load(weights_only=True)` reads."""
    if isinstance(value, nn.Module):
        if not hasattr(method, "shape_"):
            raise UADBenchError(
                f"{type(method).__name__} holds the network {name!r}: let build() create it and let fit() keep the "
                "images' shape in self.shape_, or override save() and load()"
            )
        return {"module": value.state_dict()}
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if hasattr(value, "__array__"):
        return {"array": torch.as_tensor(value).clone()}
    if _is_plain(value):
        return value
    raise UADBenchError(
        f"{type(method).__name__}.{name} is a {type(value).__name__}, which is not saved safely: keep a tensor, an "
        "array or a plain value there, or override save() and load()"
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str, torch.Tensor))
