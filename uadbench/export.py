"""A leaderboard as a file: .csv .md .html .json .tex. Numbers are plain, columns and rows are in a stable order."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from uadbench.files import check_target, write_atomic
from uadbench.leaderboard import Board
from uadbench.metrics import Metric
from uadbench.rows import Row

FORMATS = (".csv", ".md", ".html", ".json", ".tex")

COLUMNS: dict[str, str] = {
    "rank": "place by rank_metric; empty if the row is not ranked",
    "method": "name, and the parameters that tell it from other rows of the same method",
    "dataset": "name",
    "protocol": "name with version; rows of different protocols are never averaged",
    "subset": "condition on the subjects, such as lesion_kind=iso; empty for all",
    "rank_metric": "the metric that ranks",
    "threshold": "rule of the operating point",
    "labels_used": "lesion labels that this rule reads: none, val or test",
    "n_lesion_subjects": "lesion test subjects behind the ranking metric",
    "n_cells": "finished cells (seeds x folds) that are averaged",
    "n_cells_failed": "cells that failed, were skipped or interrupted",
    "<metric>": "mean over seeds and subjects; pooled metrics: mean over seeds",
    "<metric>_ci_low": "lower end of the 95 % bootstrap interval over subjects",
    "<metric>_ci_high": "upper end",
    "<metric>_seed_std": "standard deviation over cells (n - 1); empty for one cell",
    "train_seconds": "wall time of fit, mean over cells",
    "score_seconds_per_volume": "wall time of scoring, mean over volumes and cells",
    "steps": "optimiser steps; empty for methods that do not train",
    "images_seen": "steps x batch size",
    "parameters": "of all networks, trained or frozen",
    "peak_memory_mib": "largest memory of the process while fitting and scoring",
    "peak_gpu_memory_mib": "largest memory allocated on the GPU; empty on a CPU",
    "device": "where it ran",
    "method_params": "hyper-parameters as JSON",
    "method_source": "hash of the code that computes the maps",
    "dataset_params": "parameters of the dataset as JSON",
    "dataset_fingerprint": "hash of the data's content and split",
    "data_id": "rows with one data_id share data and protocol, and may be compared",
    "uadbench_version": "that made the cells",
    "note": "why the row is not ranked, or what to know",
}
"""Columns of the wide table in order. The four with <metric> are repeated for each metric of the protocol."""

LONG_COLUMNS: dict[str, str] = {
    "method": "as above", "dataset": "as above", "protocol": "as above", "subset": "as above",
    "data_id": "as above",
    "metric": "name of the metric",
    "over": "lesion subjects, healthy subjects, pooled, subjects or slices",
    "higher_is_better": "True or False",
    "oracle": "True if the metric looks at test labels to decide",
    "value": "mean over seeds", "ci_low": "of the bootstrap over subjects", "ci_high": "likewise",
    "seed_std": "standard deviation over cells",
    "n": "subjects that took part", "excluded": "subjects for which the metric is undefined",
    "n_cells": "finished cells", "rank": "by the board's ranking metric",
}  # fmt: skip
"""Columns of the long table, one row a metric."""


def wide(boards: Sequence[Board]) -> pd.DataFrame:
    """Return one row for each method x dataset x protocol."""
    records = []
    for board in boards:
        for row in board.rows:
            cell = row.cells[0].cell
            record: dict[str, Any] = {
                "rank": row.rank,
                "method": row.method,
                "dataset": row.dataset,
                "protocol": row.protocol,
                "subset": board.subset,
                "rank_metric": board.rank_by.name,
                "threshold": board.rule,
                "labels_used": board.labels_used,
                "n_lesion_subjects": row.values[board.rank_by.name].n,
                "n_cells": row.done,
                "n_cells_failed": len(row.cells) - row.done,
            }
            for metric in board.metrics:
                value = row.values[metric.name]
                record |= {
                    metric.name: value.value,
                    f"{metric.name}_ci_low": value.ci_low,
                    f"{metric.name}_ci_high": value.ci_high,
                    f"{metric.name}_seed_std": row.seed_std[metric.name],
                }
            record |= {k: row.facts[k] for k in COLUMNS if k in row.facts and k != "uadbench_version"}
            record |= {
                "method_params": json.dumps(dict(cell.params), sort_keys=True),
                "method_source": cell.source,
                "dataset_params": json.dumps(dict(cell.dataset_params), sort_keys=True, default=str),
                "dataset_fingerprint": cell.fingerprint,
                "data_id": row.cells[0].data_id,
                "uadbench_version": row.facts["uadbench_version"],
                "note": row.note,
            }
            records.append(record)
    whole = ("rank", "n_lesion_subjects", "n_cells", "n_cells_failed", "steps", "images_seen", "parameters")
    table = pd.DataFrame(records)
    return table.astype({c: "Int64" for c in whole if c in table}) if len(table) else table


def long(boards: Sequence[Board]) -> pd.DataFrame:
    """Return one row for each method x dataset x protocol x metric."""
    records = []
    for board in boards:
        for row, metric in ((row, metric) for row in board.rows for metric in board.metrics):
            value = row.values[metric.name]
            records.append(
                    {
                        "method": row.method, "dataset": row.dataset, "protocol": row.protocol, "subset": board.subset,
                        "data_id": row.cells[0].data_id, "metric": metric.name, "over": metric.over,
                        "higher_is_better": metric.higher_is_better, "oracle": metric.oracle, "value": value.value,
                        "ci_low": value.ci_low, "ci_high": value.ci_high, "seed_std": row.seed_std[metric.name],
                        "n": value.n, "excluded": value.excluded, "n_cells": row.done, "rank": row.rank,
                    }
                )  # fmt: skip
    table = pd.DataFrame(records, columns=list(LONG_COLUMNS))
    return table.astype({"rank": "Int64"})


def export(boards: Sequence[Board], path: Path, *, as_long: bool = False) -> None:
    """Write the table to `path`, in the format of its ending.

    Raises:
        UsageError: for an unknown ending, or a place where no file can be written.
        StoreError: if the disk is full.
    """
    check_target(path, FORMATS, "--export")
    ending = path.suffix.lower()
    table = long(boards) if as_long else wide(boards)
    if ending == ".csv":
        text = table.to_csv(index=False, lineterminator="\n")
    elif ending == ".json":
        records = json.loads(table.to_json(orient="records", double_precision=15))
        text = json.dumps({"columns": list(table.columns), "rows": records}, indent=1) + "\n"
    elif as_long:
        text = _render(
            ending,
            "Leaderboard",
            [("", [*map(str, table.columns)], [[_cell(v) for v in row] for row in table.to_numpy().tolist()], [])],
        )
    else:
        text = _render(ending, "Leaderboard", [_readable(b, narrow=ending == ".tex") for b in boards])
    write_atomic(path.resolve(), text.encode())


Section = tuple[str, list[str], list[list[str]], list[str]]
"""Title, header, rows and remarks of one table for readers."""


def _readable(board: Board, *, narrow: bool = False) -> Section:
    """Return the table as people read it, mean with interval, three digits; or as it fits on a printed page.

    A narrow table has few metrics, an interval only for the one that ranks, and the notes below.
    """
    metrics = board.metrics
    if narrow:
        printed = [m for name in PRINTED for m in board.metrics if m.name == name and m.name != board.rank_by.name]
        metrics = [board.rank_by, *printed][: len(PRINTED)]
    header = ["rank", "method", *[m.title for m in metrics], "n", *([] if narrow else ["cells", "train s", "note"])]
    rows, notes = [], []
    for row in board.rows:
        values = [
            short(row.values[m.name].value) if narrow and m.name != board.rank_by.name else with_interval(row, m.name)
            for m in metrics
        ]
        facts = [] if narrow else [str(row.done), short(row.facts["train_seconds"]), row.note]
        rows.append([str(row.rank or "-"), row.method, *values, str(row.values[board.rank_by.name].n), *facts])
        if narrow and row.note:
            notes.append(f"{row.method}: {row.note}.")
    remarks = _remarks(board, metrics)
    return board.title, header, rows, [*remarks, *notes, "The CSV holds all metrics."] if narrow else remarks


PRINTED = ("auprc", "dice", "oracle_dice_subject", "auroc", "lesion_f1", "healthy_fp_ml")
"""Metrics of a printed table, after the one that ranks."""


def _remarks(board: Board, metrics: Sequence[Metric]) -> list[str]:
    """Return what a reader of a table with these metrics must know."""
    remarks = [
        f"Ranked by {board.rank_by.title}: {board.rank_by.description}.",
        "Intervals: 95 % bootstrap over subjects.",
    ]
    if any(m.oracle for m in metrics):
        remarks.append(
            "Oracle values peek at the test labels and never rank; oracle Dice: each subject at its own best threshold."
        )
    remarks += [w[0].upper() + w[1:] + "." for w in board.warnings]
    return [*remarks, *([board.note] if board.note else [])]


def with_interval(row: Row, metric: str) -> str:
    """Return "0.123 [0.100, 0.150]", or "-" where there is no value."""
    value = row.values[metric]
    if math.isnan(value.value):
        return "-"
    if math.isnan(value.ci_low):
        return short(value.value)
    digits = 4 if abs(value.value) < 0.01 else 3
    if abs(value.value) >= 10:
        return f"{short(value.value)} [{short(value.ci_low)}, {short(value.ci_high)}]"
    return f"{value.value:.{digits}f} [{value.ci_low:.{digits}f}, {value.ci_high:.{digits}f}]"


def _cell(value: Any) -> str:
    """Return a value of a data frame as people read it."""
    if pd.isna(value):
        return "-"
    return short(value) if isinstance(value, float) else str(value)


def short(value: float) -> str:
    """Return a number with three decimals below 10, four below 0.01 and fewer above; "-" for NaN."""
    if math.isnan(value):
        return "-"
    if 0 < abs(value) < 0.01:
        return f"{value:.4f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _render(ending: str, title: str, sections: Sequence[Section]) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=ending == ".html", trim_blocks=True, lstrip_blocks=True)
    environment.filters["tex"] = _tex
    return environment.from_string(_TEMPLATES[ending]).render(title=title, sections=sections, texts=_TEXTS)


def _tex(text: str) -> str:
    special = {c: "\\" + c for c in "&%$#_{}"} | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    return "".join(special.get(c, c) for c in text)


_TEXTS = ("method", "dataset", "protocol", "subset", "data_id", "metric", "over")
"""Columns of words, set to the left in print; the others are numbers."""

_TEMPLATES = {
    ".md": """# {{ title }}
{% for name, header, rows, remarks in sections %}

