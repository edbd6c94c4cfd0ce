"""The shipped split files: what they promise, counted again from the files and from the release they come from."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from uadbench.datasets import _splits
from uadbench.datasets._splits import SHA256, leak_reason, leaks, read_split
from uadbench.errors import DataError

V2 = read_split("ixi-v2")
LEGACY = read_split("ixi-legacy")


def having(people: list[_splits.Listed], fold: int, role: str) -> set[str]:
    return {p.id for p in people if role in p.roles[fold]}


def test_v2_names_everybody_once_with_one_role_a_fold() -> None:
    assert len({p.id for p in V2}) == len({p.id.partition("-")[0] for p in V2}) == len(V2) == 566
    for person in V2:
        assert len(person.roles) == 5
        assert all(len(roles) == 1 for roles in person.roles)
    assert [p.id for p in V2] == [p.id for p in LEGACY] == sorted(p.id for p in V2)


def test_v2_folds_share_their_test_people_and_no_validation_person() -> None:
    tests = [having(V2, fold, "test_healthy") for fold in range(5)]
    assert all(people == tests[0] for people in tests)
    assert len(tests[0]) == 157
    vals = [having(V2, fold, "val") for fold in range(5)]
    assert [len(people) for people in vals] == [44] * 5
    assert all(not a & b for a, b in combinations(vals, 2))
    for fold in range(5):
        assert having(V2, fold, "train") == {p.id for p in V2} - tests[0] - vals[fold]
        assert not any(leaks(V2, fold).values())


def test_v2_validation_sets_have_the_ages_of_the_people_who_train() -> None:
    ages = {p.id: float(p.more["age"]) for p in V2 if p.more["age"]}
    assert len(ages) == 561
    rest = sorted(ages[p.id] for p in V2 if p.id in ages and "test_healthy" not in p.roles[0])
    for fold in range(5):
        own = sorted(ages[i] for i in having(V2, fold, "val") if i in ages)
        # One person of each neighbourhood of nine or ten: every tenth of the ages is there to one person.
        for share in (0.1, 0.25, 0.5, 0.75, 0.9):
            cut = rest[int(share * len(rest))]
            assert abs(sum(age < cut for age in own) - share * len(own)) <= 1.5
        assert own[0] < 24
        assert own[-1] > 70


def test_legacy_has_the_leaks_of_the_release() -> None:
    """The numbers were counted by others from the release's own files."""
    with_t2 = [p for p in LEGACY if p.more["avail_t2"] != "0"]
    for people, tested in ((LEGACY, 157), (with_t2, 155)):
        assert [leaks(people, k)["train", "test"] for k in range(5)] == [9, 9, 9, 7, 8]
        assert [leaks(people, k)["train", "validation"] for k in range(5)] == [0, 0, 2, 3, 3]
        assert [leaks(people, k)["validation", "test"] for k in range(5)] == [0, 0, 0, 2, 1]
        assert [len(having(people, k, "test_healthy")) for k in range(5)] == [tested] * 5
    assert [len(having(LEGACY, k, "train")) for k in range(5)] == [374, 374, 376, 377, 377]
    assert [len(having(with_t2, k, "train")) for k in range(5)] == [372, 372, 374, 376, 376]
    assert [len(having(with_t2, k, "val")) for k in range(5)] == [44, 44, 44, 43, 43]
    assert len(set().union(*(having(LEGACY, k, "val") for k in range(5)))) == 181

    def rows(people: list[_splits.Listed], fold: int, role: str) -> int:
        return sum(p.roles[fold].count(role) for p in people)  # type: ignore[arg-type]

    assert [rows(LEGACY, k, "train") for k in range(5)] == [387] * 5
    assert [rows(with_t2, k, "train") for k in range(5)] == [385, 385, 385, 386, 386]
    assert rows(LEGACY, 0, "test_healthy") == 160
    assert rows(with_t2, 0, "test_healthy") == 158
    assert sum(int(p.more["avail_t2"]) for p in LEGACY) == 587
    assert len(with_t2) == 562
    assert leak_reason(LEGACY, 3, "X") == (
        "the split of X has people in two stages: 3 in train and validation, 7 in train and test, 2 in validation and test"
    )


@pytest.fixture
def release(real_data: Path) -> dict[str, list[dict[str, str]]]:
    def rows(name: str) -> list[dict[str, str]]:
        with (real_data / "mddpm_splits" / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    names = ["IXI_test", "avail_t2", *(f"IXI_{part}_fold{k}" for part in ("train", "val") for k in range(5))]
    return {name: rows(name) for name in names}


def test_legacy_is_the_release_row_by_row(release: dict[str, list[dict[str, str]]]) -> None:
    for fold in range(5):
        for role, name in (
            ("train", f"IXI_train_fold{fold}"),
            ("val", f"IXI_val_fold{fold}"),
            ("test_healthy", "IXI_test"),
        ):
            ours = Counter({p.id: n for p in LEGACY if (n := p.roles[fold].count(role))})  # type: ignore[call-overload]
            assert ours == Counter(row["img_name"].removesuffix("_t1.nii.gz") for row in release[name])
    available = Counter(row["0"].removesuffix("_t2.nii.gz") for row in release["avail_t2"])
    assert available == Counter({p.id: int(p.more["avail_t2"]) for p in LEGACY if p.more["avail_t2"] != "0"})


def test_v2_follows_its_rule(release: dict[str, list[dict[str, str]]]) -> None:
    """The rule of the module's docstring, written down once more."""
    ages: dict[str, set[str]] = {}
    for name, rows in release.items():
        for row in rows if name != "avail_t2" else ():
            ages.setdefault(row["img_name"].removesuffix("_t1.nii.gz"), set()).add(row["age"])
    tested = {row["img_name"].removesuffix("_t1.nii.gz") for row in release["IXI_test"]}

    def order(person: str) -> tuple[bool, float, str]:
        known = len(ages[person]) == 1 and ages[person] != {""}
        return (not known, float(min(ages[person])) if known else 0.0, person)

    rest = sorted(ages.keys() - tested, key=order)
    val: dict[str, int] = {}
    for g in range(44):
        group = rest[g * len(rest) // 44 : (g + 1) * len(rest) // 44]
        hashed = sorted(group, key=lambda person: hashlib.sha256(b"ixi-v2:" + person.encode()).digest())
        val |= {person: fold for fold, person in enumerate(hashed[:5])}
    for person in V2:
        for fold in range(5):
            role = "test_healthy" if person.id in tested else "val" if val.get(person.id) == fold else "train"
            assert person.roles[fold] == (role,), (person.id, fold)


@pytest.mark.parametrize("name", sorted(SHA256))
def test_an_edited_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (_splits.FOLDER / f"{name}.csv").read_bytes()
    monkeypatch.setattr(_splits, "FOLDER", tmp_path)
    copy = tmp_path / f"{name}.csv"
    with pytest.raises(DataError, match=f"{name}.csv cannot be read .*install uadbench again"):
        read_split(name)
    copy.write_bytes(data.replace(b"\n", b"\r\n"))
    assert len(read_split(name)) == 566
    copy.write_bytes(data.replace(b"train", b"val", 1))
    with pytest.raises(DataError, match=f"{name}.csv was edited.*manifest"):
        read_split(name)
