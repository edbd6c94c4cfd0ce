"""One training loop for all methods with a network, on Hugging Face accelerate.

Everything random in step k follows from the seed and k, so that a run that was interrupted and resumed ends with the same
numbers as one that was not.
"""

from __future__ import annotations

import copy
import csv
import importlib.util
import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from uadbench.errors import Interrupted, UADBenchError
from uadbench.method import Batch, Images, Method, Precision, Run, derive_seed, require_fitted
from uadbench.weights import save_atomic

QUICK: Mapping[str, Any] = {
    "image_size": 48, "steps": 1400, "batch_size": 8, "learning_rate": 2e-3, "schedule": "cosine",
}  # fmt: skip
"""The training budget of the preset "quick", the same for every method that trains: about three minutes of the diffusion
family on two CPU cores. How it was chosen: CONTRIBUTING, "Decisions"."""

CHECKPOINT = "training.pt"
HISTORY = "history.csv"
CHECKPOINT_SECONDS = 60.0
VALIDATION_IMAGES = 64


@dataclass
class TrainedMethod(Method):
    """Base of methods that train one network, `net_`, by gradient descent on a loss of healthy images."""

    trains: ClassVar[bool] = True
    mixed_precision: ClassVar[bool] = True

    steps: Annotated[int, Field(ge=1, le=10_000_000, description="optimiser steps")] = 19_200
    batch_size: Annotated[int, Field(ge=1, le=4096, description="images in a step")] = 32
    micro_batch: Annotated[
        int | None,
        Field(ge=1, le=4096, description="images of a step that are computed at a time; none takes them all at once"),
    ] = None
    learning_rate: Annotated[float, Field(gt=0, le=1, description="of Adam")] = 1e-4
    schedule: Annotated[
        Literal["constant", "cosine"], Field(description="of the learning rate; cosine ends at 0 after the last step")
    ] = "constant"

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of healthy images, a scalar. All randomness must come from `batch.seed`."""

    @abstractmethod
    def reconstruct(self, batch: Batch) -> Tensor:
        """Return the pseudo-healthy images, shaped like `batch.image`."""

    def fit(self, healthy: Images, *, val: Images, run: Run) -> Self:
        """Train, and keep the weights with the lowest loss on healthy validation images."""
        self.shape_ = tuple(healthy.shape)
        self.precision_: Precision = run.precision
        with reproducible(derive_seed(run.seed, "weights"), run.device):
            self.build(self.shape_)
        train(self, healthy, val, run)
        return self

    def score(self, batch: Batch) -> Tensor:
        """Return the mean absolute residual over channels, (B, H, W)."""
        return _residual(batch, self.restored(batch))

    def score_and_reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return maps and reconstructions; the network runs once, unless a subclass has a score of its own."""
        restored = self.restored(batch)
        own = type(self).score is not TrainedMethod.score
        return self.score(batch) if own else _residual(batch, restored), restored

    def restored(self, batch: Batch) -> Tensor:
        """Return `reconstruct(batch)` in float32, computed where the batch lies and in the precision of the training."""
        require_fitted(self, "net_")
        network(self).to(batch.image.device).eval()
        with torch.no_grad(), autocast(batch.image.device.type, self.precision_):
            return self.reconstruct(batch).float()


def _residual(batch: Batch, restored: Tensor) -> Tensor:
    return (batch.image - restored).abs().mean(dim=1)


def network(method: TrainedMethod) -> nn.Module:
    """Return the network that `method.build` made."""
    net = vars(method)["net_"]
    if not isinstance(net, nn.Module):
        raise UADBenchError(f"{type(method).__name__}.net_ is a {type(net).__name__}; build() must put a network there")
    return net


def autocast(device_type: str, precision: Precision) -> AbstractContextManager[Any]:
    """Return the context in which networks compute in `precision`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device_type, torch.bfloat16 if precision == "bf16" else torch.float16)


@contextmanager
def reproducible(seed: int, device: str) -> Iterator[None]:
    """Seed torch's global generators inside the context and restore them behind it."""
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        yield


def train(method: TrainedMethod, healthy: Images, val: Images, run: Run) -> None:
    """Minimise `method.loss` over `method.net_` and leave the best weights in it.

    Writes a checkpoint at least every minute and when the user asks to stop, and goes on from it if there is one.

    Raises:
        Interrupted: after the checkpoint was written, if `run.should_stop()`.
        UADBenchError: if there are no images or the loss is not finite.
    """
    if not len(healthy):
        raise UADBenchError("there are no healthy training images")
    loop = _Loop(method, healthy, val, run)
    loop.resume()
    began = last_saved = time.perf_counter()
    with run.bar("train", method.steps) as advance, reproducible(0, run.device):
        advance(loop.step)
        while loop.step < method.steps:
            loop.one_step()
            advance(1, loss=loop.recent)
            if run.should_stop():
                loop.save(time.perf_counter() - began)
                raise Interrupted(
                    f"stopped after step {loop.step} of {method.steps}; the same command goes on from there"
                )
            if time.perf_counter() - last_saved > CHECKPOINT_SECONDS:
                loop.save(time.perf_counter() - began)
                last_saved = time.perf_counter()
    loop.finish(time.perf_counter() - began)


