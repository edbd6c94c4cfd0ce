"""How a speed claim is measured: candidates in turn, one thread, CPU seconds, the median ratio, and equality first.

Import this before numpy: it sets the number of threads. CPU seconds of one thread hardly depend on what else the machine
does; wall seconds do.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """One claim: candidate `fast` needs at most 1 / `goal` of the CPU seconds of `slow`.

    Attributes:
        name: in words.
        slow: name of the candidate that is compared with.
        fast: name of ours.
        goal: the least ratio slow / fast.
    """

    name: str
    slow: str
    fast: str
    goal: float


def cpu_seconds(
    candidates: Mapping[str, Callable[[], Any]],
    repeats: int,
    warm: bool = True,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Return the CPU seconds of each candidate in each round; with `warm` a first round does not count.

    With `clock=time.perf_counter` they are seconds by the clock, for claims about work that several threads share.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(repeats + warm):
        for name, candidate in candidates.items():
            began = clock()
            candidate()
            if number or not warm:
                seconds[name].append(clock() - began)
    return seconds


def extra_peak_mb(candidate: Callable[[], Any]) -> float:
    """Return the most memory that Python and numpy allocate during a call, in 10^6 bytes; slower than an untraced call."""
    tracemalloc.start()
    try:
        candidate()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def report(claims: list[Claim], seconds: Mapping[str, list[float]]) -> bool:
    """Print the seconds and every claim with the median of its paired ratios; return whether all goals are met."""
    for name, values in seconds.items():
        sys.stdout.write(f"{name}: {statistics.median(values):.3f} CPU s (median of {len(values)})\n")
    return verdicts(claims, seconds)


def verdicts(claims: list[Claim], seconds: Mapping[str, list[float]]) -> bool:
    """Print every claim with the median of its paired ratios; return whether all goals are met."""
    met = True
    for claim in claims:
        ratios = [a / b for a, b in zip(seconds[claim.slow], seconds[claim.fast], strict=True)]
        ratio = statistics.median(ratios)
        met &= ratio >= claim.goal
        verdict = "met" if ratio >= claim.goal else "MISSED"
        sys.stdout.write(f"{claim.name}: {ratio:.1f}x (goal {claim.goal:g}x, {verdict})\n")
    return met
