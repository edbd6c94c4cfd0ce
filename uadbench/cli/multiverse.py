"""`uadbench multiverse`: how much the ranking depends on how it is made. Nothing here imports torch."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uadbench.cli.console import TerminalReporter, out, say
from uadbench.cli.run import Out, Plugins, store_folder
from uadbench.errors import Interrupted, UsageError
from uadbench.files import check_target

if TYPE_CHECKING:
    from uadbench.dataset import Subject
    from uadbench.leaderboard import Board
    from uadbench.multiverse import PipelineGrid
    from uadbench.multiverse_ranks import Multiverse
    from uadbench.multiverse_scores import Source
    from uadbench.protocol import Protocol

PAIRS = 12
"""Pairs that the table in the terminal lists."""


def multiverse(
    method: Annotated[
        list[str] | None, typer.Argument(help="Two or more methods as in the leaderboard. Default: all.")
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(help="TOML file with the choices. Default: the built-in grid, see --dry-run.")
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Only this dataset.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="The board's protocol; it decides what the grid does not vary.")
    ] = None,
    board: Annotated[
        str | None, typer.Option("--board", help="Only the table with this title, or with these words in it.")
    ] = None,
    where: Annotated[str, typer.Option(help="Only the subjects of a group, such as lesion_kind=iso.")] = "",
    data: Annotated[
        list[str] | None, typer.Option("--data", "-D", help="key=value for data that lie elsewhere now: root=/data.")
    ] = None,
    out_folder: Out = None,
    plugin: Plugins = None,
    export: Annotated[Path | None, typer.Option(help="Write a row a pipeline and method to a .csv file.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it, .png or .svg.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which pipelines there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Re-score the stored maps under thousands of defensible pipelines: how far do the ranks depend on the choice?"""
    if export:
        check_target(export, (".csv",), "--export")
    if figure:
        check_target(figure, (".png", ".svg"), "--figure")
    from uadbench.multiverse import load_grid

    declared = load_grid(grid)
    if dry_run:
        for line in _choices(declared):
            typer.echo(line)
        return
    from uadbench.cli.choice import boards_of, one_board, rows_to_compare, warn_of_never
    from uadbench.registry import Registry
    from uadbench.replay import Replay

    found_boards = boards_of(store_folder(out_folder), dataset=dataset, protocol=protocol, board=board, where=where)
    table = one_board(found_boards)
    rows, never = rows_to_compare(table, method or [], keep_named=False)
    base, replay = _protocol(table), Replay(Registry(plugin or ()), data or [])
    replay.check_given([stored.cell for row in rows for stored in row.cells])
    from uadbench.multiverse_scores import Source

    sources: dict[str, list[Source]] = {}
    for row in rows:
        for stored in row.cells:
            if stored.state == "done":
                bank, split = replay.data(stored.folder)
                sources.setdefault(row.method, []).append(Source(stored.folder, bank.load, split))
    used, notes = declared.for_data([s.split for cells in sources.values() for s in cells])
    began = time.perf_counter()
    try:
        found = _score(sources, used, base, where)
    except KeyboardInterrupt:
        raise Interrupted("stopped; nothing was written") from None
    seconds = time.perf_counter() - began
    cells = sum(map(len, sources.values()))
    say(f"{len(found.pipelines):,} pipelines, {len(found.methods)} methods, {cells} cells: {seconds:.0f} s")
    warn_of_never(rows, never)
    _write(found, table, export, figure)
    if as_json:
        typer.echo(json.dumps(_answer(found, table, used, notes, seconds), indent=1))
    else:
        _print(found, table, used, notes)


def _choices(grid: PipelineGrid) -> list[str]:
    """Return the choices and the number of pipelines in words."""
    from uadbench.multiverse import DIMENSIONS

    lines = []
    for name, text in DIMENSIONS.items():
        lines += [f"{name}: {text}", *(f"    {choice}" for choice in grid.choices(name))]
    return [*lines, "", *grid.count_in_words()]


