"""The table of a cell's subjects, and what groups of them are called: words, whatever pandas would guess."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CODES = 12
"""Most whole numbers that name a group, such as a site or a grade. More of them measure something."""

UNKNOWN = ("NA", "N/A", "n/a", "nan", "NaN")
"""Words of a manifest for a group that is not known."""


def read_subjects(table: Path) -> pd.DataFrame:
    """Read subjects.csv. Only an empty field is missing: somebody may be called "NA". Groups are words."""
    names = pd.read_csv(table, nrows=0).columns
    words = {name: str for name in names if name in ("subject", "person") or name.startswith("group:")}
    found = pd.read_csv(table, dtype=words, keep_default_na=False, na_values=[""])
    for name in names[names.str.startswith("group:")]:
        found[name] = found[name].map(group_word, na_action="ignore").replace(list(UNKNOWN), np.nan)
    return found


def group_word(value: Any) -> str:
    """Return how a group is called on the command line: "iso", "007", or "2" for the number 2.0."""
    return re.sub(r"^(-?\d+)\.0$", r"\1", str(value))


def measured(words: Iterable[str]) -> bool:
    """Return whether the values of a group are numbers that measure something and do not name it."""
    distinct = set(words)
    numbers = [re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?", word) for word in distinct]
    return all(numbers) and (len(distinct) > CODES or any(m and (m[2] or m[3]) for m in numbers))
