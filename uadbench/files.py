"""Writing files so that each holds all of its content or what it held before."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from uadbench.errors import StoreError, UsageError
from uadbench.identity import digest

PART = ".part"


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def file_name(key: str) -> str:
    """Return a name for `key` that every file system takes, different for different keys."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", key)
    return key if safe == key and not key.startswith(".") else f"{safe.lstrip('.')}-{digest(key)[:6]}"


def check_target(path: Path, endings: Sequence[str], option: str) -> None:
    """Refuse a file that cannot be written, before any work is done for it.

    Folders are not made: a typo would hide the file.

    Raises:
        UsageError: saying why, and which option it was.
    """
    if path.suffix.lower() not in endings:
        raise UsageError(f"{option} {path}: the ending must be {' or '.join(endings)}")
    reason = f"{path} is a folder" if path.is_dir() else f"the folder {path.parent} does not exist"
    if path.is_dir() or not path.parent.is_dir() or (reason := unwritable(path.parent) or ""):
        raise UsageError(f"{path} cannot be written: {reason}; give another {option}")


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds all of it or what it held before.

    Raises:
        StoreError: if the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def unwritable(folder: Path) -> str | None:
    """Return why no file can be made in `folder`, or in the nearest folder above it that exists; None if one can.

    Rights alone do not say it, so a nameless file is made and is gone again.
    """
    folder = folder.absolute()
    existing = next(p for p in (folder, *folder.parents) if os.path.exists(p))  # noqa: PTH110 - never raises
    if not existing.is_dir():
        return f"{existing} is a file, not a folder"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"no file can be made in {existing} ({error.strerror or error})"


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Return the error with cause and remedy."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space" if full else "make the folder writable or give another --out"
    return StoreError(
        f"{path} cannot be written: {error.strerror or error}; {remedy} and give the same command again, what is "
        "finished is kept"
    )
