"""Which tables and rows of a store are meant, for the commands that show, compare and re-score them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadbench.cli.console import say
from uadbench.errors import UsageError, suggest

if TYPE_CHECKING:
    from uadbench.leaderboard import Board
    from uadbench.rows import Row


def boards_of(
    root: Path,
    *,
    dataset: str | None = None,
    protocol: str | None = None,
    board: str | None = None,
    where: str = "",
    by: str = "",
    everything: bool = False,
    interval: str = "percentile",
) -> list[Board]:
    """Return the boards of a store that are meant.

    Raises:
        UsageError: if there are none, or a name or group does not exist.
    """
    from uadbench.leaderboard import make_boards
    from uadbench.rows import group_values, read_cells
    from uadbench.store import Store

    if interval not in ("percentile", "bca"):
        raise UsageError(f"--interval {interval!r} must be percentile or bca")
    if where and "=" not in where:
        raise UsageError(f"--where {where!r} is not of the form group=value, such as lesion_kind=iso")
    cells, problems = read_cells(Store(root).folders())
    for problem in problems:
        say(f"warning: left out: {problem}")
    if not cells:
        raise UsageError(f"{root} holds no results; begin with: uadbench run --method mddpm")
    for word, given, there in (
        ("dataset", dataset, {c.cell.dataset for c in cells}),
        ("protocol", protocol, {str(c.protocol["name"]) for c in cells}),
    ):
        if given and given not in there:
            names = ", ".join(sorted(there))
            raise UsageError(f"{root} holds no results of the {word} {given!r}.{suggest(given, there)} There: {names}.")
    cells = [c for c in cells if dataset in (None, c.cell.dataset) and protocol in (None, c.protocol["name"])]
    if not cells:
        raise UsageError(f"{root} holds no results of {dataset} under {protocol}")
    known = group_values(cells)
    for name in filter(None, (where.partition("=")[0], by)):
        if name not in known:
            raise UsageError(
                f"no group is called {name!r}.{suggest(name, known)} Groups of these subjects, without measures such as an "
                f"age: {', '.join(known) or 'none'}."
            )
    if where and where.partition("=")[2] not in known[where.partition("=")[0]]:
        name, _, value = where.partition("=")
        raise UsageError(
            f"no subject has {name}={value}.{suggest(value, known[name])} There: {', '.join(known[name])}."
        )
    conditions = [f"{by}={value}" for value in known[by]] if by else [where]
    method: Any = interval
    boards = [b for c in conditions for b in make_boards(cells, where=c, every_variant=everything, interval=method)]
    if board:
        titles = "; ".join(b.title for b in boards)
        boards = [b for b in boards if b.title == board] or [b for b in boards if board in b.title]
        if not boards:
            raise UsageError(f"no table has {board!r} in its title. There: {titles}.")
    return [b for b in boards if not b.subset or any(r.values[b.rank_by.name].n for r in b.rows)] or boards


def one_board(boards: list[Board]) -> Board:
    """Return the only board.

    Raises:
        UsageError: if there are several.
    """
    if len(boards) == 1:
        return boards[0]
    titles = "; ".join(b.title for b in boards)
    raise UsageError(
        f"the results are of several data or protocols: {titles}. Choose with --dataset, --protocol, or --board and a title."
    )


def rows_to_compare(board: Board, names: Sequence[str], *, keep_named: bool) -> tuple[list[Row], dict[str, str]]:
    """Return the rows that are meant, and why some of them never rank.

    Those are left out, unless they were asked for by name and `keep_named` allows it.

    Raises:
        UsageError: for a name that is not there, or if fewer than two rows are left.
    """
    from uadbench.compare import chosen_rows

    rows = chosen_rows(board, names)
    never = {row.method: row.never for row in rows if row.never}
    if not (names and keep_named):
        rows = [row for row in rows if not row.never]
    if len(rows) < 2:
        others = f", and {len(never)} that never rank" if never else ""
        raise UsageError(f"{board.title} holds results of {len(rows)} method(s){others}; two are needed to compare")
    return rows, never


def warn_of_never(rows: Sequence[Row], never: Mapping[str, str]) -> None:
    """Say which rows never rank, and which of them are not shown."""
    there = {row.method for row in rows}
    for name, reason in never.items():
        say(f"warning: {name} never ranks{'' if name in there else ' and is left out'}: {reason}")
