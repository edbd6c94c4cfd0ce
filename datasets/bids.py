"""Any BIDS tree: images of healthy people, or of people with lesions and masks in derivatives.

`sub-01/[ses-01/]anat/sub-01_[ses-01_]T1w.nii.gz`; masks lie beside the images or anywhere in `derivatives`, and their
names begin with the person (and session). The columns of `participants.tsv` are groups. One tree is one kind of people: say
which with `holds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from uadbench.dataset import DatasetCard
from uadbench.datasets._bids import BRAIN, LESION, bids_cases, find_tree, word_of
from uadbench.datasets._volumes import Case, HealthySet, LesionSet
from uadbench.errors import DataError
from uadbench.reading import unknown_layout

LAYOUTS = ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz")


@dataclass
class Bids(HealthySet, LesionSet):
    """Modalities are BIDS suffixes, whatever their case; t1, t2 and pd stand for T1w, T2w and PDw."""

    baked: ClassVar[frozenset[str]] = frozenset({"brain_mask", "holds", "keep", "mask", "others"})
    card: ClassVar[DatasetCard] = DatasetCard(
        title="BIDS tree",
        licence="that of your data",
        url="https://bids-specification.readthedocs.io",
        reference="your own; the format: Gorgolewski et al. 2016, Scientific Data 3",
        modality=("t1", "t2", "flair", "pd"),
        access="your own",
        healthy="as the manifest says",
        masks="as given",
    )

    # A parameter here, a fact of the class elsewhere.
    holds: Annotated[  # type: ignore[misc]
        Literal["healthy", "lesions"],
        Field(description="healthy people, or people with lesions and a mask of them"),
    ] = "healthy"
    others: Annotated[
        Literal["error", "leave_out"],
        Field(
            description="what to do with scans that have no lesion mask in a lesion set, or that have one in a healthy set"
        ),
    ] = "error"
    keep: Annotated[str, Field(description="pattern of the names of image files to look at, such as *acq-highres*")] = (
        "*"
    )
    mask: Annotated[
        str,
        Field(
            description="patterns of lesion masks, separated by commas, the first that fits is taken; with / they are "
            "compared with the path below the tree"
        ),
    ] = LESION
    brain_mask: Annotated[str, Field(description="patterns of brain masks, likewise")] = BRAIN

    def cases(self) -> Iterable[Case]:
        """Return one case for each session, of the kind that `holds` says."""
        tree = find_tree(self.root, ("rawdata",))
        words = self.channel_names()
        found = tree and bids_cases(tree, "bids", words, keep=self.keep, lesion=self.mask, brain=self.brain_mask)
        if not found:
            raise unknown_layout("bids", self.root, LAYOUTS)
        asked = [case for case in found if all(word in case.images for word in words)]
        odd = [case for case in asked if bool(case.lesions) != (self.holds == "lesions")]
        if odd and (self.others == "error" or len(odd) == len(asked)):
            fact = f"has the lesion mask {odd[0].lesions[0]}" if odd[0].lesions else "has no lesion mask"
            raise DataError(
                f"bids: {odd[0].person} {fact}, as {len(odd)} of {len(asked)} scans in {self.root}, but holds={self.holds}; "
                "correct holds or the pattern mask"
                + ("" if len(odd) == len(asked) else ", or leave them out with others=leave_out")
            )
        return [case for case in found if case not in odd]

    def channel_names(self) -> tuple[str, ...]:
        """Return the modalities in the words of the other adapters."""
        return tuple(word_of(word) for word in super().channel_names())

    def people(self, fold: int, order: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return who is for training, validation and test, as for healthy people or for those with lesions."""
        kind = HealthySet if self.holds == "healthy" else LesionSet
        return kind.people(self, fold, order)
