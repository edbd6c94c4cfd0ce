"""`uadbench run`: from what is asked for to cells that are done."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uadbench.cli.console import TerminalReporter, out, print_board, say
from uadbench.cli.requests import build_requests, modalities_of, names_of, share_data
from uadbench.config import cache_folder, check_names, setting
from uadbench.errors import DataError

if TYPE_CHECKING:
    from uadbench.plan import Plan
    from uadbench.result import Cell
    from uadbench.runner import Outcome
    from uadbench.store import Store

Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="File or folder with methods or datasets of your own; repeatable."),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the results. Default: runs.")]

MANY = 6
"""Cells after which their folders are no longer listed one by one."""


def store_folder(given: Path | None) -> Path:
    """Return the folder of the store: --out, $UADBENCH_OUT, [run] out in uadbench.toml, or "runs"."""
    return Path(setting("run", "out", given, env="UADBENCH_OUT", default="runs")[0]).expanduser()


def data_texts(data: Sequence[str] | None, root: Path | None, modality: str | None) -> list[str]:
    """Return what --data, --root and --modality say, as "key=value"; modalities may be separated by commas."""
    words = modalities_of(modality or "")
    return [*(data or []), *([f"root={root}"] if root else []), *([f"modality={'+'.join(words)}"] if words else [])]


def run(
    method: Annotated[list[str] | None, typer.Option("--method", "-m", help="Names, separated by commas.")] = None,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", "-d", help="Names. Default: phantom.")] = None,
    healthy: Annotated[
        str | None, typer.Option(help="Dataset whose healthy people are for training and comparison, such as ixi.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="A built-in suite or a TOML file that names methods and data.")
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Such as 0, 0-2 or 0,5,7. Default: 0.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Fold of the split. Default: 0.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="key=value or method.key=value; repeatable.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-D", help="key=value for the dataset, such as root=/data; repeatable."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Where the data lie; the same as --data root=...")] = None,
    modality: Annotated[
        str | None, typer.Option(help="Which modality, or several joined with +; the same as --data modality=...")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="quick, paper, or another one of the method. Default: quick.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="How results are judged. Default: brain-v1.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. Default: auto.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, fp32, bf16, fp16. Default: auto, bf16 where the hardware has it.")
    ] = None,
    references: Annotated[
        str | None, typer.Option(help="Cheap methods shown besides for scale, or none. Default: random,intensity.")
    ] = None,
    out_folder: Out = None,
    plugin: Plugins = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON on standard output.")] = False,
) -> None:
    """Train, score and evaluate methods, then show the table. What is finished is never done again."""
    requests = build_requests(
        methods=names_of(method), datasets=names_of(dataset), healthy=healthy, suite=suite, seed=seed, fold=fold,
        params=param or [],
        data=data_texts(data, root, modality),
        preset=preset, protocol=protocol, device=device, precision=precision, references=references,
    )  # fmt: skip
    from uadbench.joined import parts_of
    from uadbench.registry import Registry

    registry = Registry(plugin or ())
    check_names("methods", registry.entries("method"))
    check_names("datasets", registry.entries("dataset"))
    for request in requests:  # A typo is answered before anything heavy is imported.
        for name in request.methods:
            registry.entry("method", name)
        for name in parts_of(request.dataset):
            registry.entry("dataset", name)
    requests = share_data(requests, registry)

    from uadbench.plan import make_plan
    from uadbench.reporter import Stop
    from uadbench.runner import Outcome, run_plan
    from uadbench.store import Store

    store = Store(store_folder(out_folder))
    store.check_writable()
    plans, problems = [], []
    for request in requests:
        try:
            plans.append(make_plan(request, registry))
        except DataError as error:
            if not dry_run:
                raise
            problems.append(f"{request.dataset} cannot run: {error}")
    if dry_run:
        if plans or as_json:
            _print_plans(plans, store, as_json)
        for problem in problems:
            say(problem)
        raise typer.Exit(DataError.exit_code if problems else _would_fail(plans))
    warn_without_cache()
    total, stop = Outcome(), Stop()
    for plan in plans:
        outcome = run_plan(plan, store, TerminalReporter(), stop=stop)
        total.cells += outcome.cells
        if not as_json:
            _print_outcome(plan, outcome, store)
    if as_json:
        typer.echo(json.dumps([_cell_json(*cell, plans[0].protocol.name) for cell in total.cells], indent=1))
    raise typer.Exit(total.exit_code)


def warn_without_cache() -> None:
    """Say once that nothing can be kept in the cache; no number depends on it."""
    from uadbench.files import unwritable

    if reason := unwritable(cache_folder()):
        say(f"warning: the cache {cache_folder()} is not used: {reason}; set UADBENCH_CACHE to another folder")


def _cell_json(planned: Any, folder: Any, outcome: str, reason: str, protocol: str) -> dict[str, Any]:
    finished = outcome in ("done", "kept", "evaluated")
    metrics = folder.result(folder.evaluation(protocol)).as_dict()["metrics"] if finished else None
    return {
        "method": planned.name, "seed": planned.seed, "dataset": planned.cell.dataset if planned.cell else None,
        "outcome": outcome, "reason": reason, "folder": str(folder.path) if folder else None, "metrics": metrics,
    }  # fmt: skip


def _print_plans(plans: Sequence[Plan], store: Store, as_json: bool) -> None:
    """Say which cells would run, and how long the same method took before."""
    rows: list[dict[str, Any]] = []
    past = _past_seconds(store)
    for plan in plans:
        for planned in plan.cells:
            folder = store.folder(planned.cell) if planned.cell else None
            begun = folder is not None and folder.state == "interrupted"
            todo = "to do, was interrupted and goes on" if begun else "to do"
            state = planned.failure or planned.skip or ("done" if folder and folder.done else todo)
            changed = {k: v["value"] for k, v in planned.config.get("method", {}).items() if v["source"] != "default"}
            rows.append(
                {
                    "method": planned.name, "dataset": plan.dataset_name, "seed": planned.seed, "state": state,
                    "seconds_before": past.get(_work(planned.cell)) if planned.cell else None,
                    "parameters": changed, "folder": str(folder.path) if folder else None,
                }
            )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(rows, indent=1, default=str))
        return
    from rich.table import Table

    table = Table("method", "dataset", "seed", "state", "took before", "parameters that are not the default")
    for row in rows:
        before = f"{row['seconds_before']:.0f} s" if row["seconds_before"] else "-"
        words = ", ".join(f"{k}={v}" for k, v in row["parameters"].items())
        table.add_row(row["method"], row["dataset"], str(row["seed"]), row["state"], before, words)
    out().print(table)
    todo = sum(row["state"].startswith("to do") for row in rows)
    where = f", on {plans[0].device}" if plans else ""
    typer.echo(f"{todo} of {len(rows)} cells to do{where}, into {store.root}")


def _would_fail(plans: Sequence[Plan]) -> bool:
    """Return whether a run of these plans would end with the exit code 1, as far as that is known beforehand."""
    asked = [cell for plan in plans for cell in plan.cells if not cell.reference]
    return any(c.failure for plan in plans for c in plan.cells) or all(c.skip for c in asked)


def _work(cell: Cell) -> str:
    """Return a hash of what decides how long a cell takes: method, data and their parameters, whatever the seed."""
    from uadbench.identity import digest

    return digest([cell.method, cell.params, cell.dataset, cell.dataset_params, cell.precision])


def _past_seconds(store: Store) -> dict[str, float]:
    """Return how long the latest finished cell with the same work took."""
    from uadbench.errors import StoreError

    found: dict[str, float] = {}
    for folder in store.folders():
        try:
            if folder.done:
                cell = folder.cell()
                found[_work(cell)] = sum(folder.read_json("provenance.json")["seconds"].values())
        except (StoreError, KeyError):
            continue
    return found


def _print_outcome(plan: Plan, outcome: Outcome, store: Store) -> None:
    """Print the table of this run, where everything is, and what to do next."""
    from uadbench.leaderboard import make_boards
    from uadbench.rows import read_cells

    folders = [
        f for _, f, state, _ in outcome.cells if f and state in ("done", "kept", "evaluated", "failed", "skipped")
    ]
    cells, problems = read_cells(folders, plan.protocol.name)
    typer.echo("")
    for board in make_boards(cells):
        print_board(board)
    for problem in problems:
        say(f"warning: {problem}")
    asked = [(p, f, s) for p, f, s, _ in outcome.cells if f and not p.reference and s in ("done", "kept", "evaluated")]
    if len(asked) > MANY:
        typer.echo(f"pictures of {len(asked)} cells: {store.root}/{plan.dataset_name}/<method>/<cell>/sheet.png")
    for planned, folder, _ in asked if len(asked) <= MANY else ():
        typer.echo(f"{planned.name}, seed {planned.seed}: {folder.path}")
        if (folder.path / "sheet.png").is_file():
            typer.echo(f"    picture: {folder.path / 'sheet.png'}")
    if outcome.exit_code == 130:
        typer.echo("Interrupted. The same command goes on from here.")
    elif asked:
        where = "" if store.root == Path("runs") else f" --out {shlex.quote(str(store.root))}"
        typer.echo(f"Next: uadbench leaderboard --export leaderboard.csv{where}   (all results in {store.root})")
