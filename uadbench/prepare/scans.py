"""The images of one scan while they are prepared: SimpleITK images by modality, masks, and what was done to them.

Physical points are LPS millimetres inside SimpleITK and RAS millimetres in records and files, as everywhere else.
"""

from __future__ import annotations

import gzip
import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.errors import DataError, UsageError
from uadbench.reading import Scan, read_like, read_volume

Image: TypeAlias = Any
"""A SimpleITK image: float32 for images, uint8 0 or 1 for masks."""

Label: TypeAlias = Callable[[FloatArray], tuple[BoolArray, BoolArray | None]]
"""The adapter's rule: values of a mask file (D, H, W) to lesion and ignored voxels."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS to LPS millimetres and back."""

SHEAR = 0.02
"""Largest deviation of the axes from right angles that is taken for rounding."""


class CaseLike(Protocol):
    """What an adapter says of one scan; see `uadbench.datasets._volumes.Case`."""

    person: str
    scan: str
    images: Mapping[str, Path]
    lesions: tuple[Path, ...]
    foreground: Path | None
    ignore: Path | None
    groups: Mapping[str, str | float]


@dataclass
class Scans:
    """One scan of one person, changed in place by the steps of a recipe.

    Attributes:
        key: of the subject.
        images: by modality. They may lie on different grids until a step brings them to one.
        masks: lesion, ignore, foreground, as far as there are.
        homes: for each mask the modality on whose grid it was drawn.
        skull_free: the owners of the data removed the skull.
        stripped: what is not foreground is 0.
        template: the template the images were registered to.
        matrix: 4x4, from the template's to the scan's RAS millimetres.
        metric: mutual information reached by the registration (negative; lower is better).
        lost: share of the foreground that was cut away.
        before: lesion voxels and millilitres as they were read.
        flags: what somebody should look at.
    """

    key: str
    images: dict[str, Image]
    masks: dict[str, Image] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    skull_free: bool = False
    stripped: bool = False
    template: Any = None
    matrix: FloatArray | None = None
    metric: float | None = None
    lost: float = 0.0
    before: tuple[int, float] | None = None
    flags: list[str] = field(default_factory=list)

    @property
    def first(self) -> str:
        """The first modality."""
        return next(iter(self.images))

    def one_grid(self, step: str) -> Image:
        """Return an image whose grid all images and masks have.

        Raises:
            DataError: if they lie on different grids.
        """
        reference = self.images[self.first]
        for name, image in [*self.images.items(), *self.masks.items()]:
            if not same_grid(image, reference):
                raise DataError(
                    f"{self.key}: {step} needs all images on one grid, but {name} and {self.first} lie on two; put the "
                    "step register before it"
                )
        return reference

    def change(self, action: Callable[[Image, bool], Image]) -> None:
        """Replace every image and mask by `action(image, is_mask)`."""
        self.images = {name: action(image, False) for name, image in self.images.items()}
        self.masks = {name: action(mask, True) for name, mask in self.masks.items()}

    def foreground_on(self, image: Image) -> Image | None:
        """Return the foreground on the grid of an image, or None."""
        mask = self.masks.get("foreground")
        return None if mask is None else to_grid(mask, image, nearest=True)

    def strip(self) -> None:
        """Set to 0 what is not foreground."""
        sitk = itk()
        self.images = {name: sitk.Mask(image, self.foreground_on(image)) for name, image in self.images.items()}
        self.stripped = True


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


def read_scans(
    case: CaseLike, modalities: Sequence[str], *, key: str, label: Label, skull_free: bool, owner: str
) -> Scans:
    """Read the images and masks of one scan.

    Args:
        case: where they lie.
        modalities: which images; that on whose grid a mask lies is read too.
        key: of the subject.
        label: the adapter's rule for lesion masks.
        skull_free: whether the owners removed the skull.
        owner: name of the adapter, for messages.

    Raises:
        DataError: if a file cannot be read, holds NaN or one value only, or a mask lies on the grid of no image.
    """
    read = {word: _read_image(case, word, owner) for word in modalities}
    masks: dict[str, BoolArray] = {}
    homes: dict[str, str] = {}
    if case.foreground is not None:
        values, homes["foreground"] = _read_mask(case.foreground, case, read, owner)
        masks["foreground"] = values > 0.5
        if not masks["foreground"].any():
            raise DataError(f"{owner}: {case.foreground} is empty; restore it or take it away")
    labels, home = _read_labels(case, read, label, owner)
    masks |= labels
    homes |= dict.fromkeys(labels, home)
    out = Scans(key, {}, homes=homes, skull_free=skull_free)
    if "lesion" in labels:
        count = int(labels["lesion"].sum())
        out.before = (count, count * float(np.prod(read[home].spacing)) / 1000)
    # Up to here everything is RAS; images go on as their files are, and the step reorient decides.
    for word, scan in read.items():
        out.images[word] = orient(to_image(scan), orientation(case.images[word]))
    for name, home in homes.items():
        mask = with_data(masks[name].astype(np.uint8), to_image(read[home]))
        out.masks[name] = orient(mask, orientation(case.images[home]))
    return out


def _read_image(case: CaseLike, word: str, owner: str) -> Scan:
    scan = read_volume(case.images[word], owner)
    if not np.isfinite(scan.data).all():
        raise DataError(f"{owner}: {scan.path} holds NaN or infinite voxels; repair or remove it")
    if scan.data.min() == scan.data.max():
        raise DataError(f"{owner}: {scan.path} has the value {scan.data.min():g} everywhere; restore the file")
    return scan


def _read_labels(case: CaseLike, read: dict[str, Scan], label: Label, owner: str) -> tuple[dict[str, BoolArray], str]:
    """Return lesion and ignore as far as there are, and the modality on whose grid they lie."""
    lesion: BoolArray | None = None
    ignore: BoolArray | None = None
    home = ""
    for path in case.lesions:
        values, home = _read_mask(path, case, {home: read[home]} if home else read, owner)
        found, other = label(values)
        lesion = found if lesion is None else lesion | found
        if other is not None:
            ignore = other if ignore is None else ignore | other
    if case.ignore is not None:
        values, home = _read_mask(case.ignore, case, {home: read[home]} if home else read, owner)
        ignore = values > 0.5 if ignore is None else ignore | (values > 0.5)
    out = {} if lesion is None else {"lesion": lesion}
    if ignore is not None:
        out["ignore"] = ignore if lesion is None else ignore & ~lesion
    return out, home


def _read_mask(path: Path, case: CaseLike, read: dict[str, Scan], owner: str) -> tuple[FloatArray, str]:
    """Return the values of a mask file and the modality whose grid it has; one that was not read yet is added to `read`.

    Raises:
        DataError: if it lies on the grid of no image.
    """
    mask = read_volume(path, owner)
    for word in [*read, *(word for word in case.images if word not in read)]:
        scan = read[word] if word in read else _read_image(case, word, owner)
        if mask.data.shape == scan.data.shape and np.allclose(mask.affine, scan.affine, atol=0.05):
            read[word] = scan
            return mask.data, word
    read_like(path, next(iter(read.values())), owner)  # Says what is wrong.
    raise DataError(f"{owner}: {path} lies on the grid of no image; resample it (nearest neighbour)")


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
    """Return a view (D, H, W) of the voxels."""
    return itk().GetArrayViewFromImage(image)


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
