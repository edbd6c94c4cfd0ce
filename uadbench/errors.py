"""The exception tree. Every message says what was given, what is possible and what to do.

UADBenchError
|-- UsageError              exit code 2: the command or a parameter is wrong; nothing was read yet
|   |-- UnknownName         no method, dataset, preset, ... of that name
|   |-- NameClash           two components have one name
|   `-- BadParameter        an unknown parameter, or a value of the wrong type or range
|-- DataError               exit code 3: a file or a split is wrong
|-- NotFitted               score() before fit()
|-- Incompatible            this method and this dataset do not go together
|-- DegenerateScores        NaN, infinite or constant scores
|-- ContractBroken          a component breaks the contract
|-- PluginError             a plug-in cannot be loaded
|-- StoreError              a cell of the store is incomplete or damaged
|   `-- Busy                another process is at work in it
`-- Interrupted             exit code 130: stopped by the user, ready to be resumed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UADBenchError(Exception):
    """Base of all errors that uadbench raises on purpose."""

    exit_code = 1


class UsageError(UADBenchError):
    """The command line or a parameter is wrong."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that nothing has."""


class NameClash(UsageError):
    """Two components claim the same name."""


class BadParameter(UsageError):
    """A parameter that does not exist, or a value it cannot take."""


class DataError(UADBenchError):
    """A data file, a mask or a split is wrong. The message names the file and the remedy."""

    exit_code = 3


class NotFitted(UADBenchError):
    """A method was asked for a score before it was fitted."""


class Incompatible(UADBenchError):
    """A method cannot be used with a dataset. The message is the reason shown in the table."""


class DegenerateScores(UADBenchError):
    """A method returned NaN, infinite or constant scores."""


class ContractBroken(UADBenchError):
    """A component does not do what the contract asks."""


class PluginError(UADBenchError):
    """A plug-in cannot be loaded."""


class StoreError(UADBenchError):
    """A cell of the store is incomplete, damaged or in use by another process."""


class MapError(StoreError):
    """A stored anomaly map is missing or damaged; the cell has to be scored again."""


class Busy(StoreError):
    """Another process is at work in a cell."""


class Interrupted(UADBenchError):
    """Stopped on request. The work done so far is kept and the same command goes on from there."""

    exit_code = 130


def suggest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, whatever its case, or an empty string."""
    by_letters = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower(), by_letters, n=1, cutoff=0.6)
    return f" Did you mean {by_letters[near[0]]!r}?" if near else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """Build the error for an unknown `name` of a `kind` such as "method"."""
    names = sorted(known)
    return UnknownName(f"no {kind} is called {name!r}.{suggest(name, names)} Known: {', '.join(names) or 'none'}.")
