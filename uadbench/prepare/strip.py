"""The step skull_strip: by the mask that is there, by a tool that is installed, or with a sentence that says what to do."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.errors import DataError, UsageError
from uadbench.prepare.images import (
    Image,
    array,
    nifti_bytes,
    orient,
    orientation_of,
    to_grid,
    to_image,
    with_data,
)
from uadbench.prepare.scans import Scans
from uadbench.prepare.steps import Note, Step
from uadbench.reading import read_volume

Tool = Literal["hd-bet", "deepbet"]

HINT: dict[Tool, str] = {
    "hd-bet": "pip install hd-bet (any contrast; it fetches its weights when it is first used)",
    "deepbet": "pip install deepbet (T1 of adults; the weights come with it)",
}
REMEDY = (
    "put masks where the adapter looks for them (see uadbench datasets show), say -D foreground=nonzero if it was removed "
    "and all that is not 0 is brain, or install one of: " + "; ".join(HINT.values())
)


@dataclass(frozen=True)
class SkullStrip(Step):
    """Find the brain, keep its mask as foreground, and set to 0 what is not brain."""

    name: ClassVar[str] = "skull_strip"
    guided: ClassVar[bool] = True

    use: Annotated[
        Literal["auto", "given", "nonzero", "hd-bet", "deepbet"],
        Field(
            description="given: the mask that comes with the data; nonzero: what is not 0, for images whose skull was "
            "removed; hd-bet, deepbet: these tools; auto: the first of them that can be used"
        ),
    ] = "auto"
    by: Annotated[str, Field(description="modality that a tool looks at, if there is one; else the first")] = "t1"
    device: Annotated[str, Field(description="that a tool computes on: cpu, or cuda")] = "cpu"

    def inputs(self) -> dict[str, str]:
        """Refuse a tool that is not installed."""
        if self.use in HINT and not installed(self.use):
            raise UsageError(f"the recipe strips skulls by {self.use}, which is not installed: {HINT[self.use]}")
        return {}

    def __call__(self, scans: Scans) -> Note:
        """Find the mask and apply it."""
        used = self._choose(scans)
        home = self.by if self.by in scans.images else scans.first
        if used != "given":
            scans.homes["foreground"] = home
        if used == "nonzero":
            scans.masks["foreground"] = _nonzero(scans, home)
        elif used != "given":
            scans.masks["foreground"] = TOOLS[used](scans.images[home], self.device)
            if not array(scans.masks["foreground"]).any():
                raise DataError(f"{scans.key}: {used} finds no brain in the {home}; look at the image")
        scans.strip()
        mask = scans.masks["foreground"]
        return {"by": used, "foreground_ml": round(float(array(mask).sum() * np.prod(mask.GetSpacing())) / 1000, 1)}

    def _choose(self, scans: Scans) -> str:
        if self.use == "given" and "foreground" not in scans.masks:
            raise DataError(f'{scans.key}: it has no brain mask, and skull_strip has use = "given"; {REMEDY}')
        if self.use != "auto":
            return self.use
        if "foreground" in scans.masks:
            return "given"
        if scans.skull_free:
            return "nonzero"
        if installed("hd-bet"):
            return "hd-bet"
        if installed("deepbet") and self.by in scans.images:
            return "deepbet"
        raise DataError(f"{scans.key}: it has no brain mask and its skull was not removed; {REMEDY}")


def installed(tool: str) -> bool:
    """Whether a tool for skull stripping can be used here."""
    return bool(shutil.which("hd-bet")) if tool == "hd-bet" else importlib.util.find_spec("deepbet") is not None


def _nonzero(scans: Scans, home: str) -> Image:
    """Return where any image on the grid of `home` is not 0."""
    reference = scans.images[home]
    inside = np.zeros(array(reference).shape, bool)
    for image in scans.images.values():
        inside |= array(to_grid(image, reference, nearest=True)) != 0
    if inside.all():
        raise DataError(f"{scans.key}: no voxel is 0, so that its skull was not removed; {REMEDY}")
    return with_data(inside.astype(np.uint8), reference)


def _run(image: Image, work: Callable[[Path, Path], Path]) -> Image:
    """Write an image, let `work(image file, folder)` make a mask file, and return that mask on the image's grid."""
    with tempfile.TemporaryDirectory(prefix="uadbench-") as name:
        folder = Path(name)
        # Both tools expect axes as in the usual template.
        (folder / "scan.nii.gz").write_bytes(nifti_bytes(orient(image, "RAS")))
        mask = to_image(read_volume(work(folder / "scan.nii.gz", folder), "skull_strip"))
    mask = with_data((array(mask) > 0.5).astype(np.uint8), mask)
    return to_grid(orient(mask, orientation_of(image)), image, nearest=True)


def _hd_bet(image: Image, device: str) -> Image:
    def work(scan: Path, folder: Path) -> Path:
        words = ["hd-bet", "-i", str(scan), "-o", str(folder / "brain.nii.gz"), "-device", device]
        words += ["--save_bet_mask", "--no_bet_image", *(["--disable_tta"] if device == "cpu" else [])]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        path = folder / "brain_bet.nii.gz"
        if done.returncode or not path.is_file():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it wrote no mask"]
            raise DataError(f"hd-bet failed ({last[0]}); uadbench calls it as version 2 is called: {HINT['hd-bet']}")
        return path

    return _run(image, work)


def _deepbet(image: Image, device: str) -> Image:
    def work(scan: Path, folder: Path) -> Path:
        path = folder / "mask.nii.gz"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Of its own use of torch.
                run_bet: Any = importlib.import_module("deepbet").run_bet
                run_bet([str(scan)], mask_paths=[str(path)], no_gpu=device == "cpu", skip_broken=False)
        except Exception as error:
            raise DataError(f"deepbet failed ({error}); give a mask, or install {HINT['hd-bet']}") from error
        return path

    return _run(image, work)


TOOLS: dict[str, Callable[[Image, str], Image]] = {"hd-bet": _hd_bet, "deepbet": _deepbet}
