"""The store: one folder a cell, plain files, no server. What is read as complete is complete.

    <root>/<dataset>/<method>/seed<s>-fold<f>-<id>/
        cell.json         identity, written first
        status.json       queued | running | done | failed | skipped | interrupted, written last when done
        config.json       every parameter with its origin
        provenance.json   versions, commit, device, seeds, seconds, memory
        scores.csv        one row a slice
        maps/             raw anomaly maps, float16
        evaluations/<protocol>/
            metrics.json      the result
            subjects.csv      one row a subject, with its metrics
            lesions.csv       one row a lesion of the test subjects
            bootstrap.npz     draws of every metric that is not a mean over subjects
        checkpoint/       weights, training state, loss history
        attempts.json     seconds of scoring in all attempts
        log.txt           what went wrong

Every file is written under a temporary name, flushed to disk and renamed.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uadbench.errors import StoreError, UsageError
from uadbench.files import PART, cannot_write, file_name, now, unwritable, write_atomic
from uadbench.lock import held, hold
from uadbench.maps import ArrayFolder
from uadbench.result import Cell, Result, State, _plain


class CellFolder(ArrayFolder):
    """One cell on disk."""

    @property
    def checkpoint(self) -> Path:
        """The folder that belongs to the method."""
        return self.path / "checkpoint"

    def create(self, cell: Cell, config: Mapping[str, Any]) -> None:
        """Write the identity and the configuration."""
        self.write_json("cell.json", {"id": cell.id, **asdict(cell)})
        self.write_json("config.json", config)

    def cell(self) -> Cell:
        """Read the identity.

        Raises:
            StoreError: if the file is missing or damaged.
        """
        data = self.read_json("cell.json")
        data.pop("id", None)
        try:
            return Cell(**data)
        except TypeError as error:
            raise StoreError(f"{self.path / 'cell.json'} is not of this version of uadbench: {error}") from error

    def write_json(self, name: str, data: Any) -> None:
        """Write a JSON file."""
        write_atomic(self.path / name, json.dumps(_plain(data), indent=1, default=str).encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file.

        Raises:
            StoreError: if it is missing or damaged.
        """
        path = self.path / name
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"{path} does not exist") from None
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path} is damaged ({error}); remove the cell with: uadbench runs rm {self.path.name}"
            ) from error
        return data

    def set_status(self, state: State, **facts: Any) -> None:
        """Write the state, with `reason` and other facts."""
        before = self.status()
        started = {"started": now()} if state == "running" else {}
        attempts = before.get("attempts", 0) + (state == "running")
        kept = {"started": before.get("started")} | started
        self.write_json("status.json", {"state": state, **facts, **kept, "changed": now(), "attempts": attempts})

    def status(self) -> dict[str, Any]:
        """Read the state; {} if there is none yet or it is unreadable."""
        try:
            return self.read_json("status.json")
        except StoreError:
            return {}

    @property
    def state(self) -> str:
        """The state in a word; a cell whose process is gone is "interrupted"."""
        state = str(self.status().get("state", "queued"))
        return "interrupted" if state == "running" and not self.is_held() else state

    @property
    def done(self) -> bool:
        """Whether the cell is complete: its status says so, its identity can be read and its results are there."""
        if self.status().get("state") != "done":
            return False
        try:
            self.cell()
        except StoreError:
            return False
        return (self.path / "provenance.json").is_file() and bool(self.evaluations())

    def evaluation(self, protocol: str) -> Path:
        """Return where the evaluation under a protocol lies, relative to the cell."""
        return Path("evaluations") / file_name(protocol)

    def evaluations(self) -> list[Path]:
        """Return where the complete evaluations lie, relative to the cell; metrics.json is written last."""
        found = sorted(self.path.glob("evaluations/*/metrics.json"))
        others = ("subjects.csv", "lesions.csv", "bootstrap.npz")
        return [p.parent.relative_to(self.path) for p in found if all((p.parent / name).is_file() for name in others)]

    def result(self, evaluation: Path) -> Result:
        """Read the numbers of one evaluation.

        Raises:
            StoreError: if they are missing or damaged.
        """
        name = evaluation / "metrics.json"
        try:
            return Result.from_dict(self.read_json(str(name)))
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.path / name} is damaged ({error!r}); give: uadbench evaluate") from error

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows as CSV. Numbers keep all their digits; what is not known is left empty."""
        import csv

        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None or v != v else v for k, v in row.items()} for row in rows)
        write_atomic(self.path / name, text.getvalue().encode())

    def log(self, text: str) -> None:
        """Append to the log; a log that cannot be written stops nothing."""
        with suppress(OSError):
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{now()} {text.rstrip()}\n")

    def is_held(self) -> bool:
        """Whether a living process is at work in the cell."""
        return held(self.path / "lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the cell, and remove what a killed one left half-written.

        Raises:
            Busy: if another process is at work in it.
            StoreError: if the folder cannot be written.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(hold(self.path / "lock"))
            except OSError as error:
                raise cannot_write(self.path, error) from error
            for leftover in self.path.rglob(f"*{PART}"):
                leftover.unlink(missing_ok=True)
            yield

    def remove(self) -> None:
        """Delete the cell and empty parent folders."""
        with self.locked():
            shutil.rmtree(self.path)
        for parent in (self.path.parent, self.path.parent.parent):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


class Store:
    """All cells below one folder."""

    def __init__(self, root: Path) -> None:
        """Refer to the folder `root`, which need not exist yet."""
        self.root = root

    def check_writable(self) -> None:
        """Make sure that cells can be written; nothing is left behind, not even the folder.

        Raises:
            UsageError: naming the folder, the cause and the remedy.
        """
        if reason := unwritable(self.root):
            raise UsageError(f"{self.root} cannot hold results: {reason}; give another --out")

    def folder(self, cell: Cell) -> CellFolder:
        """Return the folder of a cell.

        Raises:
            UsageError: if another cell has the same short hash.
        """
        folder = CellFolder(self.root / cell.place)
        try:
            there = folder.cell().id
        except StoreError:  # None yet, or an identity that cannot be read and is written again.
            return folder
        if there != cell.id:
            raise UsageError(f"{folder.path} holds another cell; remove it or give another --out")
        return folder

    def folders(self) -> list[CellFolder]:
        """Return all cells, in the order of their names."""
        return [CellFolder(path.parent) for path in sorted(self.root.glob("*/*/*/cell.json"))]

    def find(self, word: str) -> list[CellFolder]:
        """Return the cells whose place ends with `word` or is that path, or whose id or folder begins with it."""
        wanted = Path(word).parts
        exact = [
            f
            for f in self.folders()
            if f.path.parts[-len(wanted) :] == wanted or f.path.resolve() == Path(word).resolve()
        ]
        if exact:
            return exact
        found = []
        for folder in self.folders():
            with suppress(StoreError):
                if folder.cell().id.startswith(word) or folder.path.name.startswith(word):
                    found.append(folder)
        return found