def _protocol(board: Board) -> Protocol:
    """Return the protocol of a board, which may be a variant, from what is stored with its results."""
    from pydantic import TypeAdapter, ValidationError

    from uadbench.protocol import Protocol

    try:
        return TypeAdapter(Protocol).validate_python(board.rows[0].cells[0].protocol)
    except ValidationError as error:
        raise UsageError(f"{board.protocol} is of another version; evaluate again: uadbench evaluate") from error


def _score(sources: dict[str, list[Source]], grid: PipelineGrid, base: Protocol, where: str) -> Multiverse:
    from uadbench.groups import group_word
    from uadbench.multiverse_ranks import Multiverse
    from uadbench.multiverse_scores import score_methods, work

    group, _, wanted = where.partition("=")

    def keep(subject: Subject) -> bool:
        return not where or (group in subject.groups and group_word(subject.groups[group]) == wanted)

    total = work([source for cells in sources.values() for source in cells], grid, keep)
    with TerminalReporter().bar("maps", total) as advance:
        values = score_methods(sources, grid, base, keep=keep, each=advance)
    return Multiverse.of(list(sources), grid.pipelines(), values)


def _write(found: Multiverse, board: Board, export: Path | None, figure: Path | None) -> None:
    """Write the files that were asked for, each as a whole."""
    from uadbench.files import write_atomic

    if export:
        write_atomic(export, found.table().to_csv(index=False, lineterminator="\n").encode())
        say(f"wrote {export}")
    if figure:
        from uadbench.multiverse_picture import draw_multiverse

        draw_multiverse(found, figure, title=board.title)
        say(f"wrote {figure}")


def _answer(found: Multiverse, board: Board, grid: PipelineGrid, notes: list[str], seconds: float) -> dict[str, object]:
    """Return all of it as plain values."""
    return {
        "board": board.title,
        "pipelines": len(found.pipelines),
        "count": grid.count_in_words(),
        "left_out": notes,
        "seconds": round(seconds, 1),
        "methods": [asdict(row) for row in found.rows()],
        "pairs": [asdict(flip) for flip in found.flips()],
        "variance": {name: None if share != share else share for name, share in found.variance().items()},
    }


def _print(found: Multiverse, board: Board, grid: PipelineGrid, notes: list[str]) -> None:
    from rich.table import Table

    console = out()
    rows, flips, shares = found.rows(), found.flips(), found.variance()
    table = Table(title=f"{board.title}: ranks under {len(found.pipelines):,} pipelines", title_justify="left")
    table.add_column("method", overflow="fold")
    for name in ("median rank", "5 % to 95 %", "best to worst", "best in", *(f"by {m}" for m in rows[0].by_metric)):
        table.add_column(name, justify="right", no_wrap=True)
    for r in rows:
        table.add_row(
            r.method, f"{r.median:g}", f"{r.low:g} to {r.high:g}", f"{r.least:g} to {r.most:g}", f"{r.best:.1%}",
            *(f"{rank:g}" for rank in r.by_metric.values()),
        )  # fmt: skip
    console.print(table)
    shown = [flip for flip in flips[:PAIRS] if flip.flip > 0]
    if shown:
        table = Table(title=f"pairs: the most unsure of {len(flips)}", title_justify="left")
        for name in ("better in most", "than"):
            table.add_column(name, overflow="fold")
        for name in ("opposite order", "equal"):
            table.add_column(name, justify="right", no_wrap=True)
        for flip in shown:
            table.add_row(flip.better, flip.worse, f"{flip.flip:.1%}", f"{flip.tie:.1%}")
        console.print(table)
    table = Table(title="which choice explains the variance of the ranks", title_justify="left")
    table.add_column("choice")
    table.add_column("share", justify="right")
    for name, share in shares.items():
        table.add_row(name, f"{share:.1%}" if share == share else "-")
    console.print(table)
    for line in (*grid.count_in_words(), *notes):
        console.print(line, markup=False)
    equal = float((found.ranks == found.ranks[:, :1]).all(axis=1).mean())
    console.print(
        f"A pair's order is the opposite of the usual one in {sum(f.flip for f in flips) / len(flips):.1%} of the pipelines "
        f"on average; all methods are equal in {equal:.1%}. Shares of variance are main effects; interactions are what "
        "combinations of choices add. Differences here can be smaller than what subjects vary: see uadbench compare.",
        markup=False,
    )
