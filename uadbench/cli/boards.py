"""`uadbench status`, `uadbench leaderboard` and `uadbench runs`: what is in the store. Nothing here imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uadbench.cli.console import out, print_board, say
from uadbench.cli.run import Out, store_folder
from uadbench.errors import StoreError, UsageError
from uadbench.files import check_target

if TYPE_CHECKING:
    from uadbench.store import CellFolder, Store

runs = typer.Typer(no_args_is_help=True, help="Single results: list, show, remove.")


def status(
    out_folder: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how many cells are done, failed, skipped, interrupted or running, by method and dataset."""
    from uadbench.store import Store

    counts: dict[tuple[str, str], dict[str, int]] = {}
    reasons: list[tuple[str, str]] = []
    for folder in Store(store_folder(out_folder)).folders():
        try:
            cell, facts = folder.cell(), folder.status()
        except StoreError as error:
            say(f"warning: left out: {error}")
            continue
        state = folder.state
        row = counts.setdefault((cell.dataset, cell.method), {})
        row[state] = row.get(state, 0) + 1
        if state in ("failed", "skipped", "interrupted"):
            reasons.append((str(folder.path), f"{state}: {facts.get('reason', 'the process was ended')}"))
    if as_json:
        rows = [{"dataset": d, "method": m, **states} for (d, m), states in counts.items()]
        typer.echo(json.dumps({"cells": rows, "reasons": dict(reasons)}, indent=1))
        return
    if not counts:
        typer.echo(f"{store_folder(out_folder)} holds no results yet; begin with: uadbench run --method mddpm")
        return
    from rich.table import Table

    states = [
        s
        for s in ("done", "running", "interrupted", "failed", "skipped", "queued")
        if any(s in r for r in counts.values())
    ]
    table = Table("dataset", "method", *states)
    for (dataset, method), row in counts.items():
        table.add_row(dataset, method, *(str(row.get(s, "")) for s in states))
    out().print(table)
    for path, reason in reasons:
        typer.echo(f"{path}\n    {reason}")


