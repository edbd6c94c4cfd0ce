"""What can be wrong with data: every finding has a number, a severity, a message and a remedy.

The number never changes its meaning. E-DATA-104 is an error; where a split is known to leak and says so, the same finding
is the warning W-DATA-104. Families: 1xx splits, 2xx files, 3xx geometry, 4xx content, 5xx counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from uadbench.errors import DataError

Severity = Literal["error", "warning"]

FAMILIES = {1: "Splits", 2: "Files", 3: "Geometry", 4: "Content", 5: "Counts"}

SHOWN = 3
"""Names that a message holds; the rest is counted."""


@dataclass(frozen=True)
class Code:
    """What a number stands for: how bad it is, what it means, and what to do."""

    severity: Severity
    title: str
    remedy: str


CODES: dict[int, Code] = {
    101: Code("error", "a role that every run needs is empty",
              "healthy subjects are needed in train and val, and annotated ones in test_lesion"),
    102: Code("error", "a subject is listed twice in one role",
              "list it once"),
    103: Code("warning", "half a data set: healthy subjects only, or subjects with lesions only",
              "join two sets to run on them: --dataset LESIONS --healthy HEALTHY"),
    104: Code("error", "a person is in two of train, validation and test",
              "every person may be in one stage only; remove them from all but one"),
    105: Code("error", "one image under two names, in two of train, validation and test",
              "it is one person, or a file copied by mistake; take one of the two out"),
    106: Code("warning", "one image under two names in one stage",
              "it counts twice; take one of the two out"),
    107: Code("warning", "people are in the validation sets of several folds",
              "validation sets of different folds should share nobody, or folds are no independent repetitions"),
    108: Code("warning", "people are in the test sets of some folds and not of others",
              "compare results within a fold, or test the same people in every fold"),
    109: Code("error", "a table of a split cannot be used",
              "give CSV files with a column that names the subject or the image"),
    110: Code("warning", "one person only is in train",
              "healthy is then whatever that person looks like; add people, or call each one by a name of its own if they "
              "are several"),
    201: Code("error", "files are missing",
              "restore them, or take the subjects out"),
    202: Code("error", "files may not be read",
              "give yourself the right to (chmod u+r)"),
    203: Code("error", "files are damaged or cut short",
              "restore them from where they came"),
    204: Code("error", "files are not one 3-D volume",
              "split them into one 3-D volume for each modality"),
    205: Code("error", "headers hold impossible values",
              "the header is damaged; restore the file"),
    206: Code("error", "subjects cannot be loaded",
              "repair what the message says, or take the subjects out"),
    301: Code("error", "files of one subject have different shapes",
              "resample them to the image's grid (nearest neighbour for masks)"),
    302: Code("error", "files of one subject have different affines",
              "resample them to the image's grid, or correct the header if the voxels do match"),
    303: Code("error", "volumes that are said to be registered lie on several grids",
              "register them to one template, or do not promise registered=true"),
    304: Code("warning", "spacing is implausible",
              "headers should be in millimetres; correct them, or no volume in millilitres is right"),
    305: Code("warning", "headers do not say how the volume lies (sform and qform codes are 0)",
              "left and right may be swapped; convert from the originals, or set the orientation"),
    306: Code("error", "axes do not run to the right, to anterior and to superior",
              "the adapter must bring volumes to RAS"),
    307: Code("warning", "spacing and affine contradict each other",
              "correct pixdim or the sform in the header"),
    308: Code("error", "volumes lie turned or mirrored against the healthy ones",
              "correct the orientation in the header or the order of the axes"),
    309: Code("error", "volumes do not lie where the healthy ones lie",
              "look at them; register them again if they are off, repair the mask if that is wrong"),
    310: Code("warning", "left and right may be swapped",
              "compare with the original; masks of a symmetric organ cannot show it, intensities only hint at it"),
    311: Code("warning", "sform and qform of a header name different directions",
              "programs that read the other one see it mirrored or turned; correct the wrong one"),
    401: Code("error", "voxels are NaN or infinite",
              "repair or remove these images"),
    402: Code("error", "images are constant",
              "restore or remove them"),
    403: Code("error", "the foreground is empty",
              "give a mask of the tissue, or remove the subjects"),
    404: Code("error", "subjects in a lesion role have no lesion mask",
              "annotate them, take them out of the role, or judge whole images: --protocol image-v1"),
    405: Code("warning", "lesion masks in a lesion role are empty",
              "such subjects count for no lesion metric; move them, or find out where the mask went"),
    406: Code("error", "subjects in a healthy role have lesion voxels",
              "move them to test_lesion"),
    407: Code("warning", "masks hold values that others do not",
              "find out what the value means; the adapter may count it as lesion"),
    408: Code("warning", "masks hold values between whole numbers",
              "they were interpolated linearly; make them again with nearest neighbour"),
    409: Code("warning", "more than 5 % of the lesion lies outside the foreground",
              "no metric sees it; widen the foreground mask, or check that both lie on one grid"),
    410: Code("warning", "images differ in the kind of their numbers",
              "export all images in the same way; a method may learn to tell the kinds apart"),
    411: Code("warning", "intensities are far from those of the others",
              "check the scale in the header (scl_slope) and the unit"),
    412: Code("warning", "the foreground is nearly everything",
              "remove the skull or give a foreground mask; foreground=nonzero needs a background of 0"),
    413: Code("error", "images differ in their number of channels",
              "choose modalities that all subjects have"),
    414: Code("warning", "one set has a foreground and the other has none",
              "what metrics see differs between healthy people and lesions; give masks for both, or prepare both with one "
              "recipe: uadbench datasets prepare"),
    415: Code("warning", "two sets are not known to be registered to one template",
              "prepare both with one recipe (uadbench datasets prepare); else a method may learn to tell the sets apart"),
    416: Code("warning", "much of the foreground is 0 in the image",
              "image and mask contradict each other: one of them may be turned or moved; look at both"),
    417: Code("warning", "the foregrounds of two sets were made in different ways",
              "their edges differ between healthy people and lesions, which can move thresholds; make both in one way "
              "(uadbench datasets prepare)"),
    501: Code("warning", "the number of subjects is not the published one",
              "fine for a part of the data; results are not comparable with those of all of it"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        number: of the code.
        message: what is wrong, with counts and a few names.
        subjects: all names that are concerned.
        severity: that of the code unless something is known that excuses it.
        remedy: what to do.
    """

    number: int
    message: str
    subjects: tuple[str, ...] = ()
    severity: Severity = "error"
    remedy: str = ""

    @property
    def code(self) -> str:
        """Such as E-DATA-104."""
        return f"{self.severity[0].upper()}-DATA-{self.number}"

    def __str__(self) -> str:
        """The whole sentence: code, message, remedy."""
        return f"{self.code}: {self.message}; {self.remedy}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "remedy": self.remedy,
            "subjects": list(self.subjects),
        }


