"""`uadbench evaluate` and `uadbench protocols`: how stored maps become numbers. Nothing here imports torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from uadbench.cli.console import TerminalReporter, print_board, say
from uadbench.cli.run import Out, Plugins, store_folder
from uadbench.errors import UsageError

if TYPE_CHECKING:
    from uadbench.protocol import Protocol
    from uadbench.replay import Replayed
    from uadbench.store import CellFolder, Store

protocols = typer.Typer(no_args_is_help=True, help="Protocols: list, show every choice and metric.")


def evaluate(
    run: Annotated[
        list[str] | None, typer.Argument(help="Folders or ids, as `runs list` shows them. Default: all.")
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="One or several, separated by commas.")] = "brain-v1",
    threshold: Annotated[
        str | None, typer.Option(help="Another rule for the threshold: policy:rate, such as conformal:0.1.")
    ] = None,
    without: Annotated[
        str | None, typer.Option(help="Leave out steps of the post-processing, separated by commas: median.")
    ] = None,
    hit: Annotated[str, typer.Option(help="When a lesion counts as found: any, share, iou, centroid.")] = "",
    reduction: Annotated[str, typer.Option(help="From a map to one score: mean, max, top1%, p95.")] = "",
    data: Annotated[
        list[str] | None, typer.Option("--data", "-D", help="key=value for data that lie elsewhere now: root=/data.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what is up to date.")] = False,
    out_folder: Out = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON on standard output.")] = False,
) -> None:
    """Compute the numbers of stored results again from their maps, under any protocol: no method runs, no GPU is needed."""
    from uadbench.protocol import Threshold, variant
    from uadbench.protocols import get_protocol

    rule = Threshold.parse(threshold) if threshold else None
    steps = [name.strip() for name in (without or "").split(",") if name.strip()]
    names = [name.strip() for name in protocol.split(",") if name.strip()]
    chosen = [
        variant(get_protocol(name), threshold=rule, without=steps, hit=hit, reduction=reduction) for name in names
    ]

    from uadbench.leaderboard import make_boards
    from uadbench.registry import Registry
    from uadbench.replay import Replay
    from uadbench.rows import read_cells
    from uadbench.store import Store

    store = Store(store_folder(out_folder))
    folders = _finished(store, run or [])
    replay, reporter = Replay(Registry(plugin or ()), data or [], force), TerminalReporter()
    replay.check_given([folder.cell() for folder in folders])
    rows: list[Replayed] = []
    total = len(folders) * len(chosen)
    for folder in folders:
        for wanted in chosen:
            say(f"[{len(rows) + 1}/{total}] {folder.path.relative_to(store.root)}, {wanted.name}")
            done = replay.one(folder, wanted, reporter)
            words = {"kept": "is up to date", "evaluated": "evaluated"}.get(done.state, f"{done.state}: {done.reason}")
            say(f"    {words}")
            rows.append(done)
    if as_json:
        out = [
            {"folder": str(r.folder.path), "protocol": r.protocol, "state": r.state, "reason": r.reason} for r in rows
        ]
        typer.echo(json.dumps(out, indent=1))
    else:
        typer.echo("")
        for name in dict.fromkeys(r.protocol for r in rows):
            # Where an evaluation failed, older numbers may still lie there; they are not those that were asked for.
            current = [r.folder for r in rows if r.protocol == name and r.state in ("kept", "evaluated")]
            cells, problems = read_cells(current, name)
            for board in make_boards(cells):
                print_board(board)
            for problem in problems:
                say(f"warning: left out: {problem}")
            if missing := sum(r.protocol == name and r.state == "failed" for r in rows):
                say(f"warning: {missing} result(s) under {name} could not be evaluated and are left out")
    raise typer.Exit(1 if any(r.state == "failed" for r in rows) else 0)


def _finished(store: Store, words: list[str]) -> list[CellFolder]:
    """Return the finished cells that are meant.

    Raises:
        UsageError: if there are none.
    """
    from uadbench.cli.boards import one_cell

    folders = [one_cell(store, word) for word in words] if words else store.folders()
    finished = [f for f in folders if f.status().get("state") == "done"]
    for folder in folders if words else []:
        if folder not in finished:
            raise UsageError(
                f"{folder.path} is {folder.state}, so there are no maps to evaluate; finish it with the run command"
            )
    if not finished:
        raise UsageError(f"{store.root} holds no finished results; begin with: uadbench run --method mddpm")
    return finished


@protocols.command("list")
def list_protocols(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the protocols."""
    from uadbench.protocols import PROTOCOLS

    if as_json:
        typer.echo(json.dumps([{"name": p.name, "summary": p.summary} for p in PROTOCOLS.values()], indent=1))
        return
    width = max(map(len, PROTOCOLS))
    for p in PROTOCOLS.values():
        typer.echo(f"{p.name:<{width}}  {p.summary}")


