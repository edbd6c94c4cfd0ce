"""Evaluating one volume under mDDPM's protocol, against a plain chain of scipy, scikit-image and scikit-learn.

Run: python -m uadbench.benchmarks.speed.eval_volume [--shape 50 96 96] [--repeats 9] [--seed 0].

Both ways go from the raw map to all numbers of a volume: erosion, 5x5x5 median, AP and AUROC of all voxels, best Dice,
threshold, components of at most 7 voxels removed, Dice, Hausdorff distance. The best Dice is searched in ten halvings by
the one, as in the released code, and is exact with the other; all else must be equal, the maps and masks bit by bit.
"""

from __future__ import annotations

import uadbench.benchmarks.speed._turns as turns  # isort: skip  # sets the number of threads, so it comes before numpy

import argparse
import importlib.util
import statistics
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter, generate_binary_structure, median_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from uadbench.arrays import BoolArray, FloatArray
from uadbench.filters import erode_slices, median_cube, remove_small
from uadbench.metrics.overlap import dice
from uadbench.metrics.ranking import auroc, average_precision, best_dice, rank_curve
from uadbench.metrics.regions import components
from uadbench.metrics.surface import surface_distances
from uadbench.thresholds import bisection

GOAL = 5.0
PLAIN, OURS = "scipy, scikit-image, scikit-learn", "uadbench"


@dataclass(frozen=True)
class Example:
    """A volume: its raw map, brain and lesions, all (D, H, W), and the threshold of its data set."""

    score: FloatArray
    brain: BoolArray
    lesion: BoolArray
    threshold: float


@dataclass(frozen=True)
class Numbers:
    """What is found out about a volume."""

    filtered: FloatArray
    found: BoolArray
    ap: float
    auroc: float
    best: float
    dice: float
    hausdorff: float


@dataclass
class Clock:
    """CPU seconds of the parts of a chain, one entry a round."""

    parts: dict[str, list[float]] = field(default_factory=dict)
    last: float = 0.0

    def start(self) -> None:
        """Begin a round."""
        self.last = time.process_time()

    def end(self, part: str) -> None:
        """Book the time since the last call."""
        now = time.process_time()
        self.parts.setdefault(part, []).append(now - self.last)
        self.last = now


