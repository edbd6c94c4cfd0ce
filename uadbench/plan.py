"""From a request to a list of cells, before any pixel is read: everything that can be refused is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from uadbench.config import project_settings
from uadbench.dataset import Dataset, Split
from uadbench.errors import BadParameter, PluginError, UsageError
from uadbench.identity import file_hash, source_hash
from uadbench.joined import Joined
from uadbench.method import NEEDS, Method, Precision
from uadbench.opening import content_of, fingerprint_of, open_dataset
from uadbench.params import Resolved, assign, choose_preset, resolve
from uadbench.protocol import Protocol
from uadbench.protocols import get_protocol
from uadbench.registry import Registry
from uadbench.result import Cell


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        methods: names.
        dataset: name.
        references: cheap methods that are run and shown besides, for scale.
        seeds: one cell each.
        fold: of the split.
        preset: of every method, such as "quick"; "paper,mddpm=official" gives another one to one method.
        params: "key=value" or "method.key=value".
        data: "key=value" for the dataset.
        protocol: name.
        device: "auto" or a torch device.
        precision: "auto" or one of fp32, bf16, fp16.
    """

    methods: Sequence[str]
    dataset: str
    references: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    fold: int = 0
    preset: str = "quick"
    params: Sequence[str] = ()
    data: Sequence[str] = ()
    protocol: str = "brain-v1"
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Planned:
    """One cell to be run, or the reason why it cannot be.

    Attributes:
        name: of the method.
        seed: of the run.
        method: with its parameters; None if it could not be loaded.
        cell: its identity; None if it could not be loaded.
        config: every parameter with its origin.
        skip: why the method and the dataset do not go together.
        failure: why it cannot run on this machine.
        unranked: why its results never rank.
        reference: it is shown for scale and was not asked for.
    """

    name: str
    seed: int
    method: Method | None = None
    cell: Cell | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    skip: str | None = None
    failure: str | None = None
    unranked: str | None = None
    reference: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything a run needs to know."""

    dataset_name: str
    dataset: Dataset
    split: Split
    protocol: Protocol
    device: str
    cells: list[Planned]


def make_plan(request: Request, registry: Registry) -> Plan:
    """Resolve names, parameters, data and device.

    Raises:
        UsageError: for anything that was typed wrong.
        DataError: if the data are not where they should be, or the split leaks.
    """
    protocol = get_protocol(request.protocol)
    classes = _load_methods(request, registry)
    texts = assign(
        request.params,
        {n: [f.name for f in fields(c)] for n, c in classes.items() if n in request.methods and isinstance(c, type)},
    )
    presets = choose_presets(request, {n: c for n, c in classes.items() if isinstance(c, type)})
    resolved = {
        n: _resolve_method(n, c, presets[n], texts.get(n, {})) for n, c in classes.items() if isinstance(c, type)
    }
    dataset, dataset_config = open_dataset(registry, request.dataset, request.data)
    device = choose_device(request.device)
    precision = choose_precision(request.precision, device)
    split = dataset.split(request.fold)
    split.check(request.dataset)
    fingerprint, content = fingerprint_of(dataset), content_of(dataset)
    lacking = lacks(protocol, split) or unmasked(protocol, dataset)
    cells = []
    for seed in request.seeds:
        for name, loaded in classes.items():
            reference = name not in request.methods
            if not isinstance(loaded, type):
                cells.append(Planned(name, seed, failure=str(loaded), reference=reference))
                continue
            method, parameters = resolved[name]
            cell = Cell(
                method=name,
                params={k: _json(r.value) for k, r in parameters.items()},
                source=source_hash(loaded),
                inputs={path.name: file_hash(path) for path in method.inputs()},
                dataset=request.dataset,
                dataset_params={k: _json(v) for k, v in dataset.parameters().items()},
                fingerprint=fingerprint,
                fold=request.fold,
                preparation=asdict(protocol.preparation),
                seed=seed,
                precision=precision if method.mixed_precision else "fp32",
            )
            config = {
                "method": {k: asdict(r) for k, r in parameters.items()},
                "dataset": {k: asdict(r) for k, r in dataset_config.items()},
                "protocol": protocol.as_dict(),
                "content": content,
                "preset": presets[name],
                "device": device,
            }
            cells.append(
                Planned(
                    name, seed, method, cell, config, incompatible(method, dataset) or lacking, method.unavailable(),
                    method.unranked() or split.leaky or None, reference,
                )
            )  # fmt: skip
    return Plan(request.dataset, dataset, split, protocol, device, cells)


def unmasked(protocol: Protocol, dataset: Dataset) -> str | None:
    """Return why a protocol that needs lesion masks cannot judge a dataset, or None."""
    if protocol.masks and not dataset.annotated():
        return (
            f"{protocol.name} needs outlined lesions, and these data only say which images are anomalous; judge whole "
            "images: --protocol image-v1"
        )
    return None


def lacks(protocol: Protocol, split: Split) -> str | None:
    """Return why a protocol cannot judge a split, or None."""
    rules = (protocol.threshold, *protocol.other_thresholds)
    if any(rule.labels_used == "val" for rule in rules) and not split.val_lesion:
        return f"{protocol.name} chooses its threshold on labelled validation subjects, and this dataset has none"
    return None


def _load_methods(request: Request, registry: Registry) -> dict[str, type[Method] | PluginError]:
    """Return the class of every method, references first, or why a plug-in could not be loaded."""
    out: dict[str, type[Method] | PluginError] = {}
    for name in [*(r for r in request.references if r not in request.methods), *request.methods]:
        entry = registry.entry("method", name)
        try:
            out[name] = entry.load()
        except PluginError as error:
            out[name] = error
    return out


def choose_presets(request: Request, classes: Mapping[str, type[Method]]) -> dict[str, str]:
    """Return the preset of every method. References take "quick" where they do not have the one that was asked for.

    Raises:
        UsageError: for a method that takes no part, or two presets for all.
    """
    parts = [part.strip() for part in request.preset.split(",") if part.strip()]
    common = [part for part in parts if "=" not in part]
    if len(common) > 1:
        raise UsageError(f"--preset {request.preset!r} names two presets for all; write method=preset for one method")
    chosen = dict.fromkeys(classes, common[0] if common else "quick")
    for name, cls in classes.items():
        if name not in request.methods and chosen[name] not in ("quick", "paper", *cls.presets):
            chosen[name] = "quick"
    for part in parts:
        name, equals, preset = (word.strip() for word in part.partition("="))
        if equals and name not in chosen:
            raise UsageError(f"--preset {part!r}: {name!r} takes no part here; here: {', '.join(chosen)}")
        if equals:
            chosen[name] = preset
    return chosen


def _resolve_method(
    name: str, cls: type[Method], preset: str, given: Mapping[str, str]
) -> tuple[Method, dict[str, Resolved]]:
    layers = [
        (f"preset {preset}", choose_preset(name, cls.presets, preset)),
        ("uadbench.toml", project_settings().get("methods", {}).get(name, {})),
        ("command line", given),
    ]
    return resolve(cls, layers, owner=name)


def sets_of(dataset: Dataset) -> tuple[Dataset, ...]:
    """Return the sets of which a dataset is joined, or the dataset alone."""
    return (dataset.lesions, dataset.healthy) if isinstance(dataset, Joined) else (dataset,)


def incompatible(method: Method, dataset: Dataset) -> str | None:
    """Return why a method and a dataset do not go together, or None."""
    missing = sorted(method.needs - dataset.provides())
    if missing:
        claims = [w for w in missing if w in {f.name for f in fields(dataset)}]
        remedy = "".join(f"; if it does, say so with -D {word}=true" for word in claims)
        if "registered" in missing and any(hasattr(part, "cases") for part in sets_of(dataset)):
            remedy += "; prepare the data with one recipe that registers (uadbench datasets prepare)"
        return f"needs {' and '.join(NEEDS.get(word, word) for word in missing)}, which this dataset does not offer{remedy}"
    channels = len(dataset.channel_names())
    if method.accepts_channels and channels not in method.accepts_channels:
        takes = " or ".join(str(n) for n in method.accepts_channels)
        return f"takes images with {takes} channels; these have {channels} ({', '.join(dataset.channel_names())})"
    return None


def choose_device(wanted: str) -> str:
    """Return the device to compute on.

    Raises:
        UsageError: if it does not exist here.
    """
    import torch

    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if wanted == "auto":
        return "cuda" if "cuda" in available else available[-1]
    if wanted not in available:
        raise UsageError(f"device {wanted!r} does not exist on this machine; here: auto, {', '.join(available)}")
    return wanted


def choose_precision(wanted: str, device: str) -> Precision:
    """Return the precision of networks; "auto" is bf16 where the hardware computes in it, else fp32.

    Raises:
        BadParameter: for an unknown name.
    """
    import torch

    if wanted == "auto":
        if device.startswith("cuda"):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        return "bf16" if device == "cpu" and fast else "fp32"
    if wanted not in ("fp32", "bf16", "fp16"):
        raise BadParameter(f"precision must be one of: auto, fp32, bf16, fp16; got {wanted!r}")
    return wanted  # type: ignore[return-value]


def _json(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_json(v) for v in value]
    return str(value) if isinstance(value, Path) else value
