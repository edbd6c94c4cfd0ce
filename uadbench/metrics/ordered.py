"""Scores as unsigned whole numbers in the same order, so that they can be counted by their leading bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray


def ordered(score: FloatArray) -> NDArray[np.unsignedinteger[Any]]:
    """Return uint32 of float32 scores, uint64 of float64 ones; equal scores are equal, larger ones larger. Not for NaN."""
    whole, signed = (np.uint32, np.int32) if score.dtype == np.float32 else (np.uint64, np.int64)
    top = 8 * score.dtype.itemsize - 1
    bits = (score + score.dtype.type(0)).view(whole)  # Adding 0 makes -0 and 0 one score.
    # Negative ones have all bits turned, others the sign alone.
    turned: NDArray[Any] = np.right_shift(bits.view(signed), top).view(whole)
    return np.asarray(bits ^ np.bitwise_or(turned, whole(1 << top)))


def score_of(key: int, kind: np.dtype[Any]) -> float:
    """Return the score of one of these numbers; `kind` is that of the scores, float32 or float64."""
    top = 1 << (8 * kind.itemsize - 1)
    bits = key ^ top if key & top else key ^ (2 * top - 1)
    return float(np.array([bits], f"u{kind.itemsize}").view(kind)[0])


def leading_bits(score: FloatArray, count: int) -> NDArray[np.intp]:
    """Return the bin of each score (N,), its first `count` bits as float32; a larger score never has a smaller bin."""
    return (ordered(score.astype(np.float32)) >> np.uint32(32 - count)).astype(np.intp)
