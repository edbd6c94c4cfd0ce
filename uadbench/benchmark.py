"""Suites: which methods, datasets, seeds and protocol belong together, as TOML files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uadbench.errors import UsageError, suggest, unknown_name

FOLDER = Path(__file__).parent / "benchmarks"
KEYS = ("summary", "methods", "datasets", "healthy", "seed", "fold", "preset", "protocol", "params", "data")


@dataclass(frozen=True)
class Suite:
    """A named benchmark.

    Attributes:
        name: of its file.
        values: the keys of `KEYS` that it sets.
    """

    name: str
    values: Mapping[str, Any]


def _read(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from error


def defaults() -> dict[str, Any]:
    """Return what a run does when nothing else is said."""
    return _read(FOLDER / "defaults.toml")


def suites() -> dict[str, Path]:
    """Return the built-in suites by name."""
    return {p.stem: p for p in sorted(FOLDER.glob("*.toml")) if p.stem not in ("defaults", "multiverse")}


def load_suite(name: str) -> Suite:
    """Read a built-in suite, or the TOML file at a path.

    Raises:
        UnknownName: if there is no such suite.
        UsageError: if the file is not valid.
    """
    known = suites()
    path = known.get(name) or Path(name)
    if name not in known and path.suffix != ".toml":
        raise unknown_name("suite", name, known)
    values = _read(path)
    for key in values:
        if key not in KEYS:
            raise UsageError(f"{path}: {key!r} is no key of a suite.{suggest(key, KEYS)} Possible: {', '.join(KEYS)}")
    for key in ("methods", "datasets", "params", "data"):
        if key in values and not (isinstance(values[key], list) and all(isinstance(v, str) for v in values[key])):
            raise UsageError(f"{path}: {key} must be a list of texts")
    return Suite(path.stem, values)


def published(method: str) -> list[dict[str, str]]:
    """Return the numbers that were published for a method, as rows of benchmarks/published.csv."""
    import csv

    with (FOLDER / "published.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["method"] == method]
