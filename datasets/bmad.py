"""BMAD: six medical sets of pictures (brain MRI, liver CT, two of retinal OCT, chest X-ray, histology).

Brain, liver and resc have masks; oct2017, chest and histopathology say only which picture is anomalous.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from uadbench.dataset import STAGE, DatasetCard, Role, Split
from uadbench.datasets._pictures import Picture, SharedSet, folder_like, folders_in, masks_of, pictures_in
from uadbench.errors import DataError
from uadbench.reading import unknown_layout

FOLDERS = {
    "brain": ("brain", "brats2021", "brats2021slice"),
    "liver": ("liver",),
    "resc": ("resc", "retinaresc"),
    "oct2017": ("oct2017", "retinaoct2017"),
    "chest": ("chest", "rsna", "chestrsna"),
    "histopathology": ("histopathology", "camelyon16", "camelyon16256"),
}
"""Names of each part's folder in the releases, in small letters without signs and without "AD" at the end."""

STAGES = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
ROLES: dict[tuple[str, str], Role] = {
    ("train", "good"): "train",
    ("valid", "good"): "val",
    ("valid", "ungood"): "val_lesion",
    ("test", "good"): "test_healthy",
    ("test", "ungood"): "test_lesion",
}
_PERSON = {
    "brain": re.compile(r"(\d+)_\d+"),  # BraTS 2021: person_slice
    "liver": re.compile(r"(\d+)_\d+"),  # BTCV or LiTS: person_slice
    "resc": re.compile(r"(PC?\d+)_.+"),  # person_MacularCube..._slice
    "oct2017": re.compile(r"[A-Z]+-(\d+)-\d+", re.IGNORECASE),  # disease-person-number
    "chest": re.compile(r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"),  # RSNA's patientId
}
"""How a part's file names tell the person. Plain numbers say nothing: they start again in every folder."""


@dataclass
class BMAD(SharedSet):
    """`<part>/{train,valid,test}/{good,Ungood}`, pictures in it or in its `img`, masks in `label` or `anomaly_mask`."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="Benchmarks for Medical Anomaly Detection (BMAD)",
        licence="CC BY-NC-SA 4.0; each part also has the terms of the data it was made from",
        url="https://github.com/DorisBao/BMAD",
        reference="Bao, Sun, Deng, He, Zhang, Li 2024, CVPR Workshops (arXiv 2306.11876)",
        modality=("grey",),
        healthy="slices of patients",
        expected={
            "brain": 11298, "liver": 3201, "resc": 6217, "oct2017": 27315, "chest": 26684, "histopathology": 7321,
        },
        note="bmad: healthy pictures of brain are tumour-free slices of patients, each scaled by itself; in liver those for "
        "training come from another source (BTCV) than the others (LiTS). The person is read from the file name where it "
        "is there (brain, liver, resc, oct2017, chest); the owners took the validation of liver and resc from people of the "
        "test set: use validation=train. Nothing tells the people of histopathology.",
        orientation="picture",
        dimensions="2-D",
        masks="voxels",
        access="download from Google Drive, free",
    )  # fmt: skip

    part: Annotated[
        Literal["brain", "liver", "resc", "oct2017", "chest", "histopathology"],
        Field(description="which of the six sets"),
    ] = "brain"
    validation: Annotated[
        Literal["owners", "train"],
        Field(
            description="owners: their validation pictures; train: a share of the people for training (val, seed) instead"
        ),
    ] = "owners"
    leaky: Annotated[
        bool, Field(description="keep the owners' split even if a person is in two parts of it; the results never rank")
    ] = False

    def in_colour(self) -> bool:
        """Return whether this part is histology."""
        return self.part == "histopathology"

    def published(self) -> Mapping[str, int]:
        """Return the counts of all pictures, which do not hold where the owners' validation is left out."""
        return super().published() if self.validation == "owners" else {}

    def split(self, fold: int = 0) -> Split:
        """Return the owners' split, or theirs with another validation set.

        Raises:
            DataError: if their validation shows people of the test set; the message names both ways out.
        """
        split = super().split(fold)
        stages: dict[str, set[str]] = {}
        for role, subject in split.items():
            stages.setdefault(STAGE[role], set()).add(subject.id)
        train, val, test = (stages.get(stage, set()) for stage in ("train", "validation", "test"))
        if self.leaky:
            number = len((train & val) | (train & test) | (val & test))
            return replace(split, leaky=f"{number} people are in two parts of the owners' split" if number else "")
        if shared := sorted(val & test):
            raise DataError(
                f"bmad: {len(shared)} of the {len(val)} people for validation are also in the owners' test set, such as "
                f"{shared[0]}; take a share of the people for training instead: -D validation=train, or keep the split as "
                "it is, without a rank: -D leaky=true"
            )
        return split

    def pictures(self) -> Iterable[Picture]:
        """Return the pictures of the part."""
        root = self._folder()
        found: list[Picture] = []
        for stage, names in STAGES.items():
            above = folder_like(root, *names)
            for folder in folders_in(above) if above else []:
                role = ROLES.get((stage, folder.name.lower()))
                if role is not None:
                    found += self._read(folder, stage, role)
        if not found:
            raise self._unknown()
        if self.validation == "train":
            found = self.with_validation([p for p in found if p.role not in ("val", "val_lesion")])
        return found

    def _read(self, folder: Path, stage: str, role: Role) -> list[Picture]:
        files = pictures_in(folder_like(folder, "img") or folder)
        annotation = folder_like(folder, "label", "anomaly_mask")
        masks = masks_of(files, annotation, self.name) if annotation else {}
        found = []
        for path in files:
            own, person = f"{stage}-{folder.name.lower()}-{path.stem}", self._person(path, stage)
            found.append(Picture(person or own, path, role, own if person else "", masks.get(path, ())))
        return found

    def _person(self, path: Path, stage: str) -> str:
        """Return the person that a file's name tells, or ""."""
        rule = _PERSON.get(self.part)
        match = rule.fullmatch(path.stem) if rule else None
        if match is None:
            return ""
        if self.part == "liver":  # Two sources, and each counts its people by itself.
            return f"{'BTCV' if stage == 'train' else 'LiTS'}-{match[1]}"
        return match[1]

    def _folder(self) -> Path:
        """Return the folder of the part: `root`, or one in it."""
        if folder_like(self.root, "train"):
            other = next((part for part, names in FOLDERS.items() if _plain(self.root) in names), self.part)
            if other != self.part:
                raise DataError(
                    f"bmad: {self.root} is the part {other}, not {self.part}; give -D part={other}, or another --root"
                )
            return self.root
        found = [p for p in folders_in(self.root) if _plain(p) in FOLDERS[self.part]]
        if not found:
            raise self._unknown()
        return next((p for p in found if folder_like(p, "train")), found[0])

    def _unknown(self) -> DataError:
        name = {"brain": "Brain", "histopathology": "camelyon16"}.get(self.part, self.part)
        examples = [f"{name}/train/good/img/00003_60.png", f"{name}/train/good/1000.png"]
        return unknown_layout(self.name, self.root, examples)


def _plain(folder: Path) -> str:
    return re.sub(r"[^a-z0-9]", "", folder.name.lower()).removesuffix("ad")
