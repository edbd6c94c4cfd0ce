"""Prepared slices in the cache: the same bits as without it, whatever happens to the file."""

from __future__ import annotations

import ast
import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PLUGINS, ROOT

from uadbench import identity, slice_cache
from uadbench.dataset import Volume
from uadbench.errors import Incompatible, Interrupted
from uadbench.lock import hold
from uadbench.method import Batch, Images, Method, Run
from uadbench.methods.intensity import Intensity
from uadbench.plan import Request, make_plan
from uadbench.registry import Registry
from uadbench.reporter import silent
from uadbench.runner import run_plan
from uadbench.slice_cache import MappedSlices, key_of, prepared_slices
from uadbench.store import Store
from uadbench.volumes import HealthyImages, ImageStore, InMemory, Planes, to_planes


class Copy(Method):
    """A method that sees slices."""

    def fit(self, healthy: Images, *, val: Images, run: Run) -> Copy:
        return self

    def score(self, batch: Batch) -> torch.Tensor:
        return batch.image.mean(dim=1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test alone."""
    monkeypatch.setenv("UADBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(slice_cache, "_told", set())
    monkeypatch.setattr(slice_cache, "_verified", set())
    return tmp_path / "cache" / "slices"


def volume(seed: int = 0, grid: tuple[int, int, int] = (5, 24, 20), channels: int = 1, levels: int = 0) -> Volume:
    """Noise in an ellipse; with `levels` of that many values."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : grid[1] * 1j, -1 : 1 : grid[2] * 1j]
    foreground = np.broadcast_to(y**2 + x**2 < 0.8, grid).copy()
    foreground[0] = False
    image = rng.standard_normal((channels, *grid)).astype(np.float32)
    if levels:
        image = (rng.integers(0, levels, image.shape) / np.float32(7)).astype(np.float32)
    return Volume(image, foreground, None, (2.0, 1.0, 1.0), f"s{seed} ö")


def cut(volumes: Sequence[Volume], method: Method | None = None, size: tuple[int, int] | None = None) -> list[Planes]:
    return [to_planes(v, v.image, method or Copy(), size=size) for v in volumes]


def never() -> list[Planes]:
    raise AssertionError("the slices were prepared again")


def same(a: ImageStore, b: ImageStore) -> None:
    """Fail unless two stores give the same images, bit by bit, one by one and together."""
    assert list(a.keys) == list(b.keys)
    assert list(a.shapes) == list(b.shapes)
    one_size = len(set(a.shapes)) == 1
    for index in [[i] for i in range(len(a.keys))] + ([[*range(len(a.keys))][::-1], [1, 1]] if one_size else []):
        (x, inside_x), (y, inside_y) = a.get(index), b.get(index)
        assert x.dtype == y.dtype == torch.float32
        assert torch.equal(x.view(torch.int32), y.view(torch.int32))
        assert (inside_x is None) == (inside_y is None)
        if inside_x is not None and inside_y is not None:
            assert inside_x.dtype == inside_y.dtype == torch.bool
            assert torch.equal(inside_x, inside_y)


def odd_values() -> Volume:
    """Values that float16 loses, both zeros, and the largest there is."""
    v = volume(9)
    v.image.reshape(-1)[:6] = [-0.0, 0.0, 1e30, 1e-40, 70000.0, np.finfo(np.float32).max]
    return v


CASES: dict[str, Callable[[], list[Planes]]] = {
    "float": lambda: cut([volume(0), volume(1)]),
    "8 bit": lambda: cut([volume(0, levels=256), volume(1, levels=256)]),
    "257 values": lambda: cut([volume(0, (8, 40, 40), levels=257), volume(1, (8, 40, 40), levels=257)]),
    "one value": lambda: cut([replace(volume(0), image=np.full((1, 5, 24, 20), 0.5, np.float32)), volume(1)]),
    "zeros of both signs": lambda: cut([replace(volume(0), image=volume(0, levels=3).image - 1) for _ in range(2)]),
    "odd values": lambda: cut([odd_values(), volume(1)]),
    "8 bit and float": lambda: cut([volume(0, levels=9), volume(1), volume(2, levels=200)]),
    "two channels": lambda: cut([volume(0, channels=2), volume(1, channels=2)]),
    "resized": lambda: cut([volume(0, levels=4), volume(1)], Copy(image_size=17)),
    "padded": lambda: cut([volume(0), volume(1, (4, 17, 23)), volume(2, (3, 9, 9))], size=(24, 23)),
    "sizes of their own": lambda: cut([volume(0), volume(1, (4, 17, 23))]),
    "no foreground": lambda: cut([replace(volume(i), foreground=None) for i in range(2)]),
    "one without foreground": lambda: cut([volume(0), replace(volume(1), foreground=None)]),
    "whole volumes": lambda: cut([volume(0, channels=2), volume(1, channels=2)], Intensity()),
    "whole volumes of other sizes": lambda: cut([volume(0), volume(1, (4, 24, 21))], Intensity()),
    "pictures": lambda: cut([replace(volume(i, (1, 13, 11)), foreground=None) for i in range(4)]),
    "nothing": list,
}


@pytest.mark.parametrize("case", CASES)
def test_the_cache_gives_the_same_bits(case: str) -> None:
    planes = CASES[case]()
    made = prepared_slices("recipe", lambda: iter(planes))
    assert isinstance(made, MappedSlices)
    same(made, InMemory(planes))
    found = prepared_slices("recipe", never)
    same(found, InMemory(planes))
    if planes and len(set(found.shapes)) == 1:
        for a, b in zip(HealthyImages(found, seed=3).batches(2), HealthyImages(planes, seed=3).batches(2), strict=True):
            assert torch.equal(a.image, b.image)
            assert torch.equal(a.seed, b.seed)


def test_a_method_may_change_its_batch() -> None:
    planes = CASES["float"]()
    found = prepared_slices("recipe", lambda: planes)
    image, inside = found.get([0, 1])
    assert inside is not None
    image.zero_()
    inside.zero_()
    same(found, InMemory(planes))


def test_images_of_different_sizes_are_no_batch() -> None:
    images = HealthyImages(prepared_slices("recipe", CASES["sizes of their own"]), seed=0)
    assert images.shape == (1, 24, 20)
    assert images.batch([5]).image.shape == (1, 1, 17, 23)
    with pytest.raises(Incompatible, match="one size"):
        images.batch([0, 5])


def test_eight_bits_take_a_quarter_and_foregrounds_an_eighth(folder: Path) -> None:
    pixels = 7 * 40 * 40  # one slice of eight has no foreground
    sizes = {}
    for levels in (0, 256):
        prepared_slices(levels, lambda levels=levels: cut([volume(0, (8, 40, 40), levels=levels)]))
        sizes[levels] = (folder / f"{key_of(levels)}.bin").stat().st_size
    assert sizes[0] == pytest.approx(pixels * (4 + 1 / 8), rel=0.02)
    assert sizes[256] == pytest.approx(pixels * (1 + 1 / 8) + 4 * 256, rel=0.05)


def test_anything_that_matters_is_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key_of({"data": "a", "size": 96}), key_of({"data": "b", "size": 96}), key_of({"data": "a", "size": None})}
    assert len(keys) == 3
    assert key_of({"size": 96, "data": "a"}) in keys
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another processor")
    assert key_of({"data": "a", "size": 96}) not in keys
    monkeypatch.undo()
    identity.core_code.cache_clear()
    monkeypatch.setattr(identity, "READ_WITH", ("numpy",))
    assert key_of({"data": "a", "size": 96}) not in keys
    identity.core_code.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(slice_cache, "MADE_BY", slice_cache.MADE_BY[1:])
    assert key_of({"data": "a", "size": 96}) not in keys
    identity.core_code.cache_clear()


