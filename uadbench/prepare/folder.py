"""The folder that is prepared: what may become one, and what was asked for when it was begun."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uadbench.errors import UsageError
from uadbench.files import unwritable, write_atomic
from uadbench.identity import digest
from uadbench.prepare.work import RECORD, VOLUMES, Task
from uadbench.prepared import FACTS, UNFINISHED, begin, owner

DECIDING = ("recipe_hash", "wanted", "parameters", "foreground")
"""What must be asked for again when a folder that holds finished scans is gone on with."""


def asked(task: Task) -> dict[str, Any]:
    """Return what a task asks of every scan, as plain values."""
    return {
        "recipe": task.recipe.name,
        "recipe_hash": task.recipe.hash(),
        "wanted": list(task.wanted),
        "parameters": dict(task.baked),
        "foreground": task.foreground,
    }


def check_folder(folder: Path, name: str, sources: Sequence[Path]) -> None:
    """Refuse a folder that is something else.

    Raises:
        UsageError: saying what it is.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"--out {folder} is a file; give a folder that does not exist yet, or one that was prepared before"
        )
    full = folder.resolve()
    if any(full in path.resolve().parents for path in sources):
        raise UsageError(f"--out {folder} holds the data that are to be prepared; give another folder")
    there = owner(folder)
    if there is None and folder.is_dir() and (held := _held(folder)):
        raise UsageError(
            f"--out {folder} is no prepared folder and holds other things ({', '.join(held[:3])}"
            f"{', ...' if len(held) > 3 else ''}); give a folder that does not exist yet"
        )
    if there not in (None, name):
        raise UsageError(f"--out {folder} was prepared from {there}; give {name} a folder of its own")
    if reason := unwritable(folder):
        raise UsageError(f"--out {folder} cannot be written: {reason}; give another folder")


def _held(folder: Path) -> list[str]:
    """Return what lies in a folder, but for empty folders: a full disk may have left one."""
    return sorted(p.name for p in folder.iterdir() if not p.is_dir() or any(p.iterdir()))


def refuse_to_replace(task: Task, number: int) -> None:
    """Refuse to write over finished scans that something else was asked of, or to forget some of them.

    Args:
        task: what is asked now.
        number: of scans that it is asked of.

    Raises:
        UsageError: saying what is there and what was asked.
    """
    records = [path for path in (task.folder / VOLUMES).glob(f"*/{RECORD}") if not path.parent.name.startswith(".")]
    there = _state(task.folder)
    if not records or not there:
        return
    now = asked(task)
    unlike = [name for name in DECIDING if digest(there.get(name, now[name])) != digest(now[name])]
    if unlike:
        old, new = _in_words(there, unlike), _in_words(now, unlike)
        if old == new:
            old, new = f"{old} as it was then", f"{new} as it is now, with other steps, parameters or template"
        raise UsageError(
            f"--out {task.folder} holds scans that were prepared with {old} ({len(records)}), and this asks for {new}; "
            "give another --out, or --force to write over them"
        )
    if (task.folder / FACTS).is_file() and there.get("scans", 0) > number:
        raise UsageError(
            f"--out {task.folder} holds {there['scans']} prepared scans, and these are {number}; the others would be "
            "forgotten: give another --out, or --force"
        )


def begin_folder(task: Task) -> None:
    """Mark the folder as one that is being prepared, and note what was asked for.

    Raises:
        StoreError: if it cannot be written.
    """
    begin(task.folder, task.name, task.recipe.name)
    write_atomic(task.folder / UNFINISHED, json.dumps({"dataset": task.name, **asked(task)}).encode())


def _state(folder: Path) -> dict[str, Any]:
    """Return what the folder says of itself, finished or not; nothing if it cannot be read."""
    for name in (FACTS, UNFINISHED):
        try:
            return dict(json.loads((folder / name).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
    return {}


def _in_words(facts: Mapping[str, Any], unlike: Sequence[str]) -> str:
    """Return the recipe and what else is not alike."""
    words = [f"the recipe {facts.get('recipe', '?')}"]
    if "wanted" in unlike:
        words.append(" and ".join(facts["wanted"]) or "all modalities")
    if "parameters" in unlike:
        words += [f"{key}={value}" for key, value in facts["parameters"].items()]
    if "foreground" in unlike:
        words.append(f"foreground={facts['foreground']}")
    return ", ".join(words)
