"""What adapters of pictures share: an index of files with a role each, loading. An adapter says where files lie.

A picture is a volume with D = 1. Nothing is resampled: methods resize slices to their own image_size, and pictures may
differ in size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Dataset, Group, Role, Split, Subject, Volume, adapter_name
from uadbench.errors import DataError, UsageError
from uadbench.method import derive_seed
from uadbench.reading import PICTURES, read_labels, read_picture

KIND = "lesion_kind"
"""The group that says which kind of anomaly a picture shows; "none" for healthy ones."""


@dataclass(frozen=True)
class Picture:
    """One picture as it lies on disk.

    Attributes:
        person: splits are by person; a name of its own (`name_of`) where people are not known.
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
    colour: Annotated[
        Literal["auto", "grey", "rgb"],
        Field(description="channels: one, or red, green and blue; auto: as the owners use the pictures"),
    ] = "auto"
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

    def in_colour(self) -> bool:
        """Return whether the owners use these pictures in colour."""
        return False

    @cached_property
    def name(self) -> str:
        """The adapter's name, for messages."""
        return adapter_name(type(self))

    @cached_property
    def index(self) -> dict[str, Picture]:
        """Every picture by the subject's key."""
        out: dict[str, Picture] = {}
        for picture in self.pictures():
            key = self._subject(picture).key
            if (other := out.get(key)) and other.path == picture.path:
                raise DataError(
                    f"{self.name}: {picture.path} is listed twice, for {other.role} and {picture.role}; list it once"
                )
            if other:
                raise DataError(
                    f"{self.name}: {other.path} and {picture.path} are both called {key}; rename one of them"
                )
            out[key] = picture
        if not out:
            raise DataError(f"{self.name}: {self.root} holds no picture ({', '.join(PICTURES)})")
        return out

    def _subject(self, picture: Picture) -> Subject:
        return Subject(picture.person, picture.scan, picture.groups, (picture.path, *picture.masks))

    def subjects(self) -> Sequence[Subject]:
        """Return the index in the order of the files."""
        return [self._subject(picture) for picture in self.index.values()]

    def split(self, fold: int = 0) -> Split:
        """Return the split that the folders give. There is one fold."""
        if fold != 0:
            raise UsageError(f"{self.name} has the fold 0 only, not {fold}; its owners give one split")
        return Split.of((p.role, self._subject(p)) for p in self.index.values())

    def annotated(self) -> bool:
        """Return whether any picture with a lesion has a mask."""
        return any(p.masks for p in self.index.values() if p.role in ("val_lesion", "test_lesion"))

    def provides(self) -> frozenset[str]:
        """Return foreground if it is asked for."""
        return self.card.provides | (frozenset() if self.foreground == "none" else frozenset({"foreground"}))

    def channel_names(self) -> tuple[str, ...]:
        """Return the channels."""
        coloured = self.in_colour() if self.colour == "auto" else self.colour == "rgb"
        return ("red", "green", "blue") if coloured else ("grey",)

    def load(self, subject: Subject) -> Volume:
        """Read one picture (C, 1, H, W)."""
        picture = self.index[subject.key]
        image = read_picture(picture.path, self.name, 3 if len(self.channel_names()) == 3 else 1)
        lesion: BoolArray | None = None
        for path in picture.masks:
            mask = self.label(read_labels(path, self.name))
            if mask.shape != image.shape[1:]:
                raise DataError(
                    f"{self.name}: {path} has the shape {mask.shape} but its picture {picture.path.name} "
                    f"{image.shape[1:]}; restore the file, or bring the mask to the picture's size (nearest neighbour)"
                )
            lesion = mask if lesion is None else lesion | mask
        seen = picture_foreground(image[:, None], self.foreground)
        return Volume(
            image[:, None], seen, None if lesion is None else lesion[None], None, subject.key, groups=picture.groups
        )

    def label(self, mask: FloatArray) -> BoolArray:
        """Return where a mask file (H, W) says lesion."""
        return mask > 0


