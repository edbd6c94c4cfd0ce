"""Cam-CAN: about 650 healthy adults of 18 to 88 years, T1 and T2 at 3 T, in BIDS; age and more from participants.tsv.

`cc700/mri/pipeline/release004/BIDS_20190411/anat/sub-CC110033/anat/sub-CC110033_T1w.nii.gz`; the root may be any folder of
that path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from uadbench.dataset import DatasetCard
from uadbench.datasets._bids import bids_cases, find_tree
from uadbench.datasets._volumes import Case, HealthySet
from uadbench.reading import unknown_layout

HOME = PurePosixPath("cc700/mri/pipeline/release004/BIDS_20190411/anat")
NAME = "sub-CC110033/anat/sub-CC110033_T1w.nii.gz"


@dataclass
class CamCAN(HealthySet):
    """Everybody who has the modalities asked for."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="Cam-CAN, Cambridge Centre for Ageing and Neuroscience, stage 2",
        licence="on application, not to be passed on",
        url="https://www.cam-can.org",
        reference="Shafto et al. 2014, BMC Neurology 14; Taylor et al. 2017, NeuroImage 144",
        modality=("t1", "t2"),
        healthy="controls",
        expected={"subjects": 653},
        masks="none",
        access="application to the Cam-CAN team",
    )

    def cases(self) -> Iterable[Case]:
        """Return one case for each person."""
        parts = HOME.parts
        below = [str(PurePosixPath(*parts[i:])) for i in reversed(range(len(parts)))]
        tree = find_tree(self.root, below)
        found = tree and bids_cases(tree, "camcan", self.channel_names(), lesion="")
        if not found:
            raise unknown_layout("camcan", self.root, (NAME, f"{HOME}/{NAME}"))
        return found
