"""Settings and where they come from: command line > environment > uadbench.toml > default."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from uadbench.errors import UsageError, suggest, unknown_name

FILE = "uadbench.toml"

SETTINGS = ("out", "seed", "preset", "protocol", "device", "precision")
"""What [run] may hold."""


@lru_cache(maxsize=8)
def _read(path: Path, mtime: int) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    _check(path, settings)
    return settings


def _check(path: Path, settings: dict[str, Any]) -> None:
    """Refuse sections and settings that nobody would read, and values of the wrong type."""
    sections = ("run", "methods", "datasets")
    for section, table in settings.items():
        if section not in sections:
            raise UsageError(
                f"{path}: no section is called {section!r}.{suggest(section, sections)} "
                "Known: [run], [methods.NAME], [datasets.NAME]."
            )
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {section} must be a section, [{section}]; got {table!r}")
        for name, value in table.items():
            if section == "run":
                _check_run(path, name, value)
            elif not isinstance(value, dict):
                raise UsageError(f"{path}: {section}.{name} must be a section, [{section}.{name}]; got {value!r}")


def _check_run(path: Path, name: str, value: Any) -> None:
    if name not in SETTINGS:
        raise UsageError(
            f"{path}: [run] has no setting {name!r}.{suggest(name, SETTINGS)} Known: {', '.join(SETTINGS)}."
        )
    if name == "seed" and type(value) not in (str, int):
        raise UsageError(f'{path}: [run] seed must be a whole number, or text such as "0,1" or "0-2"; got {value!r}')
    if name != "seed" and not isinstance(value, str):
        raise UsageError(f"{path}: [run] {name} must be text in quotes; got {value!r}")


def project_settings() -> dict[str, Any]:
    """Return the content of uadbench.toml in the working folder, or {}.

    Raises:
        UsageError: if the file is not valid TOML, or holds what nobody would read.
    """
    path = Path(FILE).resolve()
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else {}


def check_names(section: str, known: Collection[str]) -> None:
    """Refuse a section of uadbench.toml for a method or dataset that does not exist.

    Args:
        section: "methods" or "datasets".
        known: their names.

    Raises:
        UsageError: with the nearest name.
    """
    for name in project_settings().get(section, {}):
        if name not in known:
            problem = unknown_name(section.removesuffix("s"), name, known)
            raise UsageError(f"{FILE}: [{section}.{name}]: {problem} The section of a plug-in needs its --plugin.")


def setting(section: str, name: str, given: Any = None, *, env: str = "", default: Any = None) -> tuple[Any, str]:
    """Return a setting and its source.

    Args:
        section: table of uadbench.toml, such as "run".
        name: key in that table.
        given: the value from the command line, None if not given.
        env: name of the environment variable that may hold it.
        default: used when nobody says anything.

    Returns:
        (value, "command line" | "environment" | "uadbench.toml" | "default").
    """
    if given is not None:
        return given, "command line"
    if env and os.environ.get(env):
        return os.environ[env], "environment"
    table = project_settings().get(section, {})
    if name in table:
        return table[name], FILE
    return default, "default"


def cache_folder() -> Path:
    """Return the folder for data that can be made again: $UADBENCH_CACHE or the user's cache folder."""
    if given := os.environ.get("UADBENCH_CACHE"):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("uadbench"))


def data_folder(name: str) -> Path | None:
    """Return $UADBENCH_DATA/<name>, where the data of adapter `name` lie if nothing else is said, or None."""
    base = os.environ.get("UADBENCH_DATA")
    return Path(base).expanduser() / name if base else None
