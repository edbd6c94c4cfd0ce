"""The multiverse against one evaluation for every pipeline, and how long thousands of pipelines take.

Run: python -m uadbench.benchmarks.speed.multiverse [--methods 7] [--subjects 30] [--count 80] [--minutes 10] [--small].

First a part of the default grid with 2 methods and 3 subjects: once with `score_methods`, and once with `evaluate` under the
protocol of every combination of choices, which gives all metrics and aggregations at once. The numbers must be equal. Then
the whole default grid, timed. Subjects are those of the phantom, maps are noise of some coarseness plus some of the lesion.
"""

from __future__ import annotations

import uadbench.benchmarks.speed._turns as turns  # isort: skip  # sets the number of threads, so it comes before numpy

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from uadbench.bank import Bank
from uadbench.dataset import Split, Subject, Volume
from uadbench.evaluation import by_person, evaluate
from uadbench.multiverse import Pipeline, PipelineGrid, load_grid
from uadbench.multiverse_scores import Source, score_methods
from uadbench.protocol import Protocol
from uadbench.protocols import get_protocol
from uadbench.registry import Registry
from uadbench.store import CellFolder

GOAL = 15.0
SHARED, APART = "multiverse", "an evaluation for every combination"
POOLED = {"auprc": "auprc_pooled", "auroc": "auroc_pooled", "dice": "dice_pooled"}

Numbers = dict[tuple[str, Pipeline], float]


def make_maps(root: Path, bank: Bank, split: Split, methods: int) -> dict[str, list[Source]]:
    """Write a map of every subject for each method."""
    out = {}
    for number in range(methods):
        folder = CellFolder(root / f"method{number}")
        for role, subject in split.items():
            if role != "train":
                folder.write_map(subject.key, example(bank.load(subject), subject, number), {})
        out[f"method{number}"] = [Source(folder, bank.load, split)]
    return out


def example(volume: Volume, subject: Subject, number: int) -> np.ndarray:
    """Return a map of the kind that residuals give, float32 (D, H, W)."""
    rng = np.random.default_rng([number, *subject.key.encode()])
    noise = np.abs(gaussian_filter(rng.standard_normal(volume.grid).astype(np.float32), 0.4 + 0.1 * number))
    lesion = np.zeros(volume.grid, np.float32) if volume.lesion is None else volume.lesion.astype(np.float32)
    score = noise / noise.std() + (0.6 + 0.1 * (number % 3)) * gaussian_filter(lesion, 1.0)
    assert volume.foreground is not None
    return np.where(volume.foreground, score, 0.0).astype(np.float32)


def shared(methods: dict[str, list[Source]], grid: PipelineGrid, base: Protocol) -> Numbers:
    """Return the value of every pipeline and method, computed together."""
    values = score_methods(methods, grid, base)
    return {
        (m, p): float(v)
        for p, row in zip(grid.pipelines(), values, strict=True)
        for m, v in zip(methods, row, strict=True)
    }


def apart(methods: dict[str, list[Source]], grid: PipelineGrid, base: Protocol) -> Numbers:
    """Return what evaluations under all combinations of choices give."""
    out: Numbers = {}
    combinations = list(product(grid.postprocess, grid.threshold, grid.found_steps, grid.hit))
    for name, (source,) in methods.items():
        for chain, rule, steps, hit in combinations:
            protocol = replace(
                base, postprocess=grid.postprocess[chain], threshold=grid.threshold[rule], hit=hit,
                found_steps=grid.found_steps[steps], metrics=(*grid.metric, *POOLED.values()), draws=2,
            )  # fmt: skip
            found = evaluate(source.folder, source.load, source.split, protocol)
            rows = [row for row in found.subjects if row["role"] == "test_lesion"]
            chosen = {"postprocess": chain, "threshold": rule, "found_steps": steps, "hit": hit}
            for pipeline in grid.pipelines():
                if any(getattr(pipeline, key) not in ("", choice) for key, choice in chosen.items()):
                    continue
                if pipeline.aggregate == "mean":
                    out[name, pipeline] = found.result.metrics[pipeline.metric].value
                elif pipeline.aggregate == "median":
                    out[name, pipeline] = float(np.median(by_person(rows, pipeline.metric)))
                elif pipeline.metric in POOLED:
                    out[name, pipeline] = found.result.metrics[POOLED[pipeline.metric]].value
    return out


