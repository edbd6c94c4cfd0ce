"""BraTS 2020: gliomas of 369 patients, skull-stripped T1, T1 with contrast agent, T2 and FLAIR, with tumour masks.

`BraTS20_Training_001/BraTS20_Training_001_{t1,t1ce,t2,flair,seg}.nii` or `.nii.gz`. The mask of case 355 was published
under another name, `W39_1998.09.19_Segm.nii`, and is read under it too. The validation cases have no masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uadbench.dataset import DatasetCard
from uadbench.datasets._brats import MODALITIES, BratsSet


@dataclass
class Brats20(BratsSet):
    """Lesion: labels 1 (necrotic core), 2 (oedema), 4 (enhancing tumour). By default 30 of 369 are in val_lesion."""

    release: ClassVar[str] = "brats20"
    card: ClassVar[DatasetCard] = DatasetCard(
        title="BraTS 2020 (multimodal brain tumour segmentation), training cases",
        licence="for research, after registration with the owners; see their page",
        url="https://www.med.upenn.edu/cbica/brats2020/data.html",
        reference="Menze et al. 2015, IEEE TMI 34(10); Bakas et al. 2017, Scientific Data 4; Bakas et al. 2018, "
        "arXiv 1811.02629",
        modality=MODALITIES,
        access="the owners, free registration",
        healthy="none",
        expected={"subjects": 369},
    )