class _Loop:
    """The state of one training run."""

    def __init__(self, method: TrainedMethod, healthy: Images, val: Images, run: Run) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        if run.device.startswith("cuda:"):
            torch.cuda.set_device(run.device)  # accelerate takes the current one
        # accelerate keeps precision and device in a singleton; a second method may want other ones.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(
            mixed_precision="no" if run.precision == "fp32" else run.precision, cpu=run.device == "cpu"
        )
        self.method, self.healthy, self.val, self.run = method, healthy, val, run
        net = network(method)
        if run.device != "cpu":
            # On a CPU group normalisation loses more in this layout than convolutions gain (benchmarks/speed/training.py).
            net.to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(
            net.parameters(), lr=method.learning_rate, fused=run.device.startswith(("cpu", "cuda"))
        )
        self.net, self.optimiser = self.accelerator.prepare(net, optimiser)
        self.step = 0
        self.recent = float("nan")
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, dict[str, Tensor]] = (float("inf"), {})
        self.seconds_before = 0.0
        self._losses: list[Tensor] = []
        self._logged = 0
        self._writer = _tensorboard(run.folder)

    def one_step(self) -> None:
        """Make optimiser step `self.step`."""
        method, k = self.method, self.step
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = method.learning_rate * _factor(method.schedule, k / method.steps)
        rng = torch.Generator().manual_seed(derive_seed(self.run.seed, "order", k))
        index = torch.randint(len(self.healthy), (method.batch_size,), generator=rng).tolist()
        batch = self.healthy.batch(index, draw=k + 1).to(self.accelerator.device)
        size = method.micro_batch or method.batch_size
        torch.manual_seed(derive_seed(self.run.seed, "step", k))  # for dropout; all else comes from batch.seed
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            with self.accelerator.autocast():
                loss = method.loss(part) * (len(part) / len(batch))
            self.accelerator.backward(loss)
            self._losses.append(loss.detach())
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        self._log()

    def _log(self) -> None:
        """Note the loss about a hundred times a run, and the validation loss about ten times."""
        steps = self.method.steps
        if self.step % max(1, steps // 100) and self.step != steps:
            return
        # Reading the losses waits for the device, so it is done here and not in every step.
        self.recent = float(torch.stack(self._losses).sum()) / (self.step - self._logged)
        self._losses, self._logged = [], self.step
        if not math.isfinite(self.recent):
            raise UADBenchError(
                f"the loss became {self.recent} by step {self.step}; try a smaller learning_rate or precision fp32"
            )
        row = {"step": float(self.step), "loss": self.recent, "learning_rate": self.optimiser.param_groups[0]["lr"]}
        if len(self.val) and (self.step % max(1, steps // 10) == 0 or self.step == steps):
            row["val_loss"] = self.validate()
            if row["val_loss"] < self.best[0]:
                self.best = (row["val_loss"], copy.deepcopy(self._weights()))
        self.history.append(row)
        if self._writer:
            for name in row.keys() - {"step"}:
                self._writer.add_scalar(name, row[name], self.step)

    @torch.no_grad()
    def validate(self) -> float:
        """Return the mean loss on healthy validation images; the noise of each is the same every time."""
        self.net.eval()
        count = min(VALIDATION_IMAGES, len(self.val))
        chosen = [round(i * (len(self.val) - 1) / max(1, count - 1)) for i in range(count)]
        total = 0.0
        size = self.method.micro_batch or self.method.batch_size
        for start in range(0, count, size):
            batch = self.val.batch(chosen[start : start + size]).to(self.accelerator.device)
            with self.accelerator.autocast():
                total += float(self.method.loss(batch)) * len(batch)
        return total / count

    def _weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self.accelerator.unwrap_model(self.net).state_dict()
        return weights

    def save(self, seconds: float) -> None:
        """Write all that is needed to go on, under a temporary name first."""
        self._write_history()
        state = {
            "step": self.step,
            "net": self._weights(),
            "optimiser": self.optimiser.state_dict(),
            "best": {"loss": self.best[0], "net": self.best[1]},
            "history": self.history,
            "losses": self._losses,
            "logged": self._logged,
            "seconds": self.seconds_before + seconds,
        }
        path = self.run.folder / CHECKPOINT
        save_atomic(state, path)

    def resume(self) -> None:
        """Go on from the checkpoint in the run's folder, if there is one that can be read."""
        path = self.run.folder / CHECKPOINT
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        except Exception as error:
            self.run.record["checkpoint"] = f"unreadable, trained from the start ({type(error).__name__})"
            return
        self.accelerator.unwrap_model(self.net).load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.history = state["step"], state["history"]
        self._losses, self._logged = state["losses"], state["logged"]
        self.best = (state["best"]["loss"], state["best"]["net"])
        self.seconds_before = state["seconds"]
        self.run.record["resumed_at_step"] = self.step

    def finish(self, seconds: float) -> None:
        """Put the best weights into the network, note the budget and leave accelerate's wrapping."""
        net = self.accelerator.unwrap_model(self.net, keep_fp32_wrapper=False)
        if self.best[1]:
            net.load_state_dict(self.best[1])
        net.eval()
        self._write_history()
        if self._writer:
            self._writer.close()
        steps, size = self.method.steps, self.method.batch_size
        best = min(
            (r for r in self.history if r.get("val_loss") == self.best[0]), key=lambda r: r["step"], default=None
        )
        self.run.record |= {
            "steps": steps,
            "images_seen": steps * size,
            "train_seconds": self.seconds_before + seconds,
            "final_loss": self.recent,
            "best_val_loss": self.best[0] if self.best[1] else None,
            "best_step": int(best["step"]) if best else None,
            "checkpoint_rule": "lowest healthy-validation loss" if self.best[1] else "last",
        }

    def _write_history(self) -> None:
        path = self.run.folder / HISTORY
        with path.with_suffix(".part").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "loss", "val_loss", "learning_rate"])
            writer.writeheader()
            writer.writerows({**row, "step": int(row["step"])} for row in self.history)
        path.with_suffix(".part").replace(path)


def _factor(schedule: str, progress: float) -> float:
    """Return the factor of the learning rate after a share `progress` of the steps."""
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _tensorboard(folder: Path) -> Any:
    """Return a TensorBoard writer into `folder`, or None if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
