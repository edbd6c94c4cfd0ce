"""The contract, executable: what every method and every dataset must do. Built-ins and plug-ins pass the same checks.

from uadbench import check_method
check_method(MyMethod(steps=20))        # raises ContractBroken with the name of the check
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uadbench.dataset import ROLES, Dataset, Volume
from uadbench.errors import ContractBroken, NotFitted, UADBenchError
from uadbench.guard import no_network, written_outside
from uadbench.method import NEEDS, Batch, Method, Run
from uadbench.params import choose_preset, describe, resolve

if TYPE_CHECKING:
    from torch import Tensor

    from uadbench.volumes import HealthyImages, Planes

SQUARE = slice(18, 28)
"""Where the anomalous square lies in H and in W of the test images."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check: passed, skipped with a reason, or broken with a reason."""

    name: str
    outcome: str
    reason: str = ""


class _Skip(Exception):
    """A check does not apply; the reason is the message."""


def check_method(method: Method) -> None:
    """Run all checks on a method with quick parameters.

    Raises:
        ContractBroken: at the first check that fails.
    """
    _raise_first(type(method).__name__, method_checks(method))


def check_dataset(dataset: Dataset) -> None:
    """Run all checks on a dataset.

    Raises:
        ContractBroken: at the first check that fails.
    """
    _raise_first(type(dataset).__name__, dataset_checks(dataset))


def method_checks(method: Method) -> Iterator[Check]:
    """Yield the outcome of every check of the method contract."""
    yield from _run_checks(_METHOD_CHECKS, _MethodTrial(method))


def dataset_checks(dataset: Dataset) -> Iterator[Check]:
    """Yield the outcome of every check of the dataset contract."""
    yield from _run_checks(_DATASET_CHECKS, _DatasetTrial(dataset))


def _raise_first(name: str, checks: Iterator[Check]) -> None:
    for check in checks:
        if check.outcome == "broken":
            raise ContractBroken(f"{name} breaks the contract, {check.name}: {check.reason}")


def _run_checks(checks: dict[str, Callable[[Any], None]], trial: Any) -> Iterator[Check]:
    for name, run in checks.items():
        try:
            run(trial)
            yield Check(name, "passed")
        except _Skip as reason:
            yield Check(name, "skipped", str(reason))
        except ContractBroken as error:
            yield Check(name, "broken", str(error))
        except Exception as error:
            yield Check(name, "broken", f"{type(error).__name__}: {error}")


def _demand(condition: bool, reason: str) -> None:
    if not condition:
        raise ContractBroken(reason)


