"""Healthy people of one dataset and people with lesions of another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar
from unittest.mock import Mock

import fake_data
import numpy as np
import pytest
from commands import uadbench

from uadbench.bank import Bank
from uadbench.data_checks import pair_findings
from uadbench.dataset import Dataset, DatasetCard, Split, Subject, Volume
from uadbench.errors import BadParameter, DataError, UsageError
from uadbench.joined import Joined, joined_name, parts_of
from uadbench.opening import content_of, fingerprint_of, open_dataset
from uadbench.plan import incompatible
from uadbench.registry import Registry
from uadbench.replay import Replay


@dataclass
class People(Dataset):
    card: ClassVar[DatasetCard] = DatasetCard("t", "l", "u", "r", ("t1", "t2"), "controls", note="n.")

    names: tuple[str, ...] = ("a", "b", "c", "d")
    ill: bool = False
    modality: str = "t1"
    offers: frozenset[str] = field(default_factory=lambda: frozenset({"foreground"}))

    def subjects(self) -> list[Subject]:
        return [Subject(name) for name in self.names]

    def split(self, fold: int = 0) -> Split:
        s = self.subjects()
        s = s[fold:] + s[:fold]
        return Split((), (), tuple(s[1:]), (), (s[0],)) if self.ill else Split(tuple(s[2:]), (s[0],), (), (s[1],))

    def load(self, subject: Subject) -> Volume:
        value = float(ord(subject.id[0])) + self.ill
        return Volume(np.full((1, 1, 4, 4), value, np.float32), None, None, None, subject.key)

    def content(self) -> str:
        return ",".join(self.names)

    def provides(self) -> frozenset[str]:
        return self.offers


def joined(**more: object) -> Joined:
    lesions = People(names=("c", "x", "y"), ill=True, **more)  # type: ignore[arg-type]
    return Joined(lesions, People(), ("ours", "theirs"))


def test_each_set_gives_its_own_roles() -> None:
    split = joined().split()
    split.check("both")
    assert [s.id for s in split.train] == ["theirs-c", "d"]
    assert ([s.id for s in split.val], [s.id for s in split.test_healthy]) == (["a"], ["b"])
    assert [s.id for s in split.val_lesion] == ["ours-c"]
    assert [s.id for s in split.test_lesion] == ["x", "y"]


def test_a_name_that_both_sets_use_stands_for_two_people() -> None:
    data = joined()
    by_key = {s.key: data.load(s) for s in data.subjects()}
    assert len(by_key) == 7
    assert by_key["ours-c"].image[0, 0, 0, 0] == ord("c") + 1
    assert by_key["theirs-c"].image[0, 0, 0, 0] == ord("c")
    assert all(volume.subject == key for key, volume in by_key.items())


def test_folds_are_those_of_the_healthy_set() -> None:
    first, second = joined().split(0), joined().split(1)
    assert first.test_lesion == second.test_lesion
    assert {s.id for s in first.val} != {s.id for s in second.val}


def test_the_identity_is_that_of_both() -> None:
    base, other = joined(), Joined(People(names=("c", "x", "z"), ill=True), People(), ("ours", "theirs"))
    assert fingerprint_of(base) == fingerprint_of(joined())
    assert fingerprint_of(base) != fingerprint_of(other)
    assert content_of(base) != content_of(other)
    assert base.parameters()["ours.ill"] is True
    assert base.parameters()["theirs.ill"] is False


def test_only_what_both_offer_is_offered() -> None:
    assert joined().provides() == {"foreground"}
    assert joined(offers=frozenset()).provides() == frozenset()
    assert joined().card.note == "n. n."


def test_modalities_must_agree() -> None:
    with pytest.raises(UsageError, match=r"ours gives t2 but theirs gives t1; .*--modality t2"):
        joined(modality="t2")
    assert joined(modality="image").channel_names() == ("image",)


def test_names() -> None:
    assert joined_name("brats21", "ixi") == "brats21+ixi"
    assert joined_name("lgg", None) == joined_name(" lgg ", None) == "lgg"
    assert joined_name("brats21 + ixi", None) == "brats21+ixi"
    with pytest.raises(UsageError, match="--healthy lgg names the dataset itself"):
        joined_name("lgg", "lgg")
    assert parts_of("brats21+ixi") == ["brats21", "ixi"]
    for wrong in ("a+b+c", "a+", "a+a"):
        with pytest.raises(UsageError, match="is not of the form"):
            parts_of(wrong)
    with pytest.raises(UsageError, match="names a healthy set already"):
        joined_name("a+b", "c")


def test_one_folder_cannot_be_two_datasets() -> None:
    with pytest.raises(UsageError, match=r"-D nifti.root=... -D lgg.root=..."):
        open_dataset(Registry(), "nifti+lgg", ["root=x"])


def test_a_root_for_stored_results_of_two_sets_needs_a_name() -> None:
    replay = Replay(Registry(), ["root=/x"])
    with pytest.raises(UsageError, match=r"-D mslub.root=... -D ixi.root=..."):
        replay._given("mslub+ixi")
    assert Replay(Registry(), ["root=/x"])._given("ixi") == {"root": "root=/x"}
    assert Replay(Registry(), ["ixi.root=/x"])._given("mslub+ixi") == {"ixi.root": "ixi.root=/x"}


def test_stored_results_of_an_adapter_that_is_not_there_stop_no_others() -> None:
    cells = [Mock(dataset="ixi"), Mock(dataset="mslub+ixi")]
    Replay(Registry(), ["ixi.root=/x"]).check_given(cells)
    with pytest.raises(BadParameter, match="has a parameter 'rooot'"):
        Replay(Registry(), ["rooot=/x"]).check_given(cells)
    Replay(Registry(), ["rooot=/x"]).check_given([*cells, Mock(dataset="of_a_plugin")])


def test_the_command_line_joins_and_stores_and_evaluates_again(tmp_path: object) -> None:
    root = fake_data.nifti_set(tmp_path)  # type: ignore[arg-type]
    given = ["-d", "nifti", "--healthy", "phantom", "-D", f"nifti.root={root}", "-D", "phantom.count=10"]
    quick = ["-D", "phantom.size=16,20,16", "--method", "voxel_zscore", "--references", "random"]
    done = uadbench("run", *given, *quick, cwd=tmp_path)  # type: ignore[arg-type]
    assert "skipped" in done.stderr, done.stderr  # The two are not registered to each other.
    assert "nifti+phantom" in done.stdout
    again = uadbench("evaluate", "--protocol", "image-v1", cwd=tmp_path)  # type: ignore[arg-type]
    assert again.returncode == 0, again.stderr
    one = uadbench("run", "-m", "random", "-d", "nifti", "--healthy", "phantom", "--root", "x", cwd=tmp_path)  # type: ignore[arg-type]
    assert one.returncode == 2
    assert "two datasets take part, nifti and phantom" in one.stderr


class Prepared(People):
    def recipe(self) -> tuple[str, str]:
        return ("small", self.names[0]) if self.names[0] in "cx" else ("", "")


def test_sets_that_were_prepared_differently_are_not_joined() -> None:
    both = frozenset({"foreground", "registered"})
    with pytest.raises(DataError, match="a was prepared by the recipe small and b by small, or with other templates"):
        Joined(Prepared(names=("c", "d"), ill=True), Prepared(names=("x", "y")), ("a", "b"))
    one = Joined(Prepared(names=("c", "d"), ill=True, offers=both), Prepared(names=("a", "b"), offers=both), ("a", "b"))
    assert one.provides() == {"foreground"}
    assert "a was prepared (small), b was not." in one.card.note
    alike = Joined(
        Prepared(names=("c", "d"), ill=True, offers=both), Prepared(names=("c", "e"), offers=both), ("a", "b")
    )
    assert alike.provides() == both


def test_what_sets_two_joined_sets_apart_is_said() -> None:
    both = frozenset({"foreground", "registered"})
    apart = Joined(People(names=("x", "y"), ill=True, offers=both), People(offers=frozenset()), ("a", "b"))
    assert [f.number for f in pair_findings(apart)] == [414, 415]
    assert "a has a foreground and b has none." in apart.card.note
    told = Bank(apart, "a+b", None).check(apart.split(), masks=False).warnings
    assert [w[:10] for w in told] == ["W-DATA-414", "W-DATA-415"]
    one = Joined(People(names=("x", "y"), ill=True, offers=both), People(offers=both), ("a", "b"))
    assert pair_findings(one) == []
    assert pair_findings(People()) == []


def test_foregrounds_that_were_made_in_different_ways_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    both = frozenset({"foreground", "registered"})
    pair = Joined(People(names=("x", "y"), ill=True, offers=both), People(offers=both), ("a", "b"))
    ways = {"x": "given", "a": "given"}
    monkeypatch.setattr(People, "foreground_from", lambda self: ways.get(self.names[0], ""))
    assert pair_findings(pair) == []
    ways["x"] = ""  # Not known is no finding.
    assert pair_findings(pair) == []
    ways |= {"x": "given", "a": "nonzero"}
    assert [(f.number, f.message) for f in pair_findings(pair)] == [(417, "a: masks from files; b: all that is not 0")]


def test_sets_that_a_recipe_could_register_are_told_so() -> None:
    class Volumes(People):
        def cases(self) -> None:
            raise AssertionError("no case is looked at")

    method = Registry().entry("method", "voxel_zscore").load()()
    joined_volumes = Joined(Volumes(names=("x", "y"), ill=True), Volumes(), ("a", "b"))
    for dataset in (Volumes(), joined_volumes):
        reason = incompatible(method, dataset) or ""
        assert reason.endswith("; prepare the data with one recipe that registers (uadbench datasets prepare)")
    assert (incompatible(method, joined()) or "").endswith("which this dataset does not offer")
