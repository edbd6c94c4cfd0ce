"""What every method must do, check by check, tried on small synthetic images."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from uadbench.checks import Skip, demand
from uadbench.dataset import Volume
from uadbench.errors import ContractBroken, NotFitted
from uadbench.guard import no_network, written_outside
from uadbench.method import NEEDS, Batch, Method, Run
from uadbench.params import choose_preset, describe, resolve

if TYPE_CHECKING:
    from torch import Tensor

    from uadbench.volumes import HealthyImages, Planes

SQUARE = slice(18, 28)
"""Where the anomalous square lies in H and in W of the test images."""


class MethodTrial:
    """One method, the images it is tried on, and what is learned once and used by several checks."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.root = Path(tempfile.mkdtemp(prefix="uadbench-contract-"))

    def close(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.root, ignore_errors=True)

    def fresh(self) -> Method:
        """Return an unfitted copy."""
        return dataclasses.replace(self.method)

    @property
    def channels(self) -> int:
        """A number of channels that the method takes."""
        return 1 if not self.method.accepts_channels else self.method.accepts_channels[0]

    @cached_property
    def fitted(self) -> Method:
        """The method, fitted on the healthy images `given`."""
        _disturb(1)
        self.given = {kind: self.images(self.fresh(), kind, self.channels, False, True) for kind in ("train", "val")}
        return self._fit(self.given["train"], self.given["val"], 0)

    @cached_property
    def again(self) -> Method:
        """The method, fitted once more with the same seed, under another state of the global generators."""
        _disturb(2)
        return self.fit(0)

    def fit(self, seed: int, *, channels: int = 0, odd: bool = False, foreground: bool = True) -> Method:
        """Return a copy fitted on synthetic healthy images."""
        train, val = (
            self.images(self.fresh(), kind, channels or self.channels, odd, foreground) for kind in ("train", "val")
        )
        return self._fit(train, val, seed)

    def _fit(self, train: HealthyImages, val: HealthyImages, seed: int) -> Method:
        method, folder = self.fresh(), Path(tempfile.mkdtemp(dir=self.root))
        with _guarded(folder):
            returned = method.fit(train, val=val, run=Run(seed=seed, folder=folder))
        demand(returned is method, "fit() must return self")
        return method

    def images(self, method: Method, kind: str, channels: int, odd: bool, foreground: bool) -> HealthyImages:
        """Return healthy images as the harness gives them."""
        from uadbench.volumes import HealthyImages, to_planes

        volumes = _volumes(kind, 6 if kind == "train" else 2, channels, odd)
        volumes = [v if foreground else dataclasses.replace(v, foreground=None) for v in volumes]
        return HealthyImages([to_planes(v, v.image, method) for v in volumes], seed=1)

    def test_planes(self, channels: int = 0, odd: bool = False, foreground: bool = True) -> Planes:
        """Return test images: the second has a bright and the third a dark square, the others are healthy."""
        from uadbench.volumes import to_planes

        volume = _with_squares(_volumes("test", 1, channels or self.channels, odd)[0])
        volume = volume if foreground else dataclasses.replace(volume, foreground=None)
        return to_planes(volume, volume.image, self.method)

    def batch(self, planes: Planes) -> Batch:
        """Return all test images as one batch."""
        import torch

        return Batch(planes.image, planes.foreground, torch.arange(len(planes.image), dtype=torch.int64) + 5)

    @cached_property
    def scored(self) -> tuple[Planes, Batch, Tensor]:
        """The test images and the maps of the fitted method."""
        planes = self.test_planes()
        batch = self.batch(planes)
        return planes, batch, _score(self.fitted, batch)


def _disturb(seed: int) -> None:
    """Put the global generators into another state; a method that draws from them gives another result."""
    import random

    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    """Refuse network connections, and files outside `folder`."""
    with no_network(), written_outside(folder) as outside:
        yield
    demand(not outside, f"it writes outside its folder: {', '.join(outside[:3])}")


