"""The folder that `uadbench datasets prepare` writes: what is in it, and how it is read.

`prepared.json` says which dataset and recipe it is, and is written last: a folder without it is not finished.
`subjects.csv` has one line for each scan: person, scan, image:<modality>, lesion, foreground, ignore (paths relative to the
folder) and groups.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from uadbench.dataset import Group
from uadbench.errors import DataError

FACTS = "prepared.json"
SUBJECTS = "subjects.csv"
OWN_COLUMNS = ("person", "scan", "lesion", "foreground", "ignore")
NEEDED = ("dataset", "recipe", "recipe_hash", "registered")


def is_prepared(root: Path) -> bool:
    """Whether a folder was written by `uadbench datasets prepare`, to the end."""
    return (root / FACTS).is_file()


def prepared_facts(root: Path) -> dict[str, Any]:
    """Return what `prepared.json` says: dataset, recipe, recipe_hash, registered and more.

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
    """Return a number where the text is one."""
    try:
        return float(text)
    except ValueError:
        return text
