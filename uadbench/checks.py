"""What the checks of the contract share: outcomes, demands and the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from uadbench.errors import ContractBroken, DataError


@dataclass(frozen=True)
class Check:
    """The outcome of one check: passed, skipped with a reason, or broken with a reason; `data` if files are to blame."""

    name: str
    outcome: str
    reason: str = ""
    data: bool = False


class Skip(Exception):
    """A check does not apply; the reason is the message."""


def run_checks(checks: dict[str, Callable[[Any], None]], trial: Any) -> Iterator[Check]:
    """Run every check on what is tried, and yield its outcome; one that fails stops none of the others."""
    for name, run in checks.items():
        try:
            run(trial)
            yield Check(name, "passed")
        except Skip as reason:
            yield Check(name, "skipped", str(reason))
        except DataError as error:
            yield Check(name, "broken", str(error), data=True)
        except ContractBroken as error:
            yield Check(name, "broken", str(error))
        except Exception as error:
            yield Check(name, "broken", f"{type(error).__name__}: {error}")


def demand(condition: bool, reason: str) -> None:
    """Break the contract unless the condition holds.

    Raises:
        ContractBroken: with the reason.
    """
    if not condition:
        raise ContractBroken(reason)
