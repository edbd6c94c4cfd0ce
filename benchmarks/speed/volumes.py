"""Is the cost of an evaluation linear in its volumes, and what memory does it need?

Run: python -m uadbench.benchmarks.speed.volumes. The subjects are synthetic and made anew whenever they are read, so that
nothing but the evaluation can hold on to them.
"""

from __future__ import annotations

import uadbench.benchmarks.speed._turns as turns  # isort: skip  # sets the number of threads, so it comes before numpy

import argparse
import sys
import time
import zlib
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from uadbench.arrays import FloatArray
from uadbench.dataset import Split, Subject, Volume
from uadbench.evaluation import evaluate
from uadbench.protocols import get_protocol


@dataclass(frozen=True)
class Synthetic:
    """A folder and a dataset in one: maps and volumes of `shape` (D, H, W), from the subject's name."""

    shape: tuple[int, int, int]

    def _lesion(self, key: str) -> np.ndarray:
        lesion = np.zeros(self.shape, bool)
        if key.startswith("ill"):
            rng = np.random.default_rng(zlib.crc32(key.encode()))
            for _ in range(3):
                corner = [int(rng.integers(n // 4, n // 2)) for n in self.shape]
                lesion[tuple(slice(c, c + max(2, n // 10)) for c, n in zip(corner, self.shape, strict=True))] = True
        return lesion

    def load(self, subject: Subject) -> Volume:
        """Return a volume whose foreground is an ellipsoid."""
        axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in self.shape), indexing="ij", sparse=True)
        foreground = np.asarray(sum(a**2 for a in axes) < 0.9)
        image = np.random.default_rng(zlib.crc32(subject.key.encode()) + 3).random((1, *self.shape), np.float32)
        return Volume(
            image, subject=subject.key, foreground=foreground, lesion=self._lesion(subject.key), spacing=(2.0,) * 3
        )

    def read_map(self, key: str, grid: tuple[int, ...] | None = None) -> tuple[FloatArray, dict[int, float]]:
        """Return noise that is higher in lesions, with the precision of stored maps."""
        rng = np.random.default_rng(zlib.crc32(key.encode()) + 1)
        noise = gaussian_filter(rng.random(self.shape, np.float32), 1.0)
        return (noise + 0.1 * self._lesion(key)).astype(np.float16).astype(np.float32), {}

    def read_reconstruction(self, key: str) -> FloatArray:
        """Return noise in the shape of an image."""
        rng = np.random.default_rng(zlib.crc32(key.encode()) + 2)
        return rng.random((1, *self.shape), np.float32)


def one(shape: tuple[int, int, int], count: int) -> tuple[float, float]:
    """Return the CPU seconds and the largest extra memory in 10^6 bytes of an evaluation of `count` lesion subjects."""
    data = Synthetic(shape)

    def people(name: str, n: int) -> tuple[Subject, ...]:
        return tuple(Subject(f"{name}{i}") for i in range(n))

    split = Split((), people("val", 10), people("ill", count), people("healthy", 10))

    def run() -> None:
        evaluate(data, data.load, split, get_protocol("brain-v1"))  # type: ignore[arg-type]

    began = time.process_time()
    run()
    seconds = time.process_time() - began
    return seconds, turns.extra_peak_mb(run)


def main() -> int:
    """Print a line for each number of volumes; 1 if the cost of a volume grows by more than a half."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(24, 48, 40))
    parser.add_argument("--counts", type=int, nargs="+", default=(10, 100, 1000))
    given = parser.parse_args()
    each = []
    for count in given.counts:
        seconds, peak = one(tuple(given.shape), count)
        each.append(seconds / (count + 20))
        sys.stdout.write(
            f"{count} volumes: {seconds:.1f} CPU s, {1e3 * each[-1]:.1f} ms a volume, peak {peak:.0f} MB\n"
        )
        sys.stdout.flush()
    linear = each[-1] <= 1.5 * each[0]
    sys.stdout.write(
        f"cost of a volume, most / fewest: {each[-1] / each[0]:.2f} ({'linear' if linear else 'NOT linear'})\n"
    )
    return 0 if linear else 1


if __name__ == "__main__":
    sys.exit(main())
