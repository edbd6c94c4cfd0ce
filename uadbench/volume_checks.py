"""Checks of loaded volumes: values, masks, spacing, axes. Each volume is looked at once; a few facts of it are kept."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.dataset import Role, Subject, Volume
from uadbench.errors import DataError
from uadbench.findings import CODES, Finding, counted, finding, gathered
from uadbench.reading import NIFTI, read_volume
from uadbench.split_checks import HEALTHY, LESIONS

SPACING = (0.05, 20.0)
"""Millimetres between voxels that are plausible. Metres and micrometres are not."""

OUTSIDE = 0.05
"""Share of the lesion that may lie outside the foreground."""

FULL = 0.98
"""Share of the voxels that no foreground of a volume has."""

EMPTY = 0.05
"""Share of the foreground that may be 0. Three brains had below 0.001, and above 0.13 when turned in their mask."""

SCALE = 20.0
"""How far the 99th percentile may be from the median of the set, as a factor. Scanners differ by less."""

MASK_NAME = re.compile(r"mask|seg|lesion|label|roi|consensus|foreground|ignore|manual", re.IGNORECASE)
"""Names of files that hold labels, not intensities."""


@dataclass(frozen=True)
class Facts:
    """What is kept of one volume.

    Attributes:
        subject: whose it is.
        role: in fold 0; None if it is in none.
        voxels: hash of the decoded voxels, "" for a constant image.
        grid: (D, H, W).
        affine: rounded, None for pictures.
        channels: of the image.
        kind: what numbers the image holds: "whole numbers up to 255", "whole numbers", "fractions".
        high: the 99th percentile inside the foreground, per channel.
        annotated: whether there is a lesion mask.
    """

    subject: Subject
    role: Role | None
    voxels: str
    grid: tuple[int, int, int]
    affine: tuple[float, ...] | None
    channels: int
    kind: str
    high: tuple[float, ...]
    annotated: bool


@dataclass
class VolumeChecks:
    """Collects findings over all volumes of a set. `see` looks at one, `findings` says what was found.

    Attributes:
        registered: whether the set promises one grid.
        annotated: whether it promises lesion masks.
        notes: what was noted of whom, by code.
        facts: of every volume.
    """

    registered: bool
    annotated: bool = True
    notes: dict[int, dict[str, str]] = field(default_factory=dict)
    facts: list[Facts] = field(default_factory=list)

    def note(self, number: int, subject: Subject, text: str = "") -> None:
        """Remember that a subject has something."""
        self.notes.setdefault(number, {})[subject.key] = text

    def see(self, subject: Subject, role: Role | None, volume: Volume) -> bool:
        """Look at one volume. Returns whether its values can be used for comparisons with others."""
        sound = self._values(subject, volume)
        self._masks(subject, role, volume)
        self._space(subject, volume)
        seen = _seen(volume)
        finite = volume.image[:, seen] if sound else np.zeros((1, 1), np.float32)
        self.facts.append(
            Facts(
                subject, role, image_hash(volume.image) if sound else "", volume.grid,
                None if volume.affine is None else tuple(np.round(np.asarray(volume.affine, float), 2).ravel().tolist()),
                volume.image.shape[0], _kind(volume.image) if sound else "",
                tuple(float(v) for v in np.percentile(finite, 99, axis=1)) if sound else (),
                volume.lesion is not None,
            )
        )  # fmt: skip
        return sound

    def _values(self, subject: Subject, volume: Volume) -> bool:
        bad = int(volume.image.size - np.isfinite(volume.image).sum())
        if bad:
            self.note(401, subject, counted(bad, "voxels"))
            return False
        seen = volume.foreground
        if seen is not None and (seen.shape != volume.grid or not seen.any()):
            self.note(403 if seen.shape == volume.grid else 301, subject, "" if seen.any() else "no voxel is True")
            return False
        inside = volume.image if seen is None else volume.image[:, seen]
        if any(channel.min() == channel.max() for channel in inside):
            self.note(402, subject, f"all {float(inside.ravel()[0]):g}")
            return False
        if seen is not None and volume.grid[0] > 1 and seen.mean() > FULL:
            self.note(412, subject, f"{seen.mean():.0%} of the voxels")
        elif (share := empty_share(volume)) > EMPTY:
            self.note(416, subject, f"{share:.0%}")
        return True

    def _masks(self, subject: Subject, role: Role | None, volume: Volume) -> None:
        lesion = volume.lesion
        if lesion is None:
            return
        if lesion.shape != volume.grid:
            self.note(301, subject, f"lesion mask {lesion.shape}, image {volume.grid}")
            return
        count = int(np.count_nonzero(lesion))
        if role in HEALTHY and count:
            self.note(406, subject, counted(count, "voxels"))
        if role in LESIONS and not count:
            self.note(405, subject)
        if count and volume.foreground is not None and volume.foreground.shape == volume.grid:
            outside = np.count_nonzero(lesion & ~volume.foreground) / count
            if outside > OUTSIDE:
                self.note(409, subject, f"{outside:.0%}")

    def _space(self, subject: Subject, volume: Volume) -> None:
        if volume.spacing is None:
            return
        if any(not SPACING[0] <= s <= SPACING[1] for s in volume.spacing):
            self.note(304, subject, " x ".join(f"{s:.4g}" for s in volume.spacing) + " mm")
        if volume.affine is None:
            return
        import nibabel

        way = "".join(word or "?" for word in nibabel.aff2axcodes(volume.affine))
        if way != "RAS":
            self.note(306, subject, way)
        lengths = np.linalg.norm(np.asarray(volume.affine)[:3, :3], axis=0)[::-1]
        if not np.allclose(lengths, volume.spacing, rtol=0.02):
            said = " x ".join(f"{s:.3g}" for s in volume.spacing)
            self.note(307, subject, f"{said} mm and {' x '.join(f'{s:.3g}' for s in lengths)} mm")

    def findings(self) -> list[Finding]:
        """Return what was found in all volumes seen so far."""
        unmasked = {f.subject.key: "" for f in self.facts if f.role in LESIONS and not f.annotated}
        out = [x for number, notes in self.notes.items() for x in gathered(number, notes)]
        if self.annotated:
            out += gathered(404, unmasked)
        return [*out, *self._grids(), *self._numbers()]

    def _grids(self) -> list[Finding]:
        out = []
        if self.registered:
            groups = Counter((f.grid, f.affine) for f in self.facts)
            common = groups.most_common(1)[0][0] if groups else None
            odd = {f.subject.key: " x ".join(map(str, f.grid)) for f in self.facts if (f.grid, f.affine) != common}
            out += gathered(303, odd)
        channels = Counter(f.channels for f in self.facts)
        if len(channels) > 1:
            most = channels.most_common(1)[0][0]
            out += gathered(413, {f.subject.key: str(f.channels) for f in self.facts if f.channels != most})
        return out

    def _numbers(self) -> list[Finding]:
        sound = [f for f in self.facts if f.kind]
        kinds = Counter(f.kind for f in sound)
        out = []
        if len(kinds) > 1:
            parts = []
            for what, roles in (("healthy", HEALTHY), ("with lesions", LESIONS)):
                per = Counter(f.kind for f in sound if f.role in roles)
                if per:
                    parts.append(f"{what}: " + ", ".join(f"{n} hold {kind}" for kind, n in sorted(per.items())))
            rare = kinds.most_common()[-1][0]
            out.append(
                finding(
                    410,
                    f"{CODES[410].title} ({'; '.join(parts) or ', '.join(kinds)})",
                    [f.subject.key for f in sound if f.kind == rare],
                )
            )
        if len(sound) >= 3 and len({len(f.high) for f in sound}) == 1:
            high = np.array([f.high for f in sound])
            middle = np.median(high, axis=0)
            far = {}
            for f, row in zip(sound, high, strict=True):
                with np.errstate(divide="ignore", invalid="ignore"):
                    factor = float(
                        np.max(np.where(middle > 0, np.maximum(row / middle, middle / np.maximum(row, 1e-30)), 1))
                    )
                if factor > SCALE:
                    far[f.subject.key] = f"99th percentile {row.max():.4g}, median of all {middle.max():.4g}"
            out += gathered(411, far)
        return out


def empty_share(volume: Volume) -> float:
    """Return the share of a volume's foreground where all channels are 0; 0 for pictures and without a foreground."""
    seen = volume.foreground
    if seen is None or seen.shape != volume.grid or volume.grid[0] == 1 or not seen.any():
        return 0.0
    bright: BoolArray = np.asarray(volume.image.any(axis=0))
    return 1.0 - float(bright[seen].mean())


