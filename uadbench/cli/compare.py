"""`uadbench compare`: which of two methods is better, and how surely; which of many. Nothing here imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uadbench.cli.console import out, say
from uadbench.cli.run import Out, store_folder
from uadbench.errors import UsageError
from uadbench.files import check_target

if TYPE_CHECKING:
    from uadbench.compare import All, Pair
    from uadbench.leaderboard import Board
    from uadbench.metrics import Metric


def compare(
    method: Annotated[
        list[str] | None, typer.Argument(help="Two or more methods as in the leaderboard. Default: all.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="What is compared. Default: the metric that ranks.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also rank all of them: tests, probabilities, a picture.")
    ] = False,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Only this dataset.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.")] = None,
    board: Annotated[
        str | None, typer.Option("--board", help="Only the table with this title, or with these words in it.")
    ] = None,
    where: Annotated[str, typer.Option(help="Only the subjects of a group, such as lesion_kind=iso.")] = "",
    out_folder: Out = None,
    export: Annotated[Path | None, typer.Option(help="Write the pairs to a .csv file.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="With --all: the critical-difference diagram, .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare methods on the same subjects: difference with interval, paired tests adjusted for the number of pairs."""
    if export:
        check_target(export, (".csv",), "--export")
    if figure:
        check_target(figure, (".png", ".svg"), "--figure")
    if figure and not every:
        raise UsageError("--figure draws the ranks of all methods; give --all as well")
    from uadbench.cli.choice import boards_of, one_board, rows_to_compare, warn_of_never
    from uadbench.compare import check_metric, compare_all, compare_rows, pairs_table, ranks_table
    from uadbench.metrics.table import get_metric

    boards = boards_of(store_folder(out_folder), dataset=dataset, protocol=protocol, board=board, where=where)
    found = one_board(boards)
    by = get_metric(metric) if metric else found.rank_by
    if by.name not in {m.name for m in found.metrics}:
        raise UsageError(f"{found.protocol} has no {by.name}; it has: {', '.join(m.name for m in found.metrics)}")
    check_metric(by, where, rank=every)
    rows, never = rows_to_compare(found, method or [], keep_named=not every)
    level, seed = 0.95, int(rows[0].cells[0].protocol["bootstrap_seed"])
    pairs = compare_rows(rows, by, where=where, seed=seed, level=level)
    ranked = compare_all(rows, by, where=where, seed=seed) if every else None
    table = pairs_table(pairs, by)
    if export:
        table.to_csv(export, index=False, lineterminator="\n")
        say(f"wrote {export}")
    if figure and ranked:
        from uadbench.statistics.diagram import draw_diagram

        draw_diagram(ranked.names, ranked.ranks, ranked.groups, figure, title=f"{found.title}: {by.title}")
        say(f"wrote {figure}")
    if as_json:
        answer = {"board": found.title, "metric": by.name, "pairs": json.loads(table.to_json(orient="records"))}
        answer["never_ranked"] = never
        if ranked:
            answer["ranks"] = json.loads(ranks_table(ranked).to_json(orient="records"))
        typer.echo(json.dumps(answer, indent=1))
        return
    _print(found, by, pairs, ranked)
    warn_of_never(rows, never)


def _print(board: Board, metric: Metric, pairs: list[Pair], ranked: All | None) -> None:
    from rich.table import Table

    from uadbench.compare import by_tests
    from uadbench.export import short

    console, tested = out(), by_tests(metric)
    table = Table(title=f"{board.title}: difference in {metric.title}", title_justify="left")
    for name in ("a", "b"):
        table.add_column(name, overflow="fold")
    for name in ("a - b", "95 %", "n", "a wins / ties / b wins", "p", "p Wilcoxon", "effect"):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in pairs:
        f = pair.found
        table.add_row(
            pair.a, pair.b, short(f.difference), f"[{short(f.low)}, {short(f.high)}]", str(f.n),
            f"{f.wins} / {f.ties} / {f.losses}" if tested else "-", _p(pair.p), _p(pair.p_wilcoxon), short(f.rank_biserial),
        )  # fmt: skip
    console.print(table)
    for pair in pairs if len(pairs) <= 6 else ():
        by = f" (by the mean {metric.title} of the same subjects)" if ranked is not None else ""
        console.print(pair.verdict(metric) + by, markup=False)
    how = (
        f"95 % BCa bootstrap interval; p: sign-flip permutation test, both tests adjusted by Holm for {len(pairs)} pair(s); "
        "effect: rank-biserial correlation."
        if tested
        else f"95 % percentile interval of bootstrap draws that resample the same subjects; {metric.title} is no mean over "
        "subjects, so there are no tests, and intervals are not adjusted for the number of pairs."
    )
    console.print(f"Paired by subject; seeds are averaged first. {how}", markup=False)
    if ranked is not None:
        _print_ranks(ranked, metric)
    if any(p.found.n < 30 for p in pairs):
        console.print(
            f"warning: {min(p.found.n for p in pairs)} subjects are too few to tell close methods apart", markup=False
        )


def _print_ranks(found: All, metric: Metric) -> None:
    from rich.table import Table

    from uadbench.export import short

    console = out()
    stable = found.stability
    table = Table(title=f"{len(found.names)} methods, {stable.n} subjects with a value of all", title_justify="left")
    table.add_column("method", overflow="fold")
    for name in ("average rank", f"mean {metric.title}", "rank of the mean", "95 %", "probability of being best"):
        table.add_column(name, justify="right", no_wrap=True)
    for i, name in enumerate(found.names):
        by = stable.by_mean
        table.add_row(
            name, f"{found.ranks[i]:.2f}", short(by.value[i]), f"{by.rank[i]:g}", f"{by.low[i]:g} to {by.high[i]:g}",
            f"{by.best[i]:.3f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"Friedman chi-squared {found.friedman.statistic:.1f}, p {_p(found.friedman.p)}; Nemenyi's critical difference of "
        f"average ranks {found.difference:.2f}; Kendall's tau of both ways to rank {stable.tau:.2f}",
        markup=False,
    )
    for group in found.groups:
        console.print("not told apart by ranks: " + ", ".join(found.names[i] for i in group), markup=False)


def _p(value: float) -> str:
    if value != value:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
