"""`uadbench methods` and `uadbench datasets`: what there is, what it takes, whether it keeps the contract."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uadbench.cli.console import TerminalReporter, say
from uadbench.cli.run import Plugins, warn_without_cache
from uadbench.config import check_names
from uadbench.errors import DataError, PluginError, UsageError

if TYPE_CHECKING:
    from uadbench.checks import Check
    from uadbench.dataset import Dataset
    from uadbench.registry import Kind, Registry

methods = typer.Typer(no_args_is_help=True, help="Methods: list, show, check, new.")
datasets = typer.Typer(no_args_is_help=True, help="Datasets: list, show, check, prepare.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Params = Annotated[list[str] | None, typer.Option("--param", "-p", help="key=value; repeatable.")]


@methods.command("list")
def list_methods(plugin: Plugins = None, as_json: AsJson = False) -> None:
    """List all methods in a line each."""
    _list("method", plugin, as_json)


@datasets.command("list")
def list_datasets(plugin: Plugins = None, as_json: AsJson = False) -> None:
    """List all datasets in a line each."""
    _list("dataset", plugin, as_json)


def _list(kind: Kind, plugin: list[str] | None, as_json: bool) -> None:
    from uadbench.registry import Registry

    entries = Registry(plugin or ()).entries(kind).values()
    if as_json:
        typer.echo(json.dumps([{"name": e.name, "summary": e.summary, "origin": e.origin} for e in entries], indent=1))
        return
    width = max(len(e.name) for e in entries)
    for e in entries:
        origin = "" if e.origin == "uadbench" else f"  ({e.origin})"
        typer.echo(f"{e.name:<{width}}  {e.summary}{origin}")


@methods.command("show")
def show_method(name: str, plugin: Plugins = None, as_json: AsJson = False) -> None:
    """Show a method: idea, parameters with types and presets, what it needs, published numbers."""
    from uadbench.benchmark import published
    from uadbench.registry import Registry

    registry = Registry(plugin or ())
    entry, cls = registry.entry("method", name), registry.method(name)
    facts: dict[str, Any] = {
        "name": name,
        "summary": entry.summary,
        "origin": entry.origin,
        "reference": cls.reference,
        "family": cls.family,
        "sees": "slices" if cls.ndim == 2 else "whole volumes",
        "needs": sorted(cls.needs),
        "parameters": _parameters(cls),
        "presets": {n: {k: _plain(v) for k, v in p.items()} for n, p in cls.presets.items()},
        "published": published(name),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(f"{name}: {entry.summary or (cls.__doc__ or '').partition(chr(10))[0]}")
    for key in ("origin", "reference", "family", "sees"):
        typer.echo(f"  {key}: {facts[key] or '-'}")
    typer.echo(f"  needs: {', '.join(facts['needs']) or 'nothing special'}")
    _print_parameters(facts["parameters"])
    for preset, values in ({"paper": {}} | facts["presets"]).items():
        typer.echo(f"preset {preset}: " + (", ".join(f"{k}={_text(v)}" for k, v in values.items()) or "the defaults"))
    if facts["published"]:
        typer.echo("published numbers (other data, other protocol: for orientation only):")
        for row in facts["published"]:
            spread = f" +- {row['spread']}" if row["spread"] else ""
            words = " ".join(filter(None, [row["variant"], row["dataset"], row["metric"]]))
            typer.echo(f"  {words} {row['value']}{spread} {row['unit']}  ({row['source']})")


@datasets.command("show")
def show_dataset(name: str, plugin: Plugins = None, as_json: AsJson = False) -> None:
    """Show a dataset: its card, its parameters, and where it is looked for."""
    from uadbench.config import data_folder
    from uadbench.registry import Registry

    registry = Registry(plugin or ())
    entry, cls = registry.entry("dataset", name), registry.dataset(name)
    card = cls.card
    facts: dict[str, Any] = {
        "name": name,
        "title": card.title,
        "licence": card.licence,
        "url": card.url,
        "reference": card.reference,
        "modality": list(card.modality),
        "healthy": card.healthy,
        "provides": sorted(card.provides),
        "note": card.note,
        "parameters": _parameters(cls),
        "preparation": _parameters(cls.preparation) if cls.preparation else [],
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(f"{name}: {entry.summary}")
    for key in ("title", "licence", "url", "reference", "healthy", "note"):
        typer.echo(f"  {key}: {facts[key]}")
    typer.echo(f"  modality: {', '.join(card.modality)}")
    typer.echo(f"  offers: {', '.join(facts['provides']) or '-'}")
    if "root" in {p["name"] for p in facts["parameters"]}:
        typer.echo(f"  looked for in: --root PATH, or $UADBENCH_DATA/{name} (now {data_folder(name) or 'not set'})")
    _print_parameters(facts["parameters"], "-D")
    if facts["preparation"]:
        typer.echo(f"uadbench datasets prepare {name} takes:")
        _print_parameters(facts["preparation"], "-D")


@methods.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Name of a method, or the file of a plug-in.")],
    param: Params = None,
    plugin: Plugins = None,
) -> None:
    """Run the contract on a method with its quick test parameters: shapes, seeds, batches, save and load, network."""
    from uadbench.contract import method_checks
    from uadbench.params import assign, describe, resolve

    name, registry = _name_or_file("method", name, plugin)
    cls = registry.method(name)
    given = assign(param or [], {name: [p.name for p in describe(cls)]})[name]
    method, _ = resolve(cls, [("tiny", cls.tiny), ("command line", given)], owner=name)
    if reason := method.unavailable():
        raise UsageError(f"{name}: {reason}")
    _report(name, method_checks(method))


@datasets.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="Name of a dataset, or the file of a plug-in.")],
    data: Annotated[list[str] | None, typer.Option("--data", "-D", help="key=value; repeatable.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the data lie.")] = None,
    every: Annotated[bool, typer.Option("--every-subject", help="Also read every subject of the split.")] = False,
    plugin: Plugins = None,
) -> None:
    """Run the contract on a dataset; with --every-subject read all of it, as a run does before training."""
    from uadbench.bank import Bank
    from uadbench.contract import dataset_checks
    from uadbench.plan import resolve_dataset
    from uadbench.protocol import Intensity

    name, registry = _name_or_file("dataset", name, plugin)
    check_names("datasets", registry.entries("dataset"))
    texts = [*(data or []), *([f"root={root}"] if root else [])]
    dataset, _ = resolve_dataset(registry.dataset(name), name, texts)
    if every:
        split = dataset.split(0)
        with TerminalReporter().bar("subjects", len(list(split.items()))) as advance:
            Bank(dataset, name, Intensity()).check(split, each_subject=lambda: advance(1))
    _report(name, dataset_checks(dataset))


def _name_or_file(kind: Kind, name: str, plugin: list[str] | None) -> tuple[str, Registry]:
    """Return the name of a component and where it is found, for a name or the path of a file.

    Raises:
        PluginError: if that file cannot be used.
    """
    from uadbench.registry import Registry

    path = Path(name)
    if path.suffix != ".py" and not path.is_dir():
        return name, Registry(plugin or ())
    if not path.exists():
        raise UsageError(f"there is no file {path}")
    told: list[str] = []
    registry = Registry([*(plugin or []), name], warn=told.append)
    registry.entries("method")  # Which warns of all plug-ins, whatever their kind.
    own = [text for text in told if str(path.resolve()) in text]
    if own and path.stem not in registry.entries(kind):
        raise PluginError(own[0])
    for text in told:
        say(f"warning: {text}")
    return path.stem, registry


def _report(name: str, checks: Iterable[Check]) -> None:
    marks = {"passed": "ok     ", "skipped": "skipped", "broken": "BROKEN "}
    broken = 0
    for outcome in checks:
        broken += outcome.outcome == "broken"
        if outcome.data:  # Every further check would say so again.
            raise DataError(outcome.reason)
        typer.echo(f"{marks[outcome.outcome]}  {outcome.name}" + (f": {outcome.reason}" if outcome.reason else ""))
    typer.echo(f"{name} keeps the contract" if not broken else f"{name} breaks the contract in {broken} place(s)")
    if broken:
        raise typer.Exit(1)


@methods.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Such as my_method.")],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path(),
) -> None:
    """Write a working plug-in of about 30 lines with its test, to be changed into your own."""
    from uadbench.registry import Registry
    from uadbench.scaffold import new_method

    files = new_method(name, folder, Registry())
    for path in files:
        typer.echo(f"wrote {path}")
    typer.echo(f"try it:      uadbench methods check {files[0]}")
    typer.echo(f"run it:      uadbench run --method {name} --plugin {files[0]}")
    typer.echo(f"install it:  pip install -e {files[0].parent}   (then --plugin is not needed)")


@datasets.command("prepare")
def prepare(
    name: str,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="What to write, for datasets that write something.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option("--data", "-D", help="key=value; repeatable.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    plugin: Plugins = None,
) -> None:
    """Make what a dataset needs before the first run: a manifest for nifti, the cached volumes of phantom."""
    from uadbench.params import assign, describe, resolve
    from uadbench.plan import resolve_dataset
    from uadbench.registry import Registry

    registry = Registry(plugin or ())
    check_names("datasets", registry.entries("dataset"))
    cls = registry.dataset(name)
    if cls.preparation is not None:
        if out is None:
            raise UsageError(f"datasets prepare {name} writes a file: give --out PATH")
        if out.exists() and not force:
            raise UsageError(f"{out} is there already; give another --out, or --force to write over it")
        given = assign(data or [], {name: [p.name for p in describe(cls.preparation)]}, "dataset")[name]
        prepared, _ = resolve(cls.preparation, [("command line", given)], owner=f"datasets prepare {name}")
        _print_prepared(name, cls, prepared(out))
        return
    if out is not None:
        raise UsageError(f"datasets prepare {name} writes no file of its own; leave out --out")
    dataset, _ = resolve_dataset(cls, name, data or [])
    warn_without_cache()
    split = dataset.split(0)
    subjects = [s for _, s in split.items()]
    with TerminalReporter().bar("subjects", len(subjects)) as advance:
        for subject in subjects:
            dataset.load(subject).check(f"{name}: {subject.key}")
            advance(1)
    say(f"{len(subjects)} subjects can be read")


def _print_prepared(name: str, cls: type[Dataset], path: Path) -> None:
    """Say what was written, who is used for what, and what to do next."""
    from collections import Counter

    from uadbench.params import create, describe

    typer.echo(f"wrote {path}")
    if "root" in {p.name for p in describe(cls)}:
        counts = Counter(role for role, _ in create(cls, {"root": path}, owner=name).split(0).items())
        typer.echo("subjects: " + ", ".join(f"{role} {n}" for role, n in counts.items()))
        typer.echo(f"Next: uadbench datasets check {name} --root {path} --every-subject")
        typer.echo(f"then: uadbench run --method mddpm --dataset {name} --root {path}")


def _parameters(cls: type) -> list[dict[str, Any]]:
    from uadbench.params import describe

    return [
        {
            "name": p.name,
            "type": p.type,
            "default": _plain(p.default),
            "required": p.required,
            "description": p.description,
        }
        for p in describe(cls)
    ]


def _print_parameters(parameters: list[dict[str, Any]], option: str = "-p") -> None:
    typer.echo(f"parameters ({option} name=value):")
    width = max((len(p["name"]) for p in parameters), default=0)
    for p in parameters:
        default = "required" if p["required"] else f"default {_text(p['default'])}"
        typer.echo(f"  {p['name']:<{width}}  {p['description']}: {p['type']}; {default}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
