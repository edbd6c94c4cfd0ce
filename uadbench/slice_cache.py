"""Prepared slices in one file for each split, mapped into memory and shared by all runs that see the same ones.

A file holds what `to_planes` made, bit by bit, so that no number depends on whether it is there: float32, or one byte a
value and a table where a volume has at most 256 values, as 8-bit pictures that are not resized have. float16 would halve
the file, but round every training image, turn values above 65504 into infinity, and is slower: a batch has to be converted
back. Foregrounds take one bit a pixel.

Layout: blocks at multiples of 64 bytes, an index in JSON, and a trailer with the place of the index and a checksum of all
before it. A file is written under another name, and its name depends on all that its content depends on (`key_of`).
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadbench.config import cache_folder
from uadbench.errors import Busy, Interrupted
from uadbench.files import PART
from uadbench.identity import core_code, digest
from uadbench.lock import hold
from uadbench.volumes import ImageStore, InMemory, Planes

try:
    from isal.isal_zlib import crc32  # the same sum, six times as quickly
except ImportError:  # not built for this kind of processor
    from zlib import crc32

FOLDER = "slices"
"""Below the cache folder. Any file in it can be deleted at any time; a run that is reading it goes on."""

MADE_BY = ("volumes", "preparation", "dataset", "gzipped", "reading", "prepared", "joined", "bank")
"""Core modules between the files of a dataset and its slices. The adapter's own code is part of the data's fingerprint."""

MAGIC = b"uadbench-slices1"
TRAILER = struct.Struct("<QQI16s")
ALIGN = 64
CHUNK = 2**24
POLL_SECONDS = 0.2
KEEP_MAPPED = 2**25
"""Bytes that are delivered before the mapped pages are let go. They stay in the system's page cache and come back at
once, but do not count as memory of this process, however large the file is."""

_verified: set[tuple[str, int, int, int]] = set()
_told: set[Path] = set()


class _Damaged(Exception):
    """A file is not what was written."""


def prepared_slices(
    recipe: Any,
    planes: Callable[[], Iterable[Planes]],
    *,
    note: Callable[[str], None] = lambda text: None,
    stop: Callable[[], bool] = lambda: False,
) -> ImageStore:
    """Return the images of one split from the cache, and put them there first if they are not.

    One process prepares them and the others wait for it. A damaged file is made again.

    Args:
        recipe: what the images depend on besides code: data, subjects, preparation, size; a JSON-like value.
        planes: makes the images, one volume at a time.
        note: is told once if nothing can be written (then the images stay in memory, and are the same), or if another
            process is waited for.
        stop: whether the user asked to stop, for the time of waiting.

    Raises:
        Interrupted: if the user asked to stop.
    """
    path = cache_folder() / FOLDER / f"{key_of(recipe)}.bin"
    try:
        return _opened_or_made(path, planes, stop, note)
    except OSError as error:
        if path.parent not in _told:
            _told.add(path.parent)
            note(
                f"prepared slices cannot be kept in {path.parent} ({error.strerror or error}); they stay in memory and "
                "the numbers are the same. Free some space, or set UADBENCH_CACHE to a folder that can be written"
            )
    return InMemory(planes())


def key_of(recipe: Any) -> str:
    """Return the name of what a recipe makes: another code, library or kind of processor has another one."""
    return digest([recipe, core_code(MADE_BY), torch.backends.cpu.get_cpu_capability()])


def _opened_or_made(
    path: Path, planes: Callable[[], Iterable[Planes]], stop: Callable[[], bool], note: Callable[[str], None]
) -> ImageStore:
    """Return what lies at `path`; wait for another process that makes it, or make it.

    Raises:
        OSError: if it can neither be read nor written.
    """
    waiting = False
    while (found := _open(path)) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with hold(path.with_suffix(".lock")):
                if (found := _open(path)) is None:  # Nobody finished it meanwhile.
                    _make(path, planes())
                    found = _open(path)
            if found is None:
                raise OSError("what was written cannot be read back")
            break
        except Busy:
            if not waiting:
                note("another process prepares the same slices; this one waits for it")
            waiting = True
            if stop():
                raise Interrupted("stopped while another process prepared the slices") from None
            time.sleep(POLL_SECONDS)
    return found


def _open(path: Path) -> MappedSlices | None:
    """Return the slices at `path`; None if there are none, or not whole."""
    try:
        return MappedSlices(path)
    except (OSError, _Damaged):
        return None


def _make(path: Path, planes: Iterable[Planes]) -> None:
    """Write the images of all volumes to `path`, one volume at a time; it is there as a whole or not at all."""
    for left in path.parent.glob(f".{path.name}.*{PART}"):  # by a process that was killed: this one has the lock
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        with temporary.open("wb") as file:
            _Writer(file).write(planes)
        # Without fsync: after a power failure the checksum tells that bytes are missing.
        temporary.replace(path)
        _verified.add(_state(path, path.stat()))  # Reading it at once would show the system's memory, not the disk.
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


class _Writer:
    """Appends blocks to a file and counts along."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._at = 0
        self._sum = 0

    def write(self, planes: Iterable[Planes]) -> None:
        """Write all volumes, the index and the trailer."""
        index = json.dumps([self._volume(p) for p in planes], ensure_ascii=False).encode()
        at = self._block(index)
        self._file.write(TRAILER.pack(at, len(index), self._sum, MAGIC))

    def _volume(self, planes: Planes) -> dict[str, Any]:
        """Write one volume and return its line of the index; a place is null where there is nothing."""
        image = np.ascontiguousarray(planes.image.numpy(), dtype=np.float32)
        table, codes = _coded(image)
        bits = None
        if planes.foreground is not None:
            bits = np.packbits(planes.foreground.numpy().reshape(len(image), math.prod(image.shape[2:])), axis=1)
        return {
            "subject": planes.subject,
            "keys": planes.keys,
            "shape": image.shape[1:],
            "table": None if table is None else [self._block(table), len(table)],
            "image": self._block(image if codes is None else codes),
            "foreground": None if bits is None else self._block(bits),
        }

    def _block(self, data: NDArray[Any] | bytes) -> int:
        """Append `data` at the next multiple of `ALIGN` and return where it begins."""
        gap = -self._at % ALIGN
        block = data if isinstance(data, bytes) else data.reshape(-1).view(np.uint8).data
        for part in (bytes(gap), block):
            self._file.write(part)
            self._sum = crc32(part, self._sum)
        begin = self._at + gap
        self._at = begin + len(block)
        return begin


