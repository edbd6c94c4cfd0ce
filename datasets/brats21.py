"""BraTS 2021: gliomas of 1251 patients, skull-stripped T1, T1 with contrast agent, T2 and FLAIR, with tumour masks.

`BraTS2021_00000/BraTS2021_00000_{t1,t1ce,t2,flair,seg}.nii.gz`. The 219 validation cases have no masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uadbench.dataset import DatasetCard
from uadbench.datasets._brats import MODALITIES, BratsSet


@dataclass
class Brats21(BratsSet):
    """Lesion: labels 1 (necrotic core), 2 (oedema), 4 (enhancing tumour).

    By default 100 of the 1251 patients are in val_lesion and 1151 in test_lesion: the numbers of the papers that train on
    IXI, but not their people, which are in their CSV files (`mddpm_csv`).
    """

    release: ClassVar[str] = "brats21"
    card: ClassVar[DatasetCard] = DatasetCard(
        title="RSNA-ASNR-MICCAI BraTS 2021, training cases",
        licence="for research, after registration at Synapse; see there",
        url="https://www.synapse.org/Synapse:syn25829067",
        reference="Baid et al. 2021, arXiv 2107.02314; Menze et al. 2015, IEEE TMI 34(10); Bakas et al. 2017, "
        "Scientific Data 4",
        modality=MODALITIES,
        access="Synapse, free registration",
        healthy="none",
        expected={"subjects": 1251},
    )
