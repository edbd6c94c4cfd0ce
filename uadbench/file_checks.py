"""Checks of files: there, readable, whole, one 3-D volume each, and the same image only once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uadbench.arrays import FloatArray
from uadbench.dataset import Subject
from uadbench.findings import Finding, counted, finding, gathered, names
from uadbench.gzipped import open_gzip
from uadbench.reading import NIFTI, PICTURES, SAME_PLACE, apart, open_volume, why_not_read


@dataclass(frozen=True)
class Header:
    """What a NIfTI file says of itself.

    Attributes:
        shape: in the order of the file.
        affine: 4x4, to millimetres.
        ways: the directions of its axes as its sform and its qform name them; none where both codes are 0.
    """

    shape: tuple[int, ...]
    affine: FloatArray
    ways: tuple[str, ...]


def absent_files(subjects: Sequence[Subject]) -> list[Finding]:
    """Return what can be said of the files without opening an image: missing, forbidden, empty."""
    bad: dict[int, dict[str, str]] = {201: {}, 202: {}, 203: {}}
    for path in dict.fromkeys(path for subject in subjects for path in subject.files):
        try:
            size = path.stat().st_size if path.is_file() else -1
        except PermissionError:
            bad[202][str(path)] = ""
            continue
        if size < 0 and not path.is_dir():
            bad[201][str(path)] = ""
        elif size == 0:
            bad[203][str(path)] = "0 bytes"
        elif not os.access(path, os.R_OK):
            bad[202][str(path)] = ""
    return [x for number, notes in bad.items() for x in gathered(number, notes, of="files")]


def header_of(path: Path) -> tuple[Header | None, int, str]:
    """Read the header of a file, and no voxel of a NIfTI volume.

    Returns:
        The header of a NIfTI file or None, the number of a code or 0, and what to say of the file.
    """
    name = path.name.lower()
    if name.endswith(NIFTI):
        return _nifti_header(path)
    if name.endswith(PICTURES):
        from PIL import Image

        try:
            with Image.open(path):
                return None, 0, ""
        except PermissionError:
            return None, 202, ""
        except Exception as error:
            return None, 203, str(error)
    return None, 0, ""


def _nifti_header(path: Path) -> tuple[Header | None, int, str]:

    try:
        image = open_volume(path)
        number, text = why_not_read(image, path)
    except FileNotFoundError:
        return None, 201, ""
    except PermissionError:
        return None, 202, ""
    except Exception as error:
        text = str(error).partition("\n")[0]
        return None, 203, "its header cannot be read" if str(path) in text else text  # The path is told already.
    shape = tuple(int(n) for n in image.shape)
    # An affine of impossible numbers names no directions.
    ways = () if number == 205 else _ways(image)
    return Header(shape, np.asarray(image.affine, np.float64), ways), number, text


def _ways(image: Any) -> tuple[str, ...]:
    """Return what sform and qform say, such as ("RAS", "RAS"); formats without them have an affine only."""
    import nibabel

    if not hasattr(image, "get_sform"):
        return ("".join(word or "?" for word in nibabel.aff2axcodes(image.affine)),)
    try:
        said = [form(coded=True)[0] for form in (image.get_sform, image.get_qform)]
    except ValueError:  # A qform of impossible numbers.
        return ()
    return tuple("".join(word or "?" for word in nibabel.aff2axcodes(a)) for a in said if a is not None)


def orientation_of(headers: Iterable[Header]) -> tuple[int, str]:
    """Return the number of a code and what to say if a header leaves the orientation open, else 0."""
    for header in headers:
        if not header.ways:
            return 305, ""
        if len(set(header.ways)) > 1:
            return 311, "sform {}, qform {}".format(*header.ways)
    return 0, ""


def compare_headers(headers: Mapping[Path, Header]) -> tuple[int, str]:
    """Return the number of a code and what to say if files of one subject lie on several grids, else 0."""
    if len(headers) < 2:
        return 0, ""
    (first, a), *others = headers.items()
    for path, b in others:
        if a.shape[:3] != b.shape[:3]:
            return 301, f"{path.name} {b.shape[:3]}, {first.name} {a.shape[:3]}"
    for path, b in others:
        if not (worst := apart(a.affine, b.affine)) <= SAME_PLACE:
            return 302, f"{path.name} by {worst:.3g} from {first.name}"
    return 0, ""


def damage_of(subject: Subject) -> tuple[int, str]:
    """Return the number of a code and what to say of a subject that cannot be loaded; 0 if its files are not to blame.

    Compressed files are read to their end.
    """
    headers: dict[Path, Header] = {}
    for path in subject.files:
        if not path.exists():
            return 201, str(path)
        header, number, text = header_of(path)
        if number:
            return number, f"{path}: {text}" if text else str(path)
        if text := _cut_short(path):
            return 203, f"{path}: {text}"
        if header:
            headers[path] = header
    return compare_headers(headers)


def _cut_short(path: Path) -> str:
    """Return why a file ends too early, or "". That of an uncompressed volume is seen by its header."""
    try:
        if path.name.lower().endswith(".gz"):
            with open_gzip(path) as file:
                while file.read(1 << 22):
                    pass
        elif path.name.lower().endswith(PICTURES):
            from PIL import Image

            with Image.open(path) as picture:
                picture.load()
    except PermissionError:
        return ""
    except Exception as error:  # Libraries have classes of their own for damage.
        return str(error)
    return ""


def same_files(subjects: Sequence[Subject]) -> dict[str, list[Subject]]:
    """Return subjects whose files are the same, byte for byte. Files are read only where their sizes agree."""
    from uadbench.identity import digest, file_hash

    by_size: dict[str, list[Subject]] = {}
    for subject in subjects:
        if subject.files and all(path.is_file() for path in subject.files):
            by_size.setdefault(digest([path.stat().st_size for path in subject.files]), []).append(subject)
    out: dict[str, list[Subject]] = {}
    for group in by_size.values():
        if len({subject.id for subject in group}) > 1:
            for subject in group:
                out.setdefault(digest([file_hash(path) for path in subject.files]), []).append(subject)
    return out


def copies(same: Iterable[Sequence[Subject]], stage: Mapping[str, str], *, excuse: str = "") -> list[Finding]:
    """Return findings for images that several people share.

    Args:
        same: subjects that have one image.
        stage: train, validation or test by the subject's key; who is in none of them is left out.
        excuse: why leaks are known and allowed.
    """
    across: dict[tuple[str, ...], None] = {}
    within: dict[tuple[str, ...], None] = {}
    for group in same:
        used = [s for s in group if s.key in stage]
        if len({s.id for s in used}) < 2:
            continue
        spread = len({stage[s.key] for s in used}) > 1
        words = " = ".join(f"{s.key} ({stage[s.key]})" if spread else s.key for s in used)
        (across if spread else within)[(words, *(s.key for s in used))] = None
    out = []
    for number, groups, what in ((105, across, "in two stages"), (106, within, "in one stage")):
        if groups:
            listed = names([words for words, *_ in groups])
            keys = [key for _, *group in groups for key in group]
            out.append(
                finding(
                    number, f"{counted(len(groups), 'images')} under two names, {what} ({listed})", keys, excuse=excuse
                )
            )
    return out