def _coded(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]] | tuple[None, None]:
    """Return the at most 256 values of an image and the place of each pixel among them; (None, None) for more values.

    Values are told apart by their bits: -0 is not 0.
    """
    bits = image.reshape(-1).view(np.int32)
    few = bits[:: max(1, bits.size // 4096)]
    if len(np.unique(few)) > 256 or len(values := np.unique(bits)) > 256:
        return None, None
    return values.view(np.float32), np.searchsorted(values, bits).astype(np.uint8)


class MappedSlices:
    """The images of one split in a file that `prepared_slices` made; an `ImageStore`."""

    def __init__(self, path: Path) -> None:
        """Map a file. Its checksum is compared once a process.

        Raises:
            OSError: if it cannot be read.
            _Damaged: if it is not what was written.
        """
        self.path = path
        with path.open("rb") as file:
            index = _read_index(file, path)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self.keys: list[tuple[str, int]] = []
        self.shapes: list[tuple[int, ...]] = []
        self._places: list[tuple[int, int]] = []
        self._tables: list[NDArray[np.float32] | None] = []
        self._delivered = 0
        for volume in index:
            self._add(volume)
        self._foreground = all(volume["foreground"] is not None for volume in index)

    def __reduce__(self) -> tuple[type[MappedSlices], tuple[Path]]:
        """Another process maps the file itself."""
        return MappedSlices, (self.path,)

    def _add(self, volume: dict[str, Any]) -> None:
        """Note where each image of one volume lies."""
        shape = tuple(volume["shape"])
        pixels = math.prod(shape)
        table = None
        if volume["table"] is not None:
            begin, count = volume["table"]
            table = self._bytes[begin : begin + 4 * count].view(np.float32).copy()
        step = pixels * (4 if table is None else 1)
        packed = _packed(shape)
        for number, key in enumerate(volume["keys"]):
            self.keys.append((volume["subject"], key))
            self.shapes.append(shape)
            self._places.append((volume["image"] + number * step, (volume["foreground"] or 0) + number * packed))
            self._tables.append(table)

    def get(self, index: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return copies of images and foregrounds; see `ImageStore`."""
        shape = self.shapes[index[0]]
        pixels, packed = math.prod(shape), _packed(shape)
        out = torch.empty((len(index), *shape))
        flat = out.numpy().reshape(len(index), pixels)
        bits = np.empty((len(index), packed), np.uint8)
        for row, i in enumerate(index):
            image, foreground = self._places[i]
            if (table := self._tables[i]) is None:
                flat[row] = self._bytes[image : image + 4 * pixels].view(np.float32)
            else:
                np.take(table, self._bytes[image : image + pixels], out=flat[row], mode="clip")
            if self._foreground:
                bits[row] = self._bytes[foreground : foreground + packed]
        self._let_go(out.nbytes)
        if not self._foreground:
            return out, None
        mask = np.unpackbits(bits, axis=1, count=pixels // shape[0]).view(np.bool_)
        return out, torch.from_numpy(mask.reshape(len(index), *shape[1:]))

    def _let_go(self, count: int) -> None:
        self._delivered += count
        if self._delivered > KEEP_MAPPED and hasattr(mmap, "MADV_DONTNEED"):
            self._delivered = 0
            self._map.madvise(mmap.MADV_DONTNEED)


def _packed(shape: tuple[int, ...]) -> int:
    """Return the bytes of one foreground: its pixels without the channels, in bits."""
    return -(-math.prod(shape[1:]) // 8)


def _read_index(file: IO[bytes], path: Path) -> list[dict[str, Any]]:
    """Return the index of a file.

    Raises:
        _Damaged: if it is cut short or a byte was changed.
    """
    stat = os.fstat(file.fileno())
    end = stat.st_size - TRAILER.size
    if end < 0:
        raise _Damaged
    file.seek(end)
    at, length, checksum, magic = TRAILER.unpack(file.read(TRAILER.size))
    if magic != MAGIC or at + length != end:
        raise _Damaged
    known = _state(path, stat)
    if known not in _verified and _checksum(file, end) != checksum:
        raise _Damaged
    _verified.add(known)
    file.seek(at)
    index: list[dict[str, Any]] = json.loads(file.read(length))
    return index


def _state(path: Path, stat: os.stat_result) -> tuple[str, int, int, int]:
    """Return what changes if a file does."""
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino


def _checksum(file: IO[bytes], end: int) -> int:
    """Return the checksum of the first `end` bytes, read piece by piece."""
    file.seek(0)
    value = 0
    for start in range(0, end, CHUNK):
        value = crc32(file.read(min(CHUNK, end - start)), value)
    return value
