"""The volumes of one split, checked once before anything is trained, and kept in memory while they fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from threading import Lock

import numpy as np

from uadbench.ahead import ahead
from uadbench.arrays import FloatArray
from uadbench.checked import Checked
from uadbench.data_checks import counts, pair_findings
from uadbench.dataset import STAGE, Dataset, Role, Split, Subject, Volume
from uadbench.errors import DataError
from uadbench.file_checks import copies
from uadbench.findings import gathered, ordered, raise_first
from uadbench.preparation import normalise
from uadbench.protocol import Intensity
from uadbench.registration_checks import Gate
from uadbench.split_checks import HEALTHY, LESIONS, alone
from uadbench.volume_checks import EMPTY, empty_share, image_hash

MEMORY = 2 * 2**30
"""Bytes of volumes that are kept; beyond it the least recently used one is read again when it is needed."""


class Bank:
    """Loads subjects of a dataset, with their images normalised by a rule; without one they stay as they are."""

    def __init__(self, dataset: Dataset, name: str, rule: Intensity | None, *, memory: int = MEMORY) -> None:
        """Keep at most `memory` bytes. `name` is the dataset's, for messages."""
        self.dataset, self.name, self.rule, self.memory = dataset, name, rule, memory
        self._sizes: set[tuple[int, int]] = set()
        self._checked: set[str] = set()
        self.warnings: tuple[str, ...] = ()
        self._kept: OrderedDict[str, tuple[Volume, FloatArray]] = OrderedDict()
        self._size = 0
        self._reading, self._keeping = Lock(), Lock()

    def get(self, subject: Subject) -> tuple[Volume, FloatArray]:
        """Return the volume with its labels, and its normalised image (C, D, H, W). May be called by several threads."""
        with self._keeping:
            if subject.key in self._kept:
                self._kept.move_to_end(subject.key)
                return self._kept[subject.key]
        with self._reading:  # An adapter need not know of threads.
            volume = self.dataset.load(subject)
        if subject.key not in self._checked:  # Later reads may come when nobody is to look at labels.
            volume.check(self._source(subject))
            self._checked.add(subject.key)
        pair = (volume, volume.image if self.rule is None else normalise(volume, self.rule))
        with self._keeping:
            if subject.key not in self._kept:
                self._kept[subject.key] = pair
                self._size += _bytes(pair)
            while self._size > self.memory and len(self._kept) > 1:
                self._size -= _bytes(self._kept.popitem(last=False)[1])
        return pair

    def each(self, subjects: Iterable[Subject]) -> Iterator[tuple[Volume, FloatArray]]:
        """Yield what `get` returns for each subject; the next ones are read ahead."""
        return ahead(self.get, subjects)

    def _source(self, subject: Subject) -> str:
        """Return where a subject comes from, for messages."""
        return f"{self.name}: " + (", ".join(str(p) for p in subject.files[:1]) or subject.key)

    def load(self, subject: Subject) -> Volume:
        """Return the volume with its labels, for the evaluation."""
        return self.get(subject)[0]

    def working_size(self, image_size: int | None) -> tuple[int, int] | None:
        """Return the size (h, w) that the slices of all checked subjects fit into; None if nothing was checked."""
        from uadbench.volumes import common_size  # torch, which an evaluation does without

        return common_size(self._sizes, image_size) if self._sizes else None

    def check(self, split: Split, *, masks: bool = True, each_subject: Callable[[], None] = lambda: None) -> Checked:
        """Read every subject of a split once, after `check_before_run`; with `masks` lesion subjects must have one.

        Raises:
            DataError: for the first thing that is wrong, naming the file and the remedy.
        """
        in_one_place = "registered" in self.dataset.provides()
        gate, empty = Gate(in_one_place), dict[str, str]()
        channels: dict[int, str] = {}
        same: dict[str, list[Subject]] = {}
        registered: tuple[str, Volume] | None = None
        members = list(split.items())
        for (role, subject), (volume, _) in zip(members, self.each(s for _, s in members), strict=True):
            source = self._source(subject)
            check_role(role, volume, source, masks)
            channels.setdefault(volume.image.shape[0], source)
            if len(channels) > 1:
                (a, first), (b, second) = list(channels.items())[:2]
                raise DataError(
                    f"E-DATA-413: {first} has {a} channels but {second} has {b}; choose modalities that all subjects have"
                )
            if in_one_place:
                registered = registered or (source, volume)
                _check_registered(*registered, volume, source)
            if voxels := image_hash(volume.image):
                same.setdefault(voxels, []).append(subject)
            gate.see(subject, role, volume)
            if (share := empty_share(volume)) > EMPTY:
                empty[subject.key] = f"{share:.0%}"
            self._sizes.add((volume.grid[1], volume.grid[2]))
            each_subject()
        stage = {subject.key: STAGE[role] for role, subject in split.items()}
        found = copies(same.values(), stage, excuse=split.leaky)
        raise_first(found, self.name)
        doubts = [*found, *gate.findings(), *gathered(416, empty)]
        doubts += [*alone(split), *pair_findings(self.dataset)]
        doubts += counts(self.dataset, list(self.dataset.subjects()), self.dataset.split(0))
        return Checked(tuple(sorted(self._sizes)), tuple(map(str, ordered(doubts))))

    def trust(self, checked: Checked, split: Split) -> None:
        """Take what an earlier check of the same split found."""
        self._sizes |= set(checked.sizes)
        self.warnings = checked.warnings
        self._checked |= {subject.key for _, subject in split.items()}


def _check_registered(first: str, reference: Volume, volume: Volume, source: str) -> None:
    """Raise DataError if a volume does not lie on the grid of the first one."""
    same = volume.grid == reference.grid
    if same and volume.affine is not None and reference.affine is not None:
        same = bool(np.allclose(volume.affine, reference.affine, atol=1e-2))
    if not same:
        raise DataError(
            f"E-DATA-303: the data are said to be registered, but {source} {volume.grid} does not lie on the grid of "
            f"{first} {reference.grid}; register it, or do not promise registered=true"
        )


def check_role(role: Role, volume: Volume, source: str, masks: bool) -> None:
    """Raise DataError if the annotation does not fit the role."""
    if masks and role in LESIONS and volume.lesion is None:
        raise DataError(
            f"E-DATA-404: {source} is in {role} but has no lesion mask; annotate it, take it out of this split, or judge "
            "whole images: --protocol image-v1"
        )
    if role in HEALTHY and volume.lesion is not None and volume.lesion.any():
        count = int(np.count_nonzero(volume.lesion))
        raise DataError(
            f"E-DATA-406: {source} is in {role} as healthy but {count} of its voxels are lesion; move it to test_lesion"
        )


def _bytes(pair: tuple[Volume, FloatArray]) -> int:
    """Return about how much memory a volume takes, without looking at its masks."""
    volume, image = pair
    return int(volume.image.nbytes + image.nbytes + 3 * image[0].size)