class _MethodTrial:
    """One method, the images it is tried on, and what is learned once and used by several checks."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.root = Path(tempfile.mkdtemp(prefix="uadbench-contract-"))

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
        _demand(returned is method, "fit() must return self")
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
    _demand(not outside, f"it writes outside its folder: {', '.join(outside[:3])}")


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


def _parameters(trial: _MethodTrial) -> None:
    cls = type(trial.method)
    _demand(dataclasses.is_dataclass(cls), "a method must be a dataclass: add @dataclass")
    for parameter in describe(cls):
        _demand(
            not parameter.name.endswith("_"), f"the parameter {parameter.name!r} ends in _, which marks fitted state"
        )
        value = getattr(trial.method, parameter.name)
        resolve(cls, [("check", {parameter.name: value})])
    for name in {"quick", "paper", *cls.presets}:
        resolve(cls, [(name, choose_preset(cls.__name__, cls.presets, name))])
    resolve(cls, [("tiny", cls.tiny)])
    _demand(cls.ndim in (2, 3), f"ndim must be 2 or 3, not {cls.ndim}")
    unknown = cls.needs - NEEDS.keys()
    _demand(not unknown, f"needs {sorted(unknown)}, which no dataset can offer; known: {sorted(NEEDS)}")


def _not_fitted(trial: _MethodTrial) -> None:
    try:
        trial.fresh().score(trial.batch(trial.test_planes()))
    except NotFitted:
        return
    except Exception as error:
        raise ContractBroken(
            f"score() before fit() raised {type(error).__name__}; call require_fitted() first"
        ) from error
    raise ContractBroken("score() before fit() returned something; call require_fitted() first")


def _fit_leaves_alone(trial: _MethodTrial) -> None:
    _demand(dataclasses.asdict(trial.fitted) == dataclasses.asdict(trial.method), "fit() changed a hyper-parameter")
    for kind, given in trial.given.items():
        copy = trial.images(trial.fresh(), kind, trial.channels, False, True)
        same = all(bool((a.image == b.image).all()) for a, b in zip(given.batches(8), copy.batches(8), strict=True))
        _demand(same, f"fit() changed the {kind} images it was given")


def _shape(trial: _MethodTrial) -> None:
    planes, batch, maps = trial.scored
    expected = (len(batch), *planes.image.shape[2:])
    _demand(tuple(maps.shape) == expected, f"score() returned the shape {tuple(maps.shape)}; expected {expected}")
    own = trial.fitted.image_score(batch)
    _demand(own is None or tuple(own.shape) == (len(batch),), "image_score() must return one number per image, (B,)")
    restored = trial.fitted.reconstruct(batch)
    _demand(
        restored is None or restored.shape == batch.image.shape, "reconstruct() must return images of the same shape"
    )


def _finite(trial: _MethodTrial) -> None:
    import torch

    _demand(bool(torch.isfinite(trial.scored[2]).all()), "score() returned NaN or infinite values")


def _not_constant(trial: _MethodTrial) -> None:
    maps = trial.scored[2]
    _demand(bool(maps.max() > maps.min()), "score() returned a constant map")


def _squares(trial: _MethodTrial) -> None:
    claims = trial.fitted.detects()
    if not claims:
        raise _Skip("the method claims to find neither bright nor dark squares")
    planes, _, maps = trial.scored
    by_plane = maps[0] if trial.method.ndim == 3 else maps
    full = planes.grid.up(by_plane)
    tissue = _volumes("test", 1, 1, False)[0].foreground
    assert tissue is not None
    healthy = float(full[0][tissue[0]].median())
    for square, at in (("bright", 1), ("dark", 2)):
        if square in claims:
            found = float(full[at, SQUARE, SQUARE].median())
            _demand(
                found > healthy,
                f"a {square} square scores {found:.4g} but healthy tissue {healthy:.4g}; higher must mean more "
                "anomalous, or detects() must not claim it",
            )


def _batch_mates(trial: _MethodTrial) -> None:
    _, batch, maps = trial.scored
    if trial.method.transductive:
        raise _Skip("the method says that it is transductive")
    for b in range(len(batch)):
        alone = _score(trial.fitted, batch[b : b + 1])[0]
        _demand(
            _close(maps[b], alone),
            "the score of an image depends on the batch it is computed in; draw noise from batch.seed, one number per "
            "image, and keep batch statistics out of score()",
        )


def _input_alone(trial: _MethodTrial) -> None:
    batch = trial.batch(trial.test_planes())
    before = batch.image.clone()
    _score(trial.fitted, batch)
    _demand(bool((batch.image == before).all()), "score() changed the images it was given")


def _same_seed(trial: _MethodTrial) -> None:
    _, batch, maps = trial.scored
    _demand(_close(maps, _score(trial.fitted, batch)), "scoring twice gives two results")
    _demand(
        _close(maps, _score(trial.again, batch)),
        "fitting twice with the same seed gives two results; seed everything from run.seed and batch.seed",
    )


def _save_load(trial: _MethodTrial) -> None:
    _, batch, maps = trial.scored
    folder = Path(tempfile.mkdtemp(dir=trial.root))
    with _guarded(folder):
        trial.fitted.save(folder)
        loaded = trial.fresh().load(folder)
    _demand(isinstance(loaded, Method), "load() must return self")
    _demand(_close(maps, _score(loaded, batch)), "the scores after save() and load() differ")


def _channels_and_sizes(trial: _MethodTrial) -> None:
    accepted = trial.method.accepts_channels
    channels = 3 if accepted is None or 3 in accepted else accepted[-1]
    foreground = "foreground" in trial.method.needs
    method = trial.fit(0, channels=channels, odd=True, foreground=foreground)
    planes = trial.test_planes(channels, True, foreground)
    batch = trial.batch(planes)
    maps = _score(method, batch)
    _demand(
        tuple(maps.shape) == (len(batch), *planes.image.shape[2:]),
        f"images of {channels} channels and an odd size {tuple(planes.image.shape[2:])} give maps {tuple(maps.shape)}",
    )


def _guarded_score(trial: _MethodTrial) -> None:
    with _guarded(trial.root):
        _score(trial.fitted, trial.scored[1])


_METHOD_CHECKS: dict[str, Callable[[_MethodTrial], None]] = {
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


class _DatasetTrial:
    """One dataset and what is read once."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @cached_property
    def loaded(self) -> list[tuple[str, Volume]]:
        """The first two subjects of every role."""
        split = self.dataset.split(0)
        with no_network():
            return [(role, self.dataset.load(s)) for role in ROLES for s in getattr(split, role)[:2]]


