"""What adapters of 3-D volumes share: an index of files, splits by person, loading. An adapter says where files lie.

A set holds healthy people, or people with lesions; `--dataset brats21 --healthy ixi` joins one of each.
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
from uadbench.dataset import Dataset, Group, Split, Subject, Volume, adapter_name
from uadbench.errors import DataError, UsageError
from uadbench.method import derive_seed
from uadbench.prepared import OWN_COLUMNS, as_group, is_prepared, prepared_facts, prepared_rows
from uadbench.reading import Scan, read_like, read_volume

FOLDS = 5


@dataclass(frozen=True)
class Case:
    """One scan of one person as it lies on disk.

    Attributes:
        person: splits are by person.
        images: one file for each modality.
        scan: tells several scans of one person apart.
        lesions: mask files; several are joined. Empty where there is no annotation.
        foreground: mask of the brain, if there is a file.
        ignore: mask of what no metric may look at, if that is a file of its own.
        groups: site, scanner, age, sex and so on.
    """

    person: str
    images: Mapping[str, Path]
    scan: str = ""
    lesions: tuple[Path, ...] = ()
    foreground: Path | None = None
    ignore: Path | None = None
    groups: Mapping[str, Group] = field(default_factory=dict)


@dataclass
class VolumeSet(Dataset):
    """Base of adapters of volumes. A subclass defines `card`, `cases`, and `holds`; the rest follows.

    Class facts:
        holds: "healthy" people, for training and as healthy test subjects, or people with "lesions".
        stripped: whether the owners removed the skull, so that what is not 0 is brain.
        baked: parameters that decide what a preparation writes. A prepared folder is read with the values it was written
            with.
    """

    holds: ClassVar[Literal["healthy", "lesions"]]
    stripped: ClassVar[bool] = False
    baked: ClassVar[frozenset[str]] = frozenset()
    location: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Annotated[Path, Field(description="folder with the data, as distributed or prepared")] = Path()
    modality: Annotated[str, Field(description="one modality, or several joined with +")] = "t1"
    foreground: Annotated[
        Literal["auto", "file", "nonzero", "none"],
        Field(
            description="file: the masks given; nonzero: all that is not 0, for skull-stripped images; auto: file if "
            "given, else nonzero if the images are skull-stripped, else none"
        ),
    ] = "auto"
    seed: Annotated[int, Field(ge=0, description="of the assignment of people to splits")] = 0

    @abstractmethod
    def cases(self) -> Iterable[Case]:
        """Return what lies below `root` in the owners' layout, in a fixed order. Reads no pixels.

        Raises:
            DataError: if nothing is found; see `uadbench.reading.unknown_layout`.
        """

    def label(self, mask: FloatArray) -> tuple[BoolArray, BoolArray | None]:
        """Return lesion and ignored voxels, bool (D, H, W), from the values of a mask file.

        Raises:
            ValueError: for values that the set does not know.
        """
        return mask > 0.5, None

    def people(self, fold: int, order: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return who is for training, validation and test. `order` is shuffled by the seed and turned by the fold."""
        raise NotImplementedError

    @cached_property
    def prepared(self) -> bool:
        """Whether `root` was written by `uadbench datasets prepare`."""
        return is_prepared(self.root)

    @cached_property
    def skull_free(self) -> bool:
        """Whether what is not 0 is brain: the owners, the user or the preparation says so."""
        if self.prepared:
            return bool(prepared_facts(self.root)["stripped"])
        return self.stripped or self.foreground == "nonzero"

    def recipe(self) -> tuple[str, str]:
        """Return name and hash of the recipe that prepared the data; empty if they are as distributed."""
        if not self.prepared:
            return "", ""
        facts = prepared_facts(self.root)
        return str(facts["recipe"]), str(facts["recipe_hash"])

    def foreground_from(self) -> str:
        """Return where foregrounds come from; of prepared data that is what `skull_strip` went by."""
        if "foreground" not in self.provides():
            return ""
        if self.foreground == "nonzero":
            return "nonzero"
        if self.prepared and (brains := prepared_facts(self.root).get("brains")):
            return " and ".join(brains)
        return " and ".join(sorted({"given" if case.foreground else "nonzero" for case in self.index.values()}))

    @cached_property
    def listed(self) -> dict[str, Case]:
        """Every scan that lies there, whatever modalities it has, by the subject's key."""
        name = adapter_name(type(self))
        out: dict[str, Case] = {}
        for case in self._prepared_cases(name) if self.prepared else self.cases():
            key = Subject(case.person, case.scan).key
            if key in out:
                raise DataError(f"{name}: {self.root} holds {key} twice; remove one of the two copies")
            out[key] = case
        return out

    def having(self, modalities: Sequence[str]) -> dict[str, Case]:
        """Return every scan that has any of some modalities, in the order of the files: what a preparation works on.

        Raises:
            DataError: as `index` does where one of the modalities is the one asked for.
        """
        found: dict[str, Case] = {}
        left = {key for key, case in self.listed.items() if set(modalities) & set(case.images)}
        for word in modalities:
            if any(word in self.listed[key].images for key in left):
                # An adapter chooses masks by the modality asked for, and looks only at scans that have it.
                same = self if self.channel_names() == (word,) else replace(self, modality=word)
                found |= {key: case for key, case in same.index.items() if key in left}
                left -= found.keys()
        return {key: found[key] for key in self.listed if key in found}

    @cached_property
    def index(self) -> dict[str, Case]:
        """Every scan that has the modalities asked for, by the subject's key."""
        name = adapter_name(type(self))
        out: dict[str, Case] = {}
        lacking: dict[str, int] = {}
        bare: list[str] = []
        there: set[str] = set()
        for key, case in self.listed.items():
            there |= set(case.images)
            missing = [word for word in self.channel_names() if word not in case.images]
            if missing:
                lacking[missing[0]] = lacking.get(missing[0], 0) + 1
                continue
            out[key] = case
            if self.holds == "lesions" and not case.lesions:
                bare.append(key)
        if bare:
            raise DataError(
                f"{name}: {len(bare)} of the {len(out)} scans in {self.root} have no lesion mask, the first is {bare[0]}; "
                "restore the masks, or give the folder that has them with --root"
            )
        if not out:
            word, number = next(iter(lacking.items()), ("", 0))
            raise DataError(
                f"{name}: none of the {number} scans in {self.root} has the modality {word!r}; there: "
                f"{', '.join(sorted(there)) or 'none'} (possible: {', '.join(self.card.modality)})"
            )
        return out

    def _prepared_cases(self, name: str) -> Iterable[Case]:
        facts = prepared_facts(self.root)
        if facts["dataset"] != name:
            raise DataError(
                f"{name}: {self.root} was prepared from {facts['dataset']}; give --dataset {facts['dataset']}, or "
                "another --root"
            )
        for word, value in facts.get("parameters", {}).items():
            if word in self.baked and getattr(self, word) != value:
                raise DataError(
                    f"{name}: {self.root} was prepared with {word}={value}, not {getattr(self, word)}; give "
                    f"-D {word}={value}, or prepare another folder"
                )
        for row in prepared_rows(self.root):
            files = {key: self.root / row[key] for key in ("foreground", "ignore", "lesion") if row.get(key)}
            images = {
                key.partition(":")[2]: self.root / path
                for key, path in row.items()
                if key.startswith("image:") and path
            }
            lesions = (files["lesion"],) if "lesion" in files else ()
            groups = {k: as_group(v) for k, v in row.items() if v and ":" not in k and k not in OWN_COLUMNS}
            yield Case(
                row["person"], images, row["scan"], lesions, files.get("foreground"), files.get("ignore"), groups
            )

    def _subject(self, case: Case) -> Subject:
        masks = [*case.lesions, *(path for path in (case.foreground, case.ignore) if path)]
        files = (*(case.images[word] for word in self.channel_names()), *masks)
        return Subject(case.person, case.scan, case.groups, files)

    def subjects(self) -> Sequence[Subject]:
        """Return the index in the order of the files."""
        return [self._subject(case) for case in self.index.values()]

    def provides(self) -> frozenset[str]:
        """Return foreground if there is one, and registered if the preparation says so."""
        words: set[str] = set()
        if self.prepared and prepared_facts(self.root)["registered"]:
            words.add("registered")
        sure = self.foreground == "nonzero" or (self.foreground == "auto" and self.skull_free)
        if self.foreground != "none" and (sure or all(case.foreground for case in self.index.values())):
            words.add("foreground")
        return self.card.provides | words

    def channel_names(self) -> tuple[str, ...]:
        """Return the modalities."""
        return tuple(self.modality.split("+"))

    def split(self, fold: int = 0) -> Split:
        """Return who is used for what: healthy people in train, val, test_healthy; others in val_lesion, test_lesion."""
        name = adapter_name(type(self))
        if not 0 <= fold < FOLDS:
            raise UsageError(f"{name} has the folds 0 to {FOLDS - 1}, not {fold}")
        by_person: dict[str, list[Subject]] = {}
        for subject in self.subjects():
            by_person.setdefault(subject.id, []).append(subject)
        order = sorted(by_person, key=lambda person: derive_seed(name, self.seed, person))
        shift = fold * len(order) // FOLDS if self.holds == "healthy" else 0
        train, val, test = (
            tuple(s for person in part for s in by_person[person])
            for part in self.people(fold, [*order[shift:], *order[:shift]])
        )
        if self.holds == "healthy":
            return Split(train, val, (), test)
        return Split((), (), test, (), val)

    def load(self, subject: Subject) -> Volume:
        """Read one subject: images (C, D, H, W) with D from inferior to superior, H to anterior, W to the right."""
        name = adapter_name(type(self))
        case = self.index[subject.key]
        first, *others = [case.images[word] for word in self.channel_names()]
        scan = read_volume(first, name)
        image = np.stack([scan.data, *(read_like(path, scan, name) for path in others)])
        lesion = None
        ignore = read_like(case.ignore, scan, name) > 0.5 if case.ignore else None
        for path in case.lesions:
            values = read_like(path, scan, name)
            try:
                found, other = (values > 0.5, None) if self.prepared else self.label(values)
            except ValueError as error:
                raise DataError(f"{name}: {path}: {error}") from error
            lesion = found if lesion is None else lesion | found
            if other is not None:
                ignore = other if ignore is None else ignore | other
        if lesion is not None and ignore is not None:
            ignore &= ~lesion
        return Volume(
            image, self._foreground(case, image, scan, name), lesion, scan.spacing, subject.key, ignore, scan.affine,
            case.groups,
        )  # fmt: skip

    def content(self) -> str:
        """Return a fingerprint of the files and, for prepared data, of the recipe."""
        from uadbench.identity import digest

        return digest([super().content(), prepared_facts(self.root)["recipe_hash"] if self.prepared else ""])

    def _foreground(self, case: Case, image: FloatArray, scan: Scan, name: str) -> BoolArray | None:
        if self.foreground == "none":
            return None
        if case.foreground is not None and self.foreground in ("auto", "file"):
            return read_like(case.foreground, scan, name) > 0.5
        if self.foreground == "file":
            raise DataError(f"{name}: {case.person} has no foreground mask; add one, or use foreground=nonzero")
        if self.foreground == "nonzero" or self.skull_free:
            return np.asarray((image != 0).any(axis=0))
        return None


