"""AUPRO of many images: python -m uadbench.benchmarks.speed.aupro [--images 200 --size 256 --repeats 3].

Candidates, in turn in one process: the streaming histogram, the exact function, a plain exact reference that is written
here (scipy's components and one sort of all pixels), and anomalib's exact AUPRO if anomalib is installed. Streaming must
be 20 times faster than anomalib, within 1e-4 of the exact value and below 150 MB. Without anomalib no ratio to it is
claimed; the ratio to the plain reference is shown, with no goal but to be faster.
"""

from __future__ import annotations

from uadbench.benchmarks.speed._turns import Claim, cpu_seconds, extra_peak_mb, report  # isort: skip  # sets threads

import argparse
import importlib.util
import sys
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from uadbench.arrays import BoolArray, FloatArray
from uadbench.metrics.pro import ProHistogram, aupro
from uadbench.metrics.regions import components

LIMIT = 0.3
TOLERANCE = 1e-4
MEMORY_MB = 150.0


def images(count: int, size: int) -> tuple[FloatArray, BoolArray]:
    """Return scores like those of a residual, float32 (count, size, size), and masks of about two regions an image."""
    rng = np.random.default_rng(0)
    scores, lesions = np.empty((count, size, size), np.float32), np.zeros((count, size, size), bool)
    y, x = np.mgrid[:size, :size]
    for score, lesion in zip(scores, lesions, strict=True):
        for _ in range(2):
            cy, cx = rng.integers(0, size, 2)
            ry, rx = rng.uniform(size / 40, size / 10, 2)
            lesion |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1.0
        noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.5)
        score[:] = np.abs(
            noise / noise.std() + rng.uniform(0.5, 2.5) * ndimage.gaussian_filter(lesion.astype(float), 2.0)
        )
    return scores, lesions


def plain(scores: FloatArray, lesions: BoolArray) -> float:
    """AUPRO by its definition: label, give each pixel its step of the curve, sort all pixels once."""
    rise = np.zeros(scores.shape)
    regions = 0
    for lesion, out in zip(lesions, rise, strict=True):
        labels, count = ndimage.label(lesion, np.ones((3, 3)))
        sizes = np.bincount(labels.reshape(-1))
        out[lesion] = 1.0 / sizes[labels[lesion]]
        regions += count
    order = np.argsort(-scores.reshape(-1), kind="stable")
    ordered = scores.reshape(-1)[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    healthy = ~lesions.reshape(-1)[order]
    rate = np.concatenate(([0.0], np.cumsum(healthy)[last] / np.count_nonzero(healthy)))
    overlap = np.concatenate(([0.0], np.cumsum(rise.reshape(-1)[order])[last] / regions))
    inside = int(np.searchsorted(rate, LIMIT, side="right"))
    end = np.interp(LIMIT, rate, overlap)
    rate, overlap = np.append(rate[:inside], LIMIT), np.append(overlap[:inside], end)
    return float(np.sum(np.diff(rate) * (overlap[1:] + overlap[:-1]) / 2.0) / LIMIT)


def streaming(scores: FloatArray, lesions: BoolArray) -> float:
    """Give one image at a time to the histogram."""
    histogram = ProHistogram()
    for score, lesion in zip(scores, lesions, strict=True):
        histogram.add(score[None], components(lesion[None]))
    return histogram.value(LIMIT)


def peer(scores: FloatArray, lesions: BoolArray) -> Callable[[], float] | None:
    """Return anomalib's AUPRO on the same images, None if anomalib is not installed.

    The class behind its public one is taken: it takes plain tensors and does all the work.
    """
    if importlib.util.find_spec("anomalib") is None:
        return None
    import torch
    from anomalib.metrics.aupro import _AUPRO

    torch.set_num_threads(1)
    preds, target = torch.from_numpy(scores), torch.from_numpy(lesions.astype(np.int64))

    def run() -> float:
        metric = _AUPRO(fpr_limit=LIMIT)
        metric.update(preds, target)
        return float(metric.compute())

    return run


def main(argv: list[str] | None = None) -> int:
    """Compare, then time; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    scores, lesions = images(args.images, args.size)
    volumes, masks = list(scores[:, None]), list(lesions[:, None])
    candidates: dict[str, Callable[[], float]] = {
        "streaming": lambda: streaming(scores, lesions),
        "exact": lambda: aupro(volumes, masks, LIMIT),
        "plain reference": lambda: plain(scores, lesions),
    }
    other = peer(scores, lesions)
    if other is None:
        sys.stdout.write("anomalib is not installed: nothing is claimed against it, only against the plain reference\n")
    else:
        candidates["anomalib"] = other
    values = {name: candidate() for name, candidate in candidates.items()}
    reference = values["plain reference"]
    regions = sum(len(components(m).sizes) for m in masks)
    sys.stdout.write(f"{args.images} images of {args.size} x {args.size}, {regions} regions, AUPRO({LIMIT})\n")
    for name, value in values.items():
        sys.stdout.write(f"{name}: {value:.9f}, off the plain reference by {value - reference:+.1e}\n")
    equal = abs(values["exact"] - reference) <= 1e-9
    near = all(abs(values["streaming"] - v) <= TOLERANCE for n, v in values.items())
    sys.stdout.write(f"exact equals the reference to 1e-9: {'met' if equal else 'MISSED'}\n")
    sys.stdout.write(f"streaming within {TOLERANCE:g} of all others: {'met' if near else 'MISSED'}\n")
    small = True
    for name in ("streaming", "exact", "plain reference"):
        peak = extra_peak_mb(candidates[name])
        goal = ""
        if name == "streaming":
            small = peak <= MEMORY_MB
            goal = f" (goal {MEMORY_MB:g}, {'met' if small else 'MISSED'})"
        sys.stdout.write(f"{name}: {peak:.0f} MB extra at most{goal}\n")
    seconds = cpu_seconds(candidates, args.repeats)
    claims = [Claim("streaming against the plain reference", "plain reference", "streaming", 1.0)]
    if other is not None:
        claims.append(Claim("streaming against anomalib", "anomalib", "streaming", 20.0))
        claims.append(Claim("exact against anomalib", "anomalib", "exact", 1.0))
    return 0 if report(claims, seconds) and equal and near and small else 1


if __name__ == "__main__":
    sys.exit(main())
