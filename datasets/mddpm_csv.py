"""The data folder and CSV files of the pDDPM, mDDPM and cDDPM papers: healthy IXI, lesions of BraTS21, MSLUB, ATLAS, WMH.

DATA_DIR holds, directly or below `Data`: `Train/ixi/{t1,t2,mask}` and `Test/<target>/{t1,t2,mask,seg}`; the CSV files are
`IXI_train_fold0.csv` to `4`, `IXI_val_fold0.csv` to `4`, `IXI_test.csv`, `<target>_val.csv`, `<target>_test.csv` and
`avail_t2.csv`. Their paths name T1 files; for T2 the folder and the end of the name are replaced.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.dataset import STAGE, Dataset, DatasetCard, Group, Role, Split, Subject, Volume
from uadbench.errors import DataError, UsageError
from uadbench.prepared import as_group
from uadbench.reading import read_like, read_volume, unknown_layout

FOLDS = 5
TARGETS = ("Brats21", "MSLUB", "ATLAS_v2", "WMH")
STAGES = ("train", "validation", "test")
"""A person who is in several of them stays in the last one, so that test sets are those of the papers."""

NEEDED = ("img_name", "img_path", "mask_path")
GROUPS = {
    "age": "age",
    "sex": "sex",
    "SEX_ID (1=m, 2=f)": "sex",
    "ms_type": "ms_type",
    "Site No (represents the originating institution)": "site",
    "Cohort Name (if publicly available)": "cohort",
}
"""The columns that are read besides the paths, and what they are called here."""

SEX = {"1": "M", "2": "F"}


@dataclass(frozen=True)
class _Files:
    """What is read for one person."""

    image: Path
    mask: Path
    seg: Path | None


@dataclass
class MddpmCsv(Dataset):
    """The published split without its leaks: a person in two stages stays in test, or else in validation.

    Every person is listed once: the train files name up to 13 people twice, the test file 3. Of 374 to 377 people in a
    train file, 9, 9, 9, 7, 8 are in the test file too (folds 0 to 4) and 0, 0, 2, 3, 3 in the validation file; of 44 people
    in a validation file, 0, 0, 0, 2, 1 are in the test file. Without them 365, 365, 365, 367, 366 people are left to train
    on and 44, 44, 44, 42, 43 to validate with (T1). `leaks=keep` gives the published split, marked as leaky: its results
    never rank. The leaks are all within IXI: they touch what is measured on healthy people and the choice of the model.

    For T2, IXI people who are not in `avail_t2.csv` are left out, as in the papers.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        title="IXI with BraTS21, MSLUB, ATLAS or WMH, as prepared and split for pDDPM and mDDPM",
        licence="CSV files: MIT; images: IXI is CC BY-SA 3.0, the others as their owners say",
        url="https://github.com/hasan1292/mDDPM",
        reference="Behrendt et al. 2023, arXiv 2303.03758; Iqbal et al. 2023, arXiv 2305.19867",
        modality=("t1", "t2"),
        access="prepared by you; the CSVs are on GitHub",
        healthy="controls",
        provides=frozenset({"foreground"}),
    )
    location: ClassVar[frozenset[str]] = frozenset({"root", "splits"})

    root: Annotated[Path, Field(description="DATA_DIR: the folder with Train and Test, or with Data")] = Path()
    splits: Annotated[
        Path | None, Field(description="folder with the CSV files; none takes the folder splits beside Train")
    ] = None
    modality: Annotated[Literal["t1", "t2"], Field(description="t1 or t2")] = "t2"
    target: Annotated[
        Literal["Brats21", "MSLUB", "ATLAS_v2", "WMH"], Field(description="where the lesions come from")
    ] = "Brats21"
    leaks: Annotated[
        Literal["remove", "keep"],
        Field(description="remove: nobody is in two stages; keep: the published split, whose results never rank"),
    ] = "remove"

    @cached_property
    def _base(self) -> Path:
        """The folder with Train and Test."""
        for base in (self.root / "Data", self.root):
            if (base / "Train").is_dir() or (base / "Test").is_dir():
                return base
        raise unknown_layout(
            "mddpm_csv", self.root, [f"{start}Train/ixi/t1/IXI002-Guys-0828_t1.nii.gz" for start in ("Data/", "")]
        )

    @cached_property
    def _folder(self) -> Path:
        """The folder with the CSV files."""
        places = [self.splits] if self.splits else [self._base / "splits", self.root / "splits"]
        for place in places:
            if (place / "IXI_test.csv").is_file():
                return place
        raise DataError(
            f"mddpm_csv: there is no IXI_test.csv in {' or '.join(map(str, dict.fromkeys(places)))}; give the folder "
            "with the CSV files of the papers: -D mddpm_csv.splits=FOLDER"
        )

    @cached_property
    def _tables(self) -> dict[str, dict[str, list[Mapping[str, str]]]]:
        """The lines of each CSV file by person."""
        healthy = [f"IXI_{part}_fold{k}" for part in ("train", "val") for k in range(FOLDS)]
        lesions = [f"{self.target}_{part}" for part in ("val", "test")]
        if not all((self._folder / f"{name}.csv").is_file() for name in lesions):
            there = [t for t in TARGETS if all((self._folder / f"{t}_{p}.csv").is_file() for p in ("val", "test"))]
            raise DataError(
                f"mddpm_csv: {self._folder} lacks {lesions[0]}.csv or {lesions[1]}.csv; it has those of "
                f"{', '.join(there) or 'no target'}: choose one of them with target=..., or add the files"
            )
        available = self._with_t2() if self.modality == "t2" else None
        out: dict[str, dict[str, list[Mapping[str, str]]]] = {}
        for name in [*healthy, "IXI_test", *lesions]:
            people: dict[str, list[Mapping[str, str]]] = {}
            needed = NEEDED if name.startswith("IXI") else (*NEEDED, "seg_path")
            for row in _rows(self._folder / f"{name}.csv", needed):
                if name.startswith("IXI") and available is not None and _scan_of(row["img_name"]) not in available:
                    continue
                people.setdefault(_person_of(row["img_name"]), []).append(row)
            out[name] = people
        return out

    def _with_t2(self) -> frozenset[str] | None:
        """Return the IXI scans that have a T2 image; None if there is no such list."""
        path = self._folder / "avail_t2.csv"
        if not path.is_file():
            return None
        return frozenset(_scan_of(row["0"]) for row in _rows(path, ("0",)))

    @cached_property
    def _index(self) -> dict[str, tuple[Subject, _Files]]:
        """Everybody in any of the CSV files."""
        rows: dict[str, list[Mapping[str, str]]] = {}
        for table in self._tables.values():
            for person, lines in table.items():
                rows.setdefault(person, []).extend(lines)
        out = {}
        for person, lines in rows.items():
            files = self._files(lines[0])
            paths = tuple(path for path in (files.image, files.mask, files.seg) if path)
            out[person] = Subject(person, "", _groups(lines), paths), files
        _all_there((path for subject, _ in out.values() for path in subject.files), self._base)
        return out

    def _files(self, row: Mapping[str, str]) -> _Files:
        image = re.sub(r"/t[12]/", f"/{self.modality}/", row["img_path"])
        image = re.sub(r"_t[12](\.nii(?:\.gz)?)$", rf"_{self.modality}\1", image)
        image, mask, seg = (path.lstrip("/") for path in (image, row["mask_path"], row.get("seg_path", "")))
        return _Files(self._base / image, self._base / mask, self._base / seg if seg else None)

    def subjects(self) -> Sequence[Subject]:
        """Return everybody in any of the CSV files, once."""
        return [subject for subject, _ in self._index.values()]

    def _published(self, fold: int) -> dict[Role, list[str]]:
        """Return the people of each role as the CSV files say."""
        if not 0 <= fold < FOLDS:
            raise UsageError(f"mddpm_csv has the folds 0 to {FOLDS - 1}, not {fold}")
        names: dict[Role, str] = {
            "train": f"IXI_train_fold{fold}",
            "val": f"IXI_val_fold{fold}",
            "val_lesion": f"{self.target}_val",
            "test_healthy": "IXI_test",
            "test_lesion": f"{self.target}_test",
        }
        return {role: list(self._tables[name]) for role, name in names.items()}

    def leaking(self, fold: int) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return who is in two stages of a published fold: ("train", "test") -> people, for each pair that has any."""
        stages: dict[str, set[str]] = {stage: set() for stage in STAGES}
        for role, people in self._published(fold).items():
            stages[STAGE[role]].update(people)
        pairs = [(a, b) for i, a in enumerate(STAGES) for b in STAGES[i + 1 :]]
        return {(a, b): tuple(sorted(both)) for a, b in pairs if (both := stages[a] & stages[b])}

    def split(self, fold: int = 0) -> Split:
        """Return the published fold, without its leaks unless they are to be kept."""
        published = self._published(fold)
        leaking = self.leaking(fold)
        leaky = ""
        if self.leaks == "keep":
            counts = [f"{len(people)} in {a} and {b}" for (a, b), people in leaking.items()]
            leaky = f"the published split has people in two stages: {', '.join(counts)}" if counts else ""
        else:
            gone = {(a, person) for (a, _), people in leaking.items() for person in people}
            published = {
                role: [p for p in people if (STAGE[role], p) not in gone] for role, people in published.items()
            }
        return Split.of(((role, self._index[p][0]) for role, people in published.items() for p in people), leaky)

    def load(self, subject: Subject) -> Volume:
        """Read one person. What is not 0 in seg is lesion, as in the papers; IXI people have no seg."""
        files = self._index[subject.key][1]
        scan = read_volume(files.image, "mddpm_csv")
        lesion = read_like(files.seg, scan, "mddpm_csv") > 0 if files.seg else None
        foreground = read_like(files.mask, scan, "mddpm_csv") > 0
        return Volume(
            np.ascontiguousarray(scan.data[None]), foreground, lesion, scan.spacing, subject.key, affine=scan.affine,
            groups=subject.groups,
        )  # fmt: skip

    def content(self) -> str:
        """Return a fingerprint of the files and of all folds."""
        from uadbench.identity import digest

        return digest([super().content(), {name: sorted(people) for name, people in self._tables.items()}])


def _rows(path: Path, needed: Iterable[str]) -> list[Mapping[str, str]]:
    """Return the lines of a CSV file.

    Raises:
        DataError: if it cannot be read, or lacks a column or a value.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows: list[Mapping[str, str]] = [
                {k: (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"mddpm_csv: {path} cannot be read ({error}); restore the file") from error
    for number, row in enumerate(rows, 2):
        for column in needed:
            if column not in row:
                raise DataError(f"mddpm_csv: {path} has no column {column!r}; restore the file")
            if not row[column]:
                raise DataError(f"mddpm_csv: {path}, line {number}: {column} is empty; restore the file")
    if not rows:
        raise DataError(f"mddpm_csv: {path} has no line; restore the file")
    return rows


def _scan_of(name: str) -> str:
    """Return the name of a scan without modality and ending."""
    return re.sub(r"(_t[12])?(\.nii(\.gz)?)?$", "", name)


def _person_of(name: str) -> str:
    """Return the person: IXI105-HH-1471 of IXI105-HH-1471_t1.nii.gz, sub-r031s006 of sub-r031s006_ses-1_..."""
    words = re.match(r"sub-[A-Za-z0-9]+", name)
    return words[0] if words else _scan_of(name)


def _groups(rows: Sequence[Mapping[str, str]]) -> dict[str, Group]:
    """Return the groups of a person; those on which the lines do not agree are left out."""
    found: dict[str, set[Group]] = {}
    for row in rows:
        values: dict[str, Group] = {GROUPS[c]: row[c] for c in GROUPS if row.get(c)}
        if "sex" in values:
            values["sex"] = SEX.get(str(values["sex"]), values["sex"])
        if "age" in values:
            values["age"] = as_group(str(values["age"]))
        if words := re.match(r"IXI\d+-([A-Za-z]+)-", row["img_name"]):
            values["site"] = words[1]
        for name, value in values.items():
            found.setdefault(name, set()).add(value)
    return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}


def _all_there(paths: Iterable[Path], base: Path) -> None:
    """Raise DataError if files are missing. Each folder is listed once, which is quick on network disks too."""
    listed: dict[Path, frozenset[str]] = {}
    missing = []
    total = 0
    for path in paths:
        if path.parent not in listed:
            listed[path.parent] = frozenset(p.name for p in path.parent.glob("*"))
        total += 1
        if path.name not in listed[path.parent]:
            missing.append(path)
    if missing:
        raise DataError(
            f"mddpm_csv: {len(missing)} of the {total} files that the CSV files name are not in {base}, the first is "
            f"{missing[0].relative_to(base)}; restore them, or take their lines out of the CSV files"
        )
