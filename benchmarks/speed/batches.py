"""Batches of training slices, against TorchIO; what the first epoch costs; what memory a large training set takes.

Run: python -m uadbench.benchmarks.speed.batches [--parts batches files memory]. Every size is an option; --help lists them.

* batches: random batches of 32 slices of 96 x 96 from our cache, and from torchio.SubjectsDataset behind a DataLoader that
  draws a slice of each subject, its volumes prepared and in memory, no transform left to do. The slices that TorchIO
  delivered are asked for again from the cache and must be equal, bit by bit. Its Queue, which cuts many slices from a
  volume before the next one, must not be quicker.
* files: from NIfTI files that were never seen to the end of the first epoch, by the clock, against reading each once with
  nibabel, one after the other, and against TorchIO reading each once with its own percentiles and resizing. Volumes are
  read ahead by threads, so it needs two processors.
* memory: a whole run (check, prepare, train, score, evaluate) on many volumes in a process of its own.
"""

from __future__ import annotations

import uadbench.benchmarks.speed._turns as turns  # isort: skip  # sets the number of threads, so it comes before numpy

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from uadbench.bank import Bank
from uadbench.dataset import Dataset, DatasetCard, Split, Subject, Volume
from uadbench.identity import digest
from uadbench.methods.ae import AE
from uadbench.plan import Plan, Planned
from uadbench.protocols import get_protocol
from uadbench.reading import read_volume
from uadbench.reporter import silent
from uadbench.result import Cell
from uadbench.runner import run_plan
from uadbench.slice_cache import MappedSlices, prepared_slices
from uadbench.store import Store
from uadbench.volumes import HealthyImages, Planes, to_planes

GOAL, GOAL_FILES, GOAL_GB = 20.0, 1.0, 2.0
OURS, THEIRS, QUEUE = "uadbench, from the cache", "TorchIO, SubjectsDataset and DataLoader", "TorchIO, Queue"
TORCHIO_FILES = "TorchIO reading and preparing"
BATCH = 32


