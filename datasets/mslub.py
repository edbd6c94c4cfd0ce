"""MSLUB (3D-MR-MS): 30 patients with multiple sclerosis, T1, T1 with contrast agent, T2, FLAIR, consensus lesion masks.

Four ways of naming are read: the owners' `patient01/patient01_FLAIR.nii.gz`; the mirror's
`cross_sectional/coregistered/patient01/FLAIR.nii.gz`, and its folders `raw` and `MNI` if one of them is given as root;
and flat files `patient01_FLAIR.nii.gz` with any word before the patient. In `raw` only FLAIR lies on the grid of the mask.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from uadbench.dataset import DatasetCard
from uadbench.datasets._volumes import Case, LesionSet
from uadbench.errors import DataError
from uadbench.reading import unknown_layout

MODALITIES = ("t1", "t1ce", "t2", "flair")
ROLES = {
    "T1W": "t1",
    "T1": "t1",
    "T1WKS": "t1ce",
    "T1POST": "t1ce",
    "T2W": "t2",
    "T2": "t2",
    "FLAIR": "flair",
    "brainmask": "foreground",
    "consensus_gt": "lesion",
    "GOLD_STANDARD": "lesion",
    "lesion": "lesion",
}
"""What a file is, by the word in its name."""

PAPER_VAL = frozenset(f"patient{n:02d}" for n in (1, 3, 5, 15, 17, 18, 20, 22, 28, 29))
"""The validation patients of the pDDPM and mDDPM papers; the other 20 are for testing."""

_FILE = re.compile(r"(?:(?:\w+_)?(?P<patient>patient\d+)_)?(?P<word>" + "|".join(ROLES) + r")(?:_N4\w*)?\.nii(?:\.gz)?")
_FOLDER = re.compile(r"patient\d+")


@dataclass
class Mslub(LesionSet):
    """The brain mask is the foreground. The skull is not removed, except in the folder `MNI` of the mirror."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="MSLUB, 3D MR image database of multiple sclerosis patients (Ljubljana)",
        licence="CC BY",
        url="https://lit.fe.uni-lj.si/en/research/resources/3D-MR-MS/",
        reference="Lesjak et al. 2018, Neuroinformatics 16, doi 10.1007/s12021-017-9348-7",
        modality=MODALITIES,
        access="download, free",
        healthy="none",
        expected={"subjects": 30},
    )

    splits: Annotated[
        Literal["paper", "seeded"],
        Field(description="paper: the 10 validation patients of the mDDPM paper; seeded: by seed and val_lesion"),
    ] = "paper"
    val_lesion: Annotated[
        float, Field(ge=0, lt=1, description="share of the patients for validation, with splits=seeded")
    ] = 1 / 3

    def cases(self) -> Sequence[Case]:
        """Return the patients in the order of their numbers."""
        for folder in (self.root, self.root / "coregistered", self.root / "cross_sectional" / "coregistered"):
            if found := _patients(folder):
                return [_case(patient, files) for patient, files in sorted(found.items())]
        raise unknown_layout(
            "mslub",
            self.root,
            [
                "patient01/patient01_FLAIR.nii.gz",
                "cross_sectional/coregistered/patient01/FLAIR.nii.gz",
                "patient01_FLAIR.nii.gz",
            ],
        )

    def people(self, fold: int, order: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return nobody, val_lesion and test_lesion."""
        if self.splits == "seeded":
            return super().people(fold, order)
        return [], [p for p in order if p in PAPER_VAL], [p for p in order if p not in PAPER_VAL]


def _patients(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the files of each patient by what they are."""
    out: dict[str, dict[str, Path]] = {}
    for path in sorted([*folder.glob("*patient*.nii*"), *folder.glob("patient*/*.nii*")]):
        words = _FILE.fullmatch(path.name)
        patient = path.parent.name if _FOLDER.fullmatch(path.parent.name) else words and words["patient"]
        if not words or not patient:
            continue
        role = ROLES[words["word"]]
        other = out.setdefault(patient, {}).setdefault(role, path)
        if other != path:
            raise DataError(f"mslub: {other} and {path} are both the {role} of {patient}; remove one of them")
    return out


def _case(patient: str, files: dict[str, Path]) -> Case:
    return Case(
        patient,
        {word: files[word] for word in MODALITIES if word in files},
        lesions=(files["lesion"],) if "lesion" in files else (),
        foreground=files.get("foreground"),
    )
