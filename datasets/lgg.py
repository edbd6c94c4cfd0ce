"""Lower-grade gliomas (TCGA, Kaggle "kaggle_3m" layout): FLAIR and T1 slices of 110 patients with tumour masks.

Healthy images are tumour-free slices of patients, not of healthy people: a tumour elsewhere in the brain may have changed
them, which flatters every method.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Dataset, DatasetCard, Split, Subject, Volume
from uadbench.errors import DataError, UsageError
from uadbench.method import derive_seed
from uadbench.reading import read_picture

FOLDS = 5
SEQUENCES = ("pre", "flair", "post")
"""The three channels of the files: T1 before contrast agent, FLAIR, T1 after contrast agent."""

_FOLDER = re.compile(r"(TCGA_[A-Z0-9]+_[A-Z0-9]+)_(\d+)")
HEALTHY = "healthy"


@dataclass
class LGG(Dataset):
    """Each patient folder holds `<folder>_<k>.tif`, (256, 256, 3) uint8, and `<folder>_<k>_mask.tif`; k is not padded."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="LGG MRI segmentation (TCGA-LGG, kaggle_3m)",
        licence="CC BY-NC-SA 4.0 according to the Kaggle page; images from The Cancer Imaging Archive",
        url="https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
        reference="Buda, Saha, Mazurowski 2019, Computers in Biology and Medicine 109",
        modality=SEQUENCES,
        healthy="slices of patients",
        provides=frozenset({"foreground"}),
        expected={"subjects": 110},
        note="lgg: healthy images are tumour-free slices of patients, the skull is not removed, voxel sizes are not known.",
        orientation="picture",
        access="download from Kaggle, free account",
    )
    location: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Annotated[Path, Field(description="folder with the patients' folders (kaggle_3m)")] = Path("kaggle_3m")
    modality: Annotated[
        str,
        Field(pattern=r"^(pre|flair|post)(\+(pre|flair|post))*$", description="pre, flair, post, or several with +"),
    ] = "flair"
    margin: Annotated[
        int, Field(ge=0, le=20, description="a healthy slice is further than this from any tumour slice")
    ] = 1
    seed: Annotated[int, Field(ge=0, description="of the assignment of patients to splits")] = 0

    @cached_property
    def _index(self) -> dict[str, tuple[str, str, list[Path]]]:
        """Folder name -> person, date and the slices in their order."""
        if not self.root.is_dir():
            raise DataError(
                f"lgg: there is no folder {self.root}; give the folder that holds the patients' folders with --root, "
                "or set UADBENCH_DATA to the folder above one called lgg"
            )
        found = {}
        for folder in sorted(p for p in self.root.iterdir() if p.is_dir()):
            if match := _FOLDER.fullmatch(folder.name):
                found[folder.name] = (match[1], match[2], _slices(folder))
        if not found:
            raise DataError(
                f"lgg: {self.root} holds no folder called like TCGA_CS_4942_19970222; it holds "
                f"{', '.join(sorted(p.name for p in self.root.iterdir())[:3]) or 'nothing'}; give the right one with --root"
            )
        return found

    def subjects(self) -> Sequence[Subject]:
        """Return two lines for each patient: all slices, and the healthy ones."""
        lines = []
        for name in self._index:
            lines += [self._subject(name), self._subject(name, healthy=True)]
        return lines

    def _subject(self, name: str, *, healthy: bool = False) -> Subject:
        person, date, slices = self._index[name]
        files = tuple(p for image in slices for p in (image, _mask_of(image)))
        scan = f"{date}_{HEALTHY}" if healthy else date
        return Subject(person, scan, {"institution": person.split("_")[1]}, files)

    def split(self, fold: int = 0) -> Split:
        """Return about half of the patients for training, a tenth for validation and the rest for testing.

        Validation patients are there twice: their healthy slices, and all slices for protocols that read the labels of
        validation subjects.
        """
        if not 0 <= fold < FOLDS:
            raise UsageError(f"lgg has the folds 0 to {FOLDS - 1}, not {fold}")
        people: dict[str, list[str]] = {}
        for name, (person, _, _) in self._index.items():
            people.setdefault(person, []).append(name)
        if len(people) < 3:
            raise DataError(f"lgg: {self.root} holds {len(people)} patients; at least 3 are needed, one for each split")
        order = sorted(people, key=lambda person: derive_seed("lgg", self.seed, person))
        shift = fold * len(order) // FOLDS
        order = order[shift:] + order[:shift]
        test = max(1, round(0.4 * len(order)))
        val = max(1, round(0.1 * len(order)))
        parts = order[:test], order[test : test + val], order[test + val :]
        on_test, on_val, on_train = ([name for person in part for name in people[person]] for part in parts)
        return Split(
            train=tuple(self._subject(n, healthy=True) for n in on_train),
            val=tuple(self._subject(n, healthy=True) for n in on_val),
            test_lesion=tuple(self._subject(n) for n in on_test),
            test_healthy=tuple(self._subject(n, healthy=True) for n in on_test),
            val_lesion=tuple(self._subject(n) for n in on_val),
        )

    def load(self, subject: Subject) -> Volume:
        """Read all slices of a patient, or only the healthy ones. Slices without any tissue are left out."""
        name = f"{subject.id}_{subject.scan.partition('_')[0]}"
        slices = self._index[name][2]
        pairs = [_read_pair(path) for path in slices]
        if len({image.shape for image, _ in pairs}) > 1:
            raise DataError(f"lgg: the slices of {self.root / name} differ in size; restore the folder")
        images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
        tissue = _head(images)
        chosen: BoolArray = np.asarray(tissue.any(axis=(1, 2)))
        if subject.scan.endswith(HEALTHY):
            chosen &= _far_from(np.asarray(masks.any(axis=(1, 2))), self.margin)
            if not chosen.any():
                raise DataError(
                    f"lgg: {self.root / name} has no slice further than {self.margin} from a tumour slice; use a smaller "
                    "margin or take this patient out"
                )
        channels = [SEQUENCES.index(word) for word in self.modality.split("+")]
        image = np.ascontiguousarray(images[chosen][..., channels].transpose(3, 0, 1, 2), dtype=np.float32)
        return Volume(image, tissue[chosen], masks[chosen], None, subject.key, groups=subject.groups)


