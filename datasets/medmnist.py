"""MedMNIST v2 and its larger sizes: one .npz file for each of its sets, with labels of whole pictures and no masks.

One class is healthy and trains; all other classes, or those chosen, are anomalous. Judged by: --protocol image-v1.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.dataset import Dataset, DatasetCard, Role, Split, Subject, Volume
from uadbench.datasets._pictures import KIND, picture_foreground
from uadbench.errors import DataError, UsageError
from uadbench.identity import digest, file_hash
from uadbench.reading import unknown_layout

NORMAL = {
    "pneumoniamnist": 0,  # normal
    "breastmnist": 1,  # normal, benign; 0 is malignant
    "octmnist": 3,  # normal
    "retinamnist": 0,  # grade 0, no retinopathy
    "dermamnist": 5,  # melanocytic nevi
    "pathmnist": 6,  # normal colon mucosa
    "nodulemnist3d": 0,  # benign
    "adrenalmnist3d": 0,  # normal
    "vesselmnist3d": 0,  # vessel without aneurysm
}
"""Which label is healthy, from the table INFO in medmnist/info.py of the package medmnist 2.1. Sets that are not here have
no healthy class (organs, blood cells, tissues, kinds of fracture), or several labels a picture (chestmnist: none of 14)."""

ROLE: dict[str, tuple[Role | None, Role | None]] = {
    "train": ("train", None),
    "val": ("val", "val_lesion"),
    "test": ("test_healthy", "test_lesion"),
}
"""Of healthy and of anomalous pictures. Anomalous ones are not trained on."""


@dataclass
class MedMNIST(Dataset):
    """A file holds {train,val,test}_images, uint8 (N, H, W), (N, H, W, 3) or (N, D, H, W), and {train,...}_labels (N, K)."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="MedMNIST v2",
        licence="CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)",
        url="https://medmnist.com",
        reference="Yang, Shi, Wei, Liu, Zhao, Ke, Pfister, Ni 2023, Scientific Data 10",
        modality=("grey",),
        healthy="controls",
        note="medmnist: there are no masks. The files do not tell people apart: several pictures of one person may be in "
        "train and in validation.",
        orientation="picture",
        dimensions="2-D",
        masks="images",
        access="download from Zenodo, free",
    )
    location: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Annotated[Path, Field(description="a .npz file, or the folder with it")] = Path()
    part: Annotated[str, Field(description="name of the set, such as octmnist; empty: that of the file")] = ""
    size: Annotated[Literal[28, 64, 128, 224], Field(description="pixels, for the file <part>_<size>.npz")] = 28
    normal: Annotated[
        tuple[int, ...], Field(description="labels of healthy pictures; empty: as the set's table says")
    ] = ()
    anomalous: Annotated[tuple[int, ...], Field(description="labels of anomalous pictures; empty: all others")] = ()
    foreground: Annotated[
        Literal["none", "all", "nonzero"],
        Field(
            description="where metrics look: everywhere (none, or all for methods that need a mask), or what is not 0"
        ),
    ] = "none"

    @cached_property
    def path(self) -> Path:
        """The file.

        Raises:
            DataError: if there is none, or more than one.
        """
        if self.root.is_file():
            return self.root
        stem = "*mnist*" if not self.part else self.part if self.size == 28 else f"{self.part}_{self.size}"
        found = sorted(self.root.glob(f"{stem}.npz")) if self.root.is_dir() else []
        if not found:
            example = f"{self.part or 'pneumoniamnist'}{'' if self.size == 28 else f'_{self.size}'}.npz"
            raise unknown_layout("medmnist", self.root, [example])
        if len(found) > 1:
            raise UsageError(
                f"medmnist: {self.root} holds {', '.join(p.name for p in found)}; choose one with -D part=... and "
                "-D size=..., or give the file with --root"
            )
        return found[0]

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """Shape of one picture, from the header of the file."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("train_images.npy") as file:
                np.lib.format.read_magic(file)
                shape = tuple(np.lib.format.read_array_header_1_0(file)[0][1:])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise self._damaged("train_images", error) from error
        if len(shape) not in (2, 3):
            raise DataError(f"medmnist: {self.path} holds pictures of the shape {shape}; it is no file of MedMNIST")
        return shape

    def _read(self, name: str) -> Any:
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                return archive[name]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(f"medmnist: {self.path} gives no {name} ({error}); it may be cut short: download it again")

    @cached_property
    def _images(self) -> dict[str, Any]:
        """The pictures of the splits that were asked for; a split is read and kept as a whole."""
        return {}

    @cached_property
    def _lines(self) -> dict[str, tuple[Role, Subject, str, int]]:
        """Every picture that is used: its role, its line of the index, and where it is."""
        lines = {}
        for stage, roles in ROLE.items():
            labels = np.atleast_2d(self._read(f"{stage}_labels").T).T
            healthy, anomalous = self._classes(labels)
            for i in np.flatnonzero(healthy | anomalous):
                role = roles[0] if healthy[i] else roles[1]
                if role is not None:
                    kind = "none" if healthy[i] else _kind(labels[i])
                    subject = Subject(f"{stage}-{i:05d}", groups={KIND: kind}, files=(self.path,))
                    lines[subject.key] = (role, subject, stage, int(i))
        return lines

    def _classes(self, labels: Any) -> tuple[Any, Any]:
        """Return which pictures are healthy and which anomalous, bool (N,) each, from labels (N, K)."""
        if labels.shape[1] > 1:
            if self.normal:
                raise UsageError(
                    "medmnist: normal=... is not for this set, which has several labels a picture; those without any are "
                    "healthy"
                )
            chosen = labels[:, [k for k in self.anomalous if k < labels.shape[1]]] if self.anomalous else labels
            return ~labels.any(axis=1), chosen.any(axis=1)
        normal = self.normal or self._table()
        if both := set(normal) & set(self.anomalous):
            raise UsageError(f"medmnist: the label {min(both)} is in normal and in anomalous; it can be in one of them")
        healthy = np.isin(labels[:, 0], normal)
        return healthy, np.isin(labels[:, 0], self.anomalous) if self.anomalous else ~healthy

    def _table(self) -> tuple[int, ...]:
        match = re.match(r"[a-z]+mnist(3d)?", self.path.stem.lower())
        name = match[0] if match else self.part
        if self.part not in ("", name):
            raise UsageError(f"medmnist: {self.path} is {name}, not {self.part}; leave out part, or give another file")
        if name not in NORMAL:
            raise UsageError(
                f"medmnist: which label is healthy in {name or self.path.name} is not known (it is for "
                f"{', '.join(NORMAL)}); say so with -D normal=0"
            )
        return (NORMAL[name],)

    def subjects(self) -> Sequence[Subject]:
        """Return the pictures that are used, in the order of the file. Reads labels only."""
        return [subject for _, subject, _, _ in self._lines.values()]

    def split(self, fold: int = 0) -> Split:
        """Return the owners' split. There is one fold."""
        if fold != 0:
            raise UsageError(f"medmnist has the fold 0 only, not {fold}; its owners give one split")
        return Split.of((role, subject) for role, subject, _, _ in self._lines.values())

    def annotated(self) -> bool:
        """Return False: there are no masks."""
        return False

    def content(self) -> str:
        """Return a fingerprint of the file; the whole of it is one."""
        return digest([file_hash(self.path)])

    def provides(self) -> frozenset[str]:
        """Return foreground if it is asked for."""
        return frozenset() if self.foreground == "none" else frozenset({"foreground"})

    def channel_names(self) -> tuple[str, ...]:
        """Return the channels."""
        return ("red", "green", "blue") if self._coloured() else ("grey",)

    def _coloured(self) -> bool:
        return len(self._shape) == 3 and self._shape[2] == 3

    def load(self, subject: Subject) -> Volume:
        """Return one picture (C, 1, H, W), or one volume (1, D, H, W)."""
        _, line, stage, i = self._lines[subject.key]
        if stage not in self._images:
            self._images[stage] = self._read(f"{stage}_images")
        picture = self._images[stage][i].astype(np.float32)
        if self._coloured():
            image = picture.transpose(2, 0, 1)[:, None]
        else:
            image = picture[None, None] if picture.ndim == 2 else picture[None]
        image = np.ascontiguousarray(image)
        return Volume(image, picture_foreground(image, self.foreground), None, None, subject.key, groups=line.groups)


def _kind(labels: Any) -> str:
    """Return the class of one picture, or the numbers of all labels that it has: "2+5"; labels are (K,)."""
    return str(int(labels[0])) if len(labels) == 1 else "+".join(map(str, np.flatnonzero(labels)))
