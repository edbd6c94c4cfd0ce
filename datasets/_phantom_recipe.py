"""What a subject of the phantom is made from. It needs no torch, so that the index is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from uadbench.method import derive_seed

if TYPE_CHECKING:
    import numpy as np

Contrast = Literal["t1", "t2", "flair"]
Kind = Literal["tumour", "ms", "iso", "hypo"]
Scanner = Literal["a", "b"]

FIELD = (168.0, 196.0, 168.0)
"""Field of view in millimetres along D, H, W."""
CENTRE = (0.0, -17.0, 4.0)
"""Its centre (x, y, z) in millimetres of the template's space."""
AGES = (20.0, 85.0)
"""Youngest and oldest, years."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a subject looks like.

    Attributes:
        subject: its id.
        seed: of the dataset.
        size: (D, H, W) of the image.
        contrast: of the image.
        age: years.
        scanner: that took it.
        kind: of its lesions, "none" for a healthy subject.
    """

    subject: str
    seed: int
    size: tuple[int, int, int]
    contrast: Contrast
    age: float
    scanner: Scanner
    kind: Kind | Literal["none"]

    def stream(self, purpose: str) -> np.random.Generator:
        """Return random numbers for one purpose, which drawing more or less for another does not change."""
        import numpy as np

        return np.random.Generator(np.random.PCG64(derive_seed("phantom", self.seed, self.subject, purpose)))
