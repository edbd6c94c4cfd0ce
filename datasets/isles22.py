"""ISLES 2022: 250 patients with acute or subacute stroke, DWI and ADC in one grid with the masks, FLAIR in another.

`sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz` (and `_adc`), `anat/..._FLAIR.nii.gz`, and
`derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz`. The release for the challenge, with the
images in `rawdata/sub-strokecase0001/ses-0001` itself, is read too. FLAIR has no mask until it is brought to one grid with
the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from uadbench.dataset import DatasetCard, Split, Subject, Volume
from uadbench.datasets._bids import bids_cases, find_tree
from uadbench.datasets._volumes import Case, LesionSet
from uadbench.errors import UsageError
from uadbench.reading import unknown_layout

LAYOUTS = (
    "sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi.nii.gz",
    "rawdata/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_dwi.nii.gz",
)


@dataclass
class ISLES22(LesionSet):
    """Every patient has a mask of the infarct."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="ISLES 2022, ischemic stroke lesion segmentation",
        licence="CC BY-SA 4.0",
        url="https://doi.org/10.5281/zenodo.7153326",
        reference="Hernandez Petzsche et al. 2022, Scientific Data 9",
        modality=("dwi", "adc", "flair"),
        healthy="none",
        expected={"subjects": 250},
        access="download from Zenodo, free, no account",
    )

    modality: Annotated[str, Field(description="dwi, adc, or dwi+adc; flair when prepared")] = "dwi"

    def cases(self) -> Iterable[Case]:
        """Return one case for each patient."""
        tree = find_tree(self.root, ("rawdata", "ISLES-2022", "ISLES-2022/ISLES-2022"))
        words = self.channel_names()
        found = bids_cases(tree, "isles22", words, folders=("dwi", "anat", ""), lesion="*_msk.*") if tree else []
        if not found:
            raise unknown_layout("isles22", self.root, LAYOUTS)
        return found

    def split(self, fold: int = 0) -> Split:
        """Return val_lesion and test_lesion, the same patients in every fold."""
        self._refuse_flair()
        return super().split(fold)

    def load(self, subject: Subject) -> Volume:
        """Read one patient."""
        self._refuse_flair()
        return super().load(subject)

    def _refuse_flair(self) -> None:
        """Refuse FLAIR as it is distributed; preparing reads the index, so that is let through."""
        if "flair" in self.channel_names() and not self.prepared:
            raise UsageError(
                "isles22: FLAIR lies on another grid than the masks, which are on that of DWI; use --modality dwi or adc, "
                f"or bring all to one grid with: uadbench datasets prepare isles22 --source {self.root} --out PREPARED"
            )