@protocols.command("show")
def show_protocol(
    name: Annotated[str, typer.Argument(help="Such as brain-v1.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every choice of a protocol, with the definition of each of its metrics."""
    from uadbench.protocols import get_protocol

    protocol = get_protocol(name)
    if as_json:
        typer.echo(json.dumps(protocol.as_dict(), indent=1))
        return
    typer.echo(f"{protocol.name}: {protocol.summary}\n")
    choices = choices_of(protocol)
    width = max(len(what) for what, _ in choices)
    for what, text in choices:
        typer.echo(f"{what:<{width}}  {text}")
    from uadbench.metrics.table import get_metric

    typer.echo("\nmetrics:")
    width = max(map(len, protocol.metrics))
    for metric in map(get_metric, protocol.metrics):
        typer.echo(f"  {metric.name:<{width}}  {metric.description}")


def choices_of(protocol: Protocol) -> list[tuple[str, str]]:
    """Return every choice of a protocol in words."""
    from uadbench.protocol import FOUND_STEPS, HITS, MAP_STEPS, POLICIES, REDUCTIONS

    intensity, grid = protocol.preparation.intensity, protocol.grid
    steps = [f"{s.name} {s.size:g}: {({**MAP_STEPS, **FOUND_STEPS})[s.name]}" for s in protocol.postprocess]
    found = [f"{s.name} {s.size:g}: {FOUND_STEPS[s.name]}" for s in protocol.found_steps]
    rules = [protocol.threshold, *protocol.other_thresholds]
    texts = [f"{r.words}: {POLICIES[r.policy][1]} (labels used: {r.labels_used})" for r in rules]
    where = {"foreground": "foreground voxels without those to be ignored", "box": "all voxels of the box"}[
        protocol.region
    ]
    clipped = "clipped" if intensity.clip_high else "not clipped"
    spacing = "" if grid is None else "x".join(f"{s:g}" for s in grid.spacing)
    return [
        ("intensities", f"percentiles {intensity.low:g}, {intensity.high:g} of the foreground are 0 and 1, above {clipped}"),
        ("training slices", f"at least {protocol.preparation.train_foreground:g} of the foreground of the fullest slice"),
        ("grid", "that of the data" if grid is None else f"{spacing} mm, {'x'.join(map(str, grid.shape))} voxels"),
        ("metrics look at", where),
        ("maps", "; then ".join(steps) or "as they are"),
        ("threshold", texts[0]),
        *(("another threshold", text) for text in texts[1:]),
        ("after it", "; then ".join(found) or "nothing"),
        ("a lesion is hit by", HITS[protocol.hit]),
        ("smallest lesion", f"{protocol.min_lesion_ml:g} ml"),
        ("one score from a map", f"{protocol.reduction}: {REDUCTIONS[protocol.reduction]}"),
        ("intervals", f"{protocol.level:.0%}, {protocol.draws} bootstrap samples, seed {protocol.bootstrap_seed}"),
        ("ranked by", protocol.rank_by),
        ("n is small below", f"{protocol.few} subjects"),
    ]  # fmt: skip