@dataclass
class SharedSet(PictureSet):
    """Base of adapters whose owners give no validation set: a share of the people for training is taken."""

    val: Annotated[
        float, Field(gt=0, lt=1, description="share of the people for training that validate, where owners give none")
    ] = 0.1
    seed: Annotated[int, Field(ge=0, description="of that share")] = 0

    def with_validation(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Return the pictures, those of a share of the people for training, at least one, as healthy validation."""
        people = {p.person for p in pictures if p.role == "train"}
        order = sorted(people, key=lambda person: derive_seed(self.name, self.seed, person))
        chosen = set(order[: max(1, round(self.val * len(order)))])
        return [replace(p, role="val") if p.role == "train" and p.person in chosen else p for p in pictures]


def picture_foreground(image: FloatArray, rule: Literal["none", "all", "nonzero"]) -> BoolArray | None:
    """Return where metrics look, (D, H, W), for an image (C, D, H, W)."""
    if rule == "none":
        return None
    return np.ones(image.shape[1:], bool) if rule == "all" else np.asarray((image != 0).any(axis=0))


def name_of(path: Path, root: Path) -> str:
    """Return a name for a picture whose person is not known: "train-good-000". Numbers often restart in each folder."""
    return "-".join(path.relative_to(root).with_suffix("").parts)


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures right in a folder, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return [p for p in sorted(folder.iterdir()) if p.suffix.lower() in PICTURES and not p.name.startswith(".")]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders right in a folder, sorted; none if there is no such folder."""
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and p.name[0] not in "._"] if folder.is_dir() else []


def folder_like(folder: Path, *names: str) -> Path | None:
    """Return the folder in a folder that has one of the names, whatever their case."""
    return next((p for p in folders_in(folder) if p.name.lower() in names), None)


def masks_of(
    pictures: Sequence[Path], folder: Path, owner: str, endings: Sequence[str] = ("",)
) -> dict[Path, tuple[Path, ...]]:
    """Return the mask of every picture, matched by name and never by order.

    Args:
        pictures: that have a mask each.
        folder: with the masks.
        owner: name of the adapter, for messages.
        endings: what may follow the picture's name in the mask's, such as "_mask".

    Raises:
        DataError: if a picture has no mask, or a mask no picture.
    """
    there = {p.stem: p for p in pictures_in(folder)}
    found = {p: next((there[p.stem + end] for end in endings if p.stem + end in there), None) for p in pictures}
    missing = [p for p, mask in found.items() if mask is None]
    if missing:
        raise DataError(
            f"{owner}: {len(missing)} of {len(pictures)} pictures have no mask in {folder}, such as {missing[0]}; masks are "
            f"matched by name ({missing[0].stem}{endings[0]}.png): restore or rename them"
        )
    stray = sorted(set(there.values()) - set(found.values()))
    if stray:
        raise DataError(
            f"{owner}: {len(stray)} masks belong to no picture, such as {stray[0]}; restore the pictures or take them out"
        )
    return {p: (mask,) for p, mask in found.items() if mask}


def defect_tree(root: Path, owner: str) -> list[Picture]:
    """Return the pictures of a tree train/good, test/good, test/<defect>, ground_truth/<defect>; none if there is no such.

    Without a folder ground_truth there are no masks. The kind of defect is the group `lesion_kind`.

    Raises:
        DataError: if masks and pictures do not match.
    """
    good = folder_like(root / "train", "good")
    if good is None:
        return []
    found = [Picture(name_of(p, root), p, "train", groups={KIND: "none"}) for p in pictures_in(good)]
    for folder in folders_in(root / "test"):
        files = pictures_in(folder)
        if folder.name.lower() == "good":
            found += [Picture(name_of(p, root), p, "test_healthy", groups={KIND: "none"}) for p in files]
            continue
        masks: dict[Path, tuple[Path, ...]] = {}
        if (root / "ground_truth").is_dir():
            masks = masks_of(files, root / "ground_truth" / folder.name, owner, ("_mask", ""))
        groups = {KIND: folder.name}
        found += [Picture(name_of(p, root), p, "test_lesion", masks=masks.get(p, ()), groups=groups) for p in files]
    return found