def _slices(folder: Path) -> list[Path]:
    """Return the image files of a patient in the order of their numbers, which are not padded with zeros."""
    pattern = re.compile(re.escape(folder.name) + r"_(\d+)\.tif")
    found = {int(m[1]): p for p in folder.iterdir() if (m := pattern.fullmatch(p.name))}
    if not found:
        raise DataError(
            f"lgg: {folder} holds no file called {folder.name}_1.tif and so on; restore or remove the folder"
        )
    return [found[k] for k in sorted(found)]


def _mask_of(image: Path) -> Path:
    return image.with_name(f"{image.stem}_mask.tif")


def _read_pair(path: Path) -> tuple[FloatArray, BoolArray]:
    """Return a slice (H, W, 3) and its mask (H, W)."""
    image = read_picture(path, "lgg").transpose(1, 2, 0)
    mask = read_picture(_mask_of(path), "lgg", 1)[0]
    if image.shape[2] != 3:
        raise DataError(f"lgg: {path} has {image.shape[2]} channels; 3 are expected; restore the file")
    if mask.shape != image.shape[:2]:
        raise DataError(
            f"lgg: {_mask_of(path)} has the shape {mask.shape} but its image {image.shape[:2]}; restore the file"
        )
    return image, mask > 127


def _head(images: FloatArray) -> BoolArray:
    """Return the head, bool (D, H, W): the largest part of each slice that is not nearly black, holes filled."""
    from scipy import ndimage

    brightness = images.max(axis=3)
    rough = brightness > 0.1 * np.percentile(brightness, 99.0)
    out = np.zeros(rough.shape, bool)
    for d, plane in enumerate(rough):
        labels, count = ndimage.label(ndimage.binary_opening(plane, iterations=2))
        if count:
            largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
            out[d] = ndimage.binary_fill_holes(labels == largest)
    return out


def _far_from(tumour: BoolArray, margin: int) -> BoolArray:
    """Return which slices are further than `margin` from any that is True."""
    near = np.flatnonzero(tumour)
    return np.array([not len(near) or int(np.abs(near - i).min()) > margin for i in range(len(tumour))])
