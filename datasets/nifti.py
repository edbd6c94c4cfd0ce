"""NIfTI volumes of your own: a manifest (CSV or JSON) or a folder says who is healthy, who has lesions and where.

Manifest columns: subject; split (train, val, val_lesion, test_healthy, test_lesion); image, or image:<modality> for each
modality; and, as far as there are, scan, lesion, foreground, ignore (paths, relative to the manifest). Every other column
is a group (site, age, ...). A folder holds one folder for each split, with <subject>.nii.gz in it and
<subject>_lesion.nii.gz, <subject>_foreground.nii.gz beside it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from uadbench.dataset import ROLES, Dataset, DatasetCard, Group, Role, Split, Subject, Volume
from uadbench.datasets._nifti_manifest import Manifest
from uadbench.errors import DataError, UsageError
from uadbench.identity import digest, file_hash
from uadbench.prepared import as_group
from uadbench.reading import NIFTI, files_of, nifti_file, read_like, read_volume

MASKS = ("lesion", "foreground", "ignore")
OWN = ("subject", "scan", "split", "image", *MASKS)


@dataclass(frozen=True)
class Line:
    """One line of the manifest."""

    subject: Subject
    role: Role
    images: Mapping[str, Path]
    masks: Mapping[str, Path]


@dataclass
class Nifti(Dataset):
    """Volumes are brought to RAS; masks must lie on the grid of their image. Nothing is resampled."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="NIfTI volumes from a manifest or a folder",
        licence="that of your data",
        url="https://nifti.nimh.nih.gov",
        reference="your own",
        modality=("image",),
        healthy="as the manifest says",
        provides=frozenset({"foreground"}),
        masks="as given",
        access="your own",
    )
    location: ClassVar[frozenset[str]] = frozenset({"root"})
    preparation: ClassVar[Any] = Manifest

    root: Annotated[Path, Field(description="the manifest (.csv, .json) or the folder")] = Path("manifest.csv")
    modality: Annotated[
        str, Field(description="which image:<modality> columns, joined with +; empty takes the only one")
    ] = ""
    foreground: Annotated[
        Literal["auto", "file", "nonzero"],
        Field(
            description="file: the masks given; nonzero: all that is not 0, for skull-stripped images; auto: file if given, "
            "else nonzero"
        ),
    ] = "auto"
    registered: Annotated[
        bool, Field(description="all volumes are registered to one template and lie on one grid; you say so")
    ] = False

    @cached_property
    def _lines(self) -> dict[str, Line]:
        """The lines of the manifest by the subject's key."""
        rows, base = _read_rows(self.root)
        lines: dict[str, Line] = {}
        for number, row in enumerate(rows, 1):
            line = self._line(row, base, f"{self.root}, entry {number}")
            if line.subject.key in lines:
                raise DataError(
                    f"{self.root}: subject {line.subject.key!r} is listed twice (as {lines[line.subject.key].role} and "
                    f"{line.role}); list it once, or give a column scan if it was scanned twice"
                )
            lines[line.subject.key] = line
        if not lines:
            raise DataError(f"nifti: {self.root} holds no volume; see: uadbench datasets show nifti")
        return lines

    def content(self) -> str:
        """Return a fingerprint of the files and of what each of them is.

        Raises:
            DataError: if two people have the same image, which would be in two splits under two names.
        """
        content: dict[str, list[dict[str, str | list[str]]]] = {}
        owner: dict[str, Subject] = {}
        for key, line in self._lines.items():
            images = {n: self._hashes(p) for n, p in line.images.items() if p in line.subject.files}
            content[key] = [images, {n: self._hashes(p) for n, p in line.masks.items()}]
            for value in (v if isinstance(v, str) else v[0] for v in images.values()):
                other = owner.setdefault(value, line.subject)
                if other.id != line.subject.id:
                    raise DataError(
                        f"{self.root}: {other.id!r} and {line.subject.id!r} have the same image; take one of them out"
                    )
        return digest(content)

    def _hashes(self, path: Path) -> str | list[str]:
        """Return the hash of a file, or those of voxels and header where they lie in two."""
        voxels, *header = map(file_hash, files_of(path))
        return [voxels, *header] if header else voxels

    def _line(self, row: Mapping[str, str], base: Path, source: str) -> Line:
        missing = [name for name in ("subject", "split") if not row.get(name)]
        if missing:
            raise DataError(f"{source}: the column {missing[0]!r} is missing or empty; it is needed for every volume")
        if row["split"] not in ROLES:
            raise DataError(f"{source}: split is {row['split']!r}; possible: {', '.join(ROLES)}")
        images = {}
        for name, value in row.items():
            if value and (name == "image" or name.startswith("image:")):
                images[name.partition(":")[2]] = base / value
        masks = {name: base / row[name] for name in MASKS if row.get(name)}
        groups: dict[str, Group] = {
            k: as_group(v) for k, v in row.items() if v and k not in OWN and not k.startswith("image:")
        }
        chosen = [self._choose(images, word, source) for word in self._wanted(images, source)]
        for path in [*chosen, *masks.values()]:
            if not path.is_file():
                raise DataError(f"{source}: {path} does not exist; correct the manifest or restore the file")
        paths = (*chosen, *masks.values())
        others = [file for path in paths for file in files_of(path) if file != path]
        subject = Subject(row["subject"], row.get("scan", ""), groups, (*paths, *others))
        role: Role = next(r for r in ROLES if r == row["split"])
        return Line(subject, role, images, masks)

    def _wanted(self, images: Mapping[str, Path], source: str) -> list[str]:
        if self.modality:
            return self.modality.split("+")
        if not images:
            raise DataError(
                f"{source}: there is no image; the column is called image, or image:T1 and so on for several"
            )
        if len(images) != 1:
            there = ", ".join(images) or "none"
            raise UsageError(f"{source}: there are {len(images)} images ({there}); say which with --modality")
        return list(images)

    def _choose(self, images: Mapping[str, Path], word: str, source: str) -> Path:
        if word not in images:
            raise DataError(f"{source}: no image of the modality {word!r}; there is: {', '.join(images) or 'none'}")
        return images[word]

    def subjects(self) -> Sequence[Subject]:
        """Return the index in the manifest's order."""
        return [line.subject for line in self._lines.values()]

    def split(self, fold: int = 0) -> Split:
        """Return the split that the manifest gives. There is one fold; other folds are other manifests."""
        if fold != 0:
            raise UsageError(f"nifti has the fold 0 only, not {fold}; write another manifest for another fold")
        return Split.of((line.role, line.subject) for line in self._lines.values())

    def provides(self) -> frozenset[str]:
        """Return foreground, and registered if the user says so."""
        return frozenset({"foreground", "registered"} if self.registered else {"foreground"})

    def channel_names(self) -> tuple[str, ...]:
        """Return the modalities."""
        return tuple(self.modality.split("+")) if self.modality else ("image",)

    def load(self, subject: Subject) -> Volume:
        """Read one subject: images (C, D, H, W) with D from inferior to superior, H to anterior, W to the right."""
        line = self._lines[subject.key]
        paths = [line.images[word] for word in self._wanted(line.images, subject.key)]
        scan = read_volume(paths[0], "nifti")
        image = np.stack([scan.data, *(read_like(path, scan, "nifti") for path in paths[1:])])
        masks = {name: read_like(path, scan, "nifti") > 0.5 for name, path in line.masks.items()}
        given = masks.get("foreground")
        if self.foreground == "file" and given is None:
            raise DataError(
                f"nifti: {subject.key} has no foreground mask in {self.root}; add one, or use foreground=nonzero"
            )
        inside = (image != 0).any(axis=0) if given is None or self.foreground == "nonzero" else given
        return Volume(
            image,
            inside,
            masks.get("lesion"),
            scan.spacing,
            subject.key,
            masks.get("ignore"),
            scan.affine,
            subject.groups,
        )