def example(shape: tuple[int, int, int], seed: int) -> Example:
    """Return a brain-like ellipsoid, a third of the volume after erosion, with a textured residual and five lesions."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij"))
    brain = (grid**2).sum(0) < 0.91**2
    noise = gaussian_filter(rng.standard_normal(shape), 1.2)
    lesion = np.zeros(shape, bool)
    for radius in (0.08, 0.1, 0.12, 0.2, 0.25):
        centre = rng.uniform(-0.4, 0.4, 3)
        lesion |= ((grid - centre[:, None, None, None]) ** 2).sum(0) < radius**2
    score = np.abs(noise) / noise.std() * 0.05 + 0.035 * gaussian_filter(lesion.astype(float), 1.0)
    score = score.astype(np.float32)
    filtered = median_cube(np.where(erode_slices(brain, shape[1] // 25), score, np.float32(0.0)), 5)
    return Example(score, brain, lesion, bisection([filtered], [lesion]))


def plain(volume: Example, clock: Clock) -> Numbers:
    """Evaluate with one library call after the other."""
    from skimage.measure import label, regionprops
    from skimage.metrics import hausdorff_distance

    clock.start()
    cross = generate_binary_structure(2, 1)
    times = volume.score.shape[1] // 25
    brain = np.stack([binary_erosion(m, cross, iterations=times) if times else m for m in volume.brain])
    score = np.where(brain, volume.score, np.float32(0.0))
    clock.end("erosion")
    filtered = median_filter(score, size=5)
    clock.end("median")
    flat, lesion = filtered.ravel(), volume.lesion.ravel()
    ap = average_precision_score(lesion, flat)
    clock.end("AP")
    area = roc_auc_score(lesion, flat)
    clock.end("AUROC")
    low, high, best = 0.0, float(flat.max()), 0.0
    for _ in range(10):
        quarter, upper = low + 0.25 * (high - low), low + 0.75 * (high - low)
        lower_dice, upper_dice = plain_dice(flat > quarter, lesion), plain_dice(flat > upper, lesion)
        best = max(best, lower_dice, upper_dice)
        middle = (low + high) / 2.0
        low, high = (low, middle) if lower_dice >= upper_dice else (middle, high)
    clock.end("best Dice")
    found = filtered > volume.threshold
    clock.end("threshold")
    labels = label(found, connectivity=3)
    for region in regionprops(labels):
        if region.area_filled <= 7:
            found[labels == region.label] = False
    clock.end("components")
    overlap = plain_dice(found, volume.lesion)
    clock.end("Dice")
    solid = generate_binary_structure(3, 1)
    edges = [mask & ~binary_erosion(mask, solid) for mask in (found, volume.lesion)]
    distance = hausdorff_distance(*edges)
    clock.end("Hausdorff")
    return Numbers(filtered, found, ap, area, best, overlap, distance)


def plain_dice(found: BoolArray, lesion: BoolArray) -> float:
    """Return Dice the plain way."""
    return float(2.0 * np.sum(found & lesion) / (np.sum(found) + np.sum(lesion)))


def ours(volume: Example, clock: Clock) -> Numbers:
    """Evaluate with what the benchmark itself uses."""
    clock.start()
    brain = erode_slices(volume.brain, volume.score.shape[1] // 25)
    score = np.where(brain, volume.score, np.float32(0.0))
    clock.end("erosion")
    filtered = median_cube(score, 5)
    clock.end("median")
    curve = rank_curve(filtered.ravel(), volume.lesion.ravel())
    ap = average_precision(curve)
    clock.end("AP")
    area = auroc(curve)
    clock.end("AUROC")
    best, _ = best_dice(curve)
    clock.end("best Dice")
    found = filtered > volume.threshold
    clock.end("threshold")
    found = remove_small(found, 7, filled=True)
    clock.end("components")
    overlap = dice(found, volume.lesion)
    clock.end("Dice")
    distance = surface_distances(found, volume.lesion, (1.0, 1.0, 1.0)).hausdorff(100.0)
    clock.end("Hausdorff")
    return Numbers(filtered, found, ap, area, best, overlap, distance)


def differences(a: Numbers, b: Numbers) -> list[str]:
    """Return in words what should be equal and is not; `a` is the plain way."""
    wrong = [name for name in ("filtered", "found") if getattr(a, name).tobytes() != getattr(b, name).tobytes()]
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in ("ap", "auroc", "dice", "hausdorff")}
    wrong += [f"{name} {x} and {y}" for name, (x, y) in pairs.items() if not abs(x - y) <= 1e-9]
    return wrong + ([f"best Dice {a.best} above the exact one {b.best}"] if a.best > b.best + 1e-12 else [])


def main(shape: tuple[int, int, int], repeats: int, seed: int) -> int:
    """Check equality, print the milliseconds of each part and the ratio; return the exit status."""
    volume = example(shape, seed)
    numbers = ours(volume, Clock())
    share = np.mean(erode_slices(volume.brain, shape[1] // 25))
    sys.stdout.write(
        f"{shape}, {share:.0%} of the voxels in the eroded brain, "
        f"{len(components(numbers.filtered > volume.threshold).sizes)} components before small ones are removed\n"
        f"AP {numbers.ap:.4f}, AUROC {numbers.auroc:.4f}, Dice {numbers.dice:.4f}, "
        f"Hausdorff {numbers.hausdorff:.2f} voxels, best Dice {numbers.best:.4f}\n"
    )
    if importlib.util.find_spec("skimage") is None:
        sys.stdout.write("scikit-image is not installed: nothing to compare with (pip install scikit-image)\n")
        return 0
    reference = plain(volume, Clock())
    wrong = differences(reference, numbers)
    equal = f"map and mask equal bit by bit, numbers equal; best Dice by halving {reference.best:.4f}"
    sys.stdout.write(f"{'DIFFERENT: ' + '; '.join(wrong) if wrong else equal}\n")
    clocks = {PLAIN: Clock(), OURS: Clock()}
    seconds = turns.cpu_seconds(
        {PLAIN: lambda: plain(volume, clocks[PLAIN]), OURS: lambda: ours(volume, clocks[OURS])}, repeats
    )
    for part in clocks[PLAIN].parts:
        # The first round warms up and does not count.
        plain_ms, our_ms = (1e3 * statistics.median(clocks[name].parts[part][1:]) for name in (PLAIN, OURS))
        sys.stdout.write(f"  {part}: {plain_ms:.1f} ms, ours {our_ms:.1f} ms\n")
    met = turns.report([turns.Claim("evaluation of a volume", PLAIN, OURS, GOAL)], seconds)
    return 0 if met and not wrong else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(50, 96, 96), metavar=("D", "H", "W"))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.exit(main(tuple(args.shape), args.repeats, args.seed))
