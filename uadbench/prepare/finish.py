"""What is written when all scans are through: the table, the sheet, and what makes the folder a prepared one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uadbench.files import now, write_atomic
from uadbench.prepare.folder import asked
from uadbench.prepare.images import itk
from uadbench.prepare.qc import as_csv, compare, ordered
from uadbench.prepare.register import Register
from uadbench.prepare.scans import CaseLike
from uadbench.prepare.sheet import draw
from uadbench.prepare.strip import SkullStrip
from uadbench.prepare.work import RECORD, Task, folder_of
from uadbench.prepared import OWN_COLUMNS, finish

TABLE = "qc.csv"
COLUMNS = {
    "key": "the scan",
    "flags": "what is suspicious about it, with semicolons between, or why it failed (limits: uadbench/prepare/qc.py)",
    "person": "whose scan it is",
    "metric": "mutual information with the template after registration, negative; lower is better",
    "lost": "share of the brain that boxes cut away",
    "brain_ml": "millilitres of the foreground at the end; after affine registration those of the template",
    "coverage": "share of the template's brain that the foreground covers",
    "dice": "overlap of the foreground and the template's brain",
    "centroid_mm": "millimetres between the middles of both",
    "zoom_min": "how many times as large the scan was made along the direction where that is least",
    "zoom_max": "the same where it is most",
    "{modality}_empty": "share of the foreground where the image is exactly 0",
    "{modality}_p1": "1st percentile of the image in the foreground (of all voxels without one)",
    "{modality}_p50": "median",
    "{modality}_p99": "99th percentile",
    "{modality}_min": "smallest value anywhere",
    "{modality}_max": "largest value anywhere",
    "lesion_voxels_before": "voxels of the lesion mask as it lies in the file",
    "lesion_ml_before": "their millilitres",
    "lesion_voxels": "voxels of the prepared lesion mask",
    "lesion_ml": "their millilitres",
    "lesion_kept": "millilitres of the lesion after, as a share of before times the change of size by the registration",
    "lesion_outside": "share of the lesion outside the foreground",
    "voxels": "grid of the first image, from left to right, back to front, bottom to top",
    "mm": "edges of a voxel in the same order",
    "seconds": "that the scan took",
    "folder": "where its files and record.json lie",
}
"""Of the table; {modality} stands for t1, t2 and so on. Numbers that a scan does not have are empty."""
SHEET = "qc.png"


@dataclass
class Outcome:
    """What became of the scans.

    Attributes:
        folder: the prepared folder.
        rows: of the quality table, the suspicious ones first.
        kept: scans that were finished before.
        done: scans that were prepared now.
        failed: reasons by scan.
        finished: the folder can be used.
    """

    folder: Path
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    kept: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    finished: bool = False


def write_results(cases: Mapping[str, CaseLike], task: Task, outcome: Outcome, allow_failures: bool) -> None:
    """Write the table, the sheet and, if the folder can be used, what makes it a prepared one."""
    records = {
        key: json.loads((folder_of(task, key) / RECORD).read_text(encoding="utf-8"))
        for key in cases
        if key not in outcome.failed
    }
    step = next((s for s in task.recipe.steps if isinstance(s, Register)), None)
    unlike = compare({key: record["numbers"] for key, record in records.items()})
    rows: list[dict[str, Any]] = [
        {"key": key, "flags": f"failed: {reason}", "person": cases[key].person}
        for key, reason in outcome.failed.items()
    ]
    for key, record in records.items():
        rows.append(
            {
                "key": key,
                "flags": "; ".join([*record["flags"], *unlike[key]]),
                "person": cases[key].person,
                **record["numbers"],
                "seconds": record["seconds"],
                "folder": folder_of(task, key).relative_to(task.folder).as_posix(),
                "template": (step.template, record["template"], step.mm) if step and record["template"] else None,
            }
        )
    outcome.rows = ordered(rows)
    write_atomic(
        task.folder / TABLE, as_csv([{k: v for k, v in r.items() if k != "template"} for r in outcome.rows]).encode()
    )
    if records:
        write_atomic(task.folder / SHEET, draw(outcome.rows, task.folder, f"{task.name}, recipe {task.recipe.name}"))
    if not records or (outcome.failed and not allow_failures):
        return
    lines = [_line(cases[key], record, task, key) for key, record in records.items()]
    brains = {step["by"] for record in records.values() for step in record["steps"] if step["do"] == SkullStrip.name}
    finish(task.folder, _facts(task, outcome, list(records), lines, brains), lines)
    outcome.finished = True


def _line(case: CaseLike, record: Mapping[str, Any], task: Task, key: str) -> dict[str, str]:
    folder = folder_of(task, key).relative_to(task.folder).as_posix()
    line = {"person": case.person, "scan": case.scan}
    line |= {name: f"{folder}/{file}" for name, file in record["files"].items()}
    for name, value in case.groups.items():
        # A group may not pass for a column of another meaning.
        safe = f"group_{name.replace(':', '_')}" if name in OWN_COLUMNS or ":" in name else name
        line[safe] = str(value)
    return line


def _facts(
    task: Task, outcome: Outcome, keys: Sequence[str], lines: Sequence[Mapping[str, str]], brains: set[str]
) -> dict[str, Any]:
    from uadbench import __version__

    return {
        "format": 1,
        "dataset": task.name,
        **asked(task),
        "stripped": task.stripped,
        "registered": task.recipe.registered,
        "text": task.recipe.text,
        "steps": task.recipe.as_list(),
        "templates": {k: v for step in task.recipe.steps for k, v in step.inputs().items()},
        "brains": sorted(brains),
        "modalities": sorted({k.partition(":")[2] for line in lines for k in line if k.startswith("image:")}),
        "scans": len(keys),
        "of": task.of,
        "failed": outcome.failed,
        "made_with": {"uadbench": __version__, "SimpleITK": itk().Version_VersionString()},
        "written": now(),
    }
