"""Works ahead: results come in order, while the next ones are made by other threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 2
"""One of them reads while the other one normalises. Every one holds a volume more in memory."""


def ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `work(item)` of all items in their order.

    As many results are made ahead as there are threads. What `work` raises is raised where its result is due. Work that
    has not begun is dropped when the caller stops asking.
    """
    waiting: deque[Future[R]] = deque()
    rest = iter(items)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="ahead") as pool:
        try:
            waiting.extend(pool.submit(work, item) for item in islice(rest, THREADS))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
