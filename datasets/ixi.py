"""IXI: about 580 healthy adults from three London hospitals, T1, T2 and PD.

Files are called `IXI002-Guys-0828-T1.nii.gz`, in one folder or in one for each modality. `IXI002-Guys-0828_t1.nii.gz` with
`mask/IXI002-Guys-0828_mask.nii.gz` and longer names, such as `IXI132-HH-1415_T1_brain_MNI2mm.nii.gz`, are read too. Images
with "brain" in their name are taken as skull-stripped. Age and sex come from `IXI.xls` (which needs the package xlrd;
without it there are none) and `participants.csv`; where a person has two different values there is none.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from uadbench.dataset import ROLES, DatasetCard, Group, Role, Split, Subject
from uadbench.datasets._splits import Listed, leak_reason, read_split
from uadbench.datasets._volumes import FOLDS, Case, HealthySet
from uadbench.errors import DataError, UsageError
from uadbench.reading import unknown_layout

LAYOUTS = (
    "IXI002-Guys-0828-T1.nii.gz",
    "IXI-T1/IXI002-Guys-0828-T1.nii.gz",
    "t1/IXI002-Guys-0828_t1.nii.gz",
)
_FILE = re.compile(r"((IXI\d+)-([A-Za-z]+)-\d+)[-_](T1|T2|PD|mask)([-_].*)?\.nii(?:\.gz)?", re.IGNORECASE)
_ID_COLUMNS = ("ixi_id", "mrid", "participant_id", "subject", "id")


@dataclass
class IXI(HealthySet):
    """Everybody who has the modalities asked for."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="IXI, Information eXtraction from Images",
        licence="CC BY-SA 3.0",
        url="https://brain-development.org/ixi-dataset/",
        reference="IXI dataset, Imperial College London, EPSRC GR/S21533/02",
        modality=("t1", "t2", "pd"),
        healthy="controls",
        expected={"t1": 581, "t2": 578},
        masks="none",
        access="download, free, no account",
    )

    splits: Annotated[
        Literal["seeded", "v2", "legacy"],
        Field(
            description="seeded: by val, test_healthy and seed; v2: the shipped file, five folds that share no validation "
            "person; legacy: that of the mDDPM release, which has people in two stages and never ranks"
        ),
    ] = "seeded"

    def cases(self) -> Iterable[Case]:
        """Return one case for each person."""
        groups = _demographics(self.root)
        images: dict[str, dict[str, Path]] = {}
        masks: dict[str, dict[str, Path]] = {}
        facts: dict[str, tuple[str, str]] = {}
        for path in (*sorted(self.root.glob("*.nii*")), *sorted(self.root.glob("*/*.nii*"))):
            if not (match := _FILE.fullmatch(path.name)):
                continue
            name, number, site, word, rest = match.groups()
            facts[name] = (number, site)
            word = word.lower()
            kind = "mask" if "mask" in f"{word}{rest}".lower() else "image"
            held = (masks if kind == "mask" else images).setdefault(name, {})
            if word in held:
                raise DataError(
                    f"ixi: {held[word]} and {path} are both the {word} {kind} of {name}; take one of them away, or give the "
                    "folder of one of them with --root"
                )
            held[word] = path
        if not images:
            raise unknown_layout("ixi", self.root, LAYOUTS)
        first: dict[str, str] = {}
        for name in sorted(images):
            number, site = facts[name]
            # A second scan of a person would have the same IXI number.
            person = first.setdefault(number, name)
            known: dict[str, Group] = {"site": site, **groups.get(int(number[3:]), {})}
            own = masks.get(name, {})
            brain = own.get(self.channel_names()[0], own.get("mask"))
            yield Case(person, images[name], "" if name == person else name, (), brain, None, known)

    @cached_property
    def stripped(self) -> bool:  # type: ignore[override]
        """Whether the names of all images say that they hold the brain only."""
        words = self.channel_names()
        return all("brain" in case.images[word].name.lower() for case in self.index.values() for word in words)

    def split(self, fold: int = 0) -> Split:
        """Return who is used for what, from the seed or from the shipped file."""
        if self.splits == "seeded":
            return super().split(fold)
        if not 0 <= fold < FOLDS:
            raise UsageError(f"ixi has the folds 0 to {FOLDS - 1}, not {fold}")
        self._refuse_shares()
        roles = {person.id: person.roles[fold] for person in self._listed}
        # A role that the file gives twice to a person is given once.
        members: list[tuple[Role, Subject]] = [
            (role, subject) for subject in self.subjects() for role in dict.fromkeys(roles.get(subject.id, ()))
        ]
        if not members:
            raise DataError(
                f"ixi: none of the {len(self.index)} scans in {self.root} is of a person in the split ixi-{self.splits}; "
                "use splits=seeded"
            )
        leaky = leak_reason(self._listed, fold, "the mDDPM release") if self.splits == "legacy" else ""
        return Split.of(members, leaky)

    def published(self) -> Mapping[str, int]:
        """Return the scans of the release and the people in each role of a shipped split, which may not all be there."""
        if self.splits == "seeded" or self.channel_names() != ("t1",):
            return super().published()  # The files say of T1 images only who has one.
        listed: dict[str, int] = {role: sum(role in person.roles[0] for person in self._listed) for role in ROLES}
        return {**super().published(), **listed}

    @cached_property
    def _listed(self) -> list[Listed]:
        """The people of the shipped split; with T2 images, those the release had some of."""
        people = read_split(f"ixi-{self.splits}")
        if self.splits == "legacy" and "t2" in self.channel_names():
            return [person for person in people if person.more["avail_t2"] != "0"]
        return people

    def _refuse_shares(self) -> None:
        """Refuse parameters that only `seeded` reads."""
        for name in ("val", "test_healthy", "seed"):
            if getattr(self, name) != getattr(type(self), name):
                raise UsageError(
                    f"ixi: splits={self.splits} says who validates and who tests, so {name}={getattr(self, name)} would do "
                    "nothing; leave it out, or use splits=seeded"
                )


