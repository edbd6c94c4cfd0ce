"""Array types and the order of axes.

Axis letters, always in this order: B batch, C channel (modality), D depth (the slice axis), H height, W width.
Arrays are numpy at rest (datasets, maps, metrics) and torch in flight (inside `fit` and `score`).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating]
"""Intensities or scores, float32 or float64."""

BoolArray: TypeAlias = NDArray[np.bool_]
"""A mask: lesion, foreground or ignore."""
