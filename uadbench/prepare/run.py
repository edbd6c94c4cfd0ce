"""Prepares all scans of a dataset: in several processes, going on where it was stopped, finished or not at all."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from uadbench.errors import Interrupted, StoreError, UsageError, unknown_name
from uadbench.files import PART, cannot_write, now, unwritable
from uadbench.lock import hold
from uadbench.prepare.finish import Outcome, write_results
from uadbench.prepare.images import itk, one_thread
from uadbench.prepare.strip import SkullStrip
from uadbench.prepare.work import (
    VOLUMES,
    Done,
    Opener,
    Task,
    begin_process,
    kept,
    work,
    work_in_process,
)
from uadbench.prepared import FACTS, begin, owner, prepared_facts

TRACES = "failures.txt"

Bar = Callable[[str, int], AbstractContextManager[Callable[..., None]]]


def prepare(
    dataset: Any,
    task: Task,
    *,
    opener: Opener | None = None,
    jobs: int = 0,
    first: int | None = None,
    again: bool = False,
    allow_failures: bool = False,
    bar: Bar | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Prepare a dataset.

    Args:
        dataset: an adapter with an `index` of cases (see `uadbench.datasets._volumes`).
        task: what to do and where.
        opener: makes the dataset in another process; needed for `jobs`.
        jobs: processes; 0 works in this one.
        first: only so many scans, in the order of the index.
        again: also scans that are finished.
        allow_failures: finish the folder although scans failed; it is then without them.
        bar: opens a progress bar.
        note: says something.

    Raises:
        UsageError: if the target or a step cannot be used.
        DataError: if the dataset cannot be read.
        StoreError: if something cannot be written; what is finished is kept.
        Interrupted: if the user stopped it; what is finished is kept.
    """
    itk()
    task = replace(
        task,
        baked={name: getattr(dataset, name) for name in sorted(getattr(dataset, "baked", ()))},
        stripped=dataset.skull_free or any(isinstance(step, SkullStrip) for step in task.recipe.steps),
        of=len(dataset.index),
    )
    task.recipe.hash()  # Says what is missing before anything is written.
    keys = _choose(dataset, task, note)[:first]
    check_folder(task.folder, task.name, [path for s in dataset.subjects()[:1] for path in s.files])
    if not again and (task.folder / FACTS).is_file() and (there := prepared_facts(task.folder)["scans"]) > len(keys):
        raise UsageError(
            f"--out {task.folder} holds {there} prepared scans, and these are {len(keys)}; the others would be forgotten: "
            "give another --out, or --force"
        )
    with _locked(task.folder):
        for left in (task.folder / VOLUMES).glob(f".*{PART}"):
            shutil.rmtree(left, ignore_errors=True)
        outcome = Outcome(task.folder)
        todo = [key for key in keys if again or not kept(dataset, key, task)]
        outcome.kept = len(keys) - len(todo)
        if outcome.kept:
            note(f"{outcome.kept} of {len(keys)} scans are prepared already and kept")
        begin(task.folder, task.name, task.recipe.name)
        try:
            with _terminable(), (bar or _no_bar)("scans", len(keys)) as advance:
                advance(outcome.kept)
                with closing(_each(dataset, todo, task, opener, jobs)) as all_done:
                    for done in all_done:
                        _count(done, outcome, task, note)
                        advance(1)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped; {outcome.kept + outcome.done} of {len(keys)} scans are finished and kept in {task.folder}, and "
                "the same command goes on from there"
            ) from None
        write_results(dataset, keys, task, outcome, allow_failures)
    return outcome


def _count(done: Done, outcome: Outcome, task: Task, note: Callable[[str], None]) -> None:
    """Take note of how the work on a scan ended.

    Raises:
        StoreError: if nothing more can be written.
    """
    if done.fatal:
        raise StoreError(done.reason)
    if not done.reason:
        outcome.done += 1
        return
    outcome.failed[done.key] = done.reason
    note(f"{done.key} failed: {done.reason}")
    if done.trace:
        try:
            with (task.folder / TRACES).open("a", encoding="utf-8") as file:
                file.write(f"{now()} {done.key}\n{done.trace}\n")
        except OSError as error:
            raise cannot_write(task.folder / TRACES, error) from error


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
    if there is None and folder.is_dir() and (held := sorted(p.name for p in folder.iterdir())):
        raise UsageError(
            f"--out {folder} is no prepared folder and holds other things ({', '.join(held[:3])}"
            f"{', ...' if len(held) > 3 else ''}); give a folder that does not exist yet"
        )
    if there not in (None, name):
        raise UsageError(f"--out {folder} was prepared from {there}; give {name} a folder of its own")
    if reason := unwritable(folder):
        raise UsageError(f"--out {folder} cannot be written: {reason}; give another folder")


def _choose(dataset: Any, task: Task, note: Callable[[str], None]) -> list[str]:
    """Return the scans that have a modality that is wanted.

    Raises:
        UsageError: for a modality that no scan has.
    """
    known = list(dict.fromkeys(name for case in dataset.index.values() for name in case.images))
    for name in task.wanted:
        if name not in known:
            raise unknown_name("modality", name, known)
    keys = [key for key, case in dataset.index.items() if not task.wanted or set(task.wanted) & set(case.images)]
    if len(keys) < len(dataset.index):
        note(f"{len(dataset.index) - len(keys)} of {len(dataset.index)} scans have no {' or '.join(task.wanted)}")
    return keys


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        (folder / VOLUMES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder} cannot be made: {error.strerror or error}; give another folder") from error
    with hold(folder / "lock"):
        yield


def _no_bar(label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
    return nullcontext(lambda n=1, **info: None)


def _each(
    dataset: Any, keys: Sequence[str], task: Task, opener: Opener | None, jobs: int
) -> Generator[Done, None, None]:
    """Yield the outcome of every scan as it comes."""
    if jobs and opener is not None and keys:
        yield from _in_processes(keys, task, opener, min(jobs, len(keys)))
    else:
        with one_thread():
            yield from (work(dataset, key, task) for key in keys)


def _in_processes(keys: Sequence[str], task: Task, opener: Opener, jobs: int) -> Iterator[Done]:
    """Yield the outcomes of worker processes; none of them is left when this ends, however it ends.

    Raises:
        StoreError: if a worker was killed.
    """
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with _little_threads():
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_process, initargs=(opener, task))
        try:
            futures = {pool.submit(work_in_process, key): key for key in keys}
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise StoreError(
                "a worker process was killed, most often because memory ran out; what is finished is kept: give the same "
                f"command again with fewer --jobs than {jobs}"
            ) from None
        except BaseException:
            # Nothing that they do now would be used: they write to places of their own.
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _little_threads() -> Iterator[None]:
    """Let libraries in new processes begin with one thread each."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, and SIGINT too where a shell has it ignored, as in jobs put in the background."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