def compare(root: Path, bank: Bank, split: Split, full: PipelineGrid) -> bool:
    """Check equality on a part of the grid and print the ratio of CPU seconds; return whether all is as it should be."""
    split = replace(split, val=split.val[:2], val_lesion=split.val_lesion[:2], test_lesion=split.test_lesion[:3])
    split = replace(split, test_healthy=())
    grid = replace(
        full, resolution=("native",), postprocess={k: full.postprocess[k] for k in ("none", "median 3")},
        threshold={k: v for k, v in full.threshold.items() if v.labels_used == "val" or v.rate <= 0.02},
    )  # fmt: skip
    base, methods = get_protocol("brain-v1"), make_maps(root / "small", bank, split, 2)
    one, other = shared(methods, grid, base), apart(methods, grid, base)
    mine, wanted = np.array([one[key] for key in other]), np.array(list(other.values()))
    equal = len(other) > 300 and np.allclose(mine, wanted, rtol=0.0, atol=1e-12, equal_nan=True)
    sys.stdout.write(
        f"{len(grid.pipelines())} pipelines, 2 methods, 3 subjects: {len(other)} numbers, largest difference "
        f"{np.nanmax(np.abs(mine - wanted)):.1e}, {'equal' if equal else 'DIFFERENT'}\n"
    )
    seconds = turns.cpu_seconds(
        {APART: lambda: apart(methods, grid, base), SHARED: lambda: shared(methods, grid, base)}, 1, warm=False
    )
    return turns.report([turns.Claim("sharing the work of pipelines", APART, SHARED, GOAL)], seconds) and equal


def whole(root: Path, bank: Bank, split: Split, grid: PipelineGrid, count: int, minutes: float) -> bool:
    """Print how long the whole grid takes; return whether that is less than `minutes`."""
    methods = make_maps(root / "whole", bank, split, count)
    wall, cpu = time.perf_counter(), time.process_time()
    score_methods(methods, grid, get_protocol("brain-v1"))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    met = cpu <= 60.0 * minutes
    sys.stdout.write(
        f"{len(grid.pipelines()):,} pipelines, {count} methods, {len(split.test_lesion)} subjects, "
        f"{len(split.val) + len(split.val_lesion)} for thresholds: {cpu:.0f} CPU s on one core, {wall:.0f} s by the clock "
        f"(goal {minutes:g} minutes, {'met' if met else 'MISSED'})\n"
    )
    return met


def main(methods: int, subjects: int, count: int, minutes: float, small: bool) -> int:
    """Measure both; return the exit status."""
    parameters = {"count": 10, "size": (8, 48, 40)} if small else {"count": count}
    bank = Bank(Registry().dataset("phantom")(**parameters), "phantom", None)
    split = bank.dataset.split(0)
    split = replace(split, test_lesion=split.test_lesion[:subjects])
    grid, notes = load_grid().for_data([split])
    for line in (*grid.count_in_words(), *notes):
        sys.stdout.write(f"{line}\n")
    with tempfile.TemporaryDirectory() as folder:
        met = compare(Path(folder), bank, split, grid)
        met = whole(Path(folder), bank, split, grid, methods, minutes) and met
    return 0 if met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=int, default=7)
    parser.add_argument("--subjects", type=int, default=30, help="lesion subjects at most")
    parser.add_argument("--count", type=int, default=80, help="of the phantom's subjects, in all roles")
    parser.add_argument("--minutes", type=float, default=10.0, help="goal for the whole grid")
    parser.add_argument("--small", action="store_true", help="ten small subjects, to try it")
    args = parser.parse_args()
    sys.exit(main(args.methods, args.subjects, args.count, args.minutes, args.small))
