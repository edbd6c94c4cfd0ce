"""Writes a manifest for the adapter `nifti` from patterns of file names."""

from __future__ import annotations

import csv
import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from uadbench.errors import DataError, UsageError
from uadbench.method import derive_seed

WORD = "{subject}"


@dataclass
class Manifest:
    """Patterns hold {subject} where the subject's name stands. Healthy subjects are dealt out by a seed."""

    healthy: Annotated[str, Field(description="images of healthy subjects, such as 'ixi/{subject}_T1.nii.gz'")]
    image: Annotated[str, Field(description="images of subjects with lesions")]
    lesion: Annotated[str, Field(description="their lesion masks")]
    foreground: Annotated[str, Field(description="their foreground masks; empty if there are none")] = ""
    healthy_foreground: Annotated[
        str, Field(description="foreground masks of the healthy; empty if there are none")
    ] = ""
    val: Annotated[float, Field(gt=0, lt=1, description="share of the healthy subjects for validation")] = 0.2
    test_healthy: Annotated[float, Field(ge=0, lt=1, description="share of the healthy subjects for testing")] = 0.2
    val_lesion: Annotated[float, Field(ge=0, lt=1, description="share of the subjects with lesions for validation")] = (
        0.0
    )
    seed: Annotated[int, Field(ge=0, description="of the assignment to splits")] = 0

    def __post_init__(self) -> None:
        """Refuse patterns without {subject}."""
        for name in ("healthy", "image", "lesion", "foreground", "healthy_foreground"):
            pattern = getattr(self, name)
            if pattern and WORD not in pattern:
                raise ValueError(f"{name}={pattern!r} must hold {WORD}, such as 'ixi/{WORD}_T1.nii.gz'")
        if self.val + self.test_healthy >= 1.0:
            raise ValueError("val and test_healthy together leave nobody for training")

    def __call__(self, out: Path) -> Path:
        """Write the manifest and return its path.

        Raises:
            DataError: if a pattern finds nothing, or a mask is missing.
            UsageError: if the ending is not .csv, or the file cannot be written.
        """
        if out.suffix != ".csv":
            raise UsageError(f"{out}: a manifest is written as .csv")
        healthy, patients = _find(self.healthy), _find(self.image)
        both = sorted(healthy.keys() & patients.keys())
        if both:
            raise DataError(f"{both[0]!r} is found as healthy and with lesions; use narrower patterns")
        rows = [
            self._row(name, path, role, self.healthy_foreground, "", out) for name, path, role in self._deal(healthy)
        ]
        order = sorted(patients, key=lambda name: derive_seed("manifest", self.seed, name))
        on_val = set(order[: round(self.val_lesion * len(order))])
        rows += [
            self._row(n, p, "val_lesion" if n in on_val else "test_lesion", self.foreground, self.lesion, out)
            for n, p in patients.items()
        ]
        temporary = out.with_suffix(".part")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(
                    file, ["subject", "split", "image", "lesion", "foreground"], lineterminator="\n"
                )
                writer.writeheader()
                writer.writerows(rows)
            temporary.replace(out)
        except OSError as error:
            raise UsageError(f"{out} cannot be written ({error.strerror or error}); give another --out") from error
        return out

    def _deal(self, healthy: dict[str, Path]) -> list[tuple[str, Path, str]]:
        order = sorted(healthy, key=lambda name: derive_seed("manifest", self.seed, name))
        n_val = max(1, round(self.val * len(order)))
        n_test = round(self.test_healthy * len(order))
        if len(order) - n_val - n_test < 1:
            raise DataError(f"{len(order)} healthy subjects are too few; at least one each is needed for train and val")
        roles = ["val"] * n_val + ["test_healthy"] * n_test + ["train"] * (len(order) - n_val - n_test)
        by_name = dict(zip(order, roles, strict=True))
        return [(name, path, by_name[name]) for name, path in healthy.items()]

    def _row(self, name: str, image: Path, role: str, foreground: str, lesion: str, out: Path) -> dict[str, str]:
        paths = {"image": image}
        for column, pattern in (("lesion", lesion), ("foreground", foreground)):
            if pattern:
                paths[column] = Path(pattern.replace(WORD, name)).expanduser()
                if not paths[column].is_file():
                    raise DataError(f"{paths[column]} does not exist; subject {name!r} needs it ({column}={pattern!r})")
        folder = out.resolve().parent
        relative = {column: os.path.relpath(path.resolve(), folder) for column, path in paths.items()}
        return {"subject": name, "split": role, **relative}


def _find(pattern: str) -> dict[str, Path]:
    """Return the files that a pattern finds, by subject."""
    parts = str(Path(pattern).expanduser()).split(WORD)
    # A second {subject}, as in "{subject}/{subject}_t1.nii.gz", is the same word again.
    expression = re.compile(re.escape(parts[0]) + "(.+)" + r"\1".join(re.escape(part) for part in parts[1:]))
    wildcard = Path("*".join(glob.escape(part) for part in parts))
    found = {}
    for path in sorted(Path(wildcard.anchor or ".").glob(str(wildcard.relative_to(wildcard.anchor)))):
        if match := expression.fullmatch(str(path)):
            found[match[1]] = path
    if not found:
        raise DataError(f"no file is called like {pattern!r}; the pattern is relative to {Path.cwd()}")
    return found
