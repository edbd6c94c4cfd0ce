"""From stored cells to one table: which method is better, by how much, how surely, at what cost. Pure; no torch.

A row is a method with its parameters, on one dataset under one protocol; its seeds and folds are averaged per subject
first, and the interval is a bootstrap over subjects. The spread over seeds is another column.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from uadbench.errors import StoreError
from uadbench.identity import digest
from uadbench.metrics import METRICS, Metric, get_metric
from uadbench.metrics.bootstrap import interval, mean_draws
from uadbench.result import Cell, Result, Value
from uadbench.store import CellFolder


@dataclass
class Stored:
    """A cell that was read, with what a table needs of it."""

    folder: CellFolder
    cell: Cell
    state: str
    reason: str
    changed: str
    result: Result | None = None
    subjects: pd.DataFrame | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    preset: str = ""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        method: name, with the parameters that tell it from other rows of the same method.
        rank: 1 is best; None if it is not ranked.
        note: why it is not ranked, or what to know.
        values: by metric name.
        seed_std: standard deviation over seeds and folds, by metric name; NaN for one cell.
        facts: seconds, parameters, budget and so on.
    """

    method: str
    name: str
    dataset: str
    protocol: str
    rank: int | None
    note: str
    values: dict[str, Value]
    seed_std: dict[str, float]
    cells: list[Stored]
    facts: dict[str, Any]

    @property
    def done(self) -> int:
        """Number of finished cells."""
        return sum(c.state == "done" for c in self.cells)


