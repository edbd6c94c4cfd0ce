"""All checks of a data set in one call, and the page of their codes: python -m uadbench.data_checks docs/data-checks.md."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from uadbench.dataset import ROLES, STAGE, Dataset, Role, Split, Subject
from uadbench.errors import DataError, UsageError
from uadbench.file_checks import absent_files, compare_headers, copies, damage_of, header_of, orientation_of, same_files
from uadbench.findings import CODES, FAMILIES, Finding, finding, gathered, ordered, raise_first
from uadbench.joined import Joined
from uadbench.split_checks import fold_findings, half_findings, needed_roles, split_findings

MOST_FOLDS = 20
"""Folds that are looked at; a data set that takes any number of folds has no last one."""

LINES = ("scans", "pictures")
"""Words for the lines of the index on a card with published counts."""

RULES = """\
`uadbench datasets check NAME` looks at every subject; `--quick` at splits, files and headers only; `--splits FOLDER` at
tables of splits (CSV) without any image. Before every run the split is checked, then that all files are there; every volume
is checked once for the same data and split. Exit code 0 without errors, 3 with one.

* **Errors stop a run, warnings do not.** Every finding has a code, a message with counts and a few names, and a remedy;
  `--json` has all names. What is found about the place of volumes (308 to 310) and about counts is told before every run and
  does not stop it: it comes from comparisons, which can err.
* **Leaky splits.** Where a split is known to leak and says so (`Split.leaky`), findings 1xx are warnings, and its results
  never rank.
* **Copies** are found by their bytes and by their decoded voxels without a black margin, so that an image that was
  compressed, stored in another type or padded again is found under its other name. One resampled or rescaled is not.
* **Turned volumes.** Foreground and intensities of every volume are compared with the mean of the healthy ones, as they lie
  and in every other order and direction of the axes. This does not need registered volumes, and sees nothing of pictures. A
  whole set that is turned alike is seen only against another set: check both together.
* **Left and right.** The mask of a symmetric organ is its own mirror image, so masks cannot show a swap. Headers can
  (305, 306, 311), and in registered sets intensities hint at it (310).
* **Counts** are compared with those that the owners publish for what was opened: the chosen part or modality, and each of
  two joined sets. Where only a total of all parts is known, nothing is compared.
* **Tables whose name says no role** are searched for repeated rows only.
"""


def check_everything(
    dataset: Dataset, name: str, *, quick: bool = False, advance: Callable[[int], object] = lambda n: None
) -> list[Finding]:
    """Return all findings, errors first.

    Args:
        dataset: with its parameters.
        name: for messages.
        quick: look at splits, files and headers only.
        advance: called with the number of subjects done.

    Raises:
        DataError: if there is nothing to look at, because the data are not where they should be.
    """
    subjects = list(dataset.subjects())
    folds = all_folds(dataset)
    first = folds[0]
    roles: dict[str, Role] = {subject.key: role for role, subject in reversed(list(first.items()))}
    out = [x for k, split in folds.items() for x in _of_fold(split, name, k, len(folds))]
    out += [*half_findings(first), *fold_findings(folds), *counts(dataset, subjects, first)]
    out += pair_findings(dataset)
    out += absent_files(subjects)
    absent = {text for x in out if x.number in (201, 202, 203) for text in x.subjects}
    whole = [s for s in subjects if not absent & {str(path) for path in s.files}]
    advance(len(subjects) - len(whole))
    stage = {key: STAGE[role] for key, role in roles.items()}
    if quick:
        out += _headers(dataset, whole, advance)
        out += copies(same_files(whole).values(), stage, excuse=first.leaky)
    else:
        out += _volumes(dataset, whole, roles, stage, first.leaky, advance)
    return ordered(dict.fromkeys(out))


WAYS = {"given": "masks from files", "nonzero": "all that is not 0"}
"""What words of `Dataset.foreground_from` mean; others are names of tools."""


def pair_findings(dataset: Dataset) -> list[Finding]:
    """Return what sets two joined sets of volumes apart before any image is read."""
    if not isinstance(dataset, Joined) or dataset.card.dimensions != "3-D":
        return []
    out = []
    with_mask = [
        name
        for name, half in zip(dataset.names, (dataset.lesions, dataset.healthy), strict=True)
        if "foreground" in half.provides()
    ]
    if len(with_mask) == 1:
        (none,) = set(dataset.names) - set(with_mask)
        out.append(finding(414, f"{with_mask[0]} has a foreground and {none} has none"))
    ways = [half.foreground_from() for half in (dataset.lesions, dataset.healthy)]
    if all(ways) and ways[0] != ways[1]:
        said = (
            f"{name}: {' and '.join(WAYS.get(w, w) for w in way.split(' and '))}"
            for name, way in zip(dataset.names, ways, strict=True)
        )
        out.append(finding(417, "; ".join(said)))
    if "registered" not in dataset.provides():
        out.append(finding(415, f"{' and '.join(dataset.names)} are not known to be registered to one template"))
    return out


def all_folds(dataset: Dataset) -> dict[int, Split]:
    """Return the split of every fold that there is.

    Raises:
        DataError: if one is damaged.
    """
    out = {0: dataset.split(0)}
    with suppress(UsageError):  # The first number that there is no fold of.
        for fold in range(1, MOST_FOLDS):
            out[fold] = dataset.split(fold)
    return out


def check_before_run(split: Split, name: str) -> None:
    """Refuse a split that leaks, or files that are not there, before anything is read.

    Raises:
        DataError: for the first error, with its code.
    """
    subjects = [subject for _, subject in split.items()]
    raise_first([*split_findings(split, name), *absent_files(subjects)], name)


def counts(dataset: Dataset, subjects: Sequence[Subject], split: Split) -> list[Finding]:
    """Compare numbers with the published ones (`Dataset.published`); of a joined set with those of both.

    Known words there: "subjects" (people), "scans" and "pictures" (lines of the index), roles, and values of the data
    set's own parameters, such as {"t1": 581} where modality=t1, which count scans too and only where they are chosen.
    """
    if isinstance(dataset, Joined):
        halves = zip(dataset.names, (dataset.lesions, dataset.healthy), strict=True)
        return [
            finding(x.number, f"{name}: {x.message}")
            for name, half in halves
            for x in counts(half, list(half.subjects()), half.split(0))
        ]
    here: dict[str, int] = {role: len(getattr(split, role)) for role in ROLES}
    here |= {"subjects": len({s.id for s in subjects}), **dict.fromkeys(LINES, len(subjects))}
    chosen = {value for value in dataset.parameters().values() if isinstance(value, str)}
    wrong = []
    for word, number in dataset.published().items():
        if word in here and here[word] != number:
            one = here[word] == 1 and word not in ROLES
            wrong.append(f"{here[word]} {word.removesuffix('s') if one else word}, published: {number}")
        elif word not in here and word in chosen and len(subjects) != number:
            wrong.append(f"{len(subjects)} scans ({word}), published: {number}")
    return [finding(501, "; ".join(wrong))] if wrong else []


def unknown_counts(dataset: Dataset) -> list[str]:
    """Return the words of the card's published counts that `counts` never compares, whatever is chosen."""
    known: set[object] = {*ROLES, "subjects", *LINES, *dataset.card.modality}
    for hint in get_type_hints(type(dataset)).values():
        known |= set(get_args(hint)) if get_origin(hint) is Literal else set()
    return sorted(dataset.card.expected.keys() - known)


