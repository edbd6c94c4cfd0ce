"""WMH 2017: white matter hyperintensities of 60 people for training and 110 for testing, FLAIR and T1, three sites.

`training/{Utrecht,Singapore,Amsterdam/GE3T}/<id>/{orig,pre}/{FLAIR,T1}.nii.gz` and `<id>/wmh.nii.gz`; the folder `test`
has two more scanners in Amsterdam. Label 1 is a lesion; label 2, other pathology, is ignored. T1 is the one on FLAIR's grid:
`3DT1.nii.gz` lies on a grid of its own, without a mask. The skull is not removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import DatasetCard
from uadbench.datasets._volumes import Case, LesionSet
from uadbench.errors import DataError
from uadbench.reading import nifti_file, unknown_layout

SCANNERS = {
    "Utrecht": "Philips Achieva 3 T",
    "Singapore": "Siemens TrioTim 3 T",
    "Amsterdam/GE3T": "GE Signa HDxt 3 T",
    "Amsterdam/GE1T5": "GE Signa HDxt 1.5 T",
    "Amsterdam/Philips_VU": "Philips Ingenuity 3 T",
}
"""By the start of the folder above the cases: the last one is `Philips_VU .PETMR_01.`, which not every system can store."""

FILES = {"t1": "T1", "flair": "FLAIR"}
PARTS = ("training", "test")


@dataclass
class Wmh(LesionSet):
    """By default 15 of the 60 training cases are in val_lesion and 45 in test_lesion: the published numbers."""

    baked: ClassVar[frozenset[str]] = frozenset({"images", "part"})
    card: ClassVar[DatasetCard] = DatasetCard(
        title="WMH segmentation challenge (MICCAI 2017)",
        licence="free, for non-commercial use; see the owners' page",
        url="https://doi.org/10.34894/AECRSD",
        reference="Kuijf et al. 2019, IEEE TMI 38(11)",
        modality=("t1", "flair"),
        access="DataverseNL, free",
        healthy="none",
        expected={"training": 60, "test": 110, "all": 170},
        note="wmh: the skull is not removed.",
    )

    part: Annotated[
        Literal["training", "test", "all"], Field(description="which of the owners' two folders are read")
    ] = "training"
    images: Annotated[
        Literal["pre", "orig"], Field(description="pre: bias-corrected by the owners; orig: as scanned")
    ] = "pre"

    def cases(self) -> Sequence[Case]:
        """Return the cases in the order of part, site and number."""
        found = {part: _cases(self.root / part, self.images) for part in PARTS}
        if not any(found.values()) and (own := _cases(self.root, self.images)):
            # One of the two folders was given itself.
            found["test" if self.root.resolve().name == "test" else "training"] = own
        if not any(found.values()):
            raise unknown_layout(
                "wmh",
                self.root,
                [f"training/{site}/0/{self.images}/FLAIR.nii.gz" for site in ("Utrecht", "Amsterdam/GE3T")],
            )
        chosen = [case for part in PARTS if self.part in (part, "all") for case in found[part]]
        if not chosen:
            other = next(part for part in PARTS if found[part])
            raise DataError(f"wmh: {self.root} holds cases for {other} only; use part={other}, or give another --root")
        return chosen

    def label(self, mask: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Return lesions (1) and other pathology (2)."""
        return (mask > 0.5) & (mask < 1.5), mask >= 1.5


def _cases(folder: Path, images: str) -> list[Case]:
    """Return the cases below a folder that holds the sites."""
    out = []
    for site, scanner in SCANNERS.items():
        for case in sorted(folder.glob(f"{site}*/*/"), key=_number):
            files = {word: nifti_file(case / images, name) for word, name in FILES.items()}
            mask = nifti_file(case, "wmh")
            if not any(files.values()):
                continue
            place = site.partition("/")[0]
            out.append(
                Case(
                    f"{place}_{case.name}",
                    {word: path for word, path in files.items() if path},
                    lesions=(mask,) if mask else (),
                    groups={"site": place, "scanner": scanner},
                )
            )
    return out


def _number(folder: Path) -> tuple[int, str]:
    """Folders are called by numbers that are not padded with zeros."""
    return (int(folder.name) if folder.name.isdigit() else -1, folder.name)
