"""The brain that scans are registered to: a file of the user's, or the ICBM152 T1 that comes with nilearn."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from uadbench.errors import DataError, UsageError
from uadbench.identity import file_hash
from uadbench.prepare.images import Image, array, itk, to_image, with_data
from uadbench.reading import read_volume

ICBM152 = "icbm152"
_FILE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
MODALITY = "{modality}"


@dataclass(frozen=True)
class Template:
    """A template.

    Attributes:
        name: "icbm152", or the file's.
        image: without skull, outside 0.
        mask: its brain.
    """

    name: str
    image: Image
    mask: Image


def template_file(template: str, modality: str = "") -> Path:
    """Return the file of a template.

    Args:
        template: "icbm152", or a path, in which {modality} stands for the modality.
        modality: which one is wanted.

    Raises:
        UsageError: if it does not exist; the message says what to do.
    """
    if template != ICBM152:
        path = Path(template.replace(MODALITY, modality)).expanduser()
        if not path.is_file():
            raise UsageError(
                f"there is no template {path}; give the file of a brain without skull with --template, or "
                f'"{ICBM152}" for the one that comes with nilearn'
            )
        return path
    spec = importlib.util.find_spec("nilearn")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise UsageError("the template icbm152 comes with nilearn; install it: pip install nilearn")
    path = Path(places[0]) / "datasets" / "data" / _FILE
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist; install a nilearn that carries it (0.10.3 to 0.13), or give --template"
        )
    return path


def template_hashes(template: str) -> dict[str, str]:
    """Return the hash of every file that a template stands for.

    Raises:
        UsageError: if none exists; of a single file also if it cannot be read or is no brain without skull. Which files of a
            pattern are used depends on the scans.
    """
    if MODALITY not in template:
        path = template_file(template)
        _known_to_be_a_brain(path)
        return {"": file_hash(path)}
    before, _, after = template.partition(MODALITY)
    folder = Path(before).expanduser()
    parent, start = (folder, "") if before.endswith("/") or not before else (folder.parent, folder.name)
    end = Path(after).name
    files = [path for path in sorted(parent.glob("*")) if path.name.startswith(start) and path.name.endswith(end)]
    found = {path.name: file_hash(path) for path in files if path.is_file()}
    if not found or "/" in after:
        raise UsageError(f"no file is like the template {template}; {MODALITY} stands for t1, t2 and so on in its name")
    return found


def _known_to_be_a_brain(path: Path) -> None:
    """Raise UsageError if a template cannot be used: told once, before any scan is read."""
    try:
        _brain(path)
    except DataError as error:
        raise UsageError(str(error)) from error


@lru_cache(maxsize=8)
def _brain(path: Path) -> Image:
    """Return a template on its own grid.

    Raises:
        DataError: if it cannot be read or is no brain without skull.
    """
    image = to_image(read_volume(path, "template"))
    share = float(np.mean(array(image) > 0))
    if not 0.02 < share < 0.6:
        raise DataError(
            f"{path} is not 0 in {share:.0%} of its voxels; a template must be a brain without skull, with 0 outside"
        )
    return image


def modality_of(template: str, there: list[str], by: str) -> str:
    """Return which modality is registered: `by` if it is there, else one that the template has, else the first."""
    if MODALITY in template:
        having = [word for word in there if Path(template.replace(MODALITY, word)).expanduser().is_file()]
        there = having or there
    return by if by in there else there[0]


@lru_cache(maxsize=4)
def load_template(template: str, modality: str, mm: float | None) -> Template:
    """Return a template on a grid of cubes of `mm` millimetres, or on its own grid, with axes to R, A, S.

    Raises:
        UsageError: if it does not exist.
        DataError: if it cannot be read or is no brain without skull.
    """
    path = template_file(template, modality)
    image = _brain(path)
    mask = with_data((array(image) > 0).astype(np.uint8), image)
    name = ICBM152 if template == ICBM152 else path.name
    if mm is None or np.allclose(image.GetSpacing(), mm):
        return Template(name, image, mask)
    grid = cube_grid(image, mm)
    sitk = itk()
    smooth = sitk.SmoothingRecursiveGaussian(image, mm / 2) if mm > min(image.GetSpacing()) else image
    return Template(
        name,
        sitk.Mask(sitk.Resample(smooth, grid), sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor)),
        sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor),
    )


def cube_grid(image: Image, mm: float) -> Image:
    """Return an empty image of cubic voxels that covers what `image` covers."""
    sitk = itk()
    old = np.array(image.GetSpacing())
    size = np.maximum(1, np.round(np.array(image.GetSize()) * old / mm)).astype(int)
    direction = np.reshape(image.GetDirection(), (3, 3))
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing((mm, mm, mm))
    grid.SetDirection(image.GetDirection())
    # Both grids have the same middle.
    centre = np.array(image.GetOrigin()) + direction @ (old * (np.array(image.GetSize()) - 1) / 2)
    grid.SetOrigin(tuple(centre - direction @ (mm * (size - 1) / 2)))
    return grid
