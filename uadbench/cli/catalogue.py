"""`uadbench methods`: what there is, what it takes, whether it keeps the contract."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uadbench.cli.console import say
from uadbench.cli.run import Plugins
from uadbench.errors import DataError, PluginError, UsageError

if TYPE_CHECKING:
    from uadbench.checks import Check
    from uadbench.registry import Kind, Registry

methods = typer.Typer(no_args_is_help=True, help="Methods: list, show, check, new.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Params = Annotated[list[str] | None, typer.Option("--param", "-p", help="key=value; repeatable.")]


@methods.command("list")
def list_methods(plugin: Plugins = None, as_json: AsJson = False) -> None:
    """List all methods in a line each."""
    from uadbench.registry import Registry

    entries = Registry(plugin or ()).entries("method").values()
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
        "parameters": parameters_of(cls),
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
    print_parameters(facts["parameters"])
    for preset, values in ({"paper": {}} | facts["presets"]).items():
        typer.echo(f"preset {preset}: " + (", ".join(f"{k}={_text(v)}" for k, v in values.items()) or "the defaults"))
    if facts["published"]:
        typer.echo("published numbers (other data, other protocol: for orientation only):")
        for row in facts["published"]:
            spread = f" +- {row['spread']}" if row["spread"] else ""
            words = " ".join(filter(None, [row["variant"], row["dataset"], row["metric"]]))
            typer.echo(f"  {words} {row['value']}{spread} {row['unit']}  ({row['source']})")


@methods.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Name of a method, or the file of a plug-in.")],
    param: Params = None,
    plugin: Plugins = None,
) -> None:
    """Run the contract on a method with its quick test parameters: shapes, seeds, batches, save and load, network."""
    from uadbench.contract import method_checks
    from uadbench.params import assign, describe, resolve

    name, registry = name_or_file("method", name, plugin)
    cls = registry.method(name)
    given = assign(param or [], {name: [p.name for p in describe(cls)]})[name]
    method, _ = resolve(cls, [("tiny", cls.tiny), ("command line", given)], owner=name)
    if reason := method.unavailable():
        raise UsageError(f"{name}: {reason}")
    report_checks(name, method_checks(method))


def name_or_file(kind: Kind, name: str, plugin: list[str] | None) -> tuple[str, Registry]:
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


def report_checks(name: str, checks: Iterable[Check]) -> None:
    """Print the outcome of checks and exit with 1 if one is broken."""
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


def parameters_of(cls: type) -> list[dict[str, Any]]:
    """Return the parameters of a dataclass as plain values."""
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


def print_parameters(parameters: list[dict[str, Any]], option: str = "-p") -> None:
    """Print parameters in a line each."""
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
