"""The images of one scan while they are prepared: images by modality, masks, and what was done to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.errors import DataError
from uadbench.prepare.images import Image, itk, orient, orientation, same_grid, to_grid, to_image, with_data
from uadbench.reading import Scan, read_like, read_volume

Label: TypeAlias = Callable[[FloatArray], tuple[BoolArray, BoolArray | None]]
"""The adapter's rule: values of a mask file (D, H, W) to lesion and ignored voxels."""


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
        try:
            found, other = label(values)
        except ValueError as error:
            raise DataError(f"{owner}: {path}: {error}") from error
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