def _of_fold(split: Split, name: str, fold: int, folds: int) -> list[Finding]:
    found = split_findings(split, name, needed=needed_roles(split))
    if folds == 1:
        return found
    return [
        finding(x.number, f"fold {fold}: {x.message}", x.subjects, severity=x.severity, remedy=x.remedy) for x in found
    ]


def _headers(dataset: Dataset, subjects: Sequence[Subject], advance: Callable[[int], object]) -> list[Finding]:
    """Look at headers. What looks wrong is loaded, because an adapter may know how to read it."""
    notes: dict[int, dict[str, str]] = {}
    for subject in subjects:
        read = {path: header_of(path) for path in subject.files}
        wrong = next(((n, f"{p}: {text}" if text else str(p)) for p, (_, n, text) in read.items() if n), (0, ""))
        known = {path: header for path, (header, _, _) in read.items() if header}
        number, text = wrong if wrong[0] else compare_headers(known)
        if number in (204, 301, 302) and _loads(dataset, subject):
            number = 0
        if not number:
            number, text = orientation_of(known.values())
        if number:
            notes.setdefault(number, {})[subject.key] = text
        advance(1)
    return [x for number, found in notes.items() for x in gathered(number, found)]


def _loads(dataset: Dataset, subject: Subject) -> bool:
    try:
        dataset.load(subject)
    except DataError:
        return False
    return True


def _volumes(
    dataset: Dataset,
    subjects: Sequence[Subject],
    roles: Mapping[str, Role],
    stage: Mapping[str, str],
    leaky: str,
    advance: Callable[[int], object],
) -> list[Finding]:
    """Look at every volume once."""
    from uadbench.registration_checks import Gate
    from uadbench.volume_checks import VolumeChecks, label_findings, label_values

    registered = "registered" in dataset.provides()
    checks, gate = VolumeChecks(registered, dataset.annotated()), Gate(registered)
    labels: dict[str, dict[str, list[float]]] = {}
    for subject in subjects:
        role = roles.get(subject.key)
        try:
            volume = dataset.load(subject)
        except DataError as error:
            number, text = damage_of(subject)
            checks.note(number or 206, subject, text if number else str(error))
        except Exception as error:
            number, text = damage_of(subject)
            checks.note(number or 206, subject, text if number else f"{type(error).__name__}: {error}")
        else:
            if checks.see(subject, role, volume):
                gate.see(subject, role, volume)
            for kind, values in label_values(subject).items():
                labels.setdefault(kind, {})[subject.key] = values
            number, text = orientation_of(header for header, _, _ in map(header_of, subject.files) if header)
            if number:
                checks.note(number, subject, text)
        advance(1)
    same: dict[str, list[Subject]] = {}
    for facts in checks.facts:
        if facts.voxels:
            same.setdefault(facts.voxels, []).append(facts.subject)
    found = copies((g for g in same.values() if len(g) > 1), stage, excuse=leaky)
    return [*checks.findings(), *label_findings(labels), *gate.findings(), *found]


def page() -> str:
    """Return the page of all codes as Markdown."""
    parts = [
        "# Checks of data: every code\n",
        "Made from the code by `python -m uadbench.data_checks docs/data-checks.md`; a test keeps it up to date.\n",
        RULES,
    ]
    for family, title in FAMILIES.items():
        rows = [
            f"| {code.severity[0].upper()}-DATA-{number} | {code.title} | {code.remedy} |"
            for number, code in CODES.items()
            if number // 100 == family
        ]
        parts.append("\n".join([f"## {title}\n", "| code | what is wrong | what to do |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
