"""What the check before a run found, kept so that the same data are read for it once and not before every run."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from uadbench.config import cache_folder
from uadbench.errors import StoreError
from uadbench.files import write_atomic
from uadbench.identity import core_code, digest

FOLDER = "checked"
"""Below the cache folder. Any file in it can be deleted at any time."""

MADE_BY = ("bank", "data_checks", "dataset", "file_checks", "findings", "gzipped", "joined", "preparation", "reading",
           "registration_checks", "split_checks", "volume_checks")  # fmt: skip
"""Core modules that look at data before a run. The adapter's own code is part of the data's fingerprint."""


@dataclass(frozen=True)
class Checked:
    """Data without an error.

    Attributes:
        sizes: (H, W) of their slices, all that occur.
        warnings: what is to be told before every run on them.
    """

    sizes: tuple[tuple[int, int], ...]
    warnings: tuple[str, ...]


def checked_once(recipe: Any, check: Callable[[], Checked]) -> Checked:
    """Return what an earlier check of the same data by the same code found, else check them.

    Args:
        recipe: what the result depends on besides code: data, split, protocol; a JSON-like value.
        check: reads the data. What it raises is raised, and nothing is kept.
    """
    path = cache_folder() / FOLDER / f"{digest([recipe, core_code(MADE_BY)])}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Checked(tuple((int(h), int(w)) for h, w in kept["sizes"]), tuple(map(str, kept["warnings"])))
    except (OSError, ValueError, KeyError, TypeError):
        found = check()
    with suppress(StoreError):  # Without it the next run looks again.
        write_atomic(path, json.dumps(asdict(found)).encode())
    return found
