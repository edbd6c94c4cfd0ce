"""BraTS 2023: 1251 gliomas, and other cohorts, skull-stripped T1, T1 with contrast agent, T2 and FLAIR, with masks.

`BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz`; the modalities are called t1, t1ce, t2, flair here,
as for the other years. The last number is the scan of a person, the letters are the cohort (GLI, SSA, MEN, MET, PED).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uadbench.dataset import DatasetCard
from uadbench.datasets._brats import MODALITIES, BratsSet


@dataclass
class Brats23(BratsSet):
    """Lesion: labels 1 (necrotic core), 2 (oedema), 3 (enhancing tumour; 4 in earlier years).

    By default 100 of the 1251 patients with gliomas are in val_lesion and 1151 in test_lesion.
    """

    release: ClassVar[str] = "brats23"
    card: ClassVar[DatasetCard] = DatasetCard(
        title="BraTS 2023, training cases (adult glioma and other cohorts)",
        licence="for research, after registration at Synapse; see there",
        url="https://www.synapse.org/Synapse:syn51156910",
        reference="Baid et al. 2021, arXiv 2107.02314; Karargyris et al. 2023, Nature Machine Intelligence 5",
        modality=MODALITIES,
        access="Synapse, free registration",
        healthy="none",
        expected={"subjects": 1251},
    )
