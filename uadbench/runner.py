"""Runs a plan: one cell after the other, each resumable, each safe from the failure of the others."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

from uadbench.bank import Bank
from uadbench.checked import Checked, checked_once
from uadbench.data_checks import check_before_run, pair_findings
from uadbench.errors import Busy, DataError, DegenerateScores, Incompatible, Interrupted, StoreError, UADBenchError
from uadbench.phases import CellRun
from uadbench.plan import Plan, Planned
from uadbench.replay import evaluate_again
from uadbench.reporter import Reporter, Stop
from uadbench.results import has_current
from uadbench.store import CellFolder, Store

VOLUMES_KEPT = 2**28
"""Bytes of volumes that are kept in memory. Training reads prepared slices, so that few are asked for twice."""


@dataclass
class Outcome:
    """What became of a plan: the folder and the outcome of each cell."""

    cells: list[tuple[Planned, CellFolder | None, str, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """130 if interrupted; 1 if a cell failed or is another process's, or nothing that was asked for is done; else 0."""
        states = {outcome for _, _, outcome, _ in self.cells}
        if "interrupted" in states:
            return 130
        asked = {outcome for planned, _, outcome, _ in self.cells if not planned.reference}
        return 1 if states & {"failed", "busy"} or asked == {"skipped"} else 0


def run_plan(plan: Plan, store: Store, reporter: Reporter, *, stop: Stop | None = None) -> Outcome:
    """Run all cells of a plan that are not finished yet.

    Raises:
        DataError: before anything is trained, if a subject of the split cannot be used.
    """
    stop = stop or Stop()
    outcome = Outcome()
    bank = Bank(plan.dataset, plan.dataset_name, plan.protocol.preparation.intensity, memory=VOLUMES_KEPT)
    checked = False
    with stop.listening(reporter.note):
        for number, planned in enumerate(plan.cells, 1):
            if stop():
                outcome.cells.append((planned, None, "interrupted", "not begun"))
                continue
            folder = store.folder(planned.cell) if planned.cell else None
            reporter.begin(planned, number, len(plan.cells))
            state, reason = "", ""
            if folder and folder.done:
                state, reason = _kept(plan, folder, bank, reporter)
            if not folder or not folder.done:  # Not yet, or no longer, because a map is missing.
                runnable = folder and not planned.skip and not planned.failure
                if runnable and not checked:
                    checked = _check(plan, bank, reporter, stop)
                    if not checked:
                        outcome.cells.append((planned, None, "interrupted", "stopped while the data were checked"))
                        continue
                state, reason = _one(plan, planned, folder, bank, reporter, stop)
            outcome.cells.append((planned, folder, state, reason))
            reporter.end(planned, folder, state, reason)
    return outcome


def _check(plan: Plan, bank: Bank, reporter: Reporter, stop: Stop) -> bool:
    """Look at every subject, or remember what was found when that was done. Returns False if the user asked to stop.

    Raises:
        DataError: for the first subject that cannot be used.
    """
    members = [[role, subject.key] for role, subject in plan.split.items()]
    cell = next(planned.cell for planned in plan.cells if planned.cell)
    told = [str(found) for found in pair_findings(plan.dataset)]  # The preparation may have told more since.
    recipe = [cell.dataset_params, cell.fingerprint, members, plan.protocol.masks, cell.preparation["intensity"], told]

    def look() -> Checked:
        with reporter.bar("data", len(members)) as advance:

            def one_more() -> None:
                if stop():
                    raise Interrupted
                advance(1)

            return bank.check(plan.split, masks=plan.protocol.masks, each_subject=one_more)

    check_before_run(plan.split, plan.dataset_name)
    try:
        checked = checked_once(recipe, look)
    except Interrupted:
        return False
    bank.trust(checked, plan.split)
    for doubt in checked.warnings:
        reporter.note(f"data: {doubt}")
    return True


def _kept(plan: Plan, folder: CellFolder, bank: Bank, reporter: Reporter) -> tuple[str, str]:
    """Evaluate a finished cell if it was not yet, under this protocol and by this code; its maps are kept."""
    if has_current(folder, plan.protocol):
        return "kept", ""
    return evaluate_again(folder, bank, plan.split, plan.protocol, reporter)


def _one(
    plan: Plan, planned: Planned, folder: CellFolder | None, bank: Bank, reporter: Reporter, stop: Stop
) -> tuple[str, str]:
    """Run one cell and return its outcome and the reason for it."""
    if folder is None or planned.cell is None or planned.method is None:
        return "failed", planned.failure or "it could not be loaded"
    try:
        with folder.locked():
            if folder.done:  # Another process finished it while this one waited.
                return "kept", ""
            folder.create(planned.cell, planned.config)
            if planned.skip or planned.failure:
                state = "skipped" if planned.skip else "failed"
                reason = planned.skip or planned.failure or ""
                folder.set_status("skipped" if planned.skip else "failed", reason=reason)
                return state, reason
            return _run(plan, planned, folder, bank, reporter, stop)
    except Busy as error:
        return "busy", str(error)
    except StoreError as error:
        return "failed", str(error)


def _run(
    plan: Plan, planned: Planned, folder: CellFolder, bank: Bank, reporter: Reporter, stop: Stop
) -> tuple[str, str]:
    folder.set_status("running")
    try:
        CellRun(plan, planned, folder, bank, reporter, stop).go()
    except (Interrupted, KeyboardInterrupt) as error:
        reason = str(error) or "stopped at once"
        stop.asked = True
        folder.set_status("interrupted", reason=reason)
        return "interrupted", reason
    except Incompatible as error:
        folder.set_status("skipped", reason=str(error))
        return "skipped", str(error)
    except DataError:
        folder.set_status("failed", reason="a data error; see the message of the command")
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, UADBenchError) else f"{type(error).__name__}: {error}"
        kind = "degenerate_scores" if isinstance(error, DegenerateScores) else type(error).__name__
        folder.log(traceback.format_exc())
        folder.set_status("failed", reason=reason, error=kind)
        return "failed", reason
    folder.set_status("done", reason=planned.unranked or "")
    return "done", ""
