"""Working ahead: order, errors and what is left over."""

from __future__ import annotations

import threading
import time

import pytest

from uadbench.ahead import THREADS, ahead


def test_results_come_in_order_however_long_each_takes() -> None:
    def work(n: int) -> int:
        time.sleep(0.002 * (n % 3 == 0))
        return n * n

    assert list(ahead(work, range(20))) == [n * n for n in range(20)]
    assert list(ahead(work, [])) == []


def test_no_more_is_made_ahead_than_there_are_threads() -> None:
    done: list[int] = []
    found = ahead(lambda n: done.append(n) or n, range(100))  # type: ignore[func-returns-value]
    for n in range(10):
        assert next(found) == n
        assert len(done) <= n + 1 + THREADS
    found.close()  # type: ignore[attr-defined]
    assert len(done) <= 10 + THREADS
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def test_other_threads_do_the_work_and_are_gone_at_the_end() -> None:
    names = set(ahead(lambda n: threading.current_thread().name, range(10)))
    assert names
    assert threading.main_thread().name not in names
    assert not [t for t in threading.enumerate() if t.name in names]


def test_an_error_comes_where_its_result_is_due() -> None:
    def work(n: int) -> int:
        if n == 3:
            raise ValueError("three")
        return n

    found, seen = ahead(work, range(10)), []
    with pytest.raises(ValueError, match="three"):
        for n in found:
            seen.append(n)
    assert seen == [0, 1, 2]
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]
