"""From stored cells to one line of a table: averages over seeds and folds, intervals over subjects, costs. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uadbench.errors import StoreError
from uadbench.groups import measured, read_subjects
from uadbench.identity import digest
from uadbench.metrics import Metric
from uadbench.metrics.bootstrap import centre, centre_draws
from uadbench.pool import WITHOUT
from uadbench.result import Cell, Result, Value
from uadbench.statistics.intervals import IntervalMethod, limits
from uadbench.store import CellFolder


@dataclass
class Stored:
    """A cell that was read under one protocol, with what a table needs of it."""

    folder: CellFolder
    cell: Cell
    protocol: dict[str, Any]
    """As stored with the result: protocols that this version no longer has can still be read."""
    state: str
    reason: str
    changed: str
    evaluation: Path | None = None
    result: Result | None = None
    subjects: pd.DataFrame | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    preset: str = ""
    data_chosen: frozenset[str] = frozenset()
    places: tuple[str, ...] = ()
    """Where the data lay, as it was given."""
    prepared: str = ""
    """The protocol under which it was run."""
    evaluated: float = 0.0
    """When the numbers were written, in seconds."""
    draws: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """The bootstrap draws of metrics of all subjects together, by name."""

    @property
    def data_id(self) -> str:
        """What must be equal for two rows to stand in one table: data, preparation and protocol."""
        return digest([self.cell.data_id, self.protocol])

    @cached_property
    def people(self) -> frozenset[tuple[str, str]]:
        """The test persons, with their roles."""
        if self.subjects is None:
            return frozenset()
        tested = self.subjects[self.subjects["role"] != "val"]
        return frozenset(zip(tested["role"], tested["person"], strict=True))


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

    @property
    def never(self) -> str:
        """Why the row is never ranked, however complete it is; empty if it may be."""
        if reason := next((str(c.provenance["unranked"]) for c in self.cells if c.provenance.get("unranked")), ""):
            return reason
        peeks = any(c.result and c.result.labels_used == "test" for c in self.cells)
        return "the threshold was chosen on test labels" if peeks else ""

    def draws(self, metric: str) -> NDArray[np.float64]:
        """Return the bootstrap draws of a metric of all subjects together, averaged over cells; empty if there are none."""
        return _mean_draws([c for c in self.cells if c.state == "done"], metric)


def read_cells(folders: Iterable[CellFolder], protocol: str = "") -> tuple[list[Stored], list[str]]:
    """Read cells, once for every protocol under which they were evaluated, or for one only.

    Those that cannot be read are named in the second list and left out. What is not done counts for the protocol that it
    was run under.
    """
    cells: list[Stored] = []
    problems: list[str] = []
    for folder in folders:
        try:
            places: list[Path | None] = [None]
            if folder.state == "done":
                if not (found := folder.evaluations()):
                    raise StoreError(f"{folder.path} has maps but no whole evaluation; give: uadbench evaluate")
                places = [p for p in found if not protocol or p == folder.evaluation(protocol)]
            for place in places:
                stored = _read(folder, place)
                if not protocol or stored.protocol["name"] == protocol:
                    cells.append(stored)
        except StoreError as error:
            problems.append(str(error))
    return cells, problems


def _read(folder: CellFolder, place: Path | None) -> Stored:
    cell, status = folder.cell(), folder.status()
    config = folder.read_json("config.json")
    stored = Stored(
        folder, cell, config["protocol"], folder.state, str(status.get("reason", "")), str(status.get("changed", ""))
    )
    stored.preset = str(config.get("preset", ""))
    stored.prepared = str(config["protocol"]["name"])
    stored.places = tuple(
        f"{k}={v['value']}" for k, v in sorted(config.get("dataset", {}).items()) if k.rpartition(".")[2] == "root"
    )
    stored.data_chosen = frozenset(k for k, v in config.get("dataset", {}).items() if v["source"] != "default")
    if place is not None:
        stored.evaluation, stored.result = place, folder.result(place)
        stored.protocol = dict(stored.result.protocol)
        stored.provenance = folder.read_json("provenance.json")
        table, arrays = folder.path / place / "subjects.csv", place / "bootstrap.npz"
        try:
            stored.evaluated = (folder.path / place / "metrics.json").stat().st_mtime
            stored.subjects = read_subjects(table)
        except (OSError, ValueError) as error:
            raise StoreError(f"{table} is damaged ({error}); give: uadbench evaluate --force") from error
        try:
            stored.draws = folder.read_arrays(str(arrays))
        except StoreError as error:  # Its remedy is about maps, which cost a run.
            raise StoreError(
                f"{folder.path / arrays} is missing or damaged; give: uadbench evaluate --force"
            ) from error
    return stored


def group_values(cells: Sequence[Stored]) -> dict[str, list[str]]:
    """Return the groups of the lesion test subjects, and their values in order of appearance; no measures such as an age."""
    found: dict[str, dict[str, None]] = {}
    for stored in cells:
        if stored.subjects is None:
            continue
        lesions = stored.subjects[stored.subjects["role"] == "test_lesion"]
        for column in lesions.columns[lesions.columns.str.startswith("group:")]:
            found.setdefault(column.removeprefix("group:"), {}).update(dict.fromkeys(lesions[column].dropna()))
    return {name: list(values) for name, values in found.items() if values and not measured(values)}


def make_row(
    cells: list[Stored], label: str, metrics: list[Metric], where: str, method: IntervalMethod = "percentile"
) -> Row:
    """Average the cells of one method with the same parameters; `where` chooses subjects, such as "lesion_kind=iso"."""
    done = sorted((c for c in cells if c.state == "done"), key=lambda c: (c.cell.seed, c.cell.fold))
    values = {m.name: _value(m, done, where, method) for m in metrics}
    spread = {m.name: _spread(m, done, where) for m in metrics}
    first = cells[0].cell
    notes = list(dict.fromkeys(c.provenance["unranked"] for c in done if c.provenance.get("unranked")))
    if told := dict.fromkeys(w[:10] for c in done for w in c.provenance.get("data_warnings", ()) if w.startswith("E-")):
        notes.append(f"data with {', '.join(told)}")
    if any(c.provenance.get("transductive") for c in done):
        notes.append("transductive")
    notes += list(
        dict.fromkeys(f"{c.state}: {c.reason}" if c.reason else c.state for c in cells if c.state not in ("done",))
    )
    return Row(
        label,
        first.method,
        first.dataset,
        cells[0].protocol["name"],
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
        table = table[table[name] == wanted] if name in table else table.iloc[:0]
    return table


def _value(metric: Metric, done: list[Stored], where: str, method: IntervalMethod) -> Value:
    """Return the mean over cells, with an interval over subjects."""
    nothing = Value(float("nan"), float("nan"), float("nan"), 0)
    if not done:
        return nothing
    protocol = done[0].protocol
    if metric.compute is None:
        found = [c.result.metrics[metric.name] for c in done if c.result and metric.name in c.result.metrics]
        if where or not found:
            return nothing
        value = float(np.mean([v.value for v in found]))
        # Seeds test the same people, folds may test others: all of them together are those behind the value.
        sets = {c.people: c.result.metrics[metric.name] for c in done if c.result and metric.name in c.result.metrics}
        n, excluded = sum(v.n for v in sets.values()), sum(v.excluded for v in sets.values())
        draws, without = _mean_draws(done, metric.name), _mean_draws(done, metric.name + WITHOUT)
        return Value(value, *limits(draws, without, value, protocol["level"], method), n, excluded)
    numbers = per_person(metric, done, where).to_numpy(np.float64)
    kept = numbers[np.isfinite(numbers)]
    if not len(kept):
        return nothing
    value = centre(kept, metric.aggregate)
    draws = centre_draws(kept, metric.aggregate, protocol["draws"], protocol["bootstrap_seed"])
    # Only BCa asks for the jackknife, whose cost grows with the square of the people.
    left_out = range(len(kept)) if method == "bca" else ()
    without = np.array([centre(np.delete(kept, i), metric.aggregate) for i in left_out])
    return Value(value, *limits(draws, without, value, protocol["level"], method), len(kept), len(numbers) - len(kept))


def per_person(metric: Metric, done: list[Stored], where: str = "") -> pd.Series[float]:
    """Return a metric of each test person, averaged over scans and then over cells; NaN where it is undefined."""
    role = "test_healthy" if metric.over == "healthy subjects" else "test_lesion"
    columns = []
    for stored in done:
        table = _subjects(stored, where)
        table = table[table["role"] == role]
        if metric.column in table:
            # Scans of one person are averaged first, so that people count alike and the interval is over people.
            defined = table[metric.column].where(np.isfinite(table[metric.column]))
            columns.append(defined.groupby(table["person"], sort=False).mean())
    return pd.concat(columns, axis=1).mean(axis=1) if columns else pd.Series(dtype=float)


def _mean_draws(done: list[Stored], metric: str) -> NDArray[np.float64]:
    """Return the draws averaged over cells: all resample the same people alike, so their mean is a draw of the mean.

    Empty where cells hold different people: their draws have nothing in common.
    """
    by_cell = [c.draws.get(metric, np.empty(0)) for c in done]
    same = len({len(d) for d in by_cell}) == 1 and len({c.people for c in done}) == 1
    return np.asarray(np.mean(by_cell, axis=0), np.float64) if same else np.empty(0)


def _point(metric: Metric, stored: Stored, where: str) -> float:
    """Return the value of one cell, NaN where it is undefined."""
    if metric.compute is None:
        known = stored.result is not None and metric.name in stored.result.metrics and not where
        return stored.result.metrics[metric.name].value if known and stored.result else float("nan")
    return centre(per_person(metric, [stored], where).to_numpy(np.float64), metric.aggregate)


def _spread(metric: Metric, done: list[Stored], where: str) -> float:
    values = [_point(metric, c, where) for c in done]
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
