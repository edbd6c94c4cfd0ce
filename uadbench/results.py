"""Evaluations as they are stored below a cell: written so that what is there is complete, and current or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadbench.arrays import FloatArray
from uadbench.errors import StoreError
from uadbench.identity import code_of, digest
from uadbench.protocol import Protocol
from uadbench.result import Result

if TYPE_CHECKING:
    from uadbench.store import CellFolder

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """A result with its tables, and the bootstrap draws and jackknife values of what is no mean over subjects."""

    result: Result
    subjects: list[Row]
    lesions: list[Row]
    draws: dict[str, FloatArray]

    def write(self, folder: CellFolder) -> Path:
        """Store it in its cell and return where; the numbers come last, so what is there is complete."""
        place = folder.evaluation(self.result.protocol["name"])
        (folder.path / place / "metrics.json").unlink(missing_ok=True)
        folder.write_table(str(place / "subjects.csv"), self.subjects)
        folder.write_table(str(place / "lesions.csv"), self.lesions)
        folder.write_arrays(str(place / "bootstrap.npz"), self.draws)
        folder.write_json(str(place / "metrics.json"), self.result.as_dict())
        return place


@lru_cache(maxsize=1)
def evaluation_code() -> str:
    """Return the hash of the code that turns maps into numbers. Comments and blank lines do not count."""
    home = Path(__file__).parent
    names = ("evaluation", "pool", "spool", "postprocess", "filters", "thresholds", "preparation", "dataset")
    files = [*(home / f"{name}.py" for name in names), *sorted((home / "metrics").glob("*.py"))]
    return digest([code_of(path.read_text(encoding="utf-8")) for path in files])


def is_current(result: Result, protocol: Protocol) -> bool:
    """Whether a stored result is of exactly this protocol and of the code at hand."""
    return result.code == evaluation_code() and digest(result.protocol) == digest(protocol.as_dict())


def has_current(folder: CellFolder, protocol: Protocol) -> bool:
    """Whether a cell has a result of exactly this protocol and of the code at hand that can be read."""
    place = folder.evaluation(protocol.name)
    try:
        return place in folder.evaluations() and is_current(folder.result(place), protocol)
    except StoreError:
        return False
