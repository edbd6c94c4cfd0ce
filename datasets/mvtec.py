"""MVTec AD (15 industrial categories), and trees of the same layout such as Uni-Medical: pictures with masks of defects.

For checking feature methods against well-known numbers; nothing medical is in MVTec AD itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from uadbench.dataset import DatasetCard
from uadbench.datasets._pictures import Picture, SharedSet, defect_tree, folders_in
from uadbench.errors import UsageError, suggest
from uadbench.reading import unknown_layout


@dataclass
class MVTec(SharedSet):
    """`<category>/train/good`, `test/good`, `test/<defect>`, and masks `ground_truth/<defect>/<name>_mask.png`."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="MVTec Anomaly Detection (MVTec AD)",
        licence="CC BY-NC-SA 4.0",
        url="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        reference="Bergmann, Batzner, Fauser, Sattlegger, Steger 2021, International Journal of Computer Vision 129",
        modality=("photographs",),
        healthy="controls",
        note="mvtec: the owners give no validation set; a share of the training pictures is taken (val, seed). All 15 "
        "categories together have 5354 pictures.",
        orientation="picture",
        dimensions="2-D",
        masks="voxels",
        access="download, free, after a form",
    )

    part: Annotated[str, Field(min_length=1, description="category: the name of a folder in root")] = "bottle"

    def in_colour(self) -> bool:
        """Return True: they are colour photographs; the three categories in grey get three equal channels."""
        return True

    def pictures(self) -> Iterable[Picture]:
        """Return the pictures of the category."""
        own = self.root.name == self.part and (self.root / "train").is_dir()
        found = defect_tree(self.root if own else self.root / self.part, self.name)
        if not found:
            there = [p.name for p in folders_in(self.root) if (p / "train" / "good").is_dir()]
            if there:
                raise UsageError(
                    f"mvtec: {self.root} holds no category {self.part!r}.{suggest(self.part, there)} It holds "
                    f"{', '.join(there)}; choose one with -D part={there[0]}"
                )
            example = f"{self.part}/train/good/000.png"
            raise unknown_layout(self.name, self.root, [example, f"{self.part}/test/good/000.png"])
        return self.with_validation(found)