def image_hash(image: FloatArray) -> str:
    """Return the hash of what an image shows, whatever file it came from: its decoded voxels without a black margin."""
    solid = (image != image.ravel()[0]).any(axis=0) if image.size else np.zeros((1, 1, 1), bool)
    if not solid.any():
        return ""
    box = tuple(slice(int(i[0]), int(i[-1]) + 1) for i in _extent(solid))
    part = np.ascontiguousarray(image[(slice(None), *box)], dtype=np.float32) + np.float32(0)  # -0 becomes 0.
    return hashlib.blake2b(part.data, digest_size=16).hexdigest() + str(part.shape)


def _extent(mask: BoolArray) -> list[np.ndarray]:
    return [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]


def _seen(volume: Volume) -> BoolArray:
    if volume.foreground is not None and volume.foreground.shape == volume.grid and volume.foreground.any():
        return volume.foreground
    return np.ones(volume.grid, bool)


def _kind(image: FloatArray) -> str:
    if not np.array_equal(image, np.rint(image)):
        return "fractions"
    return "whole numbers up to 255" if image.min() >= 0 and image.max() <= 255 else "whole numbers"


def label_findings(files: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Finding]:
    """Return findings on the values of masks.

    Args:
        files: for each kind of file, the distinct values in the file of each subject.
    """
    between: dict[str, str] = {}
    odd: dict[str, str] = {}
    for found in files.values():
        times = Counter(value for values in found.values() for value in values if value != 0)
        limit = max(1, len(found) // 20)
        for key, values in found.items():
            if parts := [v for v in values if v != round(v)]:
                between[key] = ", ".join(f"{v:.3g}" for v in parts[:3])
            elif len(found) >= 3:
                rare = [v for v in values if v != 0 and times[v] <= limit]
                if rare and any(n > limit for n in times.values()):
                    odd[key] = ", ".join(f"{v:g}" for v in rare[:5])
    return [*gathered(407, odd), *gathered(408, between)]


def label_values(subject: Subject) -> dict[str, list[float]]:
    """Return the first 50 distinct values of every file of a subject that is a mask by its name, by its place."""
    out = {}
    for place, path in enumerate(subject.files):
        if place and path.name.lower().endswith(NIFTI) and MASK_NAME.search(path.name):
            try:
                found = np.unique(read_volume(path, "check").data)
            except DataError:
                continue  # It is told where the subject is loaded.
            out[f"{len(subject.files)} files, {place}"] = [float(v) for v in found[np.isfinite(found)][:50]]
    return out
