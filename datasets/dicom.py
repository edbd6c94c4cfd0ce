"""DICOM series of your own: folders train, val, val_lesion, test_healthy and test_lesion with files below, in any order.

Files are grouped by series and sorted by their place in space. Masks are NIfTI files `<PatientID>_lesion.nii.gz` (or
`_foreground`, `_ignore`; `<PatientID>_<StudyDate>_lesion.nii.gz` where a person has several studies) beside the files of
the series, or in a folder above them. Masks in DICOM (SEG, RTSTRUCT) are not read: convert them to NIfTI on the grid of the
series. Files with several slices each (enhanced DICOM) are not read either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.arrays import BoolArray
from uadbench.dataset import ROLES, Dataset, DatasetCard, Group, Role, Split, Subject, Volume
from uadbench.datasets._dicom import Series, find_series, read_series
from uadbench.errors import DataError, UsageError
from uadbench.reading import nifti_file, read_like, unknown_layout

MASKS = ("lesion", "foreground", "ignore")


@dataclass(frozen=True)
class Study:
    """One series with what belongs to it."""

    subject: Subject
    role: Role
    series: Series
    masks: dict[str, Path]


@dataclass
class Dicom(Dataset):
    """Volumes are in RAS, with slope and intercept applied. Nothing is resampled; uneven series are refused."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="DICOM series in folders",
        licence="that of your data",
        url="https://www.dicomstandard.org",
        reference="your own",
        modality=("image",),
        healthy="as the manifest says",
        dimensions="3-D",
        masks="as given",
        access="your own",
    )
    location: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Annotated[Path, Field(description="folder with train, val, test_lesion and so on")] = Path()
    series: Annotated[
        str,
        Field(
            description="regular expression, small and capital letters alike, for the series to take, of date and "
            "description: 'flair', '^2020.* t2'; empty takes the only one"
        ),
    ] = ""
    person: Annotated[
        Literal["PatientID", "folder"],
        Field(description="what tells people apart: PatientID, or the folder right below train, val and so on"),
    ] = "PatientID"
    foreground: Annotated[
        Literal["auto", "file", "nonzero", "none"],
        Field(
            description="file: the masks given; nonzero: all that is not 0, for skull-stripped images; auto: file if given, "
            "else none"
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        """Check the pattern.

        Raises:
            ValueError: if it is none.
        """
        try:
            re.compile(self.series)
        except re.error as error:
            raise ValueError(f"series={self.series!r} is no regular expression: {error}") from None

    @cached_property
    def _studies(self) -> dict[str, Study]:
        """Every scan by the subject's key."""
        folders = [(role, self.root / role) for role in ROLES if (self.root / role).is_dir()]
        if not folders:
            raise unknown_layout("dicom", self.root, ["train/<person>/<file>.dcm", "test_lesion/<person>/<file>.dcm"])
        found: dict[str, Study] = {}
        for role, folder in folders:
            by_study: dict[tuple[str, str], list[Series]] = {}
            for series in find_series(folder, "dicom"):
                by_study.setdefault((self._person(series, folder), series.text("StudyDate")), []).append(series)
            for (person, date), listed in by_study.items():
                study = self._study(role, folder, person, date, listed)
                other = found.setdefault(study.subject.key, study)
                if other is not study:
                    raise DataError(
                        f"dicom: {study.subject.key} is in {other.role} and in {role}; leave every scan in one folder"
                    )
        if not found:
            raise DataError(f"dicom: {self.root} holds no DICOM series with a place in space in its folders")
        return found

    def _person(self, series: Series, folder: Path) -> str:
        path = next(iter(series.headers))
        if self.person == "folder":
            inside = path.relative_to(folder).parts
            if len(inside) < 2:
                raise DataError(f"dicom: {path} lies in no person's folder; person=folder needs {folder / 'NAME'}")
            return inside[0]
        if not series.text("PatientID"):
            raise DataError(
                f"dicom: {path} has no PatientID; where a folder below {folder.name} is a person, say -D person=folder"
            )
        return series.text("PatientID")

    def _study(self, role: Role, folder: Path, person: str, date: str, listed: Sequence[Series]) -> Study:
        """Choose the series of one person and date, and find its masks."""
        chosen = [s for s in listed if re.search(self.series, s.words, re.IGNORECASE)]
        there = "; ".join(sorted(s.words or s.uid for s in listed))
        if not chosen:
            raise DataError(
                f"dicom: {person} in {role} has no series like {self.series!r}; there is: {there}; give another expression "
                "with -D series=..., or take this person out"
            )
        if len(chosen) > 1:
            raise DataError(
                f"dicom: {person} in {role} has {len(chosen)} series ({there}); choose one with -D series=..., such as "
                f"-D series='{re.escape(chosen[0].text('SeriesDescription')) or '...'}$'"
            )
        series = chosen[0]
        masks = {word: mask for word in MASKS if (mask := _mask(series, folder, person, date, word))}
        subject = Subject(person, date, _groups(series), (*series.headers, *masks.values()))
        return Study(subject, role, series, masks)

    def subjects(self) -> Sequence[Subject]:
        """Return the index in the order of the files. Reads headers and no pixels."""
        return [study.subject for study in self._studies.values()]

    def split(self, fold: int = 0) -> Split:
        """Return the split that the folders give. There is one fold."""
        if fold != 0:
            raise UsageError(f"dicom has the fold 0 only, not {fold}; the folders give one split")
        return Split.of((study.role, study.subject) for study in self._studies.values())

    def annotated(self) -> bool:
        """Return whether any scan with a lesion has a mask."""
        return any("lesion" in s.masks for s in self._studies.values() if s.role in ("val_lesion", "test_lesion"))

    def provides(self) -> frozenset[str]:
        """Return foreground if every scan has one."""
        given = self._by_file() and all("foreground" in s.masks for s in self._studies.values())
        return frozenset({"foreground"}) if given or self.foreground == "nonzero" else frozenset()

    def load(self, subject: Subject) -> Volume:
        """Read one series: (1, D, H, W) with D from inferior to superior, H to anterior, W to the right."""
        study = self._studies[subject.key]
        scan = read_series(study.series, "dicom")
        wanted = {word: path for word, path in study.masks.items() if word != "foreground" or self._by_file()}
        masks = {word: read_like(path, scan, "dicom") > 0.5 for word, path in wanted.items()}
        inside: BoolArray | None = masks.get("foreground")
        if self.foreground == "file" and inside is None:
            raise DataError(
                f"dicom: {subject.key} has no foreground mask; write {subject.id}_foreground.nii.gz beside its files, or "
                "use foreground=nonzero"
            )
        if self.foreground == "nonzero":
            inside = np.asarray(scan.data != 0)
        return Volume(
            scan.data[None], inside, masks.get("lesion"), scan.spacing, subject.key, masks.get("ignore"), scan.affine,
            study.subject.groups,
        )  # fmt: skip

    def _by_file(self) -> bool:
        return self.foreground in ("auto", "file")


def _mask(series: Series, top: Path, person: str, date: str, word: str) -> Path | None:
    """Return the mask of a series, from its own folder or the nearest above it, not above `top`."""
    folder = next(iter(series.headers)).parent
    while True:
        if found := nifti_file(folder, f"{person}_{date}_{word}") or nifti_file(folder, f"{person}_{word}"):
            return found
        if folder == top:
            return None
        folder = folder.parent


def _groups(series: Series) -> dict[str, Group]:
    """Return scanner, sex and age as far as the headers say."""
    groups: dict[str, Group] = {}
    if scanner := f"{series.text('Manufacturer')} {series.text('ManufacturerModelName')}".strip():
        groups["scanner"] = scanner
    if sex := series.text("PatientSex"):
        groups["sex"] = sex
    if match := re.fullmatch(r"(\d{3})Y", series.text("PatientAge")):
        groups["age"] = float(match[1])
    return groups
