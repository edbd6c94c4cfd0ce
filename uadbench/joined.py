"""Healthy people of one dataset and people with lesions of another, as one dataset: "brats21+ixi"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from uadbench.dataset import Dataset, DatasetCard, Role, Split, Subject, Volume
from uadbench.errors import DataError, UsageError

SEPARATOR = "+"
"""Stands between the name of the lesion set and that of the healthy set."""

ANY = frozenset({"image", "grey"})
"""Names of channels that say nothing about the modality."""


def joined_name(lesions: str, healthy: str | None) -> str:
    """Return the name of a lesion set with the healthy people of another set.

    Raises:
        UsageError: if the name is a joined one already, or both are one.
    """
    if not healthy:
        return SEPARATOR.join(parts_of(lesions))
    if healthy == lesions:
        raise UsageError(
            f"--healthy {healthy} names the dataset itself; leave it out. Two folders of one kind cannot be joined: write a "
            "manifest for both (uadbench datasets show nifti)"
        )
    if SEPARATOR in lesions or SEPARATOR in healthy:
        raise UsageError(f"--healthy {healthy}: {lesions!r} names a healthy set already; leave out one of them")
    return f"{lesions}{SEPARATOR}{healthy}"


def parts_of(name: str) -> list[str]:
    """Return the datasets that a name stands for: one, or the lesion set and the healthy set.

    Raises:
        UsageError: if it is neither.
    """
    parts = [part.strip() for part in name.split(SEPARATOR)]
    if len(parts) > 2 or not all(parts) or len(set(parts)) != len(parts):
        raise UsageError(
            f"dataset {name!r} is not of the form NAME or LESIONS{SEPARATOR}HEALTHY, such as brats21{SEPARATOR}ixi"
        )
    return parts


@dataclass
class Joined(Dataset):
    """Train, val and test_healthy come from `healthy`, val_lesion and test_lesion from `lesions`.

    Folds are those of the healthy set; people with lesions are those of its fold 0 in all of them.

    Attributes:
        lesions: the set with lesions.
        healthy: the set of healthy people.
        names: of the two, in this order.
    """

    lesions: Dataset
    healthy: Dataset
    names: tuple[str, str]

    def __post_init__(self) -> None:
        """Refuse sets of different modalities; write the card of both."""
        ours, theirs = self.lesions.channel_names(), self.healthy.channel_names()
        same = len(ours) == len(theirs) and all(
            a.lower() == b.lower() or ANY & {a, b} for a, b in zip(ours, theirs, strict=True)
        )
        if not same:
            a, b = self.names
            raise UsageError(
                f"{a} gives {'+'.join(ours)} but {b} gives {'+'.join(theirs)}; choose one modality for both, such as "
                f"--modality {ours[0]}, or give -D {a}.modality=... -D {b}.modality=..."
            )
        (first, one), (second, other) = self.lesions.recipe(), self.healthy.recipe()
        if one and other and one != other:
            a, b = self.names
            raise DataError(
                f"{a} was prepared by the recipe {first} and {b} by {second}, or with other templates: what differs between "
                "them would pass for a lesion; prepare both with the same recipe and template"
            )
        a_card, b_card = self.lesions.card, self.healthy.card
        seen = ["foreground" in dataset.provides() for dataset in (self.lesions, self.healthy)]
        mask = ""
        if seen[0] != seen[1]:
            mask = f"{self.names[seen.index(True)]} has a foreground and {self.names[seen.index(False)]} has none."
        unlike = (
            f"{self.names[0 if one else 1]} was prepared ({first or second}), {self.names[1 if one else 0]} was not."
        )
        vars(self)["card"] = DatasetCard(
            title=f"{a_card.title}; healthy: {b_card.title}",
            licence=f"{a_card.licence}; {b_card.licence}",
            url=f"{a_card.url} {b_card.url}",
            reference=f"{a_card.reference}; {b_card.reference}",
            modality=ours,
            healthy=b_card.healthy,
            note=" ".join(note for note in (a_card.note, b_card.note, unlike if one != other else "", mask) if note),
            orientation=a_card.orientation,
            dimensions=a_card.dimensions,
            masks=a_card.masks,
        )

    @cached_property
    def _owner(self) -> dict[str, tuple[Dataset, Subject]]:
        """Who stands behind a subject's key."""
        out = {}
        for place, dataset in enumerate((self.lesions, self.healthy)):
            for subject in dataset.subjects():
                out[self._renamed(subject, place).key] = (dataset, subject)
        return out

    @cached_property
    def _clashes(self) -> frozenset[str]:
        """Names of people that both sets use."""
        return frozenset({s.id for s in self.lesions.subjects()} & {s.id for s in self.healthy.subjects()})

    def _renamed(self, subject: Subject, place: int) -> Subject:
        if subject.id not in self._clashes:
            return subject
        return replace(subject, id=f"{self.names[place]}-{subject.id}")

    def subjects(self) -> Sequence[Subject]:
        """Return the people with lesions, then the healthy ones; names that both sets use get that of the set."""
        return [self._renamed(s, i) for i, d in enumerate((self.lesions, self.healthy)) for s in d.subjects()]

    def split(self, fold: int = 0) -> Split:
        """Return the healthy set's fold, with the people of the lesion set."""
        ill, well = self.lesions.split(0), self.healthy.split(fold)

        def taken(split: Split, role: Role, place: int) -> tuple[Subject, ...]:
            return tuple(self._renamed(s, place) for s in getattr(split, role))

        return Split(
            train=taken(well, "train", 1),
            val=taken(well, "val", 1),
            test_lesion=taken(ill, "test_lesion", 0),
            test_healthy=taken(well, "test_healthy", 1),
            val_lesion=taken(ill, "val_lesion", 0),
            leaky=" ".join(filter(None, (ill.leaky, well.leaky))),
        )

    def load(self, subject: Subject) -> Volume:
        """Read one subject of either set."""
        dataset, own = self._owner[subject.key]
        return replace(dataset.load(own), subject=subject.key)

    def content(self) -> str:
        """Return a fingerprint of both sets."""
        from uadbench.identity import digest

        return digest([self.lesions.content(), self.healthy.content()])

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of both sets, "set.parameter"."""
        both = zip(self.names, (self.lesions, self.healthy), strict=True)
        return {f"{name}.{key}": value for name, dataset in both for key, value in dataset.parameters().items()}

    def provides(self) -> frozenset[str]:
        """Return what both sets offer."""
        both = self.lesions.provides() & self.healthy.provides()
        # Each set may be registered to another template.
        return both if self.lesions.recipe()[1] == self.healthy.recipe()[1] else both - {"registered"}

    def annotated(self) -> bool:
        """Return whether lesions are outlined."""
        return self.lesions.annotated()

    def channel_names(self) -> tuple[str, ...]:
        """Return the channels of the lesion set, which are those of the healthy set."""
        return self.lesions.channel_names()
