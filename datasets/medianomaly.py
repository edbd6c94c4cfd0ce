"""MedIAnomaly: seven medical sets of pictures (chest X-ray, brain MRI, fundus, skin, histology); brats2021 has masks.

The owners give healthy pictures for training and a test set. What they call unlabelled is not used.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from uadbench.dataset import DatasetCard, Role
from uadbench.datasets._pictures import Picture, SharedSet, name_of, pictures_in
from uadbench.errors import DataError
from uadbench.reading import unknown_layout

FOLDER = {
    "rsna": "RSNA",
    "vincxr": "VinCXR",
    "braintumor": "BrainTumor",
    "lag": "LAG",
    "isic2018": "ISIC2018_Task3",
    "camelyon16": "Camelyon16",
    "brats2021": "BraTS2021",
}
LISTED: tuple[tuple[str, str, Role], ...] = (
    ("train", "0", "train"),
    ("test", "0", "test_healthy"),
    ("test", "1", "test_lesion"),
)
"""Where data.json lists the pictures of each role."""

_BRATS = re.compile(r"(BraTS\d+_\d+)_.+", re.IGNORECASE)


@dataclass
class MedIAnomaly(SharedSet):
    """`<set>/images` with `data.json`; folders for Camelyon16 and BraTS2021; ISIC2018 with its ground-truth tables."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="MedIAnomaly-Data",
        licence="CC BY 4.0 according to its record on Zenodo (second-hand); ISIC 2018 CC BY-NC 4.0, downloaded by itself",
        url="https://zenodo.org/records/12677223",
        reference="Cai, Zhang, Chen, Cheng 2025, Medical Image Analysis (arXiv 2404.04518)",
        modality=("grey",),
        healthy="slices of patients",
        expected={
            "rsna": 5851, "vincxr": 6000, "braintumor": 2200, "lag": 3122, "isic2018": 8217, "camelyon16": 7321,
            "brats2021": 6987,
        },
        note="medianomaly: the owners give no validation set; a share of the training pictures is taken (val, seed). "
        "Healthy pictures of brats2021 are slices of patients. People are known in brats2021, and where a file is a person.",
        orientation="picture",
        dimensions="2-D",
        masks="images",
        access="download from Zenodo, free; ISIC from its archive",
    )  # fmt: skip

    part: Annotated[
        Literal["rsna", "vincxr", "braintumor", "lag", "isic2018", "camelyon16", "brats2021"],
        Field(description="which of the seven sets"),
    ] = "brats2021"

    def in_colour(self) -> bool:
        """Return whether this part is histology; the owners read all others in grey, skin and fundus too."""
        return self.part == "camelyon16"

    def pictures(self) -> Iterable[Picture]:
        """Return the pictures of the part."""
        folder = self.root / FOLDER[self.part]
        if self.root.name == FOLDER[self.part] and not folder.is_dir():
            folder = self.root
        if self.part == "isic2018":
            found = self._isic(folder)
        elif self.part == "camelyon16":
            found = self._folders(folder, ("train/good", "test/good", "test/Ungood"))
        elif self.part == "brats2021":
            found = self._folders(folder, ("train", "test/normal", "test/tumor"))
        else:
            found = self._json(folder)
        if not found:
            raise self._unknown()
        return self.with_validation(found)

    def _json(self, folder: Path) -> list[Picture]:
        path = folder / "data.json"
        if not path.is_file():
            return []
        try:
            listed: Any = json.loads(path.read_text(encoding="utf-8"))
            names = [(role, str(name)) for stage, label, role in LISTED for name in listed[stage][label]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.name}: {path} cannot be read ({type(error).__name__}: {error}); it must hold train.0, test.0 and "
                "test.1: restore the file"
            ) from error
        return [
            Picture(name_of(Path(name), Path()), self._there(folder / "images" / name, path), role)
            for role, name in names
        ]

    def _isic(self, folder: Path) -> list[Picture]:
        found = []
        for stage, roles in (("Training", ("train", None)), ("Test", ("test_healthy", "test_lesion"))):
            truth = f"ISIC2018_Task3_{stage}_GroundTruth"
            table = folder / truth / f"{truth}.csv"
            if not table.is_file():
                return []
            try:
                with table.open(newline="", encoding="utf-8-sig") as file:
                    rows = [(row["image"], float(row["NV"]) == 1) for row in csv.DictReader(file)]
            except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
                raise DataError(
                    f"{self.name}: {table} cannot be read ({type(error).__name__}: {error}); it must have the columns image "
                    "and NV: restore the file"
                ) from error
            for image, naevus in rows:
                role: Role | None = roles[0] if naevus else roles[1]  # type: ignore[assignment]
                if role is not None:
                    path = folder / f"ISIC2018_Task3_{stage}_Input" / f"{image}.jpg"
                    found.append(Picture(image, self._there(path, table), role))
        return found

    def _folders(self, folder: Path, names: tuple[str, str, str]) -> list[Picture]:
        """Return the pictures of the folders with healthy ones for training, healthy and other ones for testing."""
        roles: tuple[Role, ...] = ("train", "test_healthy", "test_lesion")
        found = []
        for role, name in zip(roles, names, strict=True):
            for path in pictures_in(folder / name):
                match = _BRATS.fullmatch(path.stem)
                masks: tuple[Path, ...] = ()
                if self.part == "brats2021" and role == "test_lesion":
                    mask = folder / "test" / "annotation" / path.name.replace("flair", "seg")
                    masks = (self._there(mask, path),)
                own = name_of(path, folder)
                found.append(Picture(match[1] if match else own, path, role, own if match else "", masks))
        return found

    def _there(self, path: Path, because: Path) -> Path:
        if not path.is_file():
            raise DataError(f"{self.name}: {path} does not exist, but {because} asks for it; restore the file")
        return path

    def _unknown(self) -> DataError:
        inside = {
            "isic2018": "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv",
            "camelyon16": "train/good/1000.png",
            "brats2021": "train/BraTS2021_00000_flair_60.png",
        }.get(self.part, "data.json")
        return unknown_layout(self.name, self.root, [f"{FOLDER[self.part]}/{inside}"])
