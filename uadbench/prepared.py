"""The folder that `uadbench datasets prepare` writes: what is in it, how it is read and how it is finished.

`prepared.json` says which dataset and recipe it is, and is written last: a folder without it is not finished, and has
`preparing.json` instead. `subjects.csv` has one line for each scan: person, scan, image:<modality>, lesion, foreground,
ignore (paths relative to the folder) and groups. `volumes/<scan>/` holds the images, and `record.json` with every step.
`qc.csv` and `qc.png` are for people.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uadbench.dataset import Group
from uadbench.errors import DataError

FACTS = "prepared.json"
UNFINISHED = "preparing.json"
SUBJECTS = "subjects.csv"
OWN_COLUMNS = ("person", "scan", "lesion", "foreground", "ignore")
NEEDED = ("dataset", "recipe", "recipe_hash", "registered", "stripped")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)


def is_prepared(root: Path) -> bool:
    """Whether a folder was written by `uadbench datasets prepare`.

    Raises:
        DataError: if it was not written to the end.
    """
    if (root / FACTS).is_file():
        return True
    if (root / UNFINISHED).is_file():
        raise DataError(
            f"{root} was not prepared to the end; give the same command (uadbench datasets prepare) again, what is finished "
            "is kept"
        )
    return False


def prepared_facts(root: Path) -> dict[str, Any]:
    """Return what `prepared.json` says: dataset, recipe, recipe_hash, registered, stripped (of the skull) and more.

    Raises:
        DataError: if it is damaged.
    """
    path = root / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in NEEDED if name not in facts]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error
    if missing:
        raise DataError(f"{path} does not say {', '.join(missing)}; prepare the data again")
    return dict(facts)


def prepared_rows(root: Path) -> list[dict[str, str]]:
    """Return the lines of `subjects.csv`.

    Raises:
        DataError: if it is missing or damaged, or names a file that is not there.
    """
    path = root / SUBJECTS
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{k: v or "" for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the data again") from error
    for row in rows:
        if not row.get("person"):
            raise DataError(f"{path} has a line without a person; prepare the data again")
        row.setdefault("scan", "")
        paths = [v for k, v in row.items() if v and (k.startswith("image:") or k in ("lesion", "foreground", "ignore"))]
        for name in paths:
            if not (root / name).is_file():
                raise DataError(f"{root / name} does not exist; prepare the data again, what is there is kept")
    return rows


def as_group(text: str) -> Group:
    """Return a number where the text is a plain, finite one. "001" is a name, and so are "1_0" and "nan"."""
    return float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else text


def begin(root: Path, dataset: str, recipe: str) -> None:
    """Mark a folder as one that is being prepared; until `finish` it is not taken for a prepared one.

    Raises:
        StoreError: if it cannot be written.
    """
    from uadbench.files import cannot_write, write_atomic

    write_atomic(root / UNFINISHED, json.dumps({"dataset": dataset, "recipe": recipe}).encode())
    try:
        (root / FACTS).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(root / FACTS, error) from error


def finish(root: Path, facts: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> None:
    """Write `subjects.csv`, then `prepared.json`.

    Raises:
        StoreError: if they cannot be written.
    """
    from uadbench.files import write_atomic

    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(root / SUBJECTS, text.getvalue().encode())
    write_atomic(root / FACTS, json.dumps(dict(facts), indent=1, ensure_ascii=False).encode())
    (root / UNFINISHED).unlink(missing_ok=True)


def owner(root: Path) -> str | None:
    """Return which dataset a folder is, or was to be, prepared from; None if it is something else."""
    for name in (FACTS, UNFINISHED):
        try:
            return str(json.loads((root / name).read_text(encoding="utf-8"))["dataset"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
