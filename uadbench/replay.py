"""Evaluates stored cells again, from their maps: other protocols, newer metrics. Neither methods nor torch are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uadbench.bank import Bank
from uadbench.dataset import Dataset, Split
from uadbench.errors import DataError, DegenerateScores, Incompatible, PluginError, StoreError, UsageError
from uadbench.evaluation import evaluate, is_current
from uadbench.params import as_text
from uadbench.plan import fingerprint_of, lacks, resolve_dataset
from uadbench.protocol import Protocol
from uadbench.registry import Registry
from uadbench.reporter import Reporter
from uadbench.result import Cell
from uadbench.store import CellFolder


@dataclass
class Replayed:
    """What became of the evaluation of one cell under one protocol.

    Attributes:
        state: "evaluated", "kept" (it was current), "skipped" or "failed".
        reason: of the last two.
    """

    folder: CellFolder
    protocol: str
    state: str
    reason: str = ""


@dataclass
class Replay:
    """Evaluates cells under protocols; the data of a cell are opened once for all cells that share them.

    Attributes:
        registry: where adapters are found.
        given: "key=value" for datasets that lie elsewhere now, such as "root=/data/brats".
        force: evaluate also what is current.
    """

    registry: Registry
    given: Sequence[str] = ()
    force: bool = False
    _banks: dict[str, Bank] = field(default_factory=dict)

    def one(self, folder: CellFolder, protocol: Protocol, reporter: Reporter) -> Replayed:
        """Evaluate one cell, unless that was done by this code already."""
        place = folder.evaluation(protocol.name)
        try:
            if not self.force and place in folder.evaluations() and _current(folder, place, protocol):
                return Replayed(folder, protocol.name, "kept")
            bank, split = self.data(folder)
            if reason := lacks(protocol, split):
                return Replayed(folder, protocol.name, "skipped", reason)
            total = len(split.val) + len(split.test_lesion) + len(split.test_healthy)
            with folder.locked(), reporter.bar("evaluate", total) as advance:
                evaluation = evaluate(folder, bank.load, split, protocol, each_subject=lambda: advance(1))
                evaluation.write(folder)
        except Incompatible as error:
            return Replayed(folder, protocol.name, "skipped", str(error))
        except (StoreError, DegenerateScores, DataError, PluginError, UsageError) as error:
            return Replayed(folder, protocol.name, "failed", str(error))
        return Replayed(folder, protocol.name, "evaluated")

    def data(self, folder: CellFolder) -> tuple[Bank, Split]:
        """Return the data of a cell, opened once for all cells that share them, and who was used for what.

        Raises:
            DataError: if they are no longer what they were, or are not there.
        """
        cell = folder.cell()
        bank = self._bank(cell, folder.read_json("config.json"))
        return bank, bank.dataset.split(cell.fold)

    def _bank(self, cell: Cell, config: dict[str, Any]) -> Bank:
        """Return the data of a cell.

        Raises:
            DataError: if they are no longer what they were, or are not there.
        """
        if cell.data_id not in self._banks:
            dataset = self._dataset(cell, config)
            if fingerprint_of(dataset) != cell.fingerprint:
                raise DataError(
                    f"{cell.dataset}: the data, their split or their adapter are not those of the run; restore them, name "
                    "where they lie with -D root=..., or run the methods again"
                )
            self._banks[cell.data_id] = Bank(dataset, cell.dataset, None)
        return self._banks[cell.data_id]

    def _dataset(self, cell: Cell, config: dict[str, Any]) -> Dataset:
        """Return the dataset with the parameters of the run; what the command line gives comes first."""
        stored = {k: v["value"] for k, v in config["dataset"].items() if v["source"] != "default"}
        texts = [f"{k}={as_text(v)}" for k, v in stored.items() if v is not None]
        given = {text.partition("=")[0] for text in self.given}
        texts = [t for t in texts if t.partition("=")[0] not in given]
        return resolve_dataset(self.registry.dataset(cell.dataset), cell.dataset, [*texts, *self.given])[0]


def _current(folder: CellFolder, place: Path, protocol: Protocol) -> bool:
    """Whether an evaluation can be read and is of this protocol and this code."""
    try:
        return is_current(folder.result(place), protocol)
    except StoreError:
        return False