def finding(
    number: int,
    message: str,
    subjects: Iterable[str] = (),
    *,
    severity: Severity | None = None,
    remedy: str = "",
    excuse: str = "",
) -> Finding:
    """Return a finding of a known number. An `excuse` makes it a warning and is added to the message."""
    code = CODES[number]
    if excuse:
        severity, message = "warning", f"{message} (known of this split: {excuse.rstrip('.; ')})"
    return Finding(number, message, tuple(subjects), severity or code.severity, remedy or code.remedy)


def gathered(
    number: int, notes: Mapping[str, str], *, of: str = "subjects", severity: Severity | None = None
) -> list[Finding]:
    """Return one finding for all who have it, or none.

    Args:
        number: of the code.
        notes: what is to be said of each subject, perhaps nothing.
        of: what is counted.
        severity: another than the code's.
    """
    if not notes:
        return []
    words = names([f"{name}: {note}" if note else name for name, note in notes.items()], between="; ")
    return [finding(number, f"{CODES[number].title} in {counted(len(notes), of)} ({words})", notes, severity=severity)]


def names(found: Sequence[str], *, between: str = ", ") -> str:
    """Return the first few names and how many more there are."""
    more = len(found) - SHOWN
    return between.join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, of: str) -> str:
    """Return "1 subject" or "3 subjects"; `of` is the plural."""
    single = "person" if of == "people" else of.removesuffix("s")
    return f"{number} {of if number != 1 else single}"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return errors first, each severity by number."""
    return sorted(findings, key=lambda f: (f.severity != "error", f.number))


def raise_first(findings: Iterable[Finding], name: str) -> None:
    """Raise DataError for the first error, if there is one, and say how many more there are.

    Args:
        findings: of a check.
        name: of the dataset.
    """
    errors = [f for f in ordered(findings) if f.severity == "error"]
    if errors:
        more = (
            f" ({counted(len(errors) - 1, 'more errors')}: uadbench datasets check {name})" if len(errors) > 1 else ""
        )
        raise DataError(f"{name}: {errors[0]}{more}")
