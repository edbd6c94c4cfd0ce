"""ATLAS: T1 of people after a stroke, with lesion masks; releases 2.0 (655 people) and 1.2. The skull is not removed.

2.0: `Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz` and
`..._label-L_desc-T1lesion_mask.nii.gz`; the folder `Testing` has no masks and is not read. 1.2:
`Site1/031768/t01/031768_t1w_deface_stx.nii.gz` and one or more `031768_LesionSmooth_*stx.nii.gz`, which are joined.
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
from uadbench.reading import unknown_layout

PLACES = ("", "Training/", "*/Training/", "*/", "*/*/")
"""Where the folders of the sites lie below the root: in it, or in the folders of the unpacked archive."""

_V2 = re.compile(r"(?P<person>sub-[A-Za-z0-9]+)_(?P<scan>ses-[A-Za-z0-9]+)_.*T1w\.nii(?:\.gz)?")
_V1 = re.compile(r"(?P<person>\w+?)_t1w_deface_stx\.nii(?:\.gz)?")


@dataclass
class Atlas(LesionSet):
    """Masks are of one class.

    By default 175 of the 655 people of release 2.0 are in val_lesion and 480 in test_lesion: the published numbers.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        title="ATLAS, Anatomical Tracings of Lesions After Stroke (2.0 and 1.2)",
        licence="for research, after a form; the archive is encrypted",
        url="https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
        reference="Liew et al. 2022, Scientific Data 9, 320; release 1.2: Liew et al. 2018, Scientific Data 5, 180011",
        modality=("t1",),
        access="the owners, after a form",
        healthy="none",
        expected={"subjects": 655},
        note="atlas: the expected number is that of release 2.0; the skull is not removed.",
    )

    modality: Annotated[Literal["t1"], Field(description="ATLAS has T1 only")] = "t1"
    val_lesion: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of the people for protocols that read labels in validation; 0.267: 175 of 655",
        ),
    ] = 0.267

    def cases(self) -> Sequence[Case]:
        """Return the scans in the order of their paths."""
        for place in PLACES:
            for find in (_release_2, _release_1):
                if found := find(self.root, place):
                    return found
        raise unknown_layout(
            "atlas",
            self.root,
            [
                "Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz",
                "Site1/031768/t01/031768_t1w_deface_stx.nii.gz",
            ],
        )


def _release_2(root: Path, place: str) -> list[Case]:
    out = []
    for image in sorted(root.glob(f"{place}R*/sub-*/ses-*/anat/*T1w.nii*")):
        if words := _V2.fullmatch(image.name):
            stem = image.name.partition("_T1w")[0]
            masks = tuple(sorted(image.parent.glob(f"{stem}*_desc-T1lesion_mask.nii*")))
            site = image.parents[3].name
            out.append(Case(words["person"], {"t1": image}, words["scan"], masks, groups={"site": site}))
    return out


def _release_1(root: Path, place: str) -> list[Case]:
    out = []
    for image in sorted(root.glob(f"{place}Site*/*/t*/*_t1w_deface_stx.nii*")):
        if words := _V1.fullmatch(image.name):
            masks = tuple(sorted(image.parent.glob(f"{words['person']}_LesionSmooth*stx.nii*")))
            site = image.parents[2].name.replace(" ", "")
            out.append(Case(words["person"], {"t1": image}, image.parent.name, masks, groups={"site": site}))
    return out
