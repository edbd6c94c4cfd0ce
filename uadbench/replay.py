"""Evaluates stored cells again, from their maps: other protocols, newer metrics. Neither methods nor torch are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from uadbench.bank import Bank
from uadbench.dataset import Dataset, Split
from uadbench.errors import Busy, DataError, Incompatible, MapError, UADBenchError
from uadbench.evaluation import evaluate
from uadbench.joined import parts_of
from uadbench.opening import content_of, fingerprint_of, open_dataset, refuse_one_root
from uadbench.params import as_text, assign, describe
from uadbench.plan import lacks, unmasked
from uadbench.protocol import Protocol, prepared_as
from uadbench.registry import Registry
from uadbench.reporter import Reporter
from uadbench.result import Cell
from uadbench.results import Evaluation, has_current
from uadbench.store import CellFolder

MEMORY = 256 * 2**20
"""Bytes of volumes that are kept for the next cell."""


def evaluate_cell(folder: CellFolder, bank: Bank, split: Split, protocol: Protocol, reporter: Reporter) -> Evaluation:
    """Evaluate the stored maps of a cell, with a bar. Nothing is written."""
    with reporter.bar("evaluate", len(split.val) + len(split.test_lesion) + len(split.test_healthy)) as advance:
        return evaluate(folder, bank.load, split, protocol, each_subject=lambda: advance(1))


def evaluate_again(
    folder: CellFolder, bank: Bank, split: Split, protocol: Protocol, reporter: Reporter
) -> tuple[str, str]:
    """Evaluate a finished cell, if its data allow the protocol, and store the result; return what became of it and why."""
    if reason := lacks(protocol, split) or unmasked(protocol, bank.dataset):
        return "skipped", reason
    try:
        with folder.locked():
            evaluate_cell(folder, bank, split, protocol, reporter).write(folder)
    except Busy as error:
        return "busy", str(error)
    except Incompatible as error:
        return "skipped", str(error)
    except MapError as error:
        folder.set_status("interrupted", reason=str(error))  # The run command makes what is missing.
        return "failed", str(error)
    except UADBenchError as error:
        return "failed", str(error)
    return "evaluated", ""


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
        """Evaluate one cell, unless that was done by this code already.

        A cell that was prepared under another protocol, so that methods saw something else, is evaluated under a variant
        that says so.
        """
        name = protocol.name
        try:
            cell, config = folder.cell(), folder.read_json("config.json")
            protocol = prepared_as(protocol, cell.preparation, config["protocol"]["name"])
            name = protocol.name
            if not self.force and has_current(folder, protocol):
                return Replayed(folder, name, "kept")
            bank, split = self.data(folder)
            state, reason = evaluate_again(folder, bank, split, protocol, reporter)
        except UADBenchError as error:
            return Replayed(folder, name, "failed", str(error))
        return Replayed(folder, name, "failed" if state == "busy" else state, reason)

    def check_given(self, cells: Sequence[Cell]) -> None:
        """Refuse what the command line gives and no dataset of these cells takes.

        Raises:
            UsageError: saying what they take.
        """
        if not self.given:
            return
        known = self.registry.entries("dataset")
        names = dict.fromkeys(part for cell in cells for part in parts_of(cell.dataset))
        if not known.keys() >= names.keys():
            return  # What it does not know may take anything; its cells fail, each with the reason.
        assign(self.given, {name: [p.name for p in describe(self.registry.dataset(name))] for name in names}, "dataset")

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
            # Content and roles decide; that an adapter was rewritten and gives the same files is no reason to refuse.
            if fingerprint_of(dataset) != cell.fingerprint and content_of(dataset) != config.get("content"):
                raise DataError(
                    f"{cell.dataset}: the data or their split are not those of the run; restore them, name "
                    "where they lie with -D root=..., or run the methods again"
                )
            self._banks[cell.data_id] = Bank(dataset, cell.dataset, None, memory=MEMORY)
        return self._banks[cell.data_id]

    def _dataset(self, cell: Cell, config: dict[str, Any]) -> Dataset:
        """Return the dataset with the parameters of the run; what the command line gives comes first."""
        stored = {k: v["value"] for k, v in config["dataset"].items() if v["source"] != "default"}
        texts = [f"{k}={as_text(v)}" for k, v in stored.items() if v is not None]
        given = self._given(cell.dataset)
        texts = [t for t in texts if t.partition("=")[0] not in given]
        return open_dataset(self.registry, cell.dataset, [*texts, *given.values()])[0]

    def _given(self, name: str) -> dict[str, str]:
        """Return what the command line gives that this dataset takes; others of the store have other parameters."""
        parts = parts_of(name)
        refuse_one_root(parts, self.given)
        known = {part: {p.name for p in describe(self.registry.dataset(part))} for part in parts}
        out = {}
        for text in self.given:
            owner, dot, key = text.partition("=")[0].strip().rpartition(".")
            for part in parts:
                if key in known[part] and (not dot or owner == part):
                    full = key if len(parts) == 1 else f"{part}.{key}"
                    out[full] = f"{full}={text.partition('=')[2]}"
        return out
