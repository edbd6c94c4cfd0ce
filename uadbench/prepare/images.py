"""SimpleITK images: made, turned, resampled and written. SimpleITK is imported when the first one is touched.

Physical points are LPS millimetres inside SimpleITK and RAS millimetres in records and files, as everywhere else.
"""

from __future__ import annotations

import gzip
import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from uadbench.arrays import FloatArray
from uadbench.errors import DataError, UsageError
from uadbench.reading import Scan

Image: TypeAlias = Any
"""A SimpleITK image: float32 for images, uint8 0 or 1 for masks."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS to LPS millimetres and back."""

SHEAR = 0.02
"""Largest deviation of the axes from right angles that is taken for rounding."""


def itk() -> Any:
    """Return SimpleITK, which is imported when the first image is touched.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Its wrapper types warn of themselves when they are loaded.
            return importlib.import_module("SimpleITK")
    except ImportError as error:
        raise UsageError("preparation needs SimpleITK; install it: pip install 'uadbench[prepare]'") from error


@contextmanager
def one_thread() -> Iterator[None]:
    """Let SimpleITK compute with one thread inside the context: processes share the cores, and sums keep their order."""
    sitk = itk()
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def to_image(scan: Scan) -> Image:
    """Return a SimpleITK image of a volume.

    Raises:
        DataError: if its axes are not at right angles.
    """
    affine = LPS @ scan.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (spacing > 0).all() or not np.isfinite(affine).all():
        raise DataError(f"{scan.path} has an affine that is no affine: {scan.affine.tolist()}; correct its header")
    u, _, v = np.linalg.svd(affine[:3, :3] / spacing)
    if np.abs(u @ v - affine[:3, :3] / spacing).max() > SHEAR:
        raise DataError(f"{scan.path} has a sheared affine, whose axes are not at right angles; resample it first")
    image = itk().GetImageFromArray(np.asarray(scan.data, np.float32))
    image.SetSpacing(tuple(spacing))
    image.SetOrigin(tuple(affine[:3, 3]))
    image.SetDirection(tuple((u @ v).ravel()))
    return image


def orientation(path: Path) -> str:
    """Return where the three axes of a file point to, such as "RAS"."""
    import nibabel

    return "".join(nibabel.aff2axcodes(nibabel.load(path).affine))


def orientation_of(image: Image) -> str:
    """Return where the three axes of an image point to."""
    return str(itk().DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()))


def orient(image: Image, to: str) -> Image:
    """Return the image with its axes turned and flipped; nothing is interpolated."""
    return itk().DICOMOrient(image, to)


def affine_of(image: Image) -> FloatArray:
    """Return the affine from voxel indices (W, H, D) to RAS millimetres."""
    out = np.eye(4)
    out[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    out[:3, 3] = image.GetOrigin()
    return np.asarray(LPS @ out, np.float64)


def array(image: Image) -> Any:
    """Return the voxels (D, H, W), copied: a view of an image that nobody holds any more reads memory that was freed."""
    return itk().GetArrayFromImage(image)


def with_data(data: Any, image: Image) -> Image:
    """Return an image of `data` (D, H, W) on the grid of another."""
    out = itk().GetImageFromArray(data)
    out.CopyInformation(image)
    return out


def voxel_ml(image: Image) -> float:
    """Return the millilitres of one voxel."""
    return float(np.prod(image.GetSpacing())) / 1000.0


def same_grid(one: Image, other: Image) -> bool:
    """Whether two images have the same voxels at the same places, to a hundredth of a millimetre."""
    return bool(
        one.GetSize() == other.GetSize()
        and np.allclose(one.GetOrigin(), other.GetOrigin(), atol=0.01)
        and np.allclose(one.GetSpacing(), other.GetSpacing(), atol=1e-4)
        and np.allclose(one.GetDirection(), other.GetDirection(), atol=1e-4)
    )


def to_grid(image: Image, grid: Image, transform: Any = None, *, nearest: bool, how: str = "linear") -> Image:
    """Return an image on the grid of another; what lies outside is 0.

    Args:
        image: to be resampled.
        grid: an image with the wanted grid.
        transform: from points of `grid` to points of `image`; None for the identity.
        nearest: nearest neighbour, for masks.
        how: "linear" or "bspline", for images.
    """
    sitk = itk()
    if transform is None:
        if same_grid(image, grid):
            return image
        transform = sitk.Transform()
    words = {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline}
    kind = sitk.sitkNearestNeighbor if nearest else words[how]
    return sitk.Resample(image, grid, transform, kind, 0.0, image.GetPixelID())


def nifti_bytes(image: Image) -> bytes:
    """Return an image as the bytes of a .nii.gz file, the same bytes for the same image."""
    import nibabel

    data = np.ascontiguousarray(np.asarray(array(image)).transpose(2, 1, 0))
    out = nibabel.Nifti1Image(data, affine_of(image))
    out.header.set_xyzt_units("mm")
    return gzip.compress(out.to_bytes(), compresslevel=4, mtime=0)