def test_the_code_that_adapters_read_with_is_part_of_the_name() -> None:
    harmless = {"arrays", "config", "dataset", "errors", "identity", "method", "protocol"}
    used = set()
    for path in (ROOT / "datasets").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("uadbench."):
                used.add((node.module or "").split(".")[1])
    assert "reading" in used
    assert used - harmless - {"datasets"} <= set(slice_cache.MADE_BY)


def damages(whole: bytes) -> Iterator[bytes]:
    """Yield what is left of a file after this and that."""
    yield b""
    for end in (1, 40, len(whole) // 3, len(whole) - 33, len(whole) - 1):
        yield whole[:end]
    for at in (0, 1000, len(whole) // 2, len(whole) - 60, len(whole) - 30, len(whole) - 18, len(whole) - 1):
        yield whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :]
    yield whole + b"more"
    yield bytes(len(whole))
    yield whole[64:]


def test_a_damaged_file_is_made_again(folder: Path) -> None:
    planes = CASES["8 bit and float"]()
    prepared_slices("recipe", lambda: planes)
    path = folder / f"{key_of('recipe')}.bin"
    whole = path.read_bytes()
    for number, damaged in enumerate(damages(whole)):
        path.write_bytes(damaged)
        os.utime(path, ns=(0, number))
        with pytest.raises(AssertionError, match="prepared again"):
            prepared_slices("recipe", never)
        same(prepared_slices("recipe", lambda: planes), InMemory(planes))
        assert path.read_bytes() == whole
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_a_file_may_be_deleted_while_it_is_in_use(folder: Path) -> None:
    planes = CASES["float"]()
    found = prepared_slices("recipe", lambda: planes)
    (folder / f"{key_of('recipe')}.bin").unlink()
    same(found, InMemory(planes))
    with pytest.raises(AssertionError, match="prepared again"):
        prepared_slices("recipe", never)


def test_what_was_seen_is_let_go_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_cache, "KEEP_MAPPED", 1)
    planes = CASES["float"]()
    same(prepared_slices("recipe", lambda: planes), InMemory(planes))


