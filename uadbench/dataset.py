"""What a dataset is: a card, an index of subjects, a split by subject, and volumes loaded one at a time.

An adapter reads data in the layout its owners distribute. It never downloads and never resamples behind the user's back.
This module imports neither torch nor numpy when it is loaded.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from uadbench.errors import DataError

if TYPE_CHECKING:
    from uadbench.arrays import BoolArray, FloatArray

Role = Literal["train", "val", "val_lesion", "test_healthy", "test_lesion"]
Group = str | float

ROLES: tuple[Role, ...] = ("train", "val", "val_lesion", "test_healthy", "test_lesion")
STAGE: dict[Role, str] = {
    "train": "train",
    "val": "validation",
    "val_lesion": "validation",
    "test_healthy": "test",
    "test_lesion": "test",
}
"""A person may appear in one stage only."""


def adapter_name(cls: type) -> str:
    """Return the name that a dataset's class has for users, of a plug-in without what tells its files apart."""
    module = cls.__module__.rpartition(".")[2]
    plugin = re.fullmatch(r"uadbench_plugin_(.+)_[0-9a-f]{6}", module)  # See `uadbench.registry`.
    return plugin[1] if plugin else module


@dataclass(frozen=True)
class DatasetCard:
    """What a reader of a table must know about the data.

    Attributes:
        title: full name.
        licence: of the data, and what it allows.
        url: where its owners describe it.
        reference: the publication to cite.
        modality: the modalities it holds.
        healthy: where the healthy images come from.
        provides: what it offers to methods, words of `uadbench.method.NEEDS`.
        expected: published counts, such as {"subjects": 110}.
        note: printed under every table made from it.
        orientation: "volume" for slices that are drawn with their last row on top (RAS volumes), "picture" otherwise.
        dimensions: whether a subject is a volume or a picture.
        masks: "voxels", lesions are outlined; "images", only which image is anomalous is known; "none", all are healthy;
            "as given" for data of your own.
        access: how to get the data, in a few words.
    """

    title: str
    licence: str
    url: str
    reference: str
    modality: tuple[str, ...]
    healthy: Literal["controls", "slices of patients", "synthetic", "as the manifest says", "none"]
    provides: frozenset[str] = frozenset()
    expected: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    orientation: Literal["volume", "picture"] = "volume"
    dimensions: Literal["2-D", "3-D"] = "3-D"
    masks: Literal["voxels", "images", "none", "as given"] = "voxels"
    access: str = ""


@dataclass(frozen=True)
class Subject:
    """One line of the index: a person, or one scan of a person.

    Attributes:
        id: the person. Splits and averages are by person.
        scan: tells several scans of one person apart.
        groups: site, scanner, age, sex, lesion kind and so on, for tables by group.
        files: what is read to load it.
    """

    id: str
    scan: str = ""
    groups: Mapping[str, Group] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def key(self) -> str:
        """The name of this line, unique in the dataset."""
        return f"{self.id}_{self.scan}" if self.scan else self.id


@dataclass(frozen=True)
class Split:
    """Who is used for what in one fold. Each role holds subjects; `check` refuses a person in two stages.

    `leaky` is the reason why that is allowed here, for splits that were published so. Results on them never rank.
    """

    train: tuple[Subject, ...]
    val: tuple[Subject, ...]
    test_lesion: tuple[Subject, ...]
    test_healthy: tuple[Subject, ...] = ()
    val_lesion: tuple[Subject, ...] = ()
    leaky: str = ""

    @classmethod
    def of(cls, members: Iterable[tuple[Role, Subject]], leaky: str = "") -> Split:
        """Return the split of subjects with a role each."""
        roles: dict[Role, list[Subject]] = {role: [] for role in ROLES}
        for role, subject in members:
            roles[role].append(subject)
        return cls(**{role: tuple(found) for role, found in roles.items()}, leaky=leaky)

    def items(self) -> Iterator[tuple[Role, Subject]]:
        """Yield every (role, subject)."""
        for role in ROLES:
            for subject in getattr(self, role):
                yield role, subject

    def check(self, name: str) -> None:
        """Raise DataError if a person is in two stages or a needed role is empty. `name` is the dataset's."""
        from uadbench.findings import raise_first
        from uadbench.split_checks import split_findings

        raise_first(split_findings(self, name), name)


