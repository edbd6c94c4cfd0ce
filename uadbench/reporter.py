"""What a run tells the user, and how the user stops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from uadbench.method import Advance
from uadbench.plan import Planned
from uadbench.store import CellFolder


class Reporter(Protocol):
    """Tells the user what happens."""

    def begin(self, planned: Planned, number: int, total: int) -> None:
        """A cell is about to run."""

    def bar(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """Open a progress bar."""

    def end(self, planned: Planned, folder: CellFolder | None, outcome: str, reason: str) -> None:
        """A cell came to an end.

        `outcome` is "done", "kept" (it was there already), "evaluated" (only that was missing), "failed", "skipped",
        "interrupted", or "busy" if another process is at work in it.
        """

    def note(self, text: str) -> None:
        """Say something."""


class Stop:
    """Whether the user asked to stop. The first Ctrl-C or SIGTERM asks, the second one breaks off."""

    def __init__(self) -> None:
        """Nobody asked yet."""
        self.asked = False

    def __call__(self) -> bool:
        """Whether somebody asked."""
        return self.asked

    @contextmanager
    def listening(self, note: Callable[[str], None]) -> Iterator[None]:
        """Catch the signals inside the context, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: object) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            note("stopping as soon as the work so far is saved; once more stops at once")

        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def silent() -> Reporter:
    """Return a reporter that says nothing, for notebooks and tests."""
    return _Silent()


class _Silent:
    def begin(self, planned: Planned, number: int, total: int) -> None:
        pass

    def bar(self, label: str, total: int) -> AbstractContextManager[Advance]:
        return nullcontext(lambda n=1, **info: None)

    def end(self, planned: Planned, folder: CellFolder | None, outcome: str, reason: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass
