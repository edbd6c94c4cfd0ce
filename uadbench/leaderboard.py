"""From stored cells to one table: which method is better, by how much, how surely, at what cost. Pure; no torch.

A row is a method with its parameters, on one dataset under one protocol; its seeds and folds are averaged per subject
first, and the interval is a bootstrap over subjects. The spread over seeds is another column.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from uadbench.identity import digest
from uadbench.metrics import Metric
from uadbench.metrics.table import METRICS, get_metric
from uadbench.protocol import Threshold
from uadbench.result import Cell
from uadbench.rows import Row, Stored, make_row
from uadbench.statistics.intervals import IntervalMethod


@dataclass
class Board:
    """All rows that may be compared with one another: one dataset, one content, one protocol.

    `subset` is the condition on the subjects, such as "lesion_kind=iso", or empty; `data` tells it from other boards of the
    same dataset, such as "contrast=flair".
    """

    dataset: str
    protocol: str
    rank_by: Metric
    metrics: list[Metric]
    rows: list[Row]
    subset: str = ""
    data: str = ""
    note: str = ""
    rule: str = ""
    labels_used: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Dataset with what was chosen of it, protocol and subset in words."""
        dataset = f"{self.dataset} ({self.data})" if self.data else self.dataset
        return ", ".join(filter(None, [dataset, self.protocol, self.subset]))


def make_boards(
    cells: Sequence[Stored], *, where: str = "", every_variant: bool = False, interval: IntervalMethod = "percentile"
) -> list[Board]:
    """Sort cells into boards and rank their rows.

    Args:
        cells: as read.
        where: only subjects of one group, such as "lesion_kind=iso"; pooled metrics are empty then.
        every_variant: also show what was run with older code of the same method, or older data.
        interval: how confidence intervals are made from the bootstrap.

    Returns:
        One board for each dataset content and protocol, in the order of their names.
    """
    groups: dict[str, list[Stored]] = defaultdict(list)
    for stored in cells:
        groups[stored.data_id].append(stored)
    chosen = list(groups.values())
    if not every_variant:
        chosen = _without_older_data(chosen)
    boards = [_board(group, where, every_variant, interval) for group in chosen]
    _name_the_data(boards)
    return sorted(boards, key=lambda b: (b.dataset, b.data, b.protocol))


def _without_older_data(groups: list[list[Stored]]) -> list[list[Stored]]:
    """Leave out what was run with older content of the same subjects; other subjects are other data, and are kept."""

    def key(group: list[Stored]) -> str:
        cell = group[0].cell
        tables = (c.subjects for c in group if c.subjects is not None)
        people = next((sorted(set(t["subject"])) for t in tables), None)
        return digest([cell.dataset, cell.dataset_params, cell.preparation, group[0].protocol["name"], people])

    return list(_newest(groups, key))


def _name_the_data(boards: list[Board]) -> None:
    """Tell boards of one dataset apart: by the parameters that were chosen, then by their content."""
    for board in boards:
        stored = board.rows[0].cells[0]
        chosen = {k: v for k, v in stored.cell.dataset_params.items() if k in stored.data_chosen}
        board.data = ", ".join(f"{k}={_word(v)}" for k, v in sorted(chosen.items()))
    names = [(b.dataset, b.data, b.protocol) for b in boards]
    for board, name in zip(boards, names, strict=True):
        if names.count(name) > 1:
            mark = f"data {board.rows[0].cells[0].cell.fingerprint[:6]}"
            board.data = ", ".join(filter(None, [board.data, mark]))


def _word(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _newest(groups: Iterable[list[Stored]], key: Callable[[list[Stored]], str]) -> Iterable[list[Stored]]:
    """Of groups that have the same key, keep the one that changed last."""
    kept: dict[str, list[Stored]] = {}
    for group in groups:
        name = key(group)
        if name not in kept or max(c.changed for c in group) > max(c.changed for c in kept[name]):
            kept[name] = group
    return kept.values()


def _board(cells: list[Stored], where: str, every_variant: bool, interval: IntervalMethod) -> Board:
    protocol = cells[0].protocol
    metrics = [get_metric(name) for name in protocol["metrics"] if name in METRICS]
    variants: dict[str, list[Stored]] = defaultdict(list)
    for stored in cells:
        variants[stored.cell.variant].append(stored)
    kept = list(variants.values())
    if not every_variant:
        kept = list(_newest(kept, _setting))
    labels = _labels(kept)
    rows = [make_row(group, label, metrics, where, interval) for group, label in zip(kept, labels, strict=True)]
    rank_by = get_metric(protocol["rank_by"])
    wanted = {(c.cell.seed, c.cell.fold) for group in kept for c in group if c.state == "done"}
    board = Board(cells[0].cell.dataset, protocol["name"], rank_by, metrics, rows, where)
    _rank(board, wanted)
    board.note = next((str(c.provenance.get("note", "")) for c in cells if c.provenance), "")
    board.warnings = _warnings(board, protocol["few"])
    rule = Threshold(**protocol["threshold"])
    board.rule, board.labels_used = rule.words, rule.labels_used
    return board


def _setting(group: list[Stored]) -> str:
    cell = group[0].cell
    return digest([cell.method, cell.params, cell.precision])


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


def _rank(board: Board, wanted: set[tuple[int, int]]) -> None:
    """Rank the complete rows by the board's metric; equal values share a rank. The others follow, with the reason."""
    ranked = []
    for row in board.rows:
        have = {(c.cell.seed, c.cell.fold) for c in row.cells if c.state == "done"}
        if missing := len(wanted - have):
            if have:
                row.note = "; ".join(filter(None, [row.note, f"{missing} of {len(wanted)} seeds or folds missing"]))
        elif any(c.result and c.result.labels_used == "test" for c in row.cells):
            row.note = "; ".join(filter(None, [row.note, "the threshold was chosen on test labels"]))
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
        what = "lesion subjects" if board.rank_by.over == "lesion subjects" else "subjects"
        out.append(f"n = {min(sizes)} {what} is too small to rank methods that are close (fewer than {few})")
    empty = max((r.values[board.rank_by.name].excluded for r in board.rows), default=0)
    if empty and not board.subset:
        out.append(f"{empty} lesion test subject(s) have no lesion voxel inside the foreground and are not counted")
    if any(c.result and math.isinf(c.result.threshold) for r in board.rows for c in r.cells):
        out.append("too few healthy validation subjects for this threshold: it is infinite, and nothing is ever found")
    if len({c.result.code for r in board.rows for c in r.cells if c.result}) > 1:
        out.append("not all results were evaluated by the same code; give: uadbench evaluate")
    budgets = {
        (r.facts["steps"], r.facts["images_seen"])
        for r in board.rows
        if r.rank and r.facts["steps"] == r.facts["steps"]
    }
    if len(budgets) > 1:
        listed = "; ".join(f"{int(s):,} steps, {int(i):,} images" for s, i in sorted(budgets))
        out.append(f"the training budgets differ: {listed}")
    return out
