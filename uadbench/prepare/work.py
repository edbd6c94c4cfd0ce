"""The work on one scan: read, apply the recipe, measure, write. Runs in a process of its own, with one thread."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from uadbench.errors import DataError, StoreError, UADBenchError
from uadbench.files import PART, cannot_write, file_name, write_atomic
from uadbench.identity import code_of, digest, file_hash, source_hash
from uadbench.prepare.images import array, itk, nifti_bytes, one_thread
from uadbench.prepare.qc import flags_of, measure
from uadbench.prepare.recipes import Recipe
from uadbench.prepare.register import Register
from uadbench.prepare.scans import CaseLike, Scans, read_scans

VOLUMES = "volumes"
RECORD = "record.json"

Opener = Callable[[], Any]
"""Returns the dataset; called once in each process."""


@dataclass(frozen=True)
class Task:
    """What is to be done with every scan.

    Attributes:
        name: of the dataset.
        folder: the prepared folder.
        recipe: the steps.
        wanted: modalities that are written; empty for all that a scan has.
        baked: parameters of the dataset that decide what is written, and their values.
        foreground: the dataset's parameter of this name: which voxels its scans have as foreground before any step.
        skull_free: what is not 0 is brain before any step.
        stripped: what is not 0 is brain afterwards, by the recipe or because it was so before.
        of: number of scans of the whole set.
    """

    name: str
    folder: Path
    recipe: Recipe
    wanted: tuple[str, ...] = ()
    baked: Mapping[str, Any] = field(default_factory=dict)
    foreground: str = "auto"
    skull_free: bool = False
    stripped: bool = False
    of: int = 0


@dataclass(frozen=True)
class Done:
    """How the work on a scan ended.

    Attributes:
        key: of the scan.
        reason: why it failed; empty if it did not.
        fatal: nothing can go on, the disk is full for instance.
        trace: for those who mend uadbench, where the reason is not one that was foreseen.
    """

    key: str
    reason: str = ""
    fatal: bool = False
    trace: str = ""


def folder_of(task: Task, key: str) -> Path:
    """Return where a scan's files lie."""
    return task.folder / VOLUMES / file_name(key)


def identity(dataset: Any, case: CaseLike, task: Task) -> str:
    """Return the hash of all that decides what is written: files, recipe, modalities, adapter, code, SimpleITK.

    Raises:
        DataError: if a file cannot be read.
    """
    files: dict[str, Any] = {name: file_hash(path) for name, path in case.images.items()}
    files |= {"lesions": [file_hash(path) for path in case.lesions]}
    files |= {name: file_hash(path) for name in ("foreground", "ignore") if (path := getattr(case, name)) is not None}
    # Who is in which split changes nothing in the files; which mask files count is seen in the case.
    adapter = [source_hash(type(dataset), maps=False), dict(task.baked), task.skull_free]
    return digest([files, task.recipe.hash(), list(task.wanted), adapter, code(), itk().Version_VersionString()])


def used(case: CaseLike, task: Task) -> list[str]:
    """Return the modalities of a scan that are read: those wanted, and those that steps go by."""
    guides = {step.by for step in task.recipe.steps if hasattr(step, "by")}
    return [name for name in case.images if not task.wanted or name in task.wanted or name in guides]


@lru_cache(maxsize=1)
def code() -> str:
    """Return the hash of the code of this package, without comments: other code makes other files."""
    files = [
        path
        for path in sorted(Path(__file__).parent.glob("*.py"))
        if path.name not in ("run.py", "chosen.py", "folder.py", "finish.py", "sheet.py", "pages.py")
    ]
    return digest([[path.name, code_of(path.read_text(encoding="utf-8"))] for path in files])