@dataclass
class Board:
    """All rows that may be compared with one another: one dataset, one content, one protocol.

    `subset` is the condition on the subjects, such as "lesion_kind=iso", or empty.
    """

    dataset: str
    protocol: str
    rank_by: Metric
    metrics: list[Metric]
    rows: list[Row]
    subset: str = ""
    note: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Dataset, protocol and subset in words."""
        return ", ".join(filter(None, [self.dataset, self.protocol, self.subset]))


def read_cells(folders: Iterable[CellFolder]) -> tuple[list[Stored], list[str]]:
    """Read cells; those that cannot be read are named in the second list and left out."""
    cells, problems = [], []
    for folder in folders:
        try:
            cells.append(_read(folder))
        except StoreError as error:
            problems.append(str(error))
    return cells, problems


def _read(folder: CellFolder) -> Stored:
    cell, status = folder.cell(), folder.status()
    state = str(status.get("state", "queued"))
    stored = Stored(folder, cell, state, str(status.get("reason", "")), str(status.get("changed", "")))
    stored.preset = str(folder.read_json("config.json").get("preset", ""))
    if state == "done":
        stored.result = folder.result()
        stored.provenance = folder.read_json("provenance.json")
        try:
            stored.subjects = pd.read_csv(folder.path / "subjects.csv", dtype={"subject": str, "person": str})
        except (OSError, ValueError) as error:
            raise StoreError(f"{folder.path / 'subjects.csv'} is damaged ({error}); evaluate the cell again") from error
    return stored


def make_boards(cells: Sequence[Stored], *, where: str = "", every_variant: bool = False) -> list[Board]:
    """Sort cells into boards and rank their rows.

    Args:
        cells: as read.
        where: only subjects of one group, such as "lesion_kind=iso"; pooled metrics are empty then.
        every_variant: also show what was run with older code of the same method, or older data.

    Returns:
        One board for each dataset content and protocol, the newest content of a dataset first.
    """
    groups: dict[str, list[Stored]] = defaultdict(list)
    for stored in cells:
        groups[stored.cell.data_id].append(stored)
    chosen = list(groups.values())
    if not every_variant:
        chosen = list(_newest(chosen, lambda c: digest([c.dataset, c.dataset_params, c.protocol["name"]])))
    boards = [_board(group, where, every_variant) for group in chosen]
    return sorted(boards, key=lambda b: (b.dataset, b.protocol))


def _newest(groups: Iterable[list[Stored]], key: Callable[[Cell], str]) -> Iterable[list[Stored]]:
    """Of groups whose cells have the same key, keep the one that changed last."""
    kept: dict[str, list[Stored]] = {}
    for group in groups:
        name = key(group[0].cell)
        if name not in kept or max(c.changed for c in group) > max(c.changed for c in kept[name]):
            kept[name] = group
    return kept.values()


def group_values(cells: Sequence[Stored]) -> dict[str, list[str]]:
    """Return the groups of the lesion test subjects that are words, and their values in order of appearance."""
    found: dict[str, dict[str, None]] = {}
    for stored in cells:
        if stored.subjects is None:
            continue
        table = stored.subjects[stored.subjects["role"] == "test_lesion"]
        for column in table.columns:
            if column.startswith("group:") and not pd.api.types.is_numeric_dtype(table[column]):
                found.setdefault(column.removeprefix("group:"), {}).update(
                    dict.fromkeys(table[column].dropna().astype(str))
                )
    return {name: list(values) for name, values in found.items()}


def _board(cells: list[Stored], where: str, every_variant: bool) -> Board:
    protocol = cells[0].cell.protocol
    metrics = [get_metric(name) for name in protocol["metrics"] if name in METRICS]
    variants: dict[str, list[Stored]] = defaultdict(list)
    for stored in cells:
        variants[stored.cell.variant].append(stored)
    kept = list(variants.values())
    if not every_variant:
        kept = list(_newest(kept, lambda c: digest([c.method, c.params, c.precision])))
    labels = _labels(kept)
    rows = [_row(group, label, metrics, where) for group, label in zip(kept, labels, strict=True)]
    rank_by = get_metric(protocol["rank_by"])
    wanted = {(c.cell.seed, c.cell.fold) for group in kept for c in group if c.state == "done"}
    board = Board(cells[0].cell.dataset, protocol["name"], rank_by, metrics, rows, where)
    _rank(board, wanted)
    board.note = next((str(c.provenance.get("note", "")) for c in cells if c.provenance), "")
    board.warnings = _warnings(board, protocol["few"])
    return board


def _labels(groups: list[list[Stored]]) -> list[str]:
    """Return a name for every group: the method, and the parameters in which it differs from its namesakes."""
    by_method: dict[str, list[Cell]] = defaultdict(list)
    for group in groups:
        by_method[group[0].cell.method].append(group[0].cell)
    labels = []
    for group in groups:
        cell, namesakes = group[0].cell, by_method[group[0].cell.method]
        varying = sorted({k for other in namesakes for k in other.params if other.params.get(k) != cell.params.get(k)})
        words = [f"{k}={cell.params.get(k)}" for k in varying]
        if len({other.precision for other in namesakes}) > 1:
            words.append(cell.precision)
        if len({other.source for other in namesakes if other.params == cell.params}) > 1:
            words.append(f"code {cell.source[:6]}")
        if len(words) > 4:
            words = [f"preset {group[0].preset}", *[w for w in words if w == cell.precision or w.startswith("code ")]]
        labels.append(f"{cell.method} [{', '.join(words)}]" if words else cell.method)
    return labels


def _row(cells: list[Stored], label: str, metrics: list[Metric], where: str) -> Row:
    done = sorted((c for c in cells if c.state == "done"), key=lambda c: (c.cell.seed, c.cell.fold))
    values = {m.name: _value(m, done, where) for m in metrics}
    spread = {m.name: _spread(m, done, where) for m in metrics}
    first = cells[0].cell
    notes = list(dict.fromkeys(c.provenance["unranked"] for c in done if c.provenance.get("unranked")))
    if any(c.provenance.get("transductive") for c in done):
        notes.append("transductive")
    notes += list(dict.fromkeys(f"{c.state}: {c.reason}" for c in cells if c.state not in ("done",)))
    return Row(
        label,
        first.method,
        first.dataset,
        first.protocol["name"],
        None,
        "; ".join(notes),
        values,
        spread,
        cells,
        _facts(done),
    )


def _subjects(stored: Stored, where: str) -> pd.DataFrame:
    table = stored.subjects
    assert table is not None
    if where:
        column, _, wanted = where.partition("=")
        name = f"group:{column}"
        table = table[table[name].astype(str) == wanted] if name in table else table.iloc[:0]
    return table


def _value(metric: Metric, done: list[Stored], where: str) -> Value:
    """Return the mean over cells, with an interval over subjects."""
    nothing = Value(float("nan"), float("nan"), float("nan"), 0)
    if not done:
        return nothing
    # As stored with the cell: results of a protocol that this version no longer has can still be read.
    protocol = done[0].cell.protocol
    if metric.over == "pooled":
        found = [c.result.metrics[metric.name] for c in done if c.result and metric.name in c.result.metrics]
        if where or not found:
            return nothing
        # The draws of all cells resample the same subjects in the same way, so their mean is a draw of the mean.
        by_cell = [c.folder.read_arrays("bootstrap.npz")[metric.name] for c in done]
        mean = np.mean(by_cell, axis=0) if len({len(d) for d in by_cell}) == 1 else np.empty(0)
        value = float(np.mean([v.value for v in found]))
        return Value(value, *interval(mean, protocol["level"]), found[0].n, found[0].excluded)
    tables = [_subjects(c, where) for c in done]
    columns = [t.set_index(["subject", "role"])[metric.name] for t in tables if metric.name in t]
    if not columns:
        return nothing
    role = "test_healthy" if metric.over == "healthy subjects" else "test_lesion"
    per_subject = pd.concat(columns, axis=1).mean(axis=1)
    per_subject = per_subject[per_subject.index.get_level_values("role") == role]
    numbers = per_subject.to_numpy(np.float64)
    kept = numbers[np.isfinite(numbers)]
    if not len(kept):
        return nothing
    draws = mean_draws(numbers, protocol["draws"], protocol["bootstrap_seed"])
    return Value(float(kept.mean()), *interval(draws, protocol["level"]), len(kept), len(numbers) - len(kept))


def _spread(metric: Metric, done: list[Stored], where: str) -> float:
    values = [_value(metric, [c], where).value for c in done]
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _facts(done: list[Stored]) -> dict[str, Any]:
    """Return cost and budget, averaged over cells."""

    def mean(*path: str) -> float:
        numbers = []
        for stored in done:
            value: Any = stored.provenance
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, (int, float)):
                numbers.append(float(value))
        return float(np.mean(numbers)) if numbers else float("nan")

    versions = sorted({c.provenance.get("versions", {}).get("uadbench", "") for c in done})
    return {
        "train_seconds": mean("fit", "train_seconds"),
        "score_seconds_per_volume": mean("fit", "score_seconds_per_volume"),
        "steps": mean("fit", "steps"),
        "images_seen": mean("fit", "images_seen"),
        "parameters": mean("fit", "parameters"),
        "peak_memory_mib": mean("peak_memory_mib"),
        "peak_gpu_memory_mib": mean("peak_gpu_memory_mib"),
        "device": ", ".join(sorted({str(c.provenance.get("machine", {}).get("device", "")) for c in done})),
        "uadbench_version": ", ".join(v for v in versions if v),
    }


def _rank(board: Board, wanted: set[tuple[int, int]]) -> None:
    """Rank the complete rows by the board's metric; equal values share a rank. The others follow, with the reason."""
    ranked = []
    for row in board.rows:
        have = {(c.cell.seed, c.cell.fold) for c in row.cells if c.state == "done"}
        if missing := len(wanted - have):
            if have:
                row.note = "; ".join(filter(None, [row.note, f"{missing} of {len(wanted)} seeds or folds missing"]))
        elif not any(c.provenance.get("unranked") for c in row.cells) and math.isfinite(
            row.values[board.rank_by.name].value
        ):
            ranked.append(row)
    sign = -1.0 if board.rank_by.higher_is_better else 1.0
    key = board.rank_by.name
    ranked.sort(key=lambda r: (sign * r.values[key].value, r.method))
    for row in ranked:
        row.rank = 1 + sum(sign * other.values[key].value < sign * row.values[key].value for other in ranked)
    rest = [r for r in board.rows if r.rank is None]
    rest.sort(key=lambda r: (math.isnan(r.values[key].value), sign * np.nan_to_num(r.values[key].value), r.method))
    board.rows = [*ranked, *rest]


def _warnings(board: Board, few: int) -> list[str]:
    """Return what a reader must know before believing the order."""
    out = []
    sizes = {r.values[board.rank_by.name].n for r in board.rows if r.rank}
    if sizes and min(sizes) < few:
        out.append(f"n = {min(sizes)} lesion subjects is too small to rank methods that are close (fewer than {few})")
    budgets = {
        (r.facts["steps"], r.facts["images_seen"])
        for r in board.rows
        if r.rank and r.facts["steps"] == r.facts["steps"]
    }
    if len(budgets) > 1:
        listed = "; ".join(f"{int(s):,} steps, {int(i):,} images" for s, i in sorted(budgets))
        out.append(f"the training budgets differ: {listed}")
    return out