@dataclass
class Synthetic(Dataset):
    """Volumes of noise in an ellipse, made from the subject's name, or read from its file."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="Synthetic", licence="none", url="none", reference="none", modality=("grey",), healthy="synthetic",
        provides=frozenset({"foreground"}),
    )  # fmt: skip

    shape: tuple[int, int, int] = (50, 96, 96)
    train: int = 20
    files: tuple[Path, ...] = ()

    def subjects(self) -> Sequence[Subject]:
        """Return as many training subjects as asked for, and four of each other role."""
        return [s for _, s in self.split().items()]

    def split(self, fold: int = 0) -> Split:
        """Return the only fold."""
        train = tuple(Subject(f"train{i}", files=self.files[i : i + 1]) for i in range(self.train))
        val, healthy, ill = (
            tuple(Subject(f"{name}{i}", groups={"ill": float(name == "ill")}) for i in range(4))
            for name in ("val", "healthy", "ill")
        )
        return Split(train, val, ill, healthy)

    def load(self, subject: Subject) -> Volume:
        """Read the subject's file, or make its volume."""
        if subject.files:
            scan = read_volume(subject.files[0], "synthetic")
            return Volume(scan.data[None], scan.data > 0, None, scan.spacing, subject.key)
        rng = np.random.default_rng(int(digest(subject.key), 16))
        foreground = ellipse(self.shape)
        image = rng.random((1, *self.shape), np.float32) + np.float32(0.5)
        image *= foreground
        lesion = np.zeros(self.shape, bool)
        if subject.groups["ill"] if subject.groups else False:
            lesion[tuple(slice(2 * n // 5, n // 2) for n in self.shape)] = True
            image[:, lesion] += 1
        return Volume(image, foreground, lesion, (2.0, 2.0, 2.0), subject.key)

    def content(self) -> str:
        """Return what tells one set from another."""
        return digest([self.shape, self.train])


def ellipse(shape: tuple[int, int, int]) -> np.ndarray:
    """Return an elliptic cylinder, bool (D, H, W), so that every slice has a foreground."""
    _, h, w = shape
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    return np.broadcast_to((y / 0.95) ** 2 + (x / 0.8) ** 2 < 1, shape).copy()


def planes_of(data: Dataset, bank: Bank, image_size: int | None) -> Callable[[], Iterator[Planes]]:
    """Return what makes the slices of all training subjects, one volume at a time."""
    method = AE(image_size=image_size)
    return lambda: (to_planes(*found, method) for found in bank.each(data.split().train))


def batches_part(given: argparse.Namespace) -> bool:
    """Compare random batches; return whether the slices are equal and the goal is met."""
    if not importlib.util.find_spec("torchio"):
        sys.stdout.write(
            "batches: torchio is not installed, so there is nothing to compare with (pip install torchio)\n"
        )
        return True
    data = Synthetic(tuple(given.shape), given.volumes)
    planes = planes_of(data, Bank(data, "synthetic", get_protocol("brain-v1").preparation.intensity), None)
    store = prepared_slices("batches", planes)
    assert isinstance(store, MappedSlices)
    images, rng = HealthyImages(store, seed=0), torch.Generator().manual_seed(0)
    theirs, queue = torchio_loaders(list(planes()), given.batches)

    def ours() -> None:
        for draw in range(given.batches):
            index = torch.randint(len(images), (BATCH,), generator=rng).tolist()
            assert images.batch(index, draw=draw).image.shape == (BATCH, 1, *given.shape[1:])

    place = {key: i for i, key in enumerate(store.keys)}
    compared = 0
    for image, mask, subjects, slices in theirs():
        batch = images.batch([place[s, int(k)] for s, k in zip(subjects, slices, strict=True)])
        assert batch.foreground is not None
        if not (torch.equal(image, batch.image) and torch.equal(mask, batch.foreground)):
            sys.stdout.write("batches: the slices DIFFER\n")
            return False
        compared += len(image)
    sys.stdout.write(f"batches: {compared} slices and foregrounds of both are equal bit by bit\n")
    candidates = {THEIRS: lambda: sum(1 for _ in theirs()), QUEUE: lambda: sum(1 for _ in queue()), OURS: ours}
    seconds = turns.cpu_seconds(candidates, given.repeats)
    for name, values in seconds.items():
        sys.stdout.write(f"{name}: {given.batches * BATCH / statistics.median(values):,.0f} slices per CPU second\n")
    claims = [turns.Claim("random batches", THEIRS, OURS, GOAL), turns.Claim("against the queue", QUEUE, OURS, 1.0)]
    return turns.report(claims, seconds)


def torchio_loaders(
    volumes: list[Planes], count: int
) -> tuple[Callable[[], Iterator[Any]], Callable[[], Iterator[Any]]]:
    """Return two ways to get `count` batches of prepared volumes in memory: one slice of each subject, and a queue.

    The first yields image (B, 1, H, W), foreground bool (B, H, W), subjects and slices.
    """
    import torchio
    from torch.utils.data import DataLoader, RandomSampler
    from torch.utils.data import Dataset as TorchDataset

    def last(x: torch.Tensor) -> torch.Tensor:
        return x.permute(1, 2, 3, 0).contiguous()  # (D, C, H, W) -> (C, H, W, D), slices along the last axis

    tio: Any = torchio  # parts of it have no types
    subjects = []
    for p in volumes:
        assert p.foreground is not None
        mask = last(p.foreground[:, None].to(torch.uint8))
        inside, image = tio.LabelMap(tensor=mask), tio.ScalarImage(tensor=last(p.image))
        subjects.append(tio.Subject(name=p.subject, image=image, inside=inside))
    whole = torchio.SubjectsDataset(subjects)
    slices = np.array([p.index for p in volumes])

    class OneSlice(TorchDataset[Any]):
        """A random slice of a subject, as the loader of mDDPM draws it."""

        def __len__(self) -> int:
            return len(whole)

        def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, str, int]:
            subject = whole[number]
            k = int(torch.randint(slices.shape[1], ()))
            return subject.image.data[..., k], subject.inside.data[0, ..., k].bool(), subject.name, slices[number, k]

    def one_slice() -> Iterator[Any]:
        sampler = RandomSampler(whole, replacement=True, num_samples=count * BATCH)
        return iter(DataLoader(OneSlice(), batch_size=BATCH, sampler=sampler, num_workers=0))

    def queue() -> Iterator[Any]:
        depth = slices.shape[1]
        cut = torchio.data.UniformSampler((*volumes[0].image.shape[2:], 1))
        filled = torchio.Queue(whole, len(whole) * depth, depth, cut, num_workers=0)
        while True:
            yield from torchio.SubjectsLoader(filled, batch_size=BATCH, num_workers=0, drop_last=True)

    def some_of_queue() -> Iterator[Any]:
        return (batch for _, batch in zip(range(count), queue(), strict=False))

    return one_slice, some_of_queue


def files_part(given: argparse.Namespace) -> bool:
    """Compare the first epoch on files with reading them; return whether the goal is met."""
    import nibabel

    folder = Path(tempfile.mkdtemp(dir=os.environ["UADBENCH_CACHE"]))
    rng, inside = np.random.default_rng(0), ellipse(tuple(given.file_shape))
    files = tuple(folder / f"{i}.nii.gz" for i in range(given.files))
    for path in files:
        voxels = (inside * rng.integers(200, 900, inside.shape)).astype(np.int16).transpose(2, 1, 0)
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(path)
    data = Synthetic(tuple(given.file_shape), given.files, files)
    rule = get_protocol("brain-v1").preparation.intensity
    number = iter(range(1, 10**6))

    def bank() -> Bank:
        return Bank(data, "synthetic", rule, memory=0)

    def epoch(recipe: int) -> Path:
        store = prepared_slices(["files", recipe], planes_of(data, bank(), given.image_size))
        assert isinstance(store, MappedSlices)
        for _ in HealthyImages(store, seed=0).batches(BATCH):
            pass
        return store.path

    def first_epoch() -> None:
        # Nothing is left behind: a file system in memory, or its cache, would grow from round to round.
        epoch(next(number)).unlink()

    def only_read() -> None:
        for path in files:
            np.asarray(nibabel.load(path).dataobj, dtype=np.float32)

    read, first = "reading with nibabel", "first epoch"
    candidates: dict[str, Callable[[], Any]] = {
        read: only_read,
        "reading": lambda: [read_volume(path, "synthetic").spacing for path in files],
        first: first_epoch,
        "second epoch": lambda: epoch(0),
    }
    if importlib.util.find_spec("torchio"):
        theirs = torchio_files(files, (given.image_size, given.image_size, given.file_shape[0]))
        candidates[TORCHIO_FILES] = lambda: sum(1 for _ in theirs)
    clocked = turns.cpu_seconds(candidates, given.repeats, clock=time.perf_counter)
    for name, values in clocked.items():
        sys.stdout.write(f"{name}: {statistics.median(values):.3f} s by the clock (median of {len(values)})\n")
    goals = [turns.Claim("first epoch against reading by the clock", read, first, GOAL_FILES)]
    if TORCHIO_FILES in candidates:
        goals.append(turns.Claim("against TorchIO by the clock", TORCHIO_FILES, first, 1.0))
    met = turns.verdicts(goals, clocked)
    used = turns.cpu_seconds(candidates, given.repeats)
    ratio = statistics.median(b / a for a, b in zip(used[read], used[first], strict=True))
    turns.report([], used)
    sys.stdout.write(f"first epoch: {ratio:.2f} times the CPU seconds of reading (no goal)\n")
    return met


def torchio_files(files: Sequence[Path], size: tuple[int, int, int]) -> Any:
    """Return a `torchio.SubjectsDataset` that reads a file, scales it to 0..1 by percentiles and resizes it to (W, H, D)."""
    import torchio

    tio: Any = torchio  # parts of it have no types

    def inside(x: torch.Tensor) -> torch.Tensor:
        return x > 0

    scale = tio.RescaleIntensity((0, 1), percentiles=(1, 99), masking_method=inside)
    subjects = [tio.Subject(image=tio.ScalarImage(path)) for path in files]
    return tio.SubjectsDataset(subjects, transform=tio.Compose([scale, tio.Resize(size)]))


def memory_part(given: argparse.Namespace) -> bool:
    """Run in a fresh process and return whether its largest memory is below the goal."""
    words = ["--volumes", given.many, "--shape", *given.shape, "--steps", given.steps]
    command = [sys.executable, "-m", "uadbench.benchmarks.speed.batches", "--child", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stdout.write(f"memory: the run failed\n{done.stderr}")
        return False
    before, peak = (float(word) for word in done.stdout.split())
    verdict = "met" if peak < GOAL_GB else "MISSED"
    sys.stdout.write(
        f"memory: a run on {given.many} volumes of {given.shape} needs {peak:.2f} GB at most, {before:.2f} GB of it for the "
        f"imports (goal {GOAL_GB:g} GB, {verdict})\n"
    )
    return peak < GOAL_GB


def child(given: argparse.Namespace) -> None:
    """Run one cell on synthetic volumes and print the largest memory of this process before and after, in 10^9 bytes."""
    before = peak_bytes()
    data, protocol = Synthetic(tuple(given.shape), given.volumes), get_protocol("brain-v1")
    method = AE(image_size=max(given.shape[1:]), width=8, max_width=16, latent=8, steps=given.steps)
    cell = Cell(
        method="ae", params={}, source="", dataset="synthetic", dataset_params={}, fingerprint=data.content(), fold=0,
        preparation=asdict(protocol.preparation), seed=0, precision="fp32",
    )  # fmt: skip
    plan = Plan("synthetic", data, data.split(), protocol, "cpu", [Planned("ae", 0, method, cell)])
    outcome = run_plan(plan, Store(Path(tempfile.mkdtemp(dir=os.environ["UADBENCH_CACHE"]))), silent())
    assert outcome.exit_code == 0, outcome.cells[0][3]
    sys.stdout.write(f"{before / 1e9} {peak_bytes() / 1e9}\n")


def peak_bytes() -> int:
    """Return the most memory this process has held; what a parent held before does not count where Linux tells."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


PARTS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "batches": batches_part, "files": files_part, "memory": memory_part,
}  # fmt: skip


def main() -> int:
    """Run the parts and return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=3, default=[50, 96, 96], help="of a prepared volume (D, H, W)")
    parser.add_argument("--volumes", type=int, default=20, help="behind the random batches")
    parser.add_argument("--batches", type=int, default=100, help="in a round")
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--file-shape", type=int, nargs=3, default=[100, 192, 192], help="of a NIfTI file (D, H, W)")
    parser.add_argument("--image-size", type=int, default=96, help="longer side of a slice cut from the files")
    parser.add_argument("--many", type=int, default=400, help="volumes of the run whose memory is measured")
    parser.add_argument("--steps", type=int, default=625, help="of its training; 625 draw 20,000 slices")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", module="torchio")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["UADBENCH_CACHE"] = cache
        if given.child:
            child(given)
            return 0
        return 0 if all([PARTS[name](given) for name in given.parts]) else 1


if __name__ == "__main__":
    sys.exit(main())
