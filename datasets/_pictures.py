"""What adapters of pictures share: an index of files with a role each, loading. An adapter says where files lie.

A picture is a volume with D = 1. Nothing is resampled: methods resize slices to their own image_size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import ROLES, Dataset, Group, Role, Split, Subject, Volume
from uadbench.errors import DataError, UsageError
from uadbench.reading import read_picture


@dataclass(frozen=True)
class Picture:
    """One picture as it lies on disk.

    Attributes:
        person: splits are by person; the file's stem where people are not known.
        path: of the picture.
        role: train, val, val_lesion, test_healthy or test_lesion.
        scan: tells several pictures of one person apart.
        masks: files; several are joined. Empty where there is no annotation.
        groups: kind of defect, institution and so on.
    """

    person: str
    path: Path
    role: Role
    scan: str = ""
    masks: tuple[Path, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)


@dataclass
class PictureSet(Dataset):
    """Base of adapters of pictures. A subclass defines `card` and `pictures`; the rest follows."""

    location: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Annotated[Path, Field(description="folder with the data, as distributed")] = Path()
    colour: Annotated[Literal["grey", "rgb"], Field(description="channels: one, or red, green and blue")] = "grey"
    foreground: Annotated[
        Literal["none", "all", "nonzero"],
        Field(
            description="where metrics look: everywhere (none, or all for methods that need a mask), or what is not 0"
        ),
    ] = "none"

    @abstractmethod
    def pictures(self) -> Iterable[Picture]:
        """Return what lies below `root` in the owners' layout, in a fixed order. Reads no pixels.

        Raises:
            DataError: if nothing is found; see `uadbench.reading.unknown_layout`.
        """

    @cached_property
    def index(self) -> dict[str, Picture]:
        """Every picture by the subject's key."""
        name = type(self).__module__.rpartition(".")[2]
        out: dict[str, Picture] = {}
        for picture in self.pictures():
            key = self._subject(picture).key
            if key in out:
                raise DataError(f"{name}: {out[key].path} and {picture.path} are both called {key}; rename one of them")
            out[key] = picture
        if not out:
            raise DataError(f"{name}: {self.root} holds no picture")
        return out

    def _subject(self, picture: Picture) -> Subject:
        return Subject(picture.person, picture.scan, picture.groups, (picture.path, *picture.masks))

    def subjects(self) -> Sequence[Subject]:
        """Return the index in the order of the files."""
        return [self._subject(picture) for picture in self.index.values()]

    def split(self, fold: int = 0) -> Split:
        """Return the split that the folders give. There is one fold."""
        if fold != 0:
            name = type(self).__module__.rpartition(".")[2]
            raise UsageError(f"{name} has the fold 0 only, not {fold}; its owners give one split")
        by_role = {r: tuple(self._subject(p) for p in self.index.values() if p.role == r) for r in ROLES}
        return Split(**by_role)

    def provides(self) -> frozenset[str]:
        """Return foreground if it is asked for."""
        return self.card.provides | (frozenset() if self.foreground == "none" else frozenset({"foreground"}))

    def channel_names(self) -> tuple[str, ...]:
        """Return the channels."""
        return ("grey",) if self.colour == "grey" else ("red", "green", "blue")

    def load(self, subject: Subject) -> Volume:
        """Read one picture (C, 1, H, W)."""
        name = type(self).__module__.rpartition(".")[2]
        picture = self.index[subject.key]
        image = read_picture(picture.path, name, 1 if self.colour == "grey" else 3)
        lesion: BoolArray | None = None
        for path in picture.masks:
            mask = self.label(read_picture(path, name, 1)[0])
            if mask.shape != image.shape[1:]:
                raise DataError(
                    f"{name}: {path} has the shape {mask.shape} but its picture {image.shape[1:]}; restore the file"
                )
            lesion = mask if lesion is None else lesion | mask
        seen = None
        if self.foreground != "none":
            seen = np.ones(image.shape[1:], bool) if self.foreground == "all" else (image != 0).any(axis=0)
        return Volume(
            image[:, None], None if seen is None else seen[None], None if lesion is None else lesion[None], None,
            subject.key, groups=picture.groups,
        )  # fmt: skip

    def label(self, mask: FloatArray) -> BoolArray:
        """Return where a mask file (H, W) says lesion."""
        return mask > 0


def shared_out(people: Sequence[str], share: float, owner: str, seed: int) -> frozenset[str]:
    """Return a share of the people, at least one, drawn by a seed; for owners that give no validation set."""
    from uadbench.method import derive_seed

    order = sorted(set(people), key=lambda person: derive_seed(owner, seed, person))
    return frozenset(order[: max(1, round(share * len(order)))] if share else ())
