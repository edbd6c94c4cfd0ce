"""VisA (12 industrial objects), as downloaded with its split files, or converted by its owners: masks of defects.

For checking feature methods against well-known numbers; nothing medical is in it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from uadbench.dataset import DatasetCard, Role
from uadbench.datasets._pictures import Picture, SharedSet, defect_tree, name_of
from uadbench.errors import DataError
from uadbench.reading import unknown_layout

SPLIT = Path("split_csv", "1cls.csv")
COLUMNS = ("object", "split", "label", "image", "mask")
ROLE: dict[tuple[str, str], Role] = {
    ("train", "normal"): "train",
    ("test", "normal"): "test_healthy",
    ("test", "anomaly"): "test_lesion",
}


@dataclass
class VisA(SharedSet):
    """Raw: `split_csv/1cls.csv` and `<object>/Data/Images/{Normal,Anomaly}`. Converted: `1cls/<object>/train/good` etc."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="Visual Anomaly dataset (VisA), one-class split",
        licence="CC BY 4.0",
        url="https://github.com/amazon-science/spot-diff",
        reference="Zou, Jeong, Pemula, Zhang, Dabeer 2022, European Conference on Computer Vision",
        modality=("photographs",),
        healthy="controls",
        note="visa: the owners give no validation set; a share of the training pictures is taken (val, seed). All 12 "
        "objects together have 10821 pictures.",
        orientation="picture",
        dimensions="2-D",
        masks="voxels",
        access="download, free",
    )

    part: Annotated[
        Literal[
            "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3",
            "pcb4", "pipe_fryum",
        ],
        Field(description="object"),
    ] = "candle"  # fmt: skip

    def in_colour(self) -> bool:
        """Return True: they are colour photographs."""
        return True

    def pictures(self) -> Iterable[Picture]:
        """Return the pictures of the object."""
        if (self.root / SPLIT).is_file():
            return self.with_validation(self._listed())
        for folder in (self.root / "1cls" / self.part, self.root / self.part):
            if found := defect_tree(folder, self.name):
                return self.with_validation(found)
        examples = [str(SPLIT), f"{self.part}/Data/Images/Normal/0000.JPG", f"1cls/{self.part}/train/good/0000.JPG"]
        raise unknown_layout(self.name, self.root, examples)

    def _listed(self) -> list[Picture]:
        """Return the pictures that the owners' split file lists."""
        path = self.root / SPLIT
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if row.get("object") == self.part]
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{self.name}: {path} cannot be read ({error}); restore the file") from error
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{self.name}: {path} has no column {missing[0]!r}; restore the file")
        found = []
        for row in rows:
            role = ROLE.get((row["split"] or "", row["label"] or ""))
            if role is None:
                raise DataError(
                    f"{self.name}: {path} says split {row['split']!r} and label {row['label']!r}; it must be the one-class "
                    "split, with healthy pictures only in train: restore the file"
                )
            if role == "test_lesion" and not row["mask"]:
                raise DataError(f"{self.name}: {path} names no mask for {row['image']}; restore the file")
            files = [self.root / name for name in (row["image"], row["mask"]) if name]
            for listed in files:
                if not listed.is_file():
                    raise DataError(f"{self.name}: {listed} does not exist, but {path} lists it; restore the file")
            found.append(Picture(name_of(files[0], self.root), files[0], role, masks=tuple(files[1:])))
        if not found:
            raise DataError(f"{self.name}: {path} lists no picture of {self.part}; restore the file")
        return found
