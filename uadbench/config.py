"""Settings and where they come from: command line > environment > uadbench.toml > default."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from uadbench.errors import UsageError

FILE = "uadbench.toml"


@lru_cache(maxsize=8)
def _read(path: Path, mtime: int) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def project_settings() -> dict[str, Any]:
    """Return the content of uadbench.toml in the working folder, or {}.

    Raises:
        UsageError: if the file is not valid TOML.
    """
    path = Path(FILE).resolve()
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else {}


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
    if not isinstance(table, dict):
        raise UsageError(f"{FILE}: [{section}] must be a table")
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
