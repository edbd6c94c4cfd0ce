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
from uadbench.protocol import Threshold, prepared_as
from uadbench.protocols import DEFAULT, PROTOCOLS
from uadbench.result import Cell
from uadbench.results import evaluation_code
from uadbench.rows import Row, Stored, make_row
from uadbench.statistics.intervals import IntervalMethod

FEW_VAL = 5
"""Healthy validation subjects below which a threshold is not to be trusted."""


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
        every_variant: also show what was run with older code of the same method, or older data, or evaluated under an
            older protocol of the same name.
        interval: how confidence intervals are made from the bootstrap.

    Returns:
        One board for each dataset content and protocol, in the order of their names.
    """
    groups: dict[str, list[Stored]] = defaultdict(list)
    for stored in cells:
        groups[stored.data_id].append(stored)
    chosen = list(groups.values())
    older = [0] * len(chosen)
    if not every_variant:
        chosen, older = _without_older_protocols(chosen)
        left = _without_older_data(chosen)
        older = [n for group, n in zip(chosen, older, strict=True) if any(group is kept for kept in left)]
        chosen = left
    boards = [_board(group, where, every_variant, interval, n) for group, n in zip(chosen, older, strict=True)]
    _name_the_data(boards)
    return sorted(boards, key=lambda b: (b.dataset, b.data, b.protocol))


def _without_older_protocols(groups: list[list[Stored]]) -> tuple[list[list[Stored]], list[int]]:
    """Of groups that differ only in what a protocol's name stood for, keep the newest, with the number of results left out.

    What is not done was evaluated under none of them, and stays.
    """
    namesakes: dict[tuple[str, str], list[list[Stored]]] = defaultdict(list)
    for group in groups:
        namesakes[group[0].cell.data_id, group[0].protocol["name"]].append(group)
    kept, older = [], []
    for several in namesakes.values():
        newest = max(several, key=lambda g: (any(c.result for c in g), _is_present(g), max(c.evaluated for c in g)))
        others = [c for group in several if group is not newest for c in group]
        kept.append([*newest, *(c for c in others if c.result is None)])
        older.append(sum(c.result is not None for c in others))
    return kept, older


def _is_present(group: list[Stored]) -> bool:
    """Whether the protocol of a group is what this version calls by that name."""
    stored, name = group[0], group[0].protocol["name"]
    base, _, option = name.partition(" (")
    protocol = PROTOCOLS.get(base)
    if protocol and option.startswith("prepared as"):
        protocol = prepared_as(protocol, stored.cell.preparation, stored.prepared)
    return protocol is not None and digest(protocol.as_dict()) == digest(stored.protocol)


def _without_older_data(groups: list[list[Stored]]) -> list[list[Stored]]:
    """Leave out what was run with older content of the same subjects; other subjects are other data, and are kept."""

    def key(group: list[Stored]) -> str:
        cell = group[0].cell
        tables = (c.subjects for c in group if c.subjects is not None)
        people = next((sorted(set(t["subject"])) for t in tables), None)
        # Folders of another name may hold the same people in another form, such as prepared, and are no older content.
        place = group[0].places
        return digest([cell.dataset, cell.dataset_params, cell.preparation, group[0].protocol["name"], people, place])

    return list(_newest(groups, key))


def _name_the_data(boards: list[Board]) -> None:
    """Tell boards of one dataset apart: by the parameters that were chosen, then by content, preparation and protocol."""
    for board in boards:
        stored = board.rows[0].cells[0]
        chosen = {k: v for k, v in stored.cell.dataset_params.items() if k in stored.data_chosen}
        board.data = ", ".join(f"{k}={_word(v)}" for k, v in sorted(chosen.items()))
    for number in range(len(_marks(boards[0])) if boards else 0):
        names = [b.title for b in boards]
        marks = [_marks(b)[number] for b in boards]
        for board, name, mark in zip(boards, names, marks, strict=True):
            if len({m for n, m in zip(names, marks, strict=True) if n == name}) > 1:
                board.data = ", ".join(filter(None, [board.data, mark]))


def _marks(board: Board) -> list[str]:
    """Return what may tell a board from its namesakes, the most telling first."""
    stored = board.rows[0].cells[0]
    return [
        f"data {stored.cell.fingerprint[:6]}",
        f"prepared as {stored.prepared}",
        f"preparation {digest(stored.cell.preparation)[:6]}",
        f"all parameters {digest(stored.cell.dataset_params)[:6]}",
        f"protocol {digest(stored.protocol)[:6]}",
    ]


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


def _board(cells: list[Stored], where: str, every_variant: bool, interval: IntervalMethod, older: int) -> Board:
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
    rule = Threshold(**protocol["threshold"])
    board.rule, board.labels_used = rule.words, rule.labels_used
    board.warnings = [*_warnings(board, protocol["few"]), *_tell_budgets(board), *_ages(board, cells, older)]
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
        elif row.never:
            if row.never not in row.note:
                row.note = "; ".join(filter(None, [row.note, row.never]))
        elif math.isfinite(row.values[board.rank_by.name].value):
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
    told = dict.fromkeys(w for r in board.rows for c in r.cells for w in c.provenance.get("data_warnings", ()))
    out += [f"of the data was told before the run: {w}" for w in told if w.startswith("E-")]
    fits = [c.provenance.get("fit", {}) for r in board.rows for c in r.cells]
    val = min((fit["val_subjects"] for fit in fits if "val_subjects" in fit), default=FEW_VAL)
    if val < FEW_VAL and board.labels_used == "none" and not board.rule.startswith("fixed"):
        out.append(f"thresholds come from {val} healthy validation subject(s); fewer than {FEW_VAL} say little")
    if any(c.result and math.isinf(c.result.threshold) for r in board.rows for c in r.cells):
        out.append("too few healthy validation subjects for this threshold: it is infinite, and nothing is ever found")
    return out


def _tell_budgets(board: Board) -> list[str]:
    """Return a warning if methods that are ranked were trained for different budgets, and write each beside its row."""
    trained = [r for r in board.rows if r.rank and math.isfinite(r.facts["steps"])]
    if len(budgets := {(r.facts["steps"], r.facts["images_seen"]) for r in trained}) < 2:
        return []
    words = {b: f"{int(b[0]):,} steps, {int(b[1]):,} images" for b in sorted(budgets)}
    for row in trained:
        row.note = "; ".join(filter(None, [row.note, words[row.facts["steps"], row.facts["images_seen"]]]))
    return [f"the training budgets differ: {'; '.join(words.values())}"]


def _ages(board: Board, cells: list[Stored], older: int) -> list[str]:
    """Return what is to be evaluated again; `older` results of the same cells are of an older protocol and left out."""
    name, out = board.protocol, []
    base, _, options = name.partition(" (")
    again = "give: uadbench evaluate" + (f" --protocol {base}" if base in PROTOCOLS and base != DEFAULT else "")
    if options and not options.startswith("prepared as"):
        again += " with the options in its name"
    codes = {c.result.code for r in board.rows for c in r.cells if c.result}
    if older:
        out.append(f"{older} result(s) were evaluated under an older {name} and are left out; {again}")
    if name in PROTOCOLS and codes and not _is_present(cells):
        out.append(f"all results were evaluated under an older {name}; {again}")
    elif len(codes) > 1:
        out.append(f"not all results were evaluated by the same code; {again}")
    elif codes and codes != {evaluation_code()}:
        out.append(f"all results were evaluated by older code; {again}")
    return out
