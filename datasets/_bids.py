"""Reads trees in the Brain Imaging Data Structure: `sub-01/[ses-01/]anat/sub-01_[ses-01_]T1w.nii.gz`, masks in derivatives.

A name is made of entities, `key-value` joined with `_`, and a suffix: the modality, or what kind of mask it is.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from uadbench.dataset import Group
from uadbench.datasets._volumes import Case
from uadbench.errors import DataError
from uadbench.prepared import as_group
from uadbench.reading import NIFTI

LESION = "*lesion*,*_msk.*,*_roi.*,*_mask.*"
BRAIN = "*desc-brain_mask.*,*brain*mask*"

_SHORT = {"t1w": "t1", "t2w": "t2", "pdw": "pd"}
"""BIDS suffixes that the other adapters have shorter words for."""

_IMAGE = frozenset({"t1", "t2", "pd", "flair", "dwi", "adc"})
_NO_IMAGE = frozenset({"mask", "msk", "roi", "dseg", "probseg", "defacemask", "lesion"})
_NO_LESION = re.compile(r"brain|ribbon|head|skull|fov|deface|label-(gm|wm|csf)")
_NAME = re.compile(r"(?P<person>sub-[A-Za-z0-9]+)(?:_(?P<session>ses-[A-Za-z0-9]+))?(?P<rest>(?:_[A-Za-z0-9-]+)*)")


@dataclass(frozen=True)
class BidsFile:
    """A NIfTI file whose name says what it is.

    Attributes:
        path: of the file.
        below: its path below the tree, lower case, with / between folders.
        said: that path without the names of person and session, "sub-/ses-/anat/sub-_ses-_t1w.nii.gz".
        person: "sub-01".
        session: "ses-01" or "".
        space: value of the entity `space`, "" for that of the scanner.
        word: the suffix, lower case; t1, t2 and pd for T1w, T2w and PDw.
    """

    path: Path
    below: str
    said: str
    person: str
    session: str
    space: str
    word: str

    @property
    def name(self) -> str:
        """The file's name without those of person and session, lower case: a person may be called sub-brain01."""
        return self.said.rpartition("/")[2]

    def is_kept(self, pattern: str) -> bool:
        """Whether the name, or the path below the tree for a pattern with /, matches a pattern as in a shell."""
        return fnmatchcase(self.below if "/" in pattern else self.path.name.lower(), pattern.lower())

    def fits(self, pattern: str) -> bool:
        """Whether what the name or path says besides person and session matches a pattern of masks."""
        return fnmatchcase(self.said if "/" in pattern else self.name, pattern.lower())

    def maybe_lesion(self) -> bool:
        """Whether the name does not say that it is a mask of something else than a lesion."""
        return "_task-" not in self.name and ("lesion" in self.name or not _NO_LESION.search(self.name))

    def maybe_brain(self) -> bool:
        """Whether the name does not say that it is a mask of something else than the brain."""
        return "_task-" not in self.name and "lesion" not in self.name


def word_of(suffix: str) -> str:
    """Return the modality's word for a BIDS suffix, whatever its case: t1 for T1w, flair for FLAIR."""
    return _SHORT.get(suffix.lower(), suffix.lower())


def find_tree(root: Path, below: Sequence[str]) -> Path | None:
    """Return the first of `root` and the folders `below` it that holds a folder sub-*, or None."""
    for folder in (root, *(root / name for name in below)):
        if any(path.is_dir() for path in folder.glob("sub-*")):
            return folder
    return None