def leaderboard(
    out_folder: Out = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Only this dataset.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.")] = None,
    board: Annotated[
        str | None, typer.Option("--board", help="Only the table with this title, or with these words in it.")
    ] = None,
    where: Annotated[str, typer.Option(help="Only the subjects of a group, such as lesion_kind=iso.")] = "",
    by: Annotated[str, typer.Option(help="One table for each value of a group, such as lesion_kind.")] = "",
    export: Annotated[Path | None, typer.Option(help="Write a file: .csv .md .html .json .tex")] = None,
    long: Annotated[bool, typer.Option("--long", help="In the file, one row a metric.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also results of older code and older data.")] = False,
    interval: Annotated[str, typer.Option(help="Bootstrap intervals: percentile or bca.")] = "percentile",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank the methods by their stored results: mean, 95 % interval over subjects, n, seconds. Writes CSV and more."""
    from uadbench.cli.choice import boards_of
    from uadbench.export import FORMATS, wide
    from uadbench.export import export as write

    if long and not export:
        raise UsageError("--long is about the file: give --export leaderboard.csv too")
    if export:
        check_target(export, FORMATS, "--export")
    boards = boards_of(
        store_folder(out_folder), dataset=dataset, protocol=protocol, board=board, where=where, by=by, everything=everything,
        interval=interval,
    )  # fmt: skip
    if as_json:
        typer.echo(wide(boards).to_json(orient="records", indent=1))
    else:
        for found in boards:
            print_board(found)
    if export:
        write(boards, export, as_long=long)
        say(f"wrote {export}")


@runs.command("list")
def list_runs(
    out_folder: Out = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List all cells with state and time."""
    from uadbench.store import Store

    store = Store(store_folder(out_folder))
    rows = []
    for folder in store.folders():
        facts = folder.status()
        rows.append(
            {
                "run": str(folder.path.relative_to(store.root)),
                "state": folder.state,
                "changed": facts.get("changed", ""),
                "given": _given(folder),
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        typer.echo(f"{store.root} holds no results yet")
        return
    width = max(len(row["run"]) for row in rows)
    for row in [{"state": "state", "changed": "changed", "run": "run", "given": "parameters given"}, *rows]:
        typer.echo(f"{row['state']:<12} {row['changed']:<26} {row['run']:<{width}}  {row['given']}".rstrip())


def _given(folder: CellFolder) -> str:
    """Return the parameters of a cell that were given, "steps=40, count=20"; presets are named."""
    try:
        config = folder.read_json("config.json")
    except StoreError:
        return ""
    preset = config.get("preset", "quick")
    words = [] if preset == "quick" else [f"preset {preset}"]
    for part in ("method", "dataset"):
        for name, entry in config.get(part, {}).items():
            if entry["source"] != "default" and not entry["source"].startswith("preset"):
                words.append(f"{name}={entry['value']}")
    return ", ".join(words)


@runs.command("show")
def show_run(
    run: Annotated[str, typer.Argument(help="Folder or id, as `runs list` shows it.")],
    out_folder: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one cell: what came out, then parameters and where they come from, numbers, seconds, versions."""
    from uadbench.store import Store

    folder = one_cell(Store(store_folder(out_folder)), run)
    parts = {}
    for name in ("cell.json", "status.json", "config.json", "provenance.json"):
        if (folder.path / name).is_file():
            parts[name.removesuffix(".json")] = folder.read_json(name)
    for place in folder.evaluations():
        parts[str(place)] = folder.read_json(str(place / "metrics.json"))
    if as_json:
        typer.echo(json.dumps(parts, indent=1))
        return
    for line in _head(folder, parts):
        typer.echo(line)
    config = parts.get("config", {})
    for name, part in parts.items():
        if config and name != "config":  # The configuration says these, and where they come from.
            again = ["params", "dataset_params", "preparation"] if name == "cell" else []
            again += ["protocol"] if part.get("protocol") == config.get("protocol") else []
            part = {key: value for key, value in part.items() if key not in again}
        typer.echo(f"\n{name}")
        for line in _lines(part):
            typer.echo("  " + line)


def _head(folder: CellFolder, parts: dict[str, Any]) -> list[str]:
    """Return what most readers want to know of a cell: whose it is, how it ended, its main numbers, its picture."""
    from uadbench.export import short
    from uadbench.metrics.table import METRICS

    cell, status = parts["cell"], parts.get("status", {})
    reason = f" ({status['reason']})" if status.get("reason") else ""
    lines = [
        str(folder.path),
        f"  state: {folder.state}{reason}",
        f"  method: {cell['method']}",
        f"  dataset: {cell['dataset']}",
        f"  seed: {cell['seed']}, fold {cell['fold']}",
    ]
    for place in folder.evaluations():
        result = folder.result(place)
        shown = [n for n in dict.fromkeys([result.protocol["rank_by"], "dice"]) if n in METRICS and n in result.metrics]
        words = [
            f"{METRICS[n].title} {short(v.value)} [{short(v.ci_low)}, {short(v.ci_high)}]"
            for n, v in ((n, result.metrics[n]) for n in shown)
        ]
        lines.append(f"  {result.protocol['name']}: {', '.join(words) or 'no value'}")
    if (folder.path / "sheet.png").is_file():
        lines.append(f"  picture: {folder.path / 'sheet.png'}")
    return lines


def _lines(value: object, indent: int = 0) -> list[str]:
    """Return nested values as indented lines."""
    pad = "  " * indent
    if not isinstance(value, dict):
        return [pad + str(value)]
    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict) and set(inner) == {"value", "source"}:
            lines.append(f"{pad}{key} = {inner['value']}   ({inner['source']})")
        elif isinstance(inner, dict) and {"value", "ci_low", "ci_high", "n"} <= set(inner):
            interval = "" if inner["ci_low"] is None else f" [{inner['ci_low']}, {inner['ci_high']}]"
            lines.append(f"{pad}{key} = {inner['value']}{interval}, n = {inner['n']}")
        elif isinstance(inner, dict):
            lines += [f"{pad}{key}", *_lines(inner, indent + 1)]
        else:
            lines.append(f"{pad}{key} = {inner}")
    return lines


@runs.command("rm")
def remove_runs(
    run: Annotated[list[str], typer.Argument(help="Folders or ids, as `runs list` shows them.")],
    out_folder: Out = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove cells from the store."""
    from uadbench.store import Store

    store = Store(store_folder(out_folder))
    folders = [one_cell(store, word) for word in run]
    if not yes:
        for folder in folders:
            typer.echo(str(folder.path))
        if not typer.confirm(f"Remove {'this cell' if len(folders) == 1 else f'these {len(folders)} cells'}?"):
            typer.echo("nothing was removed")
            raise typer.Exit(1)
    for folder in folders:
        folder.remove()
        typer.echo(f"removed {folder.path}")


def one_cell(store: Store, word: str) -> CellFolder:
    """Return the cell that is meant.

    Raises:
        UsageError: if there is none, or more than one.
    """
    found = store.find(word)
    if len(found) != 1:
        what = "no cell is" if not found else f"{len(found)} cells are"
        which = f" ({', '.join(str(f.path.relative_to(store.root)) for f in found[:5])} ...)" if found else ""
        raise UsageError(f"{what} called {word!r} in {store.root}{which}; see: uadbench runs list")
    return found[0]
