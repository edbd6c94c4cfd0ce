from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from uadbench.errors import Interrupted, UADBenchError
from uadbench.method import Batch, Run
from uadbench.methods.ae import AE
from uadbench.methods.ddpm import DDPM
from uadbench.params import choose_preset
from uadbench.registry import Registry
from uadbench.training import CHECKPOINT, HISTORY, TrainedMethod


class Squares:
    """Images of one grey value each."""

    def __init__(self, n: int) -> None:
        self.image = torch.linspace(0.2, 0.8, n).view(-1, 1, 1, 1).expand(-1, 1, 16, 16).clone()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.image.shape[1:])

    def __len__(self) -> int:
        return len(self.image)

    def batch(self, index: Sequence[int], *, draw: int = 0) -> Batch:
        i = torch.as_tensor(list(index), dtype=torch.long)
        return Batch(self.image[i], torch.ones_like(self.image[i][:, 0], dtype=torch.bool), i + 1000 * draw)

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))


@dataclass
class Line(TrainedMethod):
    """A network with one weight, whose best value is known."""

    steps: int = 40
    batch_size: int = 8
    learning_rate: float = 0.05
    target: float = 0.7

    def build(self, shape: tuple[int, ...]) -> None:
        self.net_ = nn.Conv2d(1, 1, 1)

    def loss(self, batch: Batch) -> Tensor:
        return ((self.net_(torch.ones_like(batch.image)) - self.target) ** 2).mean()

    def reconstruct(self, batch: Batch) -> Tensor:
        out: Tensor = self.net_(torch.ones_like(batch.image))
        return out


SMALL_AE = AE(**{**AE.tiny, "steps": 10, "image_size": None})
SMALL_DDPM = DDPM(**{**DDPM.tiny, "steps": 6, "image_size": None})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def weights(method: TrainedMethod) -> dict[str, Tensor]:
    net = vars(method)["net_"]
    assert isinstance(net, nn.Module)
    return {k: v.clone() for k, v in net.state_dict().items()}


def test_the_loss_is_minimised_and_written_down(tmp_path: Path) -> None:
    method, run = Line(), Run(seed=1, folder=tmp_path)
    method.fit(Squares(16), val=Squares(4), run=run)
    assert float(method.loss(Squares(4).batch([0])).detach()) < 0.01
    rows = read(tmp_path / HISTORY)
    assert [int(r["step"]) for r in rows] == list(range(1, 41))
    assert float(rows[-1]["loss"]) < 0.1 * float(rows[0]["loss"])
    assert sum(bool(r["val_loss"]) for r in rows) == 10
    assert run.record["steps"] == 40
    assert run.record["images_seen"] == 320
    assert run.record["checkpoint_rule"] == "lowest healthy-validation loss"
    assert (tmp_path / "tensorboard").is_dir()


def test_the_best_weights_by_healthy_validation_are_kept() -> None:
    class Worsens(Line):
        def loss(self, batch: Batch) -> Tensor:
            # In validation the best value is where training starts from.
            if not self.net_.training:
                return ((self.net_(torch.ones_like(batch.image)) - self.start) ** 2).mean()
            return super().loss(batch)

        def build(self, shape: tuple[int, ...]) -> None:
            super().build(shape)
            self.start = float(self.net_(torch.ones(1, 1, 1, 1)).detach())

    method, run = Worsens(target=5.0), Run(seed=1)
    method.fit(Squares(16), val=Squares(4), run=run)
    assert run.record["best_step"] == 4
    assert abs(float(method.net_(torch.ones(1, 1, 1, 1)).detach()) - method.start) < 0.6


def test_without_validation_images_the_last_weights_are_kept() -> None:
    run = Run(seed=1)
    Line().fit(Squares(16), val=Squares(0), run=run)
    assert run.record["checkpoint_rule"] == "last"
    assert run.record["best_val_loss"] is None


@pytest.mark.parametrize("method", [SMALL_AE, SMALL_DDPM], ids=["ae", "ddpm"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stopping_and_resuming_gives_the_same_weights_bit_by_bit(
    method: TrainedMethod, precision: str, tmp_path: Path
) -> None:
    def run(name: str, stop_after: int | None = None) -> tuple[TrainedMethod, Run]:
        calls = {"n": 0}

        def should_stop() -> bool:
            calls["n"] += 1
            return stop_after is not None and calls["n"] >= stop_after

        (tmp_path / name).mkdir(exist_ok=True)
        fresh = replace(method)
        settings = Run(seed=5, precision=precision, folder=tmp_path / name, should_stop=should_stop)  # type: ignore[arg-type]
        fresh.fit(Squares(12), val=Squares(4), run=settings)
        return fresh, settings

    whole, _ = run("whole")
    for stop_after in (3, 2):
        with pytest.raises(Interrupted, match="the same command goes on"):
            run("parts", stop_after)
        assert (tmp_path / "parts" / CHECKPOINT).is_file()
    resumed, settings = run("parts")
    assert settings.record["resumed_at_step"] == 5
    expected = weights(whole)
    for name, value in weights(resumed).items():
        assert torch.equal(value, expected[name]), name
    assert (tmp_path / "parts" / HISTORY).read_text() == (tmp_path / "whole" / HISTORY).read_text()


def test_a_damaged_checkpoint_is_not_trusted(tmp_path: Path) -> None:
    whole = replace(SMALL_AE).fit(Squares(12), val=Squares(4), run=Run(seed=5))
    (tmp_path / CHECKPOINT).write_bytes(b"half a checkpoint")
    run = Run(seed=5, folder=tmp_path)
    again = replace(SMALL_AE).fit(Squares(12), val=Squares(4), run=run)
    assert "unreadable" in run.record["checkpoint"]
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(again).values(), strict=True))


def test_micro_batches_do_not_change_the_result() -> None:
    a = replace(SMALL_DDPM, batch_size=8, micro_batch=None).fit(Squares(12), val=Squares(4), run=Run(seed=5))
    b = replace(SMALL_DDPM, batch_size=8, micro_batch=3).fit(Squares(12), val=Squares(4), run=Run(seed=5))
    for x, y in zip(weights(a).values(), weights(b).values(), strict=True):
        torch.testing.assert_close(x, y, atol=2e-4, rtol=1e-3)


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    replace(SMALL_AE).fit(Squares(12), val=Squares(4), run=Run(seed=5))
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_explodes_is_told() -> None:
    class Explodes(Line):
        def loss(self, batch: Batch) -> Tensor:
            return super().loss(batch) * float("inf")

    with pytest.raises(UADBenchError, match=r"the loss became (inf|nan) by step 1; try a smaller learning_rate"):
        Explodes().fit(Squares(8), val=Squares(2), run=Run())
    with pytest.raises(UADBenchError, match="no healthy training images"):
        Line().fit(Squares(0), val=Squares(0), run=Run())


def test_the_cosine_schedule_ends_at_zero(tmp_path: Path) -> None:
    Line(schedule="cosine").fit(Squares(8), val=Squares(2), run=Run(folder=tmp_path))
    rates = [float(r["learning_rate"]) for r in read(tmp_path / HISTORY)]
    assert rates[0] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.001


def test_budgets_are_equal_by_default() -> None:
    registry = Registry()
    trained = [c for n in registry.entries("method") if (c := registry.method(n)).trains]
    assert len(trained) == 5
    for preset in ("quick", "paper"):
        made = [c(**choose_preset(c.__name__, c.presets, preset)) for c in trained]
        assert len({(m.steps, m.batch_size, m.image_size) for m in made}) == 1  # type: ignore[attr-defined]
