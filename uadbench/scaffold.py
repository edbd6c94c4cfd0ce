"""`uadbench methods new`: a plug-in that works, to be changed into one's own."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from uadbench.errors import UsageError
from uadbench.files import write_atomic
from uadbench.registry import Registry

METHOD = '''"""{title}: distance of a slice from the mean healthy slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch.nn import functional
from uadbench import Batch, Images, Method, Run, require_fitted


@dataclass
class {cls}(Method):
    """Anomaly map = |blurred slice - mean blurred healthy slice|, mean over channels."""

    radius: Annotated[int, Field(ge=0, le=15, description="of the blurring window in pixels")] = 1

    def fit(self, healthy: Images, *, val: Images, run: Run) -> {cls}:
        """Learn from healthy slices; healthy.batches(n) yields batch.image, float32 (B, C, H, W)."""
        total = sum(self._blurred(batch.image).sum(dim=0) for batch in healthy.batches(64))
        self.mean_ = torch.as_tensor(total) / len(healthy)  # what fit learns ends in an underscore
        return self

    def score(self, batch: Batch) -> torch.Tensor:
        """Return one number for each pixel, (B, H, W). Higher is more anomalous."""
        require_fitted(self, "mean_")
        return (self._blurred(batch.image) - self.mean_.to(batch.image.device)).abs().mean(dim=1)

    def _blurred(self, image: torch.Tensor) -> torch.Tensor:
        side = 2 * self.radius + 1
        return functional.avg_pool2d(image, side, stride=1, padding=self.radius, count_include_pad=False)
'''

TEST = '''"""The plug-in keeps the contract of uadbench."""

from {name} import {cls}
from uadbench import check_method


def test_contract() -> None:
    check_method({cls}())
'''

PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "uadbench-{dashed}"
version = "0.1.0"
dependencies = ["uadbench"]

[project.entry-points."uadbench.methods"]
{name} = "{name}:{cls}"

[tool.setuptools]
py-modules = ["{name}"]
"""


def new_method(name: str, folder: Path, registry: Registry) -> list[Path]:
    """Write a plug-in, its test and its project file to `folder`/`name`.

    Returns:
        The files written.

    Raises:
        UsageError: if the name is taken or no Python name, or the folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot be the name of a method; use small letters, digits and _, such as my_method")
    if name in registry.entries("method"):
        raise UsageError(
            f"there is a method {name!r} already, from {registry.entry('method', name).origin}; take another name"
        )
    target = folder / name
    if target.exists():
        raise UsageError(f"{target} exists already; remove it or take another name")
    words = {
        "name": name,
        "cls": "".join(part.capitalize() for part in name.split("_")),
        "title": name.replace("_", " ").capitalize(),
        "dashed": name.replace("_", "-"),
    }
    files = {target / f"{name}.py": METHOD, target / f"test_{name}.py": TEST, target / "pyproject.toml": PROJECT}
    for path, text in files.items():
        write_atomic(path, text.format(**words).encode())
    return list(files)
