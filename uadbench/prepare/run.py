"""Prepares all scans of a dataset: in several processes, going on where it was stopped, finished or not at all."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from uadbench.errors import Interrupted, StoreError, UsageError
from uadbench.files import PART, cannot_write, now
from uadbench.lock import hold
from uadbench.prepare.chosen import choose
from uadbench.prepare.finish import Outcome, write_results
from uadbench.prepare.folder import begin_folder, check_folder, refuse_to_replace
from uadbench.prepare.images import itk, one_thread
from uadbench.prepare.scans import CaseLike
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
        dataset: an adapter of volumes (see `uadbench.datasets._volumes`).
        task: what to do and where.
        opener: makes the dataset in another process; needed for `jobs`.
        jobs: processes; 0 works in this one.
        first: only so many scans, in the order of the files.
        again: also scans that are finished, whatever was asked of them.
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
    task.recipe.hash()  # Says what is missing before anything is written.
    every, task = choose(dataset, task, note)
    cases = dict(islice(every.items(), first))
    check_folder(task.folder, task.name, [path for case in islice(every.values(), 1) for path in case.images.values()])
    if not again:
        refuse_to_replace(task, len(cases))
    with _locked(task.folder):
        for left in (task.folder / VOLUMES).glob(f".*{PART}"):
            shutil.rmtree(left, ignore_errors=True)
        outcome = Outcome(task.folder)
        todo = {key: case for key, case in cases.items() if again or not kept(dataset, key, case, task)}
        outcome.kept = len(cases) - len(todo)
        if outcome.kept:
            note(f"{outcome.kept} of {len(cases)} scans are prepared already and kept")
        begin_folder(task)
        try:
            with _terminable(), (bar or _no_bar)("scans", len(cases)) as advance:
                advance(outcome.kept)
                with closing(_each(dataset, todo, task, opener, jobs)) as all_done:
                    for done in all_done:
                        _count(done, outcome, task, note)
                        advance(1)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped; {outcome.kept + outcome.done} of {len(cases)} scans are finished and kept in {task.folder}, and "
                f"the same command{' without --force' if again else ''} goes on from there"
            ) from None
        write_results(cases, task, outcome, allow_failures)
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            (folder / VOLUMES).mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold(folder / "lock"))
        except OSError as error:
            raise UsageError(
                f"--out {folder} cannot be made: {error.strerror or error}; give another folder"
            ) from error
        yield


def _no_bar(label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
    return nullcontext(lambda n=1, **info: None)


def _each(
    dataset: Any, cases: Mapping[str, CaseLike], task: Task, opener: Opener | None, jobs: int
) -> Generator[Done, None, None]:
    """Yield the outcome of every scan as it comes."""
    if jobs and opener is not None and cases:
        yield from _in_processes(cases, task, opener, min(jobs, len(cases)))
    else:
        with one_thread():
            yield from (work(dataset, key, case, task) for key, case in cases.items())


def _in_processes(cases: Mapping[str, CaseLike], task: Task, opener: Opener, jobs: int) -> Iterator[Done]:
    """Yield the outcomes of worker processes; none of them is left when this ends, however it ends.

    Raises:
        StoreError: if a worker was killed.
        UADBenchError: if a worker could not open the dataset, as its opener says it.
    """
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with _little_threads():
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_process, initargs=(opener, task))
        try:
            futures = [pool.submit(work_in_process, key, case) for key, case in cases.items()]
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
