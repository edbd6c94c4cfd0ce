"""Synthetic brain MRI on the anatomy of a real template, healthy and with four kinds of lesions; needs no download.

Subjects are generated when first used and kept in the cache folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from uadbench.config import cache_folder
from uadbench.dataset import Dataset, DatasetCard, Role, Split, Subject, Volume
from uadbench.errors import DataError, UsageError
from uadbench.method import derive_seed

if TYPE_CHECKING:
    from pathlib import Path

    from uadbench.datasets._phantom_recipe import Recipe
    from uadbench.datasets._phantom_scan import Scan

_ROLES = "TLTVLHTLlL" + "TLTLVTLHTL" + "TLHTLVTLTL" + "TLTLHTLlTL"
"""Roles of the subjects in order, over and over: T train, V val, l val_lesion, H test_healthy, L test_lesion.

The first ten hold every role, and forty hold 37.5 %, 7.5 %, 5 %, 10 % and 40 %. A subject's role and lesion follow from its
number alone, so that nobody changes when more subjects are added.
"""
_NAMES: dict[str, Role] = {"T": "train", "V": "val", "l": "val_lesion", "H": "test_healthy", "L": "test_lesion"}
_FOLDS = 5
_SMALLEST, _LARGEST = 8, 256
_PREFIX = "phantom-"


@dataclass
class Phantom(Dataset):
    """Synthetic brain MRI made from the ICBM152 template: healthy people, and people with one of four kinds of lesion.

    A subject is the template's anatomy under an own deformation, with own ventricles, folds, contrast, scanner, bias field
    and noise, skull-stripped. The lesions and their masks are exact:

    * tumour: core and oedema that follows white matter, with mass effect, 5 to 60 ml;
    * ms: 3 to 25 lesions of 3 to 12 mm in white matter, most of them near the ventricles;
    * iso: as bright as healthy tissue but where it does not belong, 3 to 30 ml;
    * hypo: darker than all tissue around it, 2 to 20 ml.

    The field of view is 168 x 196 x 168 mm (D, H, W) at every size. Groups: `lesion_kind` ("none" if healthy), `scanner` (a
    and b differ mildly in noise, bias field, contrast and sharpness) and `age`, which widens ventricles and sulci.

    Source of the anatomy: ICBM 2009a nonlinear symmetric template, Fonov et al. 2009 and 2011, in nilearn's wheel.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        title="Phantom: synthetic brain MRI on the anatomy of ICBM152",
        licence=(
            "Generated images: Apache-2.0. Template: Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging "
            "Centre, Montreal Neurological Institute, McGill University; free to use, copy and distribute for any "
            "purpose as long as this notice is kept; provided as is"
        ),
        url="https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/",
        reference=(
            "Fonov et al. 2011, NeuroImage 54:313-327, doi:10.1016/j.neuroimage.2010.07.033; "
            "Fonov et al. 2009, NeuroImage 47:S102, doi:10.1016/S1053-8119(09)70884-5"
        ),
        modality=("t1", "t2", "flair"),
        healthy="synthetic",
        provides=frozenset({"foreground", "registered"}),
        note=(
            "phantom: synthetic images with synthetic lesions; they show whether a method works, "
            "not how well it does on patients"
        ),
    )
    tiny: ClassVar[dict[str, object]] = {"count": 10, "size": (8, 48, 40)}

    count: Annotated[int, Field(ge=10, le=10000, description="number of subjects in all splits together")] = 80
    size: Annotated[
        tuple[int, int, int],
        Field(description="voxels along D, H, W, 8 to 256 each; the field of view is always 168 x 196 x 168 mm"),
    ] = (48, 112, 96)
    contrast: Annotated[Literal["t1", "t2", "flair"], Field(description="MRI contrast of the images")] = "t2"
    lesions: Annotated[
        tuple[Literal["tumour", "ms", "iso", "hypo"], ...],
        Field(description="kinds of lesion, dealt evenly to the subjects with lesions"),
    ] = ("tumour", "ms", "iso", "hypo")
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="another seed makes other subjects")] = 0

    def __post_init__(self) -> None:
        """Check what a range cannot say.

        Raises:
            ValueError: if a side is too small or too large, or `lesions` is empty or names a kind twice.
        """
        if not all(_SMALLEST <= n <= _LARGEST for n in self.size):
            raise ValueError(f"size must be three numbers from {_SMALLEST} to {_LARGEST} (D, H, W); got {self.size}")
        if not self.lesions or len(set(self.lesions)) < len(self.lesions):
            raise ValueError(
                f"lesions must name at least one kind, and each once; got {', '.join(self.lesions) or 'none'}"
            )

    def subjects(self) -> Sequence[Subject]:
        """Return the index, made from the parameters alone."""
        return [self._subject(number) for number in range(self.count)]

    def split(self, fold: int = 0) -> Split:
        """Return who is used for what. The fold decides which of the healthy subjects that are not tested validate.

        Raises:
            UsageError: if there is no such fold.
        """
        roles: dict[Role, list[Subject]] = {role: [] for role in _NAMES.values()}
        for number in range(self.count):
            roles[_role(number)].append(self._subject(number))
        pool = sorted(roles["train"] + roles["val"], key=lambda subject: subject.id)
        share = len(roles["val"])
        folds = min(_FOLDS, len(pool) // share)
        if not 0 <= fold < folds:
            raise UsageError(
                f"phantom with count={self.count} has the folds 0 to {folds - 1}; fold {fold} does not exist"
            )
        first = fold * share
        return Split(
            train=tuple(pool[:first] + pool[first + share :]),
            val=tuple(pool[first : first + share]),
            val_lesion=tuple(roles["val_lesion"]),
            test_healthy=tuple(roles["test_healthy"]),
            test_lesion=tuple(roles["test_lesion"]),
        )

    def load(self, subject: Subject) -> Volume:
        """Return a subject from the cache, or make it and cache it.

        Raises:
            DataError: if it is none of this dataset, or the template cannot be read.
        """
        import numpy as np

        recipe = self._recipe(self._number(subject))
        scan = _cached(recipe, self._folder() / f"{subject.id}.npz")
        return Volume(
            image=scan.image[None].astype(np.float32),
            foreground=scan.foreground,
            lesion=scan.lesion,
            spacing=self._spacing(),
            affine=np.array(self._affine()),
            subject=subject.key,
            groups=dict(subject.groups),
        )

    def content(self) -> str:
        """Return a fingerprint of the generator and the template; nothing is generated. Parameters are no part of it."""
        return _content(type(self))

    def channel_names(self) -> tuple[str, ...]:
        """Return the contrast."""
        return (self.contrast,)

    def _folder(self) -> Path:
        """Return where this dataset's subjects are cached. `count` changes none of them."""
        from uadbench.identity import digest

        decisive = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "count"}
        return cache_folder() / "phantom" / digest([decisive, self.content()])

    def _subject(self, number: int) -> Subject:
        recipe = self._recipe(number)
        return Subject(
            recipe.subject, groups={"lesion_kind": recipe.kind, "scanner": recipe.scanner, "age": recipe.age}
        )

    def _number(self, subject: Subject) -> int:
        digits = subject.id.removeprefix(_PREFIX)
        number = int(digits) if digits.isdecimal() else -1
        if not 0 <= number < self.count or subject.key != _name(number):
            raise DataError(
                f"{subject.key!r} is no subject of phantom with count={self.count}, which has {_name(0)} to "
                f"{_name(self.count - 1)}; take subjects from its index"
            )
        return number

    def _recipe(self, number: int) -> Recipe:
        from uadbench.datasets._phantom_recipe import AGES, Recipe

        name, role = _name(number), _role(number)
        draw = derive_seed("phantom", self.seed, name, "age and scanner")
        age = round(AGES[0] + (AGES[1] - AGES[0]) * (draw % 2**31) / 2**31, 1)
        sick = role in ("val_lesion", "test_lesion")
        kind = self.lesions[_rank(number) % len(self.lesions)] if sick else "none"
        return Recipe(name, self.seed, self.size, self.contrast, age, "b" if draw >> 61 else "a", kind)

    def _spacing(self) -> tuple[float, float, float]:
        from uadbench.datasets._phantom_recipe import FIELD

        return FIELD[0] / self.size[0], FIELD[1] / self.size[1], FIELD[2] / self.size[2]

    def _affine(self) -> list[list[float]]:
        """Return the 4x4 matrix from voxel indices (W, H, D) to millimetres (x, y, z), RAS."""
        from uadbench.datasets._phantom_recipe import CENTRE, FIELD

        rows = []
        for axis, (step, middle, length) in enumerate(zip(self._spacing()[::-1], CENTRE, FIELD[::-1], strict=True)):
            row = [0.0, 0.0, 0.0, middle - length / 2 + step / 2]
            row[axis] = step
            rows.append(row)
        return [*rows, [0.0, 0.0, 0.0, 1.0]]


