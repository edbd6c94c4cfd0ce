"""Checks of splits that are given as tables: a folder of CSV files, with no image there.

Role and fold are read from file names (IXI_train_fold0.csv, test.csv, cv3-val.csv); what is left of the name is the set
they belong to. A table without a fold holds for all folds. People are read from a column such as subject or img_name.
Tables that name no role are searched for repeated rows only.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uadbench.errors import DataError
from uadbench.findings import Finding, counted, finding, names, ordered
from uadbench.split_checks import STAGES, leaks, shared_validation, unequal_tests

STAGE_WORDS = {
    "train": "train", "training": "train", "trn": "train", "val": "validation", "valid": "validation",
    "validation": "validation", "dev": "validation", "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip

COLUMNS = (
    "subject", "subject_id", "person", "participant_id", "patient", "patient_id", "img_name", "image", "name", "file",
    "filename", "img_path", "path", "id",
)  # fmt: skip
"""Columns that say who it is, the first one that is there."""

PATHS = ("img_path", "path", "image", "file", "filename")

_FOLD = re.compile(r"(?:fold|cv|split|f)[_-]?(\d+)", re.IGNORECASE)
_ENDING = re.compile(r"(\.nii(\.gz)?|\.mha|\.nrrd|\.png|\.jpe?g|\.tiff?|\.npy|\.npz|\.dcm)$", re.IGNORECASE)
_MODALITIES = "t1|t1w|t1ce|t1gd|t2|t2w|flair|pd|pdw|dwi|adc"
_MODALITY = re.compile(rf"[_-]({_MODALITIES})$", re.IGNORECASE)
_NOBODY = re.compile(rf"({_MODALITIES}|anat|image|img|scan|volume)", re.IGNORECASE)
"""Names that say what a file or folder holds, and not of whom."""


@dataclass(frozen=True)
class Table:
    """One table of a split.

    Attributes:
        path: of the file.
        group: the data set it belongs to, from its name.
        stage: train, validation or test.
        fold: None for all folds.
        people: one for each row.
        images: the image of each row, "" where no column says.
    """

    path: Path
    group: str
    stage: str
    fold: int | None
    people: tuple[str, ...]
    images: tuple[str, ...]

    @property
    def words(self) -> str:
        """Such as "train, fold 0"."""
        group = f" of {self.group}" if self.group else ""
        return f"{self.stage}{group}" + ("" if self.fold is None else f", fold {self.fold}")


def check_tables(places: Sequence[Path]) -> tuple[list[Finding], list[Table], list[Path]]:
    """Check folders of CSV files, or single ones, that belong together.

    Returns:
        Findings, errors first; the tables that were used; the files whose name says no role.

    Raises:
        DataError: if there is no table of a split.
    """
    files: list[Path] = []
    for place in places:
        if not place.exists():
            raise DataError(f"there is no {place}; give the folder with the CSV files of a split, or the files")
        files += sorted(place.rglob("*.csv")) if place.is_dir() else [place]
    tables, left, out = [], [], []
    for path in files:
        if (parts := role_of(path)) is None:
            left.append(path)
            continue
        table = _read(path, *parts)
        if isinstance(table, Finding):
            out.append(table)
        else:
            tables.append(table)
    if not tables and not out:
        seen = names([p.name for p in files]) or "no CSV file"
        raise DataError(
            f"{', '.join(map(str, places))} holds {seen}, and none with train, val or test in its name; name them like "
            "train_fold0.csv, val_fold0.csv, test.csv"
        )
    for group in dict.fromkeys(t.group for t in tables):
        out += _of_group([t for t in tables if t.group == group], group)
    out += [x for path in left for x in _repeated_rows(path)]
    return ordered(out), tables, left


def role_of(path: Path) -> tuple[str, str, int | None] | None:
    """Return set, stage and fold as the name of a file says, or of its folder; None if no stage is named."""
    fold = _FOLD.search(path.stem) or _FOLD.search(path.parent.name)
    for name in (path.stem, path.parent.name):
        words = [w for w in re.split(r"[_\-. ]+", _FOLD.sub("", name)) if w]
        stages = {STAGE_WORDS[w.lower()] for w in words if w.lower() in STAGE_WORDS}
        if len(stages) == 1:
            rest = [w for w in words if w.lower() not in STAGE_WORDS] if name == path.stem else []
            return "_".join(rest), stages.pop(), int(fold[1]) if fold else None
    return None


def person_of(text: str) -> str:
    """Return who an entry names: without folder, ending and modality; the folder where the file is called T1 or image."""
    folder, _, file = text.strip().replace("\\", "/").rpartition("/")
    name = _ENDING.sub("", file)
    if folder and _NOBODY.fullmatch(name):
        return person_of(folder)
    return _MODALITY.sub("", name)


def _read(path: Path, group: str, stage: str, fold: int | None) -> Table | Finding:
    try:
        rows, columns = _rows(path)
    except (OSError, ValueError, csv.Error) as error:
        return finding(109, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
    column = next((columns[name] for name in COLUMNS if name in columns), None)
    if column is None:
        listed = ", ".join(name for name in columns if name) or "nothing"
        return finding(109, f"{path} has no column called {', '.join(COLUMNS[:7])} and so on; it has {listed}")
    place = next((columns[name] for name in PATHS if name in columns and columns[name] != column), None)
    people = tuple(person_of(row[column] or "") for row in rows)
    if not all(people):
        return finding(109, f"{path}, row {people.index('') + 2}: the column {column!r} is empty")
    if not people:
        return finding(101, f"{path} lists nobody", remedy="restore the table")
    return Table(path, group, stage, fold, people, tuple((row[place] or "").strip() if place else "" for row in rows))


def _rows(path: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Return the rows of a table and its columns by their name in small letters."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return rows, {(name or "").strip().lower(): name for name in reader.fieldnames or ()}


def _repeated_rows(path: Path) -> list[Finding]:
    """Return a warning if a table without a role lists an entry twice: of a known column, or of one that names images."""
    try:
        rows, columns = _rows(path)
    except (OSError, ValueError, csv.Error):
        return []  # It is told as left out, and may be no table at all.
    known = [columns[name] for name in COLUMNS if name in columns]
    images = [
        name for name in columns.values() if rows and all(_ENDING.search((row[name] or "").strip()) for row in rows)
    ]
    if not (chosen := [*known, *images][:1]):
        return []
    entries = [text for row in rows if (text := (row[chosen[0]] or "").strip())]
    times = Counter(entries)
    twice = [entry for entry, n in times.items() if n > 1]
    if not twice:
        return []
    what = (
        f"{counted(len(entries) - len(times), 'rows')} of {path} repeat others ({names(twice)}): {len(entries)} rows, "
        f"{len(times)} different"
    )
    return [finding(102, what, twice, severity="warning")]


def _of_group(tables: Sequence[Table], group: str) -> list[Finding]:
    """Check the tables of one data set against each other."""
    out = [x for table in tables for x in _repeated(table)]
    where = f" of {group}" if group else ""
    folds: list[int | None] = sorted({t.fold for t in tables if t.fold is not None})  # type: ignore[assignment]
    for fold in folds or [None]:
        now = [t for t in tables if t.fold in (fold, None)]
        people = {stage: {p for t in now if t.stage == stage for p in t.people} for stage in STAGES}
        out += leaks(people, where=where if fold is None else f"{where}, fold {fold}")
        out += _renamed(now, where if fold is None else f"{where}, fold {fold}")
    sets: dict[str, dict[int, set[str]]] = {}
    for table in tables:
        if table.fold is not None:
            sets.setdefault(table.stage, {}).setdefault(table.fold, set()).update(table.people)
    out += shared_validation(sets.get("validation", {}), where=where)
    return [*out, *unequal_tests(sets.get("test", {}), f"test{where}")]


def _repeated(table: Table) -> list[Finding]:
    times = Counter(table.people)
    twice = [person for person, n in times.items() if n > 1]
    if not twice:
        return []
    extra = sum(times.values()) - len(times)
    what = (
        f"{counted(extra, 'rows')} of {table.words} repeat subjects ({names(twice)}): {len(table.people)} rows, "
        f"{len(times)} subjects"
    )
    return [finding(102, what, twice)]


def _renamed(tables: Sequence[Table], where: str) -> list[Finding]:
    """Return findings for one image that stands under two names."""
    owners: dict[str, dict[str, str]] = {}
    for table in tables:
        for person, image in zip(table.people, table.images, strict=True):
            if image:
                owners.setdefault(image, {})[person] = table.stage
    out = []
    for number, apart in ((105, True), (106, False)):
        found: Mapping[str, Mapping[str, str]] = {
            i: w for i, w in owners.items() if len(w) > 1 and (len(set(w.values())) > 1) == apart
        }
        if found:
            listed = names([f"{image}: {', '.join(who)}" for image, who in found.items()], between="; ")
            people = [person for who in found.values() for person in who]
            out.append(finding(number, f"{counted(len(found), 'images')} under two names{where} ({listed})", people))
    return out