def _volumes(kind: str, count: int, channels: int, odd: bool) -> list[Volume]:
    """Return healthy synthetic volumes (C, 4, 48, 40), or (C, 3, 47, 37): an ellipse of grey tissue with texture."""
    d, h, w = (3, 47, 37) if odd else (4, 48, 40)
    rng = np.random.default_rng([len(kind), count, channels, odd])
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    tissue = np.broadcast_to((y / 0.9) ** 2 + (x / 0.85) ** 2 < 1.0, (d, h, w))
    out = []
    for i in range(count):
        pattern = 0.5 + 0.1 * np.sin(3.0 * y + rng.uniform(0, 0.5)) * np.cos(2.0 * x)
        image = pattern + 0.02 * rng.standard_normal((channels, d, h, w))
        out.append(Volume((image * tissue).astype(np.float32), tissue.copy(), None, (3.0, 1.0, 1.0), f"{kind}-{i}"))
    return out


def _with_squares(volume: Volume) -> Volume:
    image = volume.image.copy()
    image[:, 1, SQUARE, SQUARE] = 1.5
    image[:, 2, SQUARE, SQUARE] = 0.0
    return dataclasses.replace(volume, image=image)


def _score(method: Method, batch: Batch) -> Tensor:
    import torch

    with torch.no_grad():
        return torch.as_tensor(method.score(batch)).float()


def _close(a: Tensor, b: Tensor) -> bool:
    """Whether two maps are equal up to rounding."""
    scale = float((a.max() - a.min()).abs()) or 1.0
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-3 * scale)


def _parameters(trial: MethodTrial) -> None:
    cls = type(trial.method)
    demand(dataclasses.is_dataclass(cls), "a method must be a dataclass: add @dataclass")
    for parameter in describe(cls):
        demand(
            not parameter.name.endswith("_"), f"the parameter {parameter.name!r} ends in _, which marks fitted state"
        )
        value = getattr(trial.method, parameter.name)
        resolve(cls, [("check", {parameter.name: value})])
    for name in {"quick", "paper", *cls.presets}:
        resolve(cls, [(name, choose_preset(cls.__name__, cls.presets, name))])
    resolve(cls, [("tiny", cls.tiny)])
    demand(cls.ndim in (2, 3), f"ndim must be 2 or 3, not {cls.ndim}")
    unknown = cls.needs - NEEDS.keys()
    demand(not unknown, f"needs {sorted(unknown)}, which no dataset can offer; known: {sorted(NEEDS)}")


def _not_fitted(trial: MethodTrial) -> None:
    try:
        trial.fresh().score(trial.batch(trial.test_planes()))
    except NotFitted:
        return
    except Exception as error:
        raise ContractBroken(
            f"score() before fit() raised {type(error).__name__}; call require_fitted() first"
        ) from error
    raise ContractBroken("score() before fit() returned something; call require_fitted() first")


def _fit_leaves_alone(trial: MethodTrial) -> None:
    demand(dataclasses.asdict(trial.fitted) == dataclasses.asdict(trial.method), "fit() changed a hyper-parameter")
    for kind, given in trial.given.items():
        copy = trial.images(trial.fresh(), kind, trial.channels, False, True)
        same = all(bool((a.image == b.image).all()) for a, b in zip(given.batches(8), copy.batches(8), strict=True))
        demand(same, f"fit() changed the {kind} images it was given")


def _shape(trial: MethodTrial) -> None:
    planes, batch, maps = trial.scored
    expected = (len(batch), *planes.image.shape[2:])
    demand(tuple(maps.shape) == expected, f"score() returned the shape {tuple(maps.shape)}; expected {expected}")
    own = trial.fitted.image_score(batch)
    demand(own is None or tuple(own.shape) == (len(batch),), "image_score() must return one number per image, (B,)")
    together, restored = trial.fitted.score_and_reconstruct(batch)
    demand(
        restored is None or restored.shape == batch.image.shape, "reconstruct() must return images of the same shape"
    )
    apart = float((together.float() - maps.float()).abs().max())
    demand(apart <= 1e-4 * max(1.0, float(maps.abs().max())), "score_and_reconstruct() must return the maps of score()")


def _finite(trial: MethodTrial) -> None:
    import torch

    demand(bool(torch.isfinite(trial.scored[2]).all()), "score() returned NaN or infinite values")


def _not_constant(trial: MethodTrial) -> None:
    maps = trial.scored[2]
    demand(bool(maps.max() > maps.min()), "score() returned a constant map")