@dataclass(frozen=True)
class Volume:
    """The images of one subject. Axis order C, D, H, W with D the slice axis; a 2-D picture has D = 1.

    Attributes:
        image: float32 (C, D, H, W).
        foreground: bool (D, H, W), True where there is tissue; None if not known.
        lesion: bool (D, H, W), True where anomalous; None means not annotated, which is not the same as healthy.
        ignore: bool (D, H, W), True where no metric may look (a label of another disease, say); None means nowhere.
        spacing: millimetres along D, H, W; None if not known, and then no volume in millilitres is.
        affine: 4x4, from voxel indices (W, H, D order of the file) to millimetres; None for pictures.
        subject: the subject's key.
        groups: of the subject.
    """

    image: FloatArray
    foreground: BoolArray | None
    lesion: BoolArray | None
    spacing: tuple[float, float, float] | None
    subject: str
    ignore: BoolArray | None = None
    affine: FloatArray | None = None
    groups: Mapping[str, Group] = field(default_factory=dict)

    @property
    def grid(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        d, h, w = self.image.shape[1:]
        return int(d), int(h), int(w)

    @property
    def voxel_ml(self) -> float:
        """Millilitres of one voxel; NaN without spacing."""
        if self.spacing is None:
            return float("nan")
        d, h, w = self.spacing
        return d * h * w / 1000.0

    def without_labels(self) -> Volume:
        """Return the volume as methods may see it: no lesion, no ignore mask."""
        return replace(self, lesion=None, ignore=None)

    def check(self, source: str) -> None:
        """Raise DataError if shapes do not fit or values are not finite. `source` names the file in the message."""
        import numpy as np

        if self.image.ndim != 4:
            raise DataError(
                f"{source}: the image has {self.image.ndim} axes {self.image.shape}; (C, D, H, W) is expected"
            )
        for name in ("foreground", "lesion", "ignore"):
            mask = getattr(self, name)
            if mask is not None and mask.shape != self.image.shape[1:]:
                raise DataError(
                    f"{source}: the {name} mask has the shape {mask.shape} but its image has {self.image.shape[1:]}; "
                    "bring both to one grid (nearest neighbour for masks)"
                )
        if not np.isfinite(self.image).all():
            bad = int(np.size(self.image) - np.isfinite(self.image).sum())
            raise DataError(
                f"{source}: {bad} voxel{'s are' if bad > 1 else ' is'} NaN or infinite; repair or remove this image"
            )
        if self.foreground is not None and not self.foreground.any():
            raise DataError(f"{source}: the foreground mask is empty; give a mask of the tissue or remove this subject")


@dataclass
class Dataset(ABC):
    """Base of all adapters. Subclasses are dataclasses whose fields are parameters with a type and a range.

    Class facts:
        card: what a reader must know.
        location: fields that say where the data lie; they are no part of the dataset's identity.
        tiny: parameters for tests.
        preparation: a dataclass with `__call__(out) -> Path` that writes what the adapter reads, or None.
    """

    card: ClassVar[DatasetCard]
    location: ClassVar[frozenset[str]] = frozenset()
    tiny: ClassVar[Mapping[str, Any]] = {}
    preparation: ClassVar[type[Callable[[Path], Path]] | None] = None

    @abstractmethod
    def subjects(self) -> Sequence[Subject]:
        """Return the index. Reads no pixels.

        Raises:
            DataError: if nothing is found where the data should be; the message says what was looked for and where.
        """

    @abstractmethod
    def split(self, fold: int = 0) -> Split:
        """Return who is used for what in `fold`. By person, never by slice."""

    @abstractmethod
    def load(self, subject: Subject) -> Volume:
        """Read one subject.

        Raises:
            DataError: naming the file and the remedy.
        """

    def content(self) -> str:
        """Return a fingerprint of the data behind the index: by default of the bytes of all files it reads."""
        from uadbench.identity import digest, file_hash

        return digest({s.key: [file_hash(path) for path in s.files] for s in self.subjects()})

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that are part of the dataset's identity, all but its location."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self.location}

    def published(self) -> Mapping[str, int]:
        """Return the published counts that hold for the parameters chosen: by default all that the card says."""
        return self.card.expected

    def provides(self) -> frozenset[str]:
        """Return what the data offer to methods, words of `uadbench.method.NEEDS`: by default what the card says."""
        return self.card.provides

    def recipe(self) -> tuple[str, str]:
        """Return name and hash of the recipe that prepared the data; empty if they are as distributed."""
        return "", ""

    def foreground_from(self) -> str:
        """Return where foregrounds come from: "given" (files), "nonzero", or tools; empty if not known."""
        return ""

    def annotated(self) -> bool:
        """Return whether lesion subjects have masks. Without them whole images are judged: --protocol image-v1."""
        return True

    def channel_names(self) -> tuple[str, ...]:
        """Return the names of the image's channels."""
        modality = getattr(self, "modality", None)
        return tuple(str(modality).split("+")) if modality else self.card.modality[:1]
