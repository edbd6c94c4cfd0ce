"""Blobs: grey ellipses with texture, and bright or dark squares as lesions. For tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from uadbench.dataset import ROLES, Dataset, DatasetCard, Split, Subject, Volume
from uadbench.errors import UsageError
from uadbench.identity import digest
from uadbench.method import derive_seed

COUNTS = {"train": 4, "val": 3, "val_lesion": 1, "test_healthy": 2, "test_lesion": 4}


@dataclass
class Blobs(Dataset):
    """Volumes (channels, 3, 32, 28), made on the spot."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="Blobs", licence="Apache-2.0", url="none, it is made on the spot", reference="none",
        modality=("grey",), healthy="synthetic", provides=frozenset({"foreground", "registered"}),
        note="blobs: for tests only.",
    )  # fmt: skip

    level: Annotated[float, Field(gt=0, description="intensity of the tissue")] = 100.0

    def subjects(self) -> Sequence[Subject]:
        return [
            Subject(
                f"{role}{i}",
                groups={"role": role, "lesion_kind": ("bright", "dark")[i % 2] if "lesion" in role else "none"},
            )
            for role, count in COUNTS.items()
            for i in range(count)
        ]

    def split(self, fold: int = 0) -> Split:
        if fold != 0:
            raise UsageError(f"blobs has the fold 0 only, not {fold}")
        return Split.of((role, s) for s in self.subjects() for role in ROLES if s.groups["role"] == role)

    def load(self, subject: Subject) -> Volume:
        rng = np.random.default_rng(derive_seed("blobs", subject.id))
        y, x = np.mgrid[-1:1:32j, -1:1:28j]
        tissue = np.broadcast_to((y / 0.9) ** 2 + (x / 0.85) ** 2 < 1.0, (3, 32, 28)).copy()
        image = self.level * (0.6 + 0.2 * y + 0.05 * rng.standard_normal((1, 3, 32, 28)))
        lesion = np.zeros_like(tissue)
        if "lesion" in str(subject.groups["role"]):
            top, left = rng.integers(8, 16, 2)
            lesion[1:, top : top + 6, left : left + 6] = True
            image[:, lesion] = self.level * (1.6 if subject.groups["lesion_kind"] == "bright" else 0.05)
        return Volume(
            (image * tissue).astype(np.float32), tissue, lesion, (4.0, 2.0, 2.0), subject.key, groups=subject.groups
        )

    def content(self) -> str:
        return digest("blobs")
