"""The contract catches what it should, and every built-in keeps it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PLUGINS

from uadbench.contract import check_dataset, check_method, dataset_checks, method_checks
from uadbench.dataset import Dataset, Split, Subject, Volume
from uadbench.errors import ContractBroken
from uadbench.method import Batch, Images, Method, Run, require_fitted
from uadbench.params import resolve
from uadbench.registry import Registry

METHODS = ("random", "intensity", "voxel_zscore", "ae", "vae", "feature_knn", "ddpm", "pddpm", "mddpm")


@pytest.mark.parametrize("name", METHODS)
def test_every_built_in_method_keeps_the_contract(name: str) -> None:
    cls = Registry().method(name)
    check_method(resolve(cls, [("tiny", cls.tiny)])[0])


@dataclass
class Good(Method):
    """Keeps the contract; what follows breaks it in one place each."""

    factor: float = 1.0

    def fit(self, healthy: Images, *, val: Images, run: Run) -> Good:
        self.mean_ = torch.cat([b.image for b in healthy.batches(8)]).mean(dim=0)
        return self

    def score(self, batch: Batch) -> torch.Tensor:
        require_fitted(self, "mean_")
        return (batch.image - self.mean_).abs().mean(dim=1) * self.factor


class NoReturn(Good):
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Any:
        super().fit(healthy, val=val, run=run)


class ChangesParameter(Good):
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Good:
        self.factor = 2.0
        return super().fit(healthy, val=val, run=run)


class ChangesImages(Good):
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Good:
        healthy._store._image[0] += 1.0  # type: ignore[attr-defined]
        return super().fit(healthy, val=val, run=run)


class OtherTogether(Good):
    def score_and_reconstruct(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        return 2 * self.score(batch), None


class Inverted(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        return -super().score(batch)


class BatchNormalised(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        maps = super().score(batch)
        return maps / maps.max()


class NoiseFromGlobalGenerator(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        return super().score(batch) + 0.3 * torch.rand(batch.image.shape[-2:])


class NoiseForTheWholeBatch(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        rng = torch.Generator().manual_seed(int(batch.seed[0]))
        return super().score(batch) + 0.3 * torch.rand(len(batch), *batch.image.shape[-2:], generator=rng)


class WrongShape(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        return super().score(batch)[:, :-1]


class NotFinite(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        return super().score(batch) / 0.0


class Constant(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        return super().score(batch) * 0.0


class ScoresUnfitted(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        return batch.image.mean(dim=1)


class ChangesInput(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        maps = super().score(batch)
        batch.image.mul_(0.5)
        return maps


class ForgetsState(Good):
    def save(self, folder: Path) -> None:
        self.mean_, kept = self.mean_ * 0, self.mean_
        super().save(folder)
        self.mean_ = kept


class OneSize(Good):
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Good:
        assert healthy.shape[-1] % 8 == 0
        return super().fit(healthy, val=val, run=run)


class OneChannel(Good):
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Good:
        assert healthy.shape[0] == 1
        return super().fit(healthy, val=val, run=run)


class WritesOutside(Good):
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Good:
        Path("left_behind.txt").write_text("x")
        return super().fit(healthy, val=val, run=run)


class SavesOutside(Good):
    def score(self, batch: Batch) -> torch.Tensor:
        torch.save(batch.image, "debug.pt")
        return super().score(batch)


class UsesNetwork(Good):
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Good:
        import urllib.request

        urllib.request.urlopen("http://127.0.0.1:9/")
        return super().fit(healthy, val=val, run=run)


class SeedsFromTheClock(Good):
    def fit(self, healthy: Images, *, val: Images, run: Run) -> Good:
        super().fit(healthy, val=val, run=run)
        self.mean_ = self.mean_ + 0.1 * torch.rand(1)
        return self


class UnknownNeed(Good):
    needs = frozenset({"magic"})


@dataclass
class BadDefault(Good):
    factor: int = "x"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (NoReturn, "must return self"),
        (ChangesParameter, "changed a hyper-parameter"),
        (ChangesImages, "changed the train images"),
        (OtherTogether, "must return the maps of score"),
        (Inverted, "higher must mean more anomalous"),
        (BatchNormalised, "depends on the batch"),
        (NoiseFromGlobalGenerator, "depends on the batch"),
        (NoiseForTheWholeBatch, "depends on the batch"),
        (WrongShape, "shape"),
        (NotFinite, "NaN or infinite"),
        (Constant, "constant"),
        (ScoresUnfitted, "before fit"),
        (ChangesInput, "changed the images"),
        (ForgetsState, "after save"),
        (OneSize, "AssertionError"),
        (OneChannel, "AssertionError"),
        (WritesOutside, "writes outside its folder"),
        (SavesOutside, "writes outside its folder"),
        (UsesNetwork, "network"),
        (SeedsFromTheClock, "two results"),
        (UnknownNeed, "no dataset can offer"),
        (BadDefault, "must be integer"),
    ],
)
def test_broken_methods_are_caught(
    method: type[Good], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContractBroken):
        check_method(method())
    assert any(words in check.reason for check in method_checks(method()) if check.outcome == "broken")


def test_volumes_are_scored_with_mates_too() -> None:
    class Peeks(Good):
        ndim = 3

        def score(self, batch: Batch) -> torch.Tensor:
            return super().score(batch) * len(batch)

    class Fair(Good):
        ndim = 3

    assert any("depends on the batch" in c.reason for c in method_checks(Peeks()) if c.outcome == "broken")
    check_method(Fair())


def test_a_good_method_passes_all_checks() -> None:
    outcomes = {check.name: check.outcome for check in method_checks(Good())}
    assert set(outcomes.values()) == {"passed"}
    assert len(outcomes) == 13


def test_what_a_method_does_not_claim_is_not_asked() -> None:
    class OneChannelSaysSo(OneChannel):
        accepts_channels = (1,)

    class Transductive(BatchNormalised):
        transductive = True

    check_method(OneChannelSaysSo())
    outcomes = {c.name: c.outcome for c in method_checks(Transductive())}
    assert outcomes["a score does not depend on its batch"] == "skipped"


def blobs() -> Dataset:
    return Registry([PLUGINS / "blobs.py"]).dataset("blobs")()


def test_a_good_dataset_passes() -> None:
    check_dataset(blobs())
    assert {c.outcome for c in dataset_checks(blobs())} == {"passed"}


def test_the_phantom_keeps_the_contract() -> None:
    cls = Registry().dataset("phantom")
    check_dataset(resolve(cls, [("tiny", cls.tiny)])[0])


def breaking(what: str) -> Dataset:
    dataset = blobs()
    base = type(dataset)

    class Broken(base):  # type: ignore[valid-type, misc]
        def load(self, subject: Subject) -> Volume:
            volume: Volume = super().load(subject)
            if what == "dtype":
                return replace(volume, image=volume.image.astype("float64"))
            if what == "mask":
                assert volume.lesion is not None
                return replace(volume, lesion=volume.lesion[:, 1:])
            if what == "unannotated":
                return replace(volume, lesion=None)
            if what == "foreground":
                return replace(volume, foreground=None)
            if what == "spacing":
                return replace(volume, spacing=(0.0, 1.0, 1.0))
            if what == "lesion":
                assert volume.lesion is not None
                return replace(volume, lesion=~volume.lesion)
            return volume

        def split(self, fold: int = 0) -> Split:
            split: Split = super().split(0 if what == "fold" else fold)
            if what == "leak":
                return replace(split, val=split.val + split.train[:1])
            if what == "stranger":
                return replace(split, val=(*split.val, Subject("nobody")))
            if what == "empty":
                return replace(split, train=())
            return split

        def content(self) -> str:
            return str(uuid.uuid4()) if what == "content" else super().content()  # type: ignore[no-any-return]

        def channel_names(self) -> tuple[str, ...]:
            return ("a", "b") if what == "channels" else super().channel_names()  # type: ignore[no-any-return]

    return Broken()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("dtype", "not float32"),
        ("mask", "bring both to one grid"),
        ("unannotated", "has no lesion mask"),
        ("foreground", "promises a foreground"),
        ("spacing", "must be positive"),
        ("lesion", "is healthy in train and has lesion voxels"),
        ("leak", "is in both train and validation"),
        ("stranger", "which subjects\\(\\) does not know"),
        ("empty", "no subject is in the split train"),
        ("content", "another hash"),
        ("channels", "gives 2 names"),
        ("fold", "must raise"),
    ],
)
def test_broken_datasets_are_caught(what: str, words: str) -> None:
    with pytest.raises(ContractBroken, match=words):
        check_dataset(breaking(what))