def _card(trial: _DatasetTrial) -> None:
    card = trial.dataset.card
    for name in ("title", "licence", "url", "reference", "modality", "healthy"):
        _demand(bool(getattr(card, name)), f"the card says nothing about {name}")
    unknown = card.provides - NEEDS.keys()
    _demand(not unknown, f"provides {sorted(unknown)}, which no method can need; known: {sorted(NEEDS)}")
    _demand(card.orientation in ("volume", "picture"), f"orientation {card.orientation!r} is not volume or picture")


def _index(trial: _DatasetTrial) -> None:
    subjects = list(trial.dataset.subjects())
    _demand(bool(subjects), "subjects() is empty")
    keys = [s.key for s in subjects]
    _demand(len(set(keys)) == len(keys), "two lines of the index have the same key")
    _demand([s.key for s in trial.dataset.subjects()] == keys, "subjects() gives another order the second time")
    for subject in subjects:
        plain = all(isinstance(v, (str, int, float)) for v in subject.groups.values())
        _demand(plain, f"groups of {subject.key} must be texts or numbers")


def _split_check(trial: _DatasetTrial) -> None:
    split = trial.dataset.split(0)
    split.check(type(trial.dataset).__name__)
    keys = {s.key for s in trial.dataset.subjects()}
    strangers = [s.key for _, s in split.items() if s.key not in keys]
    _demand(not strangers, f"split() names {strangers[:3]}, which subjects() does not know")
    _demand(trial.dataset.split(0) == split, "split() gives another result the second time")


def _volumes_check(trial: _DatasetTrial) -> None:
    for role, volume in trial.loaded:
        volume.check(volume.subject)
        _demand(volume.image.dtype == np.float32, f"{volume.subject}: the image is {volume.image.dtype}, not float32")
        for name in ("foreground", "lesion", "ignore"):
            mask = getattr(volume, name)
            _demand(mask is None or mask.dtype == np.bool_, f"{volume.subject}: the {name} mask is not bool")
        positive = volume.spacing is None or all(s > 0 for s in volume.spacing)
        _demand(positive, f"{volume.subject}: spacing {volume.spacing} must be positive")
        channels = len(trial.dataset.channel_names())
        _demand(volume.image.shape[0] == channels, f"{volume.subject}: channel_names() gives {channels} names")
        if role in ("test_lesion", "val_lesion"):
            _demand(volume.lesion is not None, f"{volume.subject} is in {role} and has no lesion mask")
        elif volume.lesion is not None:
            _demand(not volume.lesion.any(), f"{volume.subject} is healthy in {role} and has lesion voxels")


def _promises(trial: _DatasetTrial) -> None:
    provides = trial.dataset.provides()
    if "foreground" in provides:
        bare = [v.subject for _, v in trial.loaded if v.foreground is None]
        _demand(not bare, f"the dataset promises a foreground; {bare[:3]} have none")
    if "registered" in provides:
        grids = {v.grid for _, v in trial.loaded}
        _demand(len(grids) == 1, f"the dataset promises registered volumes; their grids are {sorted(grids)}")


def _repeatable(trial: _DatasetTrial) -> None:
    role, first = trial.loaded[0]
    subject = getattr(trial.dataset.split(0), role)[0]
    _demand(bool(np.array_equal(trial.dataset.load(subject).image, first.image)), "loading twice gives two images")
    _demand(trial.dataset.content() == trial.dataset.content(), "content() gives another hash the second time")


def _refuses_fold(trial: _DatasetTrial) -> None:
    try:
        trial.dataset.split(10_000)
    except UADBenchError:
        return
    raise ContractBroken("split(10000) must raise UsageError or DataError that says which folds exist")


_DATASET_CHECKS: dict[str, Callable[[_DatasetTrial], None]] = {
    "the card is complete": _card,
    "the index is complete and stable": _index,
    "the split is by person and complete": _split_check,
    "volumes have the right axes, types and annotation": _volumes_check,
    "the card keeps its promises": _promises,
    "loading is repeatable": _repeatable,
    "an unknown fold is refused": _refuses_fold,
}
