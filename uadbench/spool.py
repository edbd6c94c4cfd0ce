"""Scores that are read several times: in memory while they are few, then in a temporary file."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import Self

from uadbench.arrays import BoolArray, FloatArray
from uadbench.errors import StoreError

MEMORY = 64 * 2**20
"""Bytes that are kept in memory."""


class Spool:
    """Scores and lesions of many subjects, in the order they were added; call it to read them from the beginning."""

    def __init__(self, memory: int = MEMORY) -> None:
        """Keep at most `memory` bytes in memory."""
        self._file = tempfile.SpooledTemporaryFile(max_size=memory)  # noqa: SIM115, closed by `close`
        self._sizes: list[int] = []

    def add(self, score: FloatArray, lesion: BoolArray) -> None:
        """Add a subject: scores (N,), kept as float32, and lesion bool (N,).

        Raises:
            StoreError: if the disk is full.
        """
        try:
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(score, np.float32).tobytes())
            self._file.write(np.packbits(lesion).tobytes())
        except OSError as error:
            raise StoreError(
                f"scores cannot be kept in {tempfile.gettempdir()} while they are evaluated ({error.strerror or error}); "
                "free some space, or set TMPDIR to a folder with more"
            ) from error
        self._sizes.append(len(score))

    def __call__(self) -> Iterator[tuple[FloatArray, BoolArray]]:
        """Yield scores and lesions of every subject."""
        place = 0
        for size in self._sizes:
            self._file.seek(place)
            score = np.frombuffer(self._file.read(4 * size), np.float32)
            lesion = np.unpackbits(np.frombuffer(self._file.read(-(-size // 8)), np.uint8), count=size).astype(bool)
            place = self._file.tell()
            yield score, lesion

    @property
    def scores(self) -> Sequence[FloatArray]:
        """The scores by subject, read when they are asked for."""
        return _Column(self, 0)

    @property
    def lesions(self) -> Sequence[BoolArray]:
        """The lesions by subject, likewise."""
        return _Column(self, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory or the file back."""
        self._file.close()


@dataclass(frozen=True)
class _Column(Sequence[Any]):
    """One half of what a spool holds."""

    spool: Spool
    place: int

    def __len__(self) -> int:
        return len(self.spool._sizes)

    def __iter__(self) -> Iterator[Any]:
        return (pair[self.place] for pair in self.spool())

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        return next(itertools.islice(self, index, None))
