"""What the adapters of the BraTS years share: names, labels, and which adapter reads a folder of another year."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import adapter_name
from uadbench.datasets._volumes import Case, LesionSet
from uadbench.errors import DataError
from uadbench.reading import nifti_file, unknown_layout

MODALITIES = ("t1", "t1ce", "t2", "flair")
DEPTHS = ("*", "*/*", "*/*/*")
"""Archives are unpacked into one or two folders of their own."""


@dataclass(frozen=True)
class Release:
    """How one release names its files and numbers its labels.

    Attributes:
        years: in words.
        folder: matches the name of a case's folder: person, scan and cohort as far as there are.
        example: path of a file below the root.
        names: end of a file's name for t1, t1ce, t2, flair, in this order.
        joint: stands between the folder's name and that end.
        enhancing: label of the enhancing tumour; 1 is the necrotic core and 2 oedema in all years.
        odd_masks: names of masks that do not follow the rule, by folder.
        later: what is to be said of labels of a later year whose folders are named alike.
    """

    years: str
    folder: re.Pattern[str]
    example: str
    names: tuple[str, str, str, str]
    joint: str
    enhancing: int
    odd_masks: Mapping[str, str] = field(default_factory=dict)
    later: str = ""


RELEASES: dict[str, Release] = {
    "brats20": Release(
        "2020",
        re.compile(r"(?P<person>BraTS20_Training_\d{3})"),
        "BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz",
        MODALITIES,
        "_",
        4,
        {"BraTS20_Training_355": "W39_1998.09.19_Segm"},
    ),
    "brats21": Release(
        "2021",
        re.compile(r"(?P<person>BraTS2021_\d{5})"),
        "BraTS2021_00000/BraTS2021_00000_flair.nii.gz",
        MODALITIES,
        "_",
        4,
    ),
    "brats23": Release(
        "2023",
        re.compile(r"(?P<person>BraTS-(?P<cohort>[A-Za-z]+)-\d{5})-(?P<scan>\d{3})"),
        "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz",
        ("t1n", "t1c", "t2w", "t2f"),
        "-",
        3,
        later="labels of 2024, where folders are named alike and 4 may be a resection cavity, are not known to this "
        "adapter: leave such cases out, or ",
    ),
}


@dataclass
class BratsSet(LesionSet):
    """Base of the adapters of BraTS: one folder for each case, with four co-registered, skull-stripped images and a mask.

    Class facts:
        release: which of `RELEASES` it reads.
    """

    release: ClassVar[str]
    baked: ClassVar[frozenset[str]] = frozenset({"target"})
    stripped: ClassVar[bool] = True

    val_lesion: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of the people for protocols that read labels in validation; 0.08: 100 of 1251",
        ),
    ] = 0.08
    target: Annotated[
        Literal["whole", "core", "enhancing"],
        Field(
            description="what counts as lesion: whole tumour, tumour core, enhancing tumour; the rest of it is ignored"
        ),
    ] = "whole"

    def cases(self) -> Sequence[Case]:
        """Return the cases in the order of their names."""
        folders = _case_folders(self.root)
        name = adapter_name(type(self))
        if self.release not in folders:
            for other, found in folders.items():
                raise DataError(
                    f"{name}: {self.root} holds {found[0].name}, which is named as in {RELEASES[other].years}; use "
                    f"--dataset {other}"
                )
            raise unknown_layout(name, self.root, [RELEASES[self.release].example])
        return [_case(folder, RELEASES[self.release]) for folder in folders[self.release]]

    def label(self, mask: FloatArray) -> tuple[BoolArray, BoolArray | None]:
        """Return the target, and the rest of the tumour, which is ignored.

        Raises:
            ValueError: for a label of another year.
        """
        enhancing = RELEASES[self.release].enhancing
        tumour = mask != 0
        for value in np.unique(mask[tumour]):
            if value not in (1, 2, enhancing):
                raise ValueError(f"label {value:g}: {self._remedy(float(value))}")
        if self.target == "whole":
            return tumour, None
        lesion = np.isin(mask, (1, enhancing) if self.target == "core" else (enhancing,))
        return lesion, tumour & ~lesion

    def _remedy(self, value: float) -> str:
        """Say what a label may mean. No other adapter reads a folder named as this one's, so none is named."""
        own = RELEASES[self.release]
        rule = f"{own.years}, by which the folder is named, has 1 (necrotic core), 2 (oedema) and {own.enhancing}"
        years = " and ".join(release.years for release in RELEASES.values() if release.enhancing == value)
        other = f", and {value:g} is the same in {years}" if years else ""
        return f"{rule} (enhancing tumour{other}); {own.later}restore the mask"


def _case_folders(root: Path) -> dict[str, list[Path]]:
    """Return the case folders by adapter, all at the smallest depth at which there are any."""
    found: dict[str, list[Path]] = {}
    for depth in DEPTHS:
        for path in sorted(root.glob(depth)):
            for name, release in RELEASES.items():
                if release.folder.fullmatch(path.name) and path.is_dir():
                    found.setdefault(name, []).append(path)
        if found:
            break
    return found


def _case(folder: Path, release: Release) -> Case:
    words = release.folder.fullmatch(folder.name)
    assert words is not None
    start = folder.name + release.joint
    files = {word: nifti_file(folder, start + name) for word, name in zip(MODALITIES, release.names, strict=True)}
    mask = nifti_file(folder, f"{start}seg")
    if mask is None and folder.name in release.odd_masks:
        mask = nifti_file(folder, release.odd_masks[folder.name])
    parts = words.groupdict()
    return Case(
        parts["person"],
        {word: path for word, path in files.items() if path},
        parts.get("scan", ""),
        (mask,) if mask else (),
        groups={"cohort": parts["cohort"]} if "cohort" in parts else {},
    )
