"""Speed claims, each as a ratio of two ways in one run: python -m uadbench.benchmarks.speed.training [--repeats 9].

The two ways take turns, so that whatever else the machine does meets both alike; medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from uadbench.diffusion import QUICK
from uadbench.method import Precision
from uadbench.nets import UNet
from uadbench.noise import generators, simplex
from uadbench.training import autocast

SIZE = (48, 40)


def turns(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median seconds of two ways that take turns; the first round of each does not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for way, times in zip((first, second), seconds, strict=True):
            began = time.perf_counter()
            way()
            times.append(time.perf_counter() - began)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def quick_net() -> UNet:
    """Return the U-Net of the preset quick."""
    return UNet(1, **{name: QUICK[name] for name in ("channels", "blocks", "scale_shift", "attention")})


def step(precision: Precision, memory: torch.memory_format) -> Callable[[], object]:
    """Return a function that makes one training step of the quick U-Net."""
    torch.manual_seed(0)
    net = quick_net().to(memory_format=memory)
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    x, t = torch.rand(QUICK["batch_size"], 1, *SIZE), torch.randint(0, 1000, (QUICK["batch_size"],))

    def run() -> None:
        with autocast("cpu", precision):
            loss = (net(x, t).float() - x).abs().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return run


def forward(batch: int) -> Callable[[], object]:
    """Return a function that restores 16 slices, `batch` at a time."""
    net = quick_net().eval()
    x, t = torch.rand(16, 1, *SIZE), torch.full((16,), 499)

    @torch.no_grad()
    def run() -> None:
        with autocast("cpu", "bf16"):
            for start in range(0, 16, batch):
                net(x[start : start + batch], t[start : start + batch])

    return run


def noise() -> Callable[[], object]:
    """Return a function that draws the simplex noise of one training step."""
    seeds = torch.arange(QUICK["batch_size"])
    return lambda: simplex(generators(seeds), (1, *SIZE), "cpu")


def main(repeats: int) -> None:
    """Print every claim with its ratio."""
    plain, last = torch.contiguous_format, torch.channels_last
    claims = {
        "training step, fp32 / bf16": (step("fp32", plain), step("bf16", plain)),
        "training step, channels_last / contiguous": (step("bf16", last), step("bf16", plain)),
        "training step / its simplex noise": (step("bf16", plain), noise()),
        "restoring 16 slices, one / 16 at a time": (forward(1), forward(16)),
    }
    for name, (first, second) in claims.items():
        a, b = turns(first, second, repeats)
        sys.stdout.write(f"{name}: {a * 1e3:.1f} ms / {b * 1e3:.1f} ms = {a / b:.2f}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    main(parser.parse_args().repeats)
