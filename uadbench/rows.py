"""From stored cells to one line of a table: averages over seeds and folds, intervals over subjects, costs. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from uadbench.errors import StoreError
from uadbench.metrics import Metric
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
    data_chosen: frozenset[str] = frozenset()


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
    config = folder.read_json("config.json")
    stored.preset = str(config.get("preset", ""))
    stored.data_chosen = frozenset(k for k, v in config.get("dataset", {}).items() if v["source"] != "default")
    if state == "done":
        stored.result = folder.result()
        stored.provenance = folder.read_json("provenance.json")
        try:
            stored.subjects = pd.read_csv(folder.path / "subjects.csv", dtype={"subject": str, "person": str})
        except (OSError, ValueError) as error:
            raise StoreError(f"{folder.path / 'subjects.csv'} is damaged ({error}); evaluate the cell again") from error
    return stored


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


def make_row(cells: list[Stored], label: str, metrics: list[Metric], where: str) -> Row:
    """Average the cells of one method with the same parameters; `where` chooses subjects, such as "lesion_kind=iso"."""
    done = sorted((c for c in cells if c.state == "done"), key=lambda c: (c.cell.seed, c.cell.fold))
    values = {m.name: _value(m, done, where) for m in metrics}
    spread = {m.name: _spread(m, done, where) for m in metrics}
    first = cells[0].cell
    notes = list(dict.fromkeys(c.provenance["unranked"] for c in done if c.provenance.get("unranked")))
    if any(c.provenance.get("transductive") for c in done):
        notes.append("transductive")
    notes += list(
        dict.fromkeys(f"{c.state}: {c.reason}" if c.reason else c.state for c in cells if c.state not in ("done",))
    )
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
    # Scans of one person are averaged first, so that people count alike and the interval is over people.
    columns = [t.groupby(["person", "role"], sort=False)[metric.name].mean() for t in tables if metric.name in t]
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