def bids_cases(
    tree: Path,
    owner: str,
    words: Sequence[str],
    *,
    folders: Sequence[str] = ("anat",),
    keep: str = "*",
    lesion: str = LESION,
    brain: str = BRAIN,
) -> list[Case]:
    """Return one case for each session of each person, in the order of their names.

    Args:
        tree: the folder with the folders sub-*.
        owner: name of the adapter, for messages.
        words: the modalities asked for; masks should have the space of the first.
        folders: where images lie in a session; "" is the session's own folder.
        keep: pattern of image files to look at.
        lesion: patterns of lesion masks, separated by commas; the first that any file of a session matches is taken, and
            all files that match it are joined.
        brain: patterns of brain masks, likewise; one file must be left.

    Raises:
        DataError: if a session has two images of a modality asked for, or two brain masks.
    """
    homes = [tree / "derivatives", *([tree.parent / "derivatives"] if tree.name == "rawdata" else [])]
    derived = [_bids_file(path, home.parent) for home in homes for path in _walk(home)]
    own = [_bids_file(path, tree) for folder in sorted(tree.glob("sub-*")) for path in _walk(folder)]
    images: dict[tuple[str, str], dict[str, BidsFile]] = {}
    masks: dict[str, list[BidsFile]] = {}
    for number, file in enumerate([*own, *derived]):
        if file is None:
            continue
        if file.word in _NO_IMAGE or _is_mask(file, f"{lesion},{brain}"):
            masks.setdefault(file.person, []).append(file)
        elif number < len(own) and _place(file) in folders and file.is_kept(keep):
            held = images.setdefault((file.person, file.session), {})
            if file.word in held and file.word in words:
                raise DataError(
                    f"{owner}: {held[file.word].path} and {file.path.name} are both the {file.word} image of one session; "
                    "take one of them away or, with --dataset bids, say which are meant: keep=*run-1*"
                )
            held[file.word] = file
    groups = _participants(tree, owner)
    sessions: dict[str, int] = {}
    for person, _ in images:
        sessions[person] = sessions.get(person, 0) + 1
    cases = []
    for (person, session), held in sorted(images.items()):
        # A mask that names no session can only be meant for the one there is.
        near = [m for m in masks.get(person, []) if m.session == session or (not m.session and sessions[person] == 1)]
        space = held[words[0]].space if words[0] in held else ""
        lesions = _chosen([m for m in near if m.maybe_lesion()], lesion, space)
        brains = _chosen([m for m in near if m.maybe_brain()], brain, space)
        if len(brains) > 1:
            raise DataError(
                f"{owner}: {brains[0].path} and {brains[1].path} are both a brain mask of {person}; take one of them away "
                "or, with --dataset bids, say which is meant: brain_mask=derivatives/NAME/*mask*"
            )
        cases.append(
            Case(
                person,
                {word: file.path for word, file in held.items()},
                session,
                tuple(m.path for m in lesions),
                brains[0].path if brains else None,
                None,
                groups.get(person, {}),
            )  # fmt: skip
        )
    return cases


def _walk(folder: Path) -> list[Path]:
    """Return all NIfTI files below a folder, in a fixed order."""
    found = (Path(where) / name for where, _, names in os.walk(folder) for name in names if name.endswith(NIFTI))
    return sorted(found)


def _bids_file(path: Path, tree: Path) -> BidsFile | None:
    stem = next(path.name.removesuffix(end) for end in NIFTI if path.name.endswith(end))
    match = _NAME.fullmatch(stem)
    if not match:
        return None
    below = path.relative_to(tree)
    session = match["session"] or next((part for part in below.parts[:-1] if part.startswith("ses-")), "")
    names = "|".join(re.escape(name.lower()) for name in (match["person"], session) if name)
    said = re.sub(f"(?<![a-z0-9])(?:{names})(?![a-z0-9])", lambda m: m[0][:4], below.as_posix().lower())
    *entities, suffix = match["rest"].split("_")
    space = next((e.partition("-")[2] for e in entities if e.startswith("space-")), "")
    return BidsFile(path, below.as_posix().lower(), said, match["person"], session, space.lower(), word_of(suffix))


def _place(file: BidsFile) -> str:
    """Return the folder in the session where a file lies: "anat", or "" for the session itself."""
    parts = [part for part in file.path.parent.parts[-3:] if not part.startswith("ses-")]
    return "" if parts[-1].startswith("sub-") else parts[-1]


def _is_mask(file: BidsFile, masks: str) -> bool:
    """Whether a pattern of masks names a file; one with the suffix of an image must be named with its folder."""
    patterns = [p.strip() for p in masks.split(",") if "/" in p or file.word not in _IMAGE]
    return any(file.fits(p) for p in patterns)


def _chosen(masks: Sequence[BidsFile], patterns: str, space: str) -> list[BidsFile]:
    """Return the masks that match the first pattern that any matches; of these the ones in the image's space if any are."""
    for pattern in patterns.split(","):
        if found := [mask for mask in masks if mask.fits(pattern.strip())]:
            return [mask for mask in found if mask.space == space] or found
    return []


def _participants(tree: Path, owner: str) -> dict[str, dict[str, Group]]:
    """Return the columns of participants.tsv by person; what is not known is left out."""
    path = tree / "participants.tsv"
    if not path.is_file():
        return {}
    out: dict[str, dict[str, Group]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                person = "sub-" + (row.pop("participant_id", None) or "").strip().removeprefix("sub-")
                texts = {k: v.strip() for k, v in row.items() if k and v}
                out[person] = {k: as_group(v) for k, v in texts.items() if v.lower() not in ("", "n/a", "na", "nan")}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{owner}: {path} cannot be read ({error}); restore it or take it away") from error
    return out
