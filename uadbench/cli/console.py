"""What the user sees while something runs and when it ends. rich is imported when the first thing is drawn."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from uadbench.leaderboard import Board
    from uadbench.method import Advance
    from uadbench.plan import Planned
    from uadbench.store import CellFolder

PLAIN_SECONDS = 15.0
"""How often a bar says something where it cannot be redrawn (a log file)."""


def out() -> Console:
    """Return a console on standard output."""
    from rich.console import Console

    # A file or a pipe has no width of its own; COLUMNS may give one.
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(highlight=False, soft_wrap=not known, width=None if known else 170)


def say(text: str) -> None:
    """Print a line on standard error, where all talk goes so that standard output can be piped."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class TerminalReporter:
    """Progress on standard error: bars in a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        """Nothing was begun yet."""
        self._began = 0.0

    def begin(self, planned: Planned, number: int, total: int) -> None:
        """Name the cell."""
        self._began = time.perf_counter()
        say(f"[{number}/{total}] {planned.name}, seed {planned.seed}" + (" (for scale)" if planned.reference else ""))

    def end(self, planned: Planned, folder: CellFolder | None, outcome: str, reason: str) -> None:
        """Say how it ended."""
        seconds = time.perf_counter() - self._began
        words = {
            "done": f"done in {seconds:.1f} s",
            "kept": "already done, nothing to do",
            "evaluated": f"already done; its maps were evaluated in {seconds:.1f} s",
            "failed": f"FAILED: {reason}",
            "skipped": f"skipped: {reason}",
            "interrupted": f"interrupted: {reason}",
            "busy": f"not done here: {reason}",
        }
        log = (
            f"; see {folder.path / 'log.txt'}"
            if outcome == "failed" and folder and (folder.path / "log.txt").is_file()
            else ""
        )
        say(f"    {words[outcome]}{log}")

    def note(self, text: str) -> None:
        """Say something."""
        say(f"    {text}")

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """Open a bar with remaining time and, if there is one, the loss."""
        if not sys.stderr.isatty():
            yield _lines(label, total)
            return
        with _progress() as progress:
            task = progress.add_task(f"    {label}", total=total, info="")

            def advance(n: int = 1, **info: Any) -> None:
                progress.update(task, advance=n, info="  ".join(f"{k} {v:.4f}" for k, v in info.items() if v == v))

            yield advance


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
        console=Console(stderr=True),
    )


def _lines(label: str, total: int) -> Advance:
    """Return an advance() that prints a line every few seconds and at the end."""
    began = last = time.perf_counter()
    done = 0

    def advance(n: int = 1, **info: Any) -> None:
        nonlocal done, last
        done += n
        at = time.perf_counter()
        if (done >= total and n) or at - last > PLAIN_SECONDS:
            last = at
            left = (at - began) / max(1, done) * (total - done)
            words = "  ".join(f"{k} {v:.4f}" for k, v in info.items() if v == v)
            say(
                f"    {label} {done}/{total}  {at - began:.0f} s"
                + (f"  left {left:.0f} s" if done < total else "")
                + f"  {words}"
            )

    return advance


def print_board(board: Board) -> None:
    """Print one board: rank, method, every metric, n, seconds, and what to know."""
    from rich.table import Table

    from uadbench.export import short, with_interval

    console = out()
    table = Table(title=f"{board.title}, ranked by {board.rank_by.title}", title_justify="left")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("method", overflow="fold")
    wide = console.width >= WIDE
    there = [board.rank_by, *(m for name in _SHOWN for m in board.metrics if m.name == name and m is not board.rank_by)]
    shown = there[: 6 if wide else 2]
    for metric in shown:
        table.add_column(metric.title, justify="right", no_wrap=True)
    for name in ("n", "cells", "train s", "s/vol") if wide else ("n", "train s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in board.rows:
        intervals = [m.name for m in shown[: 2 if wide else 1]]
        cells = [with_interval(row, m.name) if m.name in intervals else short(row.values[m.name].value) for m in shown]
        seconds = [short(row.facts[name]) for name in ("train_seconds", "score_seconds_per_volume")]
        facts = [str(row.done), *seconds] if wide else seconds[:1]
        n = str(row.values[board.rank_by.name].n)
        table.add_row(str(row.rank or "-"), row.method, *cells, n, *facts, style="" if row.rank else "dim")
    console.print(table)
    if not wide:
        console.print("more columns in a wider terminal, or with: uadbench leaderboard --export leaderboard.csv")
    for row in board.rows:
        if row.note:
            console.print(f"{row.method}: {row.note}", markup=False)
    rule = f"Threshold: {board.rule}, labels used: {board.labels_used}."
    oracle = "Oracle values peek and never rank"
    if any(m.name == "oracle_dice_subject" for m in shown):
        oracle += "; oracle Dice: each subject at its own best threshold (oracle_dice_subject)"
    console.print(f"In brackets: 95 % bootstrap over subjects. {rule} {oracle}.", markup=False)
    for warning in board.warnings:
        console.print(f"warning: {warning}", markup=False)
    if board.note:
        console.print(board.note, markup=False)


WIDE = 150
"""Characters that the table with all columns needs."""

_SHOWN = (
    "auprc", "dice", "oracle_dice_subject", "auroc", "lesion_f1", "healthy_fp_ml",
    "subject_ap", "subject_tpr_fpr05", "slice_auroc", "slice_ap", "healthy_flagged",
)  # fmt: skip
"""Metrics of a table in a terminal, after the one that ranks, as many as fit; the files hold all."""
