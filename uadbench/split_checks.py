"""Checks of who is used for what: leaks between train, validation and test, empty roles, folds that overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from uadbench.dataset import ROLES, STAGE, Split
from uadbench.findings import Finding, counted, finding, names

HEALTHY = ("train", "val", "test_healthy")
LESIONS = ("val_lesion", "test_lesion")
NEEDED = ("train", "val", "test_lesion")
STAGES = ("train", "validation", "test")


def split_findings(split: Split, name: str, *, needed: Sequence[str] = NEEDED) -> list[Finding]:
    """Return what is wrong with one split, without reading a file.

    Args:
        split: of one fold.
        name: of the dataset, for remedies.
        needed: roles that may not be empty; see `needed_roles`.
    """
    stages: dict[str, set[str]] = {stage: set() for stage in STAGES}
    lines: Counter[tuple[str, str]] = Counter()
    for role, subject in split.items():
        stages[STAGE[role]].add(subject.id)
        lines[subject.key, role] += 1
    out = [*_empty(split, name, needed), *alone(split)]
    for role in ROLES:
        twice = [key for (key, where), n in lines.items() if where == role and n > 1]
        if twice:
            what = f"subject {twice[0]!r} is" if len(twice) == 1 else f"{len(twice)} subjects ({names(twice)}) are"
            out.append(finding(102, f"{what} listed twice in the split {role!r}", twice, excuse=split.leaky))
    return [*out, *leaks(stages, excuse=split.leaky)]


def leaks(stages: Mapping[str, Iterable[str]], *, excuse: str = "", where: str = "") -> list[Finding]:
    """Return a finding for every two stages that share people.

    Args:
        stages: the people of each stage, in the order train, validation, test.
        excuse: why that is known and allowed.
        where: such as ", fold 3", put after the names of the stages.
    """
    out = []
    given = [(stage, set(people)) for stage, people in stages.items()]
    for i, (first, a) in enumerate(given):
        for second, b in given[i + 1 :]:
            if both := sorted(a & b):
                if len(both) == 1:
                    what = f"subject {both[0]!r} is in both {first} and {second}{where}"
                else:
                    what = f"{len(both)} subjects are in both {first} and {second}{where} ({names(both)})"
                remedy = (
                    f"every person may be in one stage only; remove {'it' if len(both) == 1 else 'them'} from {first}"
                )
                out.append(finding(104, what, both, remedy=remedy, excuse=excuse))
    return out


def needed_roles(split: Split) -> tuple[str, ...]:
    """Return the roles that may not be empty: those of healthy people, of people with lesions, or of both."""
    if not any(getattr(split, role) for role in HEALTHY) and split.test_lesion:
        return ("test_lesion",)
    if not any(getattr(split, role) for role in LESIONS) and split.train:
        return ("train", "val")
    return NEEDED


def half_findings(split: Split) -> list[Finding]:
    """Return a finding where a split holds healthy people only, or people with lesions only."""
    needed = needed_roles(split)
    if needed == NEEDED:
        return []
    kind = "subjects with lesions" if needed == ("test_lesion",) else "healthy subjects"
    return [finding(103, f"half a data set: {kind} only")]


def fold_findings(splits: Mapping[int, Split]) -> list[Finding]:
    """Return what is wrong between the splits of several folds, beside what is wrong in each."""
    excuse = next((s.leaky for s in splits.values() if s.leaky), "")
    out = shared_validation({k: {s.id for s in split.val} for k, split in splits.items()}, excuse=excuse)
    for role in ("test_lesion", "test_healthy"):
        out += unequal_tests({k: {s.id for s in getattr(split, role)} for k, split in splits.items()}, role)
    return out


def shared_validation(folds: Mapping[int, Iterable[str]], *, where: str = "", excuse: str = "") -> list[Finding]:
    """Return a finding if folds share validation people.

    Args:
        folds: people of the validation set of each fold. One set for all folds is no defect.
        where: such as " of IXI", put after "validation sets".
        excuse: why that is known and allowed.
    """
    sets = [frozenset(people) for people in folds.values()]
    if len(set(sets)) < 2:
        return []
    times = Counter(person for people in sets for person in people)
    shared = sorted(person for person, n in times.items() if n > 1)
    if not shared:
        return []
    what = (
        f"{counted(len(shared), 'subjects')} are in the validation sets{where} of several folds ({names(shared)}): "
        f"{len(times)} different subjects in {sum(times.values())} places"
    )
    return [finding(107, what.replace("1 subject are", "1 subject is", 1), shared, excuse=excuse)]


def unequal_tests(folds: Mapping[int, Iterable[str]], role: str) -> list[Finding]:
    """Return a finding if some people are tested in more folds than others.

    Each in as many is cross-validation, and so is one more or less where nobody is tested in all: parts of a set that
    cannot be divided evenly.
    """
    times = Counter(person for people in folds.values() for person in set(people))
    most, least = max(times.values(), default=0), min(times.values(), default=0)
    if most == least or (most - least == 1 and 1 < most < len(folds)):
        return []
    rare = sorted(person for person, n in times.items() if n < most)
    what = (
        f"{len(rare)} of {len(times)} subjects of {role} are tested in fewer folds than others ({names(rare)}): between "
        f"{least} and {most} of {len(folds)}"
    )
    return [finding(108, what, rare)]


def alone(split: Split) -> list[Finding]:
    """Return a warning for a training set of one person, whose many pictures may hide that there is nobody else."""
    people = {subject.id for subject in split.train}
    if len(people) != 1:
        return []
    images = "" if len(split.train) == 1 else f", with {len(split.train)} images"
    return [finding(110, f"all of train is one person, {people.pop()!r}{images}")]


def _empty(split: Split, name: str, needed: Sequence[str]) -> list[Finding]:
    empty = [role for role in needed if not getattr(split, role)]
    if not empty:
        return []
    remedy = "healthy subjects are needed in train and val, and annotated ones in test_lesion"
    if set(empty) & {"train", "val"}:
        remedy += f"; take them from another dataset, such as: --dataset {name} --healthy ixi"
    what = f"no subject is in the split{'s' if len(empty) > 1 else ''} {', '.join(empty)}"
    return [finding(101, what, remedy=remedy)]