def _read_rows(root: Path) -> tuple[list[dict[str, str]], Path]:
    """Return the rows of a manifest, or those that a folder stands for, and the folder their paths start from."""
    if root.is_dir():
        return _folder_rows(root), root
    if not root.is_file():
        raise DataError(
            f"nifti: there is no manifest or folder {root}; give one with --root, or write one with: "
            "uadbench datasets prepare nifti --out manifest.csv"
        )
    try:
        if root.suffix == ".json":
            data = json.loads(root.read_text(encoding="utf-8"))
            if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
                raise DataError(f"nifti: {root} must hold a list of objects, one for each volume")
            return [{str(k): "" if v is None else str(v) for k, v in row.items()} for row in data], root.parent
        with root.open(newline="", encoding="utf-8-sig") as file:
            return [{k: (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(file)], root.parent
    except (ValueError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"nifti: {root} cannot be read as a manifest: {error}") from error


def _folder_rows(root: Path) -> list[dict[str, str]]:
    """Return one row for each image in the folders.

    Raises:
        DataError: if there is none, or for a mask without an image or without a word that says what kind of mask it is.
    """
    rows = []
    for role in ROLES:
        for path in sorted((root / role).glob("*.nii*")) if (root / role).is_dir() else []:
            stem = next((path.name.removesuffix(end) for end in NIFTI if path.name.endswith(end)), "")
            owner, _, word = stem.rpartition("_")
            if word == "mask":
                raise DataError(
                    f"nifti: {path} is named as a mask, but not of what; let its name end in {', '.join(MASKS)} instead of "
                    "mask, or take it out"
                )
            if word in MASKS and not (owner and nifti_file(path.parent, owner)):
                raise DataError(
                    f"nifti: {path} is the mask of no image; put {owner or '<subject>'}.nii.gz beside it, or take it out"
                )
            if not stem or word in MASKS:
                continue
            masks = {mask: nifti_file(path.parent, f"{stem}_{mask}") for mask in MASKS}
            files = {"image": path, **{mask: file for mask, file in masks.items() if file}}
            rows.append({"subject": stem, "split": role, **{k: f"{role}/{p.name}" for k, p in files.items()}})
    if not rows:
        raise DataError(
            f"nifti: {root} holds none of the folders {', '.join(ROLES)} with .nii or .nii.gz files in them"
        )
    return rows
