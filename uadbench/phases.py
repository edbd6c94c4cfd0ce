"""The phases of one cell: fit, score, evaluate, draw. Each takes up what an earlier attempt finished."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uadbench
from uadbench.bank import Bank
from uadbench.dataset import Role, Subject
from uadbench.errors import Interrupted, StoreError, UADBenchError
from uadbench.files import now
from uadbench.method import Method, Run, derive_seed
from uadbench.plan import Plan, Planned
from uadbench.preparation import slice_scores
from uadbench.provenance import PeakMemory, command_line, commit, machine, versions
from uadbench.replay import evaluate_cell
from uadbench.reporter import Reporter, Stop
from uadbench.slice_cache import prepared_slices
from uadbench.store import CellFolder
from uadbench.volumes import HealthyImages, Planes, score_volume, to_planes
from uadbench.weights import FILE as FITTED
from uadbench.weights import count_parameters

SCORED: tuple[Role, ...] = ("val", "test_lesion", "test_healthy", "val_lesion")
ATTEMPTS = "attempts.json"
"""What scoring has cost so far, for an attempt that goes on."""
SLICES = 16
"""Slices that are scored at a time. No score depends on it."""


class CellRun:
    """The phases of one cell."""

    def __init__(
        self, plan: Plan, planned: Planned, folder: CellFolder, bank: Bank, reporter: Reporter, stop: Stop
    ) -> None:
        """Prepare a fresh method; nothing runs yet."""
        assert planned.method is not None
        assert planned.cell is not None
        self.plan, self.folder, self.bank, self.reporter, self.stop = plan, folder, bank, reporter, stop
        self.cell = planned.cell
        self.planned = planned
        self.method: Method = replace(planned.method)
        folder.checkpoint.mkdir(parents=True, exist_ok=True)
        self.run = Run(
            device=plan.device,
            seed=derive_seed(planned.cell.seed, "run"),
            precision=planned.cell.precision,  # type: ignore[arg-type]
            folder=folder.checkpoint,
            bar=reporter.bar,
            should_stop=stop,
        )
        self.size = bank.working_size(self.method.image_size)
        self.seconds: dict[str, float] = {}
        self.memory = PeakMemory()

    def go(self) -> None:
        """Fit, score, evaluate and draw; what an earlier attempt finished is used again."""
        began = now()
        with self.memory.watch(self.plan.device):
            with self._timed("fit"):
                self._fit()
            with self._timed("score"):
                self._score()
        with self._timed("evaluate"):
            evaluation = evaluate_cell(self.folder, self.bank, self.plan.split, self.plan.protocol, self.reporter)
        with self._timed("sheet"):
            try:
                self._draw(evaluation.subjects)
            except Exception:  # The numbers are there; a picture that cannot be drawn takes none of them away.
                self.folder.log(traceback.format_exc())
                self.reporter.note("the picture could not be drawn; the reason is in log.txt")
        self.folder.write_json("provenance.json", self._provenance(began))
        evaluation.write(self.folder)

    def _fit(self) -> None:
        """Load what an earlier attempt learned, or learn."""
        if self._load():
            facts = self.folder.checkpoint / "fit.json"
            self.run.record |= self.folder.read_json("checkpoint/fit.json") if facts.is_file() else {}
            self.run.record["fitted"] = "in an earlier attempt"
            return
        at_least = self.plan.protocol.preparation.train_foreground
        healthy = self._images(self.plan.split.train, "train", at_least)
        val = self._images(self.plan.split.val, "val", at_least)
        self.run.record |= {
            "train_images": len(healthy),
            "val_images": len(val),
            "train_subjects": len(self.plan.split.train),
            "val_subjects": len({subject.id for subject in self.plan.split.val}),
        }
        before = dict(vars(self.method))
        began = time.perf_counter()
        if self.method.fit(healthy, val=val, run=self.run) is not self.method:
            raise UADBenchError(f"{self.cell.method}.fit() must return self")
        changed = [k for k in before if not k.endswith("_") and vars(self.method).get(k) is not before[k]]
        if changed:
            raise UADBenchError(f"{self.cell.method}.fit() changed its hyper-parameters {', '.join(changed)}")
        self.run.record.setdefault("train_seconds", time.perf_counter() - began)
        self.run.record["parameters"] = count_parameters(self.method)
        self.folder.write_json("checkpoint/fit.json", self.run.record)
        self.method.save(self.folder.checkpoint)
        (self.folder.checkpoint / "training.pt").unlink(missing_ok=True)

    def _load(self) -> bool:
        """Load what an earlier attempt learned; what cannot be read is learned again."""
        if not (self.folder.checkpoint / FITTED).is_file():
            return False
        try:
            self.method.load(self.folder.checkpoint)
        except Exception as error:
            self.folder.log(f"the saved weights cannot be read and are learned again: {error}")
            (self.folder.checkpoint / FITTED).unlink()
            self.method = replace(self.method)
            return False
        return True

    def _images(self, subjects: tuple[Subject, ...], name: str, at_least: float) -> HealthyImages:
        """Return the images of healthy subjects, prepared once for all methods and seeds that see the same ones."""

        def planes() -> Iterator[Planes]:
            with self.reporter.bar(f"slices ({name})", len(subjects)) as advance:
                for volume, image in self.bank.each(subjects):
                    if self.stop():
                        raise Interrupted("stopped while the slices were prepared; the same command begins them again")
                    yield to_planes(volume.without_labels(), image, self.method, at_least=at_least, size=self.size)
                    advance(1)

        recipe = {
            "data": [self.cell.dataset_params, self.cell.fingerprint],
            "subjects": [s.key for s in subjects],
            "intensity": self.cell.preparation["intensity"],
            "train_foreground": at_least,
            "seen_as": [self.method.ndim, self.method.image_size, self.size],
        }
        store = prepared_slices(recipe, planes, note=self.reporter.note, stop=self.stop)
        return HealthyImages(store, seed=derive_seed(self.cell.seed, name))

    def _score(self) -> None:
        """Store the map of every subject that has none yet."""
        past = self.folder.read_json(ATTEMPTS) if (self.folder.path / ATTEMPTS).is_file() else {}
        subjects = [(role, s) for role in SCORED for s in getattr(self.plan.split, role)]
        rows: list[dict[str, Any]] = []
        seconds, scored, done = past.get("score_seconds", 0.0), past.get("scored", 0), 0
        with self.reporter.bar("score", len(subjects)) as advance:
            for (role, subject), (annotated, image) in zip(
                subjects, self.bank.each(s for _, s in subjects), strict=True
            ):
                volume = annotated.without_labels()
                try:
                    anomaly_map, own = self.folder.read_map(subject.key)
                except StoreError:  # Not there yet, or cut short by a crash.
                    if self.stop():
                        self.folder.write_json(ATTEMPTS, {"score_seconds": seconds, "scored": scored})
                        raise Interrupted(f"stopped after {done} maps, which are kept") from None
                    began = time.perf_counter()
                    told = score_volume(
                        self.method, volume, image, seed=self.cell.seed, device=self.plan.device, batch_size=SLICES,
                        size=self.size, reconstruct=role.startswith("test_"),
                    )  # fmt: skip
                    seconds += time.perf_counter() - began
                    scored += 1
                    if told.reconstruction is not None:
                        self.folder.write_reconstruction(subject.key, told.reconstruction)
                    # The map comes last: where it lies, nothing is missing.
                    self.folder.write_map(subject.key, told.anomaly_map, told.own)
                    anomaly_map, own = self.folder.read_map(subject.key)  # as stored, as a later attempt reads it
                done += 1
                rows += [{"subject": subject.key, "role": role, **r} for r in slice_scores(volume, anomaly_map, own)]
                advance(1)
        self.folder.write_json(ATTEMPTS, {"score_seconds": seconds, "scored": scored})
        if scored:
            self.run.record["score_seconds_per_volume"] = seconds / scored
        self.folder.write_table("scores.csv", rows)

    def _draw(self, rows: list[dict[str, Any]]) -> None:
        from uadbench.sheet import draw_sheet

        draw_sheet(self.folder, self.bank, self.plan, self.cell, rows)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - began

    def _provenance(self, began: str) -> dict[str, Any]:
        # What an attempt that was stopped had done counts too.
        whole = {
            "fit": self.run.record.get("train_seconds", 0.0),
            "score": self.folder.read_json(ATTEMPTS)["score_seconds"],
        }
        self.seconds |= {phase: max(self.seconds[phase], before) for phase, before in whole.items()}
        source = Path(__import__("sys").modules[type(self.method).__module__].__file__ or "")
        return {
            "began": began,
            "ended": now(),
            "seconds": self.seconds,
            "fit": self.run.record,
            "peak_memory_mib": self.memory.process_mib,
            "peak_gpu_memory_mib": self.memory.gpu_mib,
            "seed": self.cell.seed,
            "precision": self.cell.precision,
            "unranked": self.planned.unranked,
            "data_warnings": self.bank.warnings,
            "family": self.method.family,
            "transductive": self.method.transductive,
            "note": self.plan.dataset.card.note,
            "command": command_line(),
            "versions": versions(),
            "uadbench": commit(Path(uadbench.__file__)),
            "method_source": {"file": source.name, **commit(source)},
            "machine": machine(self.plan.device),
        }