def test_it_can_be_sent_to_another_process() -> None:
    planes = CASES["8 bit and float"]()
    found = prepared_slices("recipe", lambda: planes)
    sent = pickle.dumps(found)
    assert len(sent) < 1000
    same(pickle.loads(sent), InMemory(planes))


def falls_back(notes: list[str]) -> None:
    """Ask twice and get the same numbers from memory, with one note."""
    planes = CASES["float"]()
    for recipe in ("train", "val"):
        found = prepared_slices(recipe, lambda: iter(planes), note=notes.append)
        assert isinstance(found, InMemory)
        same(found, InMemory(planes))
    assert len(notes) == 1
    assert "UADBENCH_CACHE" in notes[0]


def test_a_cache_that_is_no_folder_is_one_note(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    notes: list[str] = []
    falls_back(notes)
    assert "Not a directory" in notes[0]


def test_a_cache_that_may_not_be_written_is_one_note_and_is_read(folder: Path) -> None:
    planes = CASES["8 bit"]()
    prepared_slices("recipe", lambda: planes)
    folder.chmod(0o555)
    try:
        same(prepared_slices("recipe", never), InMemory(planes))
        if os.geteuid():
            notes: list[str] = []
            falls_back(notes)
            assert "Permission denied" in notes[0]
    finally:
        folder.chmod(0o755)


def test_a_full_disk_is_one_note_and_leaves_nothing(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    notes: list[str] = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        falls_back(notes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in notes[0]
    assert list(folder.iterdir()) == []


def test_an_error_of_the_data_is_not_hidden_and_leaves_nothing(folder: Path) -> None:
    def planes() -> Iterator[Planes]:
        yield CASES["float"]()[0]
        raise Interrupted("by the user")

    with pytest.raises(Interrupted, match="by the user"):
        prepared_slices("recipe", planes)
    assert list(folder.iterdir()) == []


def test_waiting_for_another_process_ends_on_request(folder: Path) -> None:
    folder.mkdir(parents=True)
    asked = iter([False, True])
    with hold(folder / f"{key_of('recipe')}.lock"), pytest.raises(Interrupted, match="another process"):
        prepared_slices("recipe", never, stop=lambda: next(asked))
    assert next(asked, None) is None


MAKER = """
import sys, time
from pathlib import Path
import numpy as np
from uadbench.dataset import Volume
from uadbench.methods.intensity import Intensity
from uadbench.slice_cache import prepared_slices
from uadbench.volumes import to_planes

me, go, wait = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def planes():
    me.with_suffix(".made").touch()
    for i in range(3):
        image = np.random.default_rng(i).random((1, 3, 64, 64)).astype(np.float32)
        yield to_planes(Volume(image, None, None, None, f"s{i}"), image, Intensity())
        time.sleep(wait)

me.with_suffix(".ready").touch()
while not go.exists():
    time.sleep(0.01)
store = prepared_slices("recipe", planes)
image, foreground = store.get([0, 1, 2])
assert foreground is None
print(type(store).__name__, image.double().sum().item())
"""


def maker(me: Path, go: Path, wait: float) -> subprocess.Popen[str]:
    """Start a process that prepares three volumes as soon as `go` exists, and waits between them."""
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(me), str(go), str(wait)], text=True, stdout=subprocess.PIPE
    )


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def three() -> list[Planes]:
    images = [np.random.default_rng(i).random((1, 3, 64, 64)).astype(np.float32) for i in range(3)]
    return [to_planes(Volume(image, None, None, None, f"s{i}"), image, Intensity()) for i, image in enumerate(images)]


def test_processes_share_the_work_and_a_killed_one_leaves_nothing_that_counts(tmp_path: Path, folder: Path) -> None:
    go, later = tmp_path / "go", tmp_path / "later"
    first, second = maker(tmp_path / "first", go, 30.0), maker(tmp_path / "second", later, 0.3)
    waited = []

    def kill_after_a_while() -> bool:
        """Look on while the first process works, then kill it in the middle."""
        waited.append({p.stem for p in tmp_path.glob("*.made")})
        if len(waited) == 4:
            assert not list(folder.glob("*.bin"))
            first.send_signal(signal.SIGKILL)
            first.wait()
        return False

    def own() -> list[Planes]:
        (tmp_path / "own.made").touch()
        return three()

    try:
        until(lambda: all((tmp_path / f"{name}.ready").exists() for name in ("first", "second")))
        go.touch()
        until(lambda: any(p.stat().st_size for p in folder.glob(".*.part")))
        later.touch()
        found = prepared_slices("recipe", own, stop=kill_after_a_while)
        said = second.communicate(timeout=60)[0].split()
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert waited[:4] == [{"first"}] * 4
    expected = InMemory(three())
    same(found, expected)
    assert said == ["MappedSlices", str(expected.get([0, 1, 2])[0].double().sum().item())]
    # Of the two that were left one made the slices and the other one found them.
    assert len({p.stem for p in tmp_path.glob("*.made")} - {"first"}) == 1
    assert [p.name for p in folder.iterdir()] == [f"{key_of('recipe')}.bin"]


def test_a_run_gives_the_same_maps_with_a_cache_and_without(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = Registry((PLUGINS / "blobs.py", PLUGINS / "mean_distance.py"))
    made: list[str] = []

    def counted(recipe: Any, planes: Callable[[], Iterator[Planes]], **more: Any) -> ImageStore:
        def counting() -> Iterator[Planes]:
            made.append(str(recipe["subjects"][0]))
            return planes()

        return prepared_slices(recipe, counting, **more)

    monkeypatch.setattr("uadbench.phases.prepared_slices", counted)

    def maps(name: str, *seeds: int, level: int = 100) -> dict[str, bytes]:
        request = Request(
            methods=("mean_distance",), dataset="blobs", device="cpu", seeds=seeds, data=[f"level={level}"]
        )
        outcome = run_plan(make_plan(request, plugins), Store(tmp_path / name), silent())
        assert outcome.exit_code == 0
        found = {}
        for planned, cell, _, _ in outcome.cells:
            assert cell is not None
            for path in sorted((cell.path / "maps").glob("*.npz")):
                found[f"{planned.seed} {path.name}"] = cell.read_map(path.stem)[0].tobytes()
        return found

    first = maps("first", 0, 1)
    assert len(first) == 2 * 10
    once = ["train0", "val0"]
    assert sorted(made) == once  # Each split is prepared once for both seeds,
    maps("other", 0, level=120)
    assert sorted(made) == sorted(2 * once)  # and again for other data.
    assert len(list(folder.glob("*.bin"))) == 4
    monkeypatch.setenv("UADBENCH_CACHE", str(PLUGINS / "blobs.py"))
    assert maps("without", 0).items() <= first.items()
    assert len(made) > 4


def test_a_full_disk_leaves_no_lock_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    def full(descriptor: int, mode: str) -> object:
        real(descriptor, mode).close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("uadbench.lock.os.fdopen", full)
    with pytest.raises(OSError, match="No space left"), hold(tmp_path / "lock"):
        pass
    assert not (tmp_path / "lock").exists()
    monkeypatch.undo()
    with hold(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text()