def _squares(trial: MethodTrial) -> None:
    claims = trial.fitted.detects()
    if not claims:
        raise Skip("the method claims to find neither bright nor dark squares")
    planes, _, maps = trial.scored
    by_plane = maps[0] if trial.method.ndim == 3 else maps
    full = planes.grid.up(by_plane)
    tissue = _volumes("test", 1, 1, False)[0].foreground
    assert tissue is not None
    healthy = float(full[0][tissue[0]].median())
    for square, at in (("bright", 1), ("dark", 2)):
        if square in claims:
            found = float(full[at, SQUARE, SQUARE].median())
            demand(
                found > healthy,
                f"a {square} square scores {found:.4g} but healthy tissue {healthy:.4g}; higher must mean more "
                "anomalous, or detects() must not claim it",
            )


def _batch_mates(trial: MethodTrial) -> None:
    import torch

    if trial.method.transductive:
        raise Skip("the method says that it is transductive")
    _, batch, _ = trial.scored
    if trial.method.ndim == 3:  # A volume needs a mate: the same one with its slices in another order.
        mate = batch.image.flip(2)
        foreground = None if batch.foreground is None else torch.cat([batch.foreground, batch.foreground.flip(1)])
        batch = Batch(torch.cat([batch.image, mate]), foreground, torch.cat([batch.seed, batch.seed + 1]))
    maps = _score(trial.fitted, batch)
    for b in range(len(batch)):
        alone = _score(trial.fitted, batch[b : b + 1])[0]
        demand(
            _close(maps[b], alone),
            "the score of an image depends on the batch it is computed in; draw noise from batch.seed, one number per "
            "image, and keep batch statistics out of score()",
        )


def _input_alone(trial: MethodTrial) -> None:
    batch = trial.batch(trial.test_planes())
    parts = {"images": batch.image, "foreground": batch.foreground, "seeds": batch.seed}
    before = {name: None if part is None else part.clone() for name, part in parts.items()}
    _score(trial.fitted, batch)
    for name, part in parts.items():
        copy = before[name]
        same = part is None or copy is None or bool((part == copy).all())
        demand(same, f"score() changed the {name} it was given")


def _same_seed(trial: MethodTrial) -> None:
    _, batch, maps = trial.scored
    demand(_close(maps, _score(trial.fitted, batch)), "scoring twice gives two results")
    demand(
        _close(maps, _score(trial.again, batch)),
        "fitting twice with the same seed gives two results; seed everything from run.seed and batch.seed",
    )


def _save_load(trial: MethodTrial) -> None:
    _, batch, maps = trial.scored
    folder = Path(tempfile.mkdtemp(dir=trial.root))
    with _guarded(folder):
        trial.fitted.save(folder)
        loaded = trial.fresh().load(folder)
    demand(isinstance(loaded, Method), "load() must return self")
    demand(_close(maps, _score(loaded, batch)), "the scores after save() and load() differ")


def _channels_and_sizes(trial: MethodTrial) -> None:
    accepted = trial.method.accepts_channels
    channels = 3 if accepted is None or 3 in accepted else accepted[-1]
    foreground = "foreground" in trial.method.needs
    method = trial.fit(0, channels=channels, odd=True, foreground=foreground)
    planes = trial.test_planes(channels, True, foreground)
    batch = trial.batch(planes)
    maps = _score(method, batch)
    demand(
        tuple(maps.shape) == (len(batch), *planes.image.shape[2:]),
        f"images of {channels} channels and an odd size {tuple(planes.image.shape[2:])} give maps {tuple(maps.shape)}",
    )


def _guarded_score(trial: MethodTrial) -> None:
    with _guarded(trial.root):
        _score(trial.fitted, trial.scored[1])
        trial.fitted.reconstruct(trial.scored[1])
        trial.fitted.image_score(trial.scored[1])


METHOD_CHECKS: dict[str, Callable[[MethodTrial], None]] = {
    "parameters are typed and valid": _parameters,
    "score() before fit() raises NotFitted": _not_fitted,
    "fit() returns self, leaves parameters and images alone": _fit_leaves_alone,
    "the map has the shape of the image": _shape,
    "scores are finite": _finite,
    "scores are not constant": _not_constant,
    "anomalous squares score higher": _squares,
    "a score does not depend on its batch": _batch_mates,
    "score() leaves images alone": _input_alone,
    "the same seed gives the same scores": _same_seed,
    "save() and load() keep the scores": _save_load,
    "several channels and odd sizes work": _channels_and_sizes,
    "no network, nothing written outside its folder": _guarded_score,
}