def _name(number: int) -> str:
    return f"{_PREFIX}{number:04d}"


def _role(number: int) -> Role:
    return _NAMES[_ROLES[number % len(_ROLES)]]


def _rank(number: int) -> int:
    """Return how many subjects of the same role come before this one."""
    rounds, place = divmod(number, len(_ROLES))
    letter = _ROLES[place]
    return rounds * _ROLES.count(letter) + _ROLES[:place].count(letter)


def _cached(recipe: Recipe, path: Path) -> Scan:
    """Return the scan from its file, or make it and write the file."""
    from uadbench.datasets._phantom_cache import read_arrays, write_arrays
    from uadbench.datasets._phantom_scan import from_arrays, to_arrays

    arrays = read_arrays(path)
    scan = from_arrays(arrays, recipe.size) if arrays else None
    if scan is None:
        from uadbench.datasets._phantom_subject import make_scan

        scan = make_scan(recipe)
        write_arrays(path, to_arrays(scan))
    return scan


@lru_cache(maxsize=4)
def _content(cls: type) -> str:
    """Return the fingerprint of the generator's own modules and of the template."""
    from uadbench.datasets._phantom_files import template_files
    from uadbench.identity import digest, file_hash, source_hash

    return digest([source_hash(cls, maps=False), [file_hash(path) for path in template_files()]])
