"""Splits that are shipped as files: who is used for what in each fold, with a hash that tells if a file was edited.

`ixi-legacy` holds the roles of the split files of the mDDPM release as they are: a cell lists a role as often as its file
lists the person, joined with +, and avail_t2 says how often the release's list of T2 images does.

`ixi-v2` is made from the same 566 people by this rule, which takes nothing from chance:
1. Everyone in the release's test file is for testing, in all folds, and in nothing else.
2. The others are put in the order of age, then id; people without an age, or with two different ones, come last.
3. They are cut into 44 groups of neighbours as equal as can be (group g is from g n / 44 to (g + 1) n / 44, rounded down).
4. In each group, ordered by the SHA-256 of "ixi-v2:" and the id, the first five validate in folds 0 to 4, one in each.
5. All others train.
So the five validation sets share nobody, and have the same ages.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from uadbench.dataset import STAGE, Role
from uadbench.errors import DataError

FOLDER = Path(__file__).with_name("splits")

SHA256 = {
    "ixi-v2": "19caecfd75bea42c0acce920396e92911825038b0c79df90d4b7bc06aa375b45",
    "ixi-legacy": "202b2b4376f06bbb84aeadcafe4f06be1a92c2516b18d8f7b6ea43334f07d9d3",
}


@dataclass(frozen=True)
class Listed:
    """One person of a split file.

    Attributes:
        id: as the owners of the data call the person.
        roles: in each fold; a role is there as often as the file lists it.
        more: the other columns, such as age.
    """

    id: str
    roles: tuple[tuple[Role, ...], ...]
    more: Mapping[str, str]


def read_split(name: str) -> list[Listed]:
    """Return the people of a shipped split file, in the order of their ids.

    Args:
        name: without the ending, such as "ixi-v2".

    Raises:
        DataError: if the file is missing or is not the one that was shipped.
    """
    path = FOLDER / f"{name}.csv"
    remedy = "install uadbench again; for a split of your own, write a manifest (--dataset nifti)"
    try:
        # A checkout may have turned the ends of lines into those of Windows.
        data = path.read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); {remedy}") from error
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise DataError(f"{path} was edited: it is not the split {name!r} that results are compared on; {remedy}")
    return [_listed(row) for row in csv.DictReader(data.decode("ascii").splitlines())]


def leaks(people: Sequence[Listed], fold: int) -> dict[tuple[str, str], int]:
    """Return how many people are in two stages: ("train", "test") -> 9, and so on for each pair of stages."""
    stages = list(dict.fromkeys(STAGE.values()))
    pairs = [(a, b) for i, a in enumerate(stages) for b in stages[i + 1 :]]
    held = [{STAGE[role] for role in person.roles[fold]} for person in people]
    return {(a, b): sum(a in own and b in own for own in held) for a, b in pairs}


def leak_reason(people: Sequence[Listed], fold: int, owner: str) -> str:
    """Return in words who is in two stages of a fold; `owner` is whose split it is."""
    words = [f"{number} in {a} and {b}" for (a, b), number in leaks(people, fold).items() if number]
    return f"the split of {owner} has people in two stages: {', '.join(words)}"


def _listed(row: Mapping[str, str]) -> Listed:
    known: dict[str, Role] = {role: role for role in get_args(Role)}
    folds = sorted(column for column in row if column.startswith("fold"))
    roles = tuple(tuple(known[word] for word in row[column].split("+")) for column in folds)
    return Listed(row["id"], roles, {k: v for k, v in row.items() if k != "id" and k not in folds})