def _demographics(root: Path) -> dict[int, dict[str, Group]]:
    """Return age and sex by IXI number, as far as they are known and do not contradict each other."""
    found: dict[int, dict[str, set[Group]]] = {}
    for row in _rows(root):
        lower = {str(k).strip().lower(): v for k, v in row.items()}
        number = next(
            (re.fullmatch(r"(?:IXI)?(\d+)(?:\.0|-.*)?", str(lower[c])) for c in _ID_COLUMNS if c in lower), None
        )
        if not number:
            continue
        own = found.setdefault(int(number[1]), {"age": set(), "sex": set()})
        sex = next((str(v).strip().lower() for k, v in lower.items() if k.startswith("sex")), "")
        own["sex"] |= {{"1": "m", "1.0": "m", "2": "f", "2.0": "f"}.get(sex, sex)} & {"m", "f"}
        own["age"] |= _age(lower.get("age"))
    return {n: {k: next(iter(v)) for k, v in own.items() if len(v) == 1} for n, own in found.items()}


def _age(value: Any) -> set[Group]:
    """Return the age in years, two digits, or nothing."""
    try:
        years = round(float(value), 2)
    except (TypeError, ValueError):
        return set()
    return {years} if 0 < years < 130 else set()


def _rows(root: Path) -> Iterable[Mapping[Any, Any]]:
    """Return the rows of all tables of people in the folder."""
    table, sheet = root / "participants.csv", root / "IXI.xls"
    rows: list[Mapping[Any, Any]] = []
    try:
        if table.is_file():
            with table.open(newline="", encoding="utf-8-sig") as file:
                rows += list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"ixi: {table} cannot be read ({error}); restore it or take it away") from error
    return [*rows, *(_sheet_rows(sheet) if sheet.is_file() else [])]


def _sheet_rows(path: Path) -> list[Mapping[Any, Any]]:
    """Return the rows of all sheets; none without the package xlrd, which is optional and has no types."""
    try:
        xlrd = import_module("xlrd")
    except ModuleNotFoundError:
        return []
    try:
        sheets = xlrd.open_workbook(path).sheets()
        tables = [[sheet.row_values(i) for i in range(sheet.nrows)] for sheet in sheets]
    except Exception as error:
        raise DataError(f"ixi: {path} cannot be read ({error}); restore it or take it away") from error
    return [dict(zip(table[0], row, strict=True)) for table in tables for row in table[1:]]