@dataclass
class HealthySet(VolumeSet):
    """Base of adapters of healthy people: train, val, test_healthy."""

    holds: ClassVar[Literal["healthy", "lesions"]] = "healthy"

    val: Annotated[float, Field(gt=0, lt=1, description="share of the people for validation")] = 0.1
    test_healthy: Annotated[float, Field(ge=0, lt=1, description="share of the people for testing")] = 0.2

    def people(self, fold: int, order: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return train, val and test_healthy; at least one person in each."""
        n = len(order)
        n_test = max(1, round(self.test_healthy * n)) if self.test_healthy else 0
        if n >= FOLDS and self.test_healthy == 1 / FOLDS:
            n_test = (fold + 1) * n // FOLDS - fold * n // FOLDS  # Everybody is tested in one fold, whatever n is.
        n_val = max(1, round(self.val * len(order)))
        if len(order) - n_test - n_val < 1:
            name = adapter_name(type(self))
            raise DataError(f"{name}: {len(order)} people in {self.root} are too few for train, val and test_healthy")
        return order[n_test + n_val :], order[n_test : n_test + n_val], order[:n_test]


@dataclass
class LesionSet(VolumeSet):
    """Base of adapters of people with lesions: val_lesion, test_lesion. The same people in every fold."""

    holds: ClassVar[Literal["healthy", "lesions"]] = "lesions"

    val_lesion: Annotated[
        float, Field(ge=0, lt=1, description="share of the people for protocols that read labels in validation")
    ] = 0.25

    def people(self, fold: int, order: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return nobody, val_lesion and test_lesion; at least one person in the last."""
        number = min(len(order) - 1, round(self.val_lesion * len(order)))
        return [], order[:number], order[number:]
