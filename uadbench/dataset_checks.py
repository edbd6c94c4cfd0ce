"""What every dataset must do, check by check."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from uadbench.checks import demand
from uadbench.data_checks import unknown_counts
from uadbench.dataset import ROLES, Dataset, Volume
from uadbench.errors import ContractBroken, UADBenchError
from uadbench.findings import raise_first
from uadbench.guard import no_network
from uadbench.method import NEEDS
from uadbench.split_checks import needed_roles, split_findings


class DatasetTrial:
    """One dataset and what is read once."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @cached_property
    def loaded(self) -> list[tuple[str, Volume]]:
        """The first two subjects of every role."""
        split = self.dataset.split(0)
        with no_network():
            return [(role, self.dataset.load(s)) for role in ROLES for s in getattr(split, role)[:2]]


def _card(trial: DatasetTrial) -> None:
    card = trial.dataset.card
    for name in ("title", "licence", "url", "reference", "modality", "healthy"):
        demand(bool(getattr(card, name)), f"the card says nothing about {name}")
    unknown = card.provides - NEEDS.keys()
    demand(not unknown, f"provides {sorted(unknown)}, which no method can need; known: {sorted(NEEDS)}")
    strange = unknown_counts(trial.dataset)
    demand(
        not strange,
        f"expected has counts of {strange}, which nothing compares; known: subjects, scans, pictures, the roles, the "
        "card's modalities and choices of its parameters",
    )
    demand(card.orientation in ("volume", "picture"), f"orientation {card.orientation!r} is not volume or picture")


def _index(trial: DatasetTrial) -> None:
    subjects = list(trial.dataset.subjects())
    demand(bool(subjects), "subjects() is empty")
    keys = [s.key for s in subjects]
    demand(len(set(keys)) == len(keys), "two lines of the index have the same key")
    demand([s.key for s in trial.dataset.subjects()] == keys, "subjects() gives another order the second time")
    for subject in subjects:
        plain = all(isinstance(v, (str, int, float)) for v in subject.groups.values())
        demand(plain, f"groups of {subject.key} must be texts or numbers")


def _split_check(trial: DatasetTrial) -> None:
    split = trial.dataset.split(0)
    name = type(trial.dataset).__name__
    raise_first(split_findings(split, name, needed=needed_roles(split)), name)
    keys = {s.key for s in trial.dataset.subjects()}
    strangers = [s.key for _, s in split.items() if s.key not in keys]
    demand(not strangers, f"split() names {strangers[:3]}, which subjects() does not know")
    demand(trial.dataset.split(0) == split, "split() gives another result the second time")


def _volumes_check(trial: DatasetTrial) -> None:
    for role, volume in trial.loaded:
        volume.check(volume.subject)
        demand(volume.image.dtype == np.float32, f"{volume.subject}: the image is {volume.image.dtype}, not float32")
        for name in ("foreground", "lesion", "ignore"):
            mask = getattr(volume, name)
            demand(mask is None or mask.dtype == np.bool_, f"{volume.subject}: the {name} mask is not bool")
        positive = volume.spacing is None or all(s > 0 for s in volume.spacing)
        demand(positive, f"{volume.subject}: spacing {volume.spacing} must be positive")
        channels = len(trial.dataset.channel_names())
        demand(volume.image.shape[0] == channels, f"{volume.subject}: channel_names() gives {channels} names")
        if role in ("test_lesion", "val_lesion"):
            masked = volume.lesion is not None
            demand(masked or not trial.dataset.annotated(), f"{volume.subject} is in {role} and has no lesion mask")
        elif volume.lesion is not None:
            demand(not volume.lesion.any(), f"{volume.subject} is healthy in {role} and has lesion voxels")


def _promises(trial: DatasetTrial) -> None:
    provides = trial.dataset.provides()
    if "foreground" in provides:
        bare = [v.subject for _, v in trial.loaded if v.foreground is None]
        demand(not bare, f"the dataset promises a foreground; {bare[:3]} have none")
    if "registered" in provides:
        grids = {v.grid for _, v in trial.loaded}
        demand(len(grids) == 1, f"the dataset promises registered volumes; their grids are {sorted(grids)}")


def _repeatable(trial: DatasetTrial) -> None:
    role, first = trial.loaded[0]
    subject = getattr(trial.dataset.split(0), role)[0]
    demand(bool(np.array_equal(trial.dataset.load(subject).image, first.image)), "loading twice gives two images")
    demand(trial.dataset.content() == trial.dataset.content(), "content() gives another hash the second time")


def _refuses_fold(trial: DatasetTrial) -> None:
    try:
        trial.dataset.split(10_000)
    except UADBenchError:
        return
    raise ContractBroken("split(10000) must raise UsageError or DataError that says which folds exist")


DATASET_CHECKS: dict[str, Callable[[DatasetTrial], None]] = {
    "the card is complete": _card,
    "the index is complete and stable": _index,
    "the split is by person and complete": _split_check,
    "volumes have the right axes, types and annotation": _volumes_check,
    "the card keeps its promises": _promises,
    "loading is repeatable": _repeatable,
    "an unknown fold is refused": _refuses_fold,
}