## {{ name }}

| {{ header | join(" | ") }} |
|{% for _ in header %}---|{% endfor %}

{% for row in rows %}
| {{ row | map("replace", "|", "\\\\|") | join(" | ") }} |
{% endfor %}

{% for remark in remarks %}
{{ remark }}
{% endfor %}
{% endfor %}
""",
    ".html": """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1c2330 }
div { overflow-x: auto }
table { border-collapse: collapse; white-space: nowrap; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #dde2ea; text-align: left }
th { border-bottom: 2px solid #1c2330 } tr:hover td { background: #f3f6fa } p { color: #566; margin: .3rem 0 }
</style></head><body><h1>{{ title }}</h1>
{% for name, header, rows, remarks in sections %}
<h2>{{ name }}</h2>
<div><table><thead><tr>{% for h in header %}<th>{{ h }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}
<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% for remark in remarks %}
<p>{{ remark }}</p>
{% endfor %}
{% endfor %}
</body></html>
""",
    ".tex": r"""{% for name, header, rows, remarks in sections %}
\begin{table}
\centering
\footnotesize
\setlength{\tabcolsep}{4pt}
\caption{{ '{' }}{{ name | tex }}. {{ remarks | map("tex") | join(" ") }}}
\begin{tabular}{{ '{' }}{% for h in header %}{{ "l" if h in texts else "r" }}{% endfor %}}
\hline
{{ header | map("tex") | join(" & ") }} \\
\hline
{% for row in rows %}
{{ row | map("tex") | join(" & ") }} \\
{% endfor %}
\hline
\end{tabular}
\end{table}
{% endfor %}
""",
}
