"""Where a number comes from: versions, commit, machine, memory. None of it decides the identity of a cell."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uadbench

PACKAGES = (
    "torch", "diffusers", "accelerate", "timm", "numpy", "scipy", "scikit-learn", "pandas", "nibabel", "nilearn",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter, without importing them."""
    found = {"python": platform.python_version(), "uadbench": uadbench.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit(file: Path) -> dict[str, Any]:
    """Return commit and dirty flag of the repository that tracks `file`; {} if none does."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(file.parent), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def machine(device: str) -> dict[str, Any]:
    """Return what is known of the machine and the device."""
    import torch

    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
        facts["tf32"] = torch.backends.cuda.matmul.allow_tf32
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def command_line() -> list[str]:
    """Return the command that was given."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


class PeakMemory:
    """The largest memory that the process held while it was watched, in MiB."""

    def __init__(self) -> None:
        """Start from nothing."""
        self.process_mib = 0.0
        self.gpu_mib: float | None = None

    @contextmanager
    def watch(self, device: str) -> Iterator[PeakMemory]:
        """Look at the process 20 times a second inside the context."""
        import psutil
        import torch

        process, stop = psutil.Process(), threading.Event()

        def look() -> None:
            while True:
                self.process_mib = max(self.process_mib, process.memory_info().rss / 2**20)
                if stop.wait(0.05):
                    return

        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
            if device.startswith("cuda"):
                self.gpu_mib = max(self.gpu_mib or 0.0, torch.cuda.max_memory_allocated(device) / 2**20)
