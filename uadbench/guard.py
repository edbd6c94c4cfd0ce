"""Watches what code does to the world outside: network connections, and files written where they do not belong."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uadbench.errors import ContractBroken

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_watchers: list[list[str]] = []
_allowed: list[Sequence[Path]] = []
_installed = False


@contextmanager
def no_network() -> Iterator[None]:
    """Refuse every connection inside the context.

    Raises:
        ContractBroken: at the first attempt, naming where to.
    """

    def refuse(self: Any, address: Any, *rest: Any) -> Any:
        raise ContractBroken(f"it opens a network connection to {address}")

    def refuse_name(host: Any, *rest: Any, **more: Any) -> Any:
        raise ContractBroken(f"it looks up the network name {host}")

    before = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
    socket.socket.connect = socket.socket.connect_ex = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse_name
    try:
        yield
    finally:
        socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = before  # type: ignore[method-assign]


@contextmanager
def written_outside(*allowed: Path) -> Iterator[list[str]]:
    """Collect the paths that are opened for writing inside the context and do not lie below `allowed`."""
    global _installed
    if not _installed:  # An audit hook cannot be taken away again, so there is one, and it is idle outside the context.
        sys.addaudithook(_hook)
        _installed = True
    found: list[str] = []
    _watchers.append(found)
    _allowed.append([p.resolve() for p in allowed])
    try:
        with _torch_save():
            yield found
    finally:
        _watchers.pop()
        _allowed.pop()


@contextmanager
def _torch_save() -> Iterator[None]:
    """Let `torch.save(..., path)` be seen: it writes in C++, where Python's audit hook does not look."""
    import torch

    before = torch.save

    def save(obj: Any, f: Any, *rest: Any, **more: Any) -> None:
        if isinstance(f, (str, os.PathLike)):
            _note(os.fspath(f))
        before(obj, f, *rest, **more)

    torch.save = save
    try:
        yield
    finally:
        torch.save = before


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watchers or event not in ("open", "os.mkdir", "os.rename"):
        return
    if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITING):
        return
    path = args[1] if event == "os.rename" else args[0]
    if isinstance(path, (str, bytes, os.PathLike)):
        _note(path)


def _note(path: str | bytes | os.PathLike[str]) -> None:
    """Note a path that is written and does not lie in an allowed folder."""
    full = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - resolve() would itself touch the disk
    if "__pycache__" in full.parts or full.parts[1:2] in (("dev",), ("proc",)):
        return
    if any(part.startswith("torchinductor_") for part in full.parts):  # torch makes its cache when it is imported.
        return
    if not any(full == root or root in full.parents for root in _allowed[-1]):
        _watchers[-1].append(str(full))