def kept(dataset: Any, key: str, case: CaseLike, task: Task) -> bool:
    """Whether a scan was prepared before from the same files by the same recipe, and all of it is there."""
    folder = folder_of(task, key)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return bool(
            record["identity"] == identity(dataset, case, task)
            and all((folder / name).stat().st_size == size for name, size in record["sizes"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return False


def work(dataset: Any, key: str, case: CaseLike, task: Task) -> Done:
    """Prepare one scan; whatever goes wrong is told in the outcome."""
    try:
        _prepare(dataset, key, case, task)
    except StoreError as error:
        return Done(key, str(error), fatal=True)
    except MemoryError:
        return Done(key, "there is not enough memory for it; give fewer --jobs")
    except UADBenchError as error:
        return Done(key, str(error))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        # Errors of ITK end with what is wrong and begin with where in its source.
        return Done(key, f"{type(error).__name__}: {lines[-1]}", trace=traceback.format_exc())
    return Done(key)


def _prepare(dataset: Any, key: str, case: CaseLike, task: Task) -> None:
    began = time.perf_counter()
    stamp = identity(dataset, case, task)
    again = bool(getattr(dataset, "prepared", False))  # Masks of prepared data have no labels any more.
    scans = read_scans(
        case, used(case, task), key=key, owner=task.name,
        label=(lambda values: (values > 0.5, None)) if again else dataset.label,
        skull_free=task.skull_free,
    )  # fmt: skip
    steps = _apply(task, scans)
    numbers = measure(scans)
    record = {
        "key": key,
        "identity": stamp,
        "steps": steps,
        "template": next((s["by"] for s in steps if s["do"] == Register.name), None),
        "numbers": numbers,
        "flags": [*scans.flags, *flags_of(numbers)],
        "seconds": round(time.perf_counter() - began, 1),
    }
    _write(folder_of(task, key), scans, record)


def _apply(task: Task, scans: Scans) -> list[dict[str, Any]]:
    """Apply the steps and return what each said.

    Raises:
        DataError: if nothing of the brain is left.
    """
    said = []
    last_guided = max((n for n, step in enumerate(task.recipe.steps) if step.guided), default=-1)
    for n, step in enumerate(task.recipe.steps):
        if n == last_guided + 1:
            _keep_wanted(task, scans)
        began = time.perf_counter()
        note = step(scans)
        said.append({"do": step.name, "seconds": round(time.perf_counter() - began, 1), **note})
        if "foreground" in scans.masks and not array(scans.masks["foreground"]).any():
            raise DataError(
                f"{scans.key}: nothing of the brain is left after {step.name}; look at its mask and the recipe"
            )
    _keep_wanted(task, scans)  # The last step may have been a guided one.
    return said


def _keep_wanted(task: Task, scans: Scans) -> None:
    """Let go of modalities that were read to guide a step only."""
    if task.wanted:
        scans.images = {name: image for name, image in scans.images.items() if name in task.wanted}


def _write(folder: Path, scans: Scans, record: Mapping[str, Any]) -> None:
    """Write all files of a scan into a folder beside, and move it into place when it is whole."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}{PART}")
    files = {}
    try:
        for name, image in scans.images.items():
            files[f"image:{name}"] = f"{file_name(name)}.nii.gz"
            write_atomic(part / files[f"image:{name}"], nifti_bytes(image))
        for name, mask in scans.masks.items():
            files[name] = f"{name}_mask.nii.gz"
            write_atomic(part / files[name], nifti_bytes(mask))
        sizes = {name: (part / name).stat().st_size for name in files.values()}
        whole = {**record, "files": files, "sizes": sizes}
        write_atomic(part / RECORD, json.dumps(whole, indent=1, ensure_ascii=False).encode())
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old{PART}")
            folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


_mine: dict[str, Any] = {}
"""What a worker process keeps from scan to scan."""


def begin_process(opener: Opener, task: Task) -> None:
    """Make this process a worker: it opens the dataset once, leaves Ctrl-C to its parent and ends when that ends.

    What goes wrong is kept and raised with the first scan: of a worker that fails here the parent is told nothing.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _mine.update(dataset=opener(), task=task)
    except UADBenchError as error:
        _mine["problem"] = error
    except Exception as error:
        _mine["problem"] = DataError(
            f"{task.name} cannot be opened in a worker process: {type(error).__name__}: {error}; what is finished is kept"
        )


def work_in_process(key: str, case: CaseLike) -> Done:
    """Do the work in a worker process.

    Raises:
        UADBenchError: if the dataset could not be opened.
    """
    if "problem" in _mine:
        raise _mine["problem"]
    with one_thread():
        return work(_mine["dataset"], key, case, _mine["task"])


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
