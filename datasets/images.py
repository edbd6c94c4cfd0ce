"""Pictures of your own (PNG, JPG, TIFF, BMP) in folders: train, val, test/good and test/<anything else>.

* `train`: healthy pictures, in it or in `train/good`.
* `val`: healthy pictures, in it or in `val/good`; `val/<kind>` holds anomalous ones. Without `val` a share of `train` is
  taken.
* `test/good`: healthy pictures.
* `test/<kind>`: anomalous pictures; the folder's name is the group `lesion_kind`.

The mask of `test/<kind>/a.png` is `test/<kind>/a_mask.png`, `test/<kind>/masks/a.png`, `masks/<kind>/a.png` or
`masks/a.png`; what is not 0 in it is lesion. Without any mask whole pictures are judged: `--protocol image-v1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from uadbench.dataset import DatasetCard, Role
from uadbench.datasets._pictures import KIND, Picture, SharedSet, folder_like, folders_in, name_of, pictures_in
from uadbench.errors import DataError
from uadbench.reading import unknown_layout

HEALTHY = ("good", "normal", "healthy")
MASKS = ("masks", "mask")
MASK = "_mask"


@dataclass
class Images(SharedSet):
    """Pictures may differ in size; masks must have the size of their picture."""

    card: ClassVar[DatasetCard] = DatasetCard(
        title="Pictures in a folder",
        licence="that of your data",
        url="https://pillow.readthedocs.io/en/stable/handbook/image-file-formats.html",
        reference="your own",
        modality=("grey",),
        healthy="as the manifest says",
        orientation="picture",
        dimensions="2-D",
        masks="as given",
        access="your own",
    )

    person: Annotated[
        str,
        Field(
            description="regular expression whose first group is the person in a file's name, such as ^(\\w+?)_; empty: "
            "every picture is a person"
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Check the pattern.

        Raises:
            ValueError: if it is none, or has no group.
        """
        try:
            groups = re.compile(self.person).groups
        except re.error as error:
            raise ValueError(f"person={self.person!r} is no regular expression: {error}") from None
        if self.person and not groups:
            raise ValueError(f"person={self.person!r} has no group in brackets that says what the person is: ^(\\w+?)_")

    def pictures(self) -> Iterable[Picture]:
        """Return the pictures of all folders."""
        test = folder_like(self.root, "test")
        if not folder_like(self.root, "train") and not test:
            raise unknown_layout(self.name, self.root, ["train/a.png", "test/good/b.png", "test/other/c.png"])
        found = [*self._stage("train", "train", None), *self._stage("val", "val", "val_lesion")]
        if test and (loose := pictures_in(test)):
            raise DataError(
                f"{self.name}: {loose[0]} lies right in {test}; put healthy pictures into test/good and others into folders "
                "such as test/lesion"
            )
        found += self._stage("test", "test_healthy", "test_lesion")
        has = {p.role for p in found}
        if "train" not in has:
            raise DataError(f"{self.name}: {self.root / 'train'} holds no picture; put healthy pictures into it")
        if "test_lesion" not in has:
            raise DataError(
                f"{self.name}: {self.root} has no anomalous pictures; put them into folders such as test/lesion, beside "
                "test/good"
            )
        self._check_masks(found)
        return found if "val" in has else self.with_validation(found)

    def _stage(self, stage: str, healthy: Role, other: Role | None) -> list[Picture]:
        """Return the pictures right in a folder, in its folder for healthy ones, and in its other folders."""
        folder = folder_like(self.root, stage)
        if folder is None:
            return []
        found = [self._picture(p, healthy, "none") for p in self._healthy(folder)]
        for inner in folders_in(folder):
            kind = inner.name
            if kind.lower() in HEALTHY:
                found += [self._picture(p, healthy, "none") for p in self._healthy(inner)]
            elif other is None:
                raise DataError(
                    f"{self.name}: {inner} is not understood; train holds healthy pictures, in it or in train/good: move "
                    "others to test, or take them out"
                )
            elif kind.lower() not in MASKS:
                files = pictures_in(inner)
                own = {p.stem for p in files if not p.stem.endswith(MASK)}
                for path in files:
                    if path.stem in own:
                        found.append(self._picture(path, other, kind, self._masks(path)))
                    elif path.stem.removesuffix(MASK) not in own:
                        raise DataError(
                            f"{self.name}: {path} is the mask of no picture in its folder; put its picture beside it, take "
                            f"it out, or rename it if it is no mask: names of pictures do not end in {MASK}"
                        )
        return found

    def _healthy(self, folder: Path) -> list[Path]:
        """Return the pictures right in a folder for healthy ones."""
        files = pictures_in(folder)
        if mask := next((p for p in files if p.stem.endswith(MASK)), None):
            raise DataError(
                f"{self.name}: {mask} is named as a mask, but healthy pictures have none; take it out, or rename it if it "
                f"is a picture: names of pictures do not end in {MASK}"
            )
        return files

    def _picture(self, path: Path, role: Role, kind: str, masks: tuple[Path, ...] = ()) -> Picture:
        own, groups = name_of(path, self.root), {KIND: kind}
        if not self.person:
            return Picture(own, path, role, masks=masks, groups=groups)
        match = re.search(self.person, path.stem)
        if match is None or not match[1]:
            raise DataError(
                f"{self.name}: the name of {path} does not say which person it shows, by person={self.person}; rename it or "
                "give another expression"
            )
        return Picture(match[1], path, role, own, masks, groups)

    def _masks(self, path: Path) -> tuple[Path, ...]:
        """Return the mask of a picture, from the nearest place that has one."""
        central = folder_like(self.root, *MASKS)
        places = [path.parent, folder_like(path.parent, *MASKS)]
        places += [central / path.parent.name, central] if central else []
        for place in places:
            names = self._stems(place) if place else {}
            for stem in (path.stem + MASK, path.stem):
                if (mask := names.get(stem)) and mask != path:
                    return (mask,)
        return ()

    def _check_masks(self, pictures: Sequence[Picture]) -> None:
        """Raise DataError if two pictures share a mask, or a mask in a folder for masks belongs to none."""
        owner: dict[Path, Path] = {}
        for picture in pictures:
            for mask in picture.masks:
                if mask in owner:
                    raise DataError(
                        f"{self.name}: {mask} would be the mask of {owner[mask]} and of {picture.path}; put masks into a "
                        "folder for each kind, such as masks/lesion"
                    )
                owner[mask] = picture.path
        for folder, names in self._seen.items():
            if any(part.name.lower() in MASKS for part in (folder, folder.parent)):
                stray = sorted(set(names.values()) - set(owner))
                if stray:
                    raise DataError(
                        f"{self.name}: {stray[0]} (and {len(stray) - 1} more) is the mask of no picture; masks are "
                        "matched by name: rename it or take it out"
                    )

    def _stems(self, folder: Path) -> dict[str, Path]:
        if folder not in self._seen:
            self._seen[folder] = {p.stem: p for p in pictures_in(folder)}
        return self._seen[folder]

    @cached_property
    def _seen(self) -> dict[Path, dict[str, Path]]:
        """The files of folders with masks, so that each folder is listed once."""
        return {}
