"""A lock file that survives network disks and killed processes.

The file is created exclusively and names its owner. An owner that is dead, or that has not given a sign of life for a
while on another machine, is taken over.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uadbench.errors import Busy

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 300.0
TAKEOVER_SECONDS = 0.1


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock `path` inside the context.

    Raises:
        Busy: if a living process holds it.
    """
    _acquire(path)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        path.unlink(missing_ok=True)


def held(path: Path) -> bool:
    """Return whether a living process holds the lock `path`."""
    return path.is_file() and not _stale(path)


def _acquire(path: Path) -> None:
    owner = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "began": _beginning(os.getpid())})
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(owner)
        except OSError:  # A full disk. A lock without a name would keep everybody out.
            path.unlink(missing_ok=True)
            raise
        return
    if _stale(path):
        mine = path.with_name(f".{path.name}.{os.getpid()}")
        mine.write_text(owner)
        mine.replace(path)
        # Of several processes that take over at once the last one to write has the lock; the others see its name.
        time.sleep(TAKEOVER_SECONDS)
        if path.is_file() and path.read_text() == owner:
            return
    raise Busy(f"{path.parent} is being worked on by {_describe(path)}; when that has ended, give the command again")


def _read(path: Path) -> dict[str, str | int]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _stale(path: Path) -> bool:
    """Whether the owner is dead: its process is gone on this machine, or its heartbeat has stopped on another."""
    owner = _read(path)
    with suppress(OSError):
        age = time.time() - path.stat().st_mtime
        if owner.get("host") == socket.gethostname():
            pid = int(owner.get("pid", 0))
            return not _alive(pid) or _beginning(pid) != owner.get("began")
        return age > STALE_SECONDS
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _beginning(pid: int) -> int:
    """Return when a process began, in the kernel's ticks, because numbers of processes are used again.

    0 if unknown, -1 if the process has ended and only waits for its parent to notice.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in ("Z", "X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def _describe(path: Path) -> str:
    owner = _read(path)
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)
