"""Looks at prepared scans so that people need not look at all: numbers for each, flags, the suspicious ones first."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uadbench.prepare.images import array, to_grid, voxel_ml
from uadbench.prepare.scans import Scans

COVERAGE = 0.88
"""Share of the template's brain that a brain covers at least; affine registration of healthy adults reaches 0.95."""
DICE = 0.88
"""With the template's brain, at least; affine registration of healthy adults reaches 0.94."""
CENTROID_MM = 6.0
"""Between the middles of the brain and of the template's, at most."""
METRIC = -0.25
"""Mutual information with the template, negative, at most. T1, T2 and FLAIR of brains reach -0.32 to -0.53 with ICBM152,
half ones and those that lie upside down or with axes changed -0.14 to -0.21."""
ZOOM = (0.75, 1.4)
"""By which scans are made larger along any direction. Adults' heads lie within."""
BRAIN_ML = (600.0, 2400.0)
"""Of an adult's brain with the fluid around it, after registration too."""
EMPTY = 0.05
LOST = 0.01
"""Of the brain, cut away by a box."""
OUTSIDE = 0.1
"""Of the lesion, outside the foreground."""
KEPT = (0.8, 1.25)
"""Millilitres of the lesion after, as a share of what they were, times the change of size by the registration."""
FEW = 50
"""Voxels below which a lesion's volume is too rough to be compared."""
ALONE = 6.0
"""Deviation from the median, in units of the usual one, that is called unlike the others."""
ENOUGH = 8
"""Scans from which on they are compared with each other."""


def measure(scans: Scans) -> dict[str, Any]:
    """Return the numbers of one prepared scan."""
    out: dict[str, Any] = {"metric": scans.metric, "lost": scans.lost}
    image = scans.images[scans.first]
    brain = scans.masks.get("foreground")
    if brain is not None:
        inside = array(brain) > 0
        out["brain_ml"] = float(inside.sum()) * voxel_ml(brain)
        if scans.template is not None:
            there = array(to_grid(scans.template.mask, brain, nearest=True)) > 0
            out |= _overlap(inside, there, np.array(brain.GetSpacing())[::-1])
    if scans.matrix is not None:
        # From the template to the scan: what is small there was made large here.
        zoom = 1 / np.linalg.svd(scans.matrix[:3, :3])[1]
        out |= {"zoom_min": float(zoom.min()), "zoom_max": float(zoom.max())}
    for name, one in scans.images.items():
        values = np.asarray(array(one), np.float64)
        mask = scans.foreground_on(one)
        seen = values[array(mask) > 0] if mask is not None and array(mask).any() else values.ravel()
        low, middle, high = np.percentile(seen, (1, 50, 99))
        if mask is not None:
            out[f"{name}_empty"] = float((seen == 0).mean())
        out |= {f"{name}_p1": low, f"{name}_p50": middle, f"{name}_p99": high}
        out |= {f"{name}_min": values.min(), f"{name}_max": values.max()}
    if "lesion" in scans.masks:
        lesion = array(scans.masks["lesion"]) > 0
        ml = float(lesion.sum()) * voxel_ml(scans.masks["lesion"])
        before, ml_before = scans.before or (0, 0.0)
        scale = 1.0 if scans.matrix is None else 1 / abs(float(np.linalg.det(scans.matrix[:3, :3])))
        out |= {"lesion_voxels_before": before, "lesion_ml_before": ml_before}
        out |= {"lesion_voxels": int(lesion.sum()), "lesion_ml": ml}
        out["lesion_kept"] = ml / (ml_before * scale) if ml_before else None
        if brain is not None and lesion.any():
            here = array(scans.foreground_on(scans.masks["lesion"])) > 0
            out["lesion_outside"] = float((lesion & ~here).sum() / lesion.sum())
    out |= {"voxels": "x".join(str(n) for n in image.GetSize())}
    out |= {"mm": "x".join(f"{v:g}" for v in np.round(image.GetSpacing(), 4))}
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in out.items()}


def _overlap(brain: Any, template: Any, spacing: Any) -> dict[str, float]:
    """Return coverage, Dice and the distance of the centroids of two masks (D, H, W)."""
    both, one, other = (float(v.sum()) for v in (brain & template, brain, template))
    if not one or not other:
        return {"coverage": 0.0, "dice": 0.0}
    middles = [np.argwhere(mask).mean(axis=0) * spacing for mask in (brain, template)]
    return {
        "coverage": both / other,
        "dice": 2 * both / (one + other),
        "centroid_mm": float(np.linalg.norm(middles[0] - middles[1])),
    }


def flags_of(numbers: Mapping[str, Any]) -> list[str]:
    """Return what is suspicious about one scan, in words."""

    def low(name: str, limit: float, words: str) -> list[str]:
        value = numbers.get(name)
        return [words.format(value)] if value is not None and value < limit else []

    def high(name: str, limit: float, words: str) -> list[str]:
        value = numbers.get(name)
        return [words.format(value)] if value is not None and value > limit else []

    out = low("coverage", COVERAGE, "covers {:.0%} of the template's brain")
    out += low("dice", DICE, "Dice with the template's brain {:.2f}")
    out += high("centroid_mm", CENTROID_MM, "its middle is {:.0f} mm off")
    out += high("metric", METRIC, "unlike the template (metric {:.2f})")
    out += low("zoom_min", ZOOM[0], "made {:.2f} times as large")
    out += high("zoom_max", ZOOM[1], "made {:.2f} times as large")
    if "dice" not in numbers:
        out += low("brain_ml", BRAIN_ML[0], "brain of {:.0f} ml")
        out += high("brain_ml", BRAIN_ML[1], "brain of {:.0f} ml")
    for name in [n for n in numbers if n.endswith("_empty")]:
        out += high(name, EMPTY, "{:.0%} of the brain's mask is 0 in the " + name.removesuffix("_empty"))
    out += high("lost", LOST, "{:.1%} of the brain cut away")
    out += high("lesion_outside", OUTSIDE, "{:.0%} of the lesion outside the brain")
    if numbers.get("lesion_voxels_before"):
        if not numbers["lesion_voxels"]:
            out.append("nothing of the lesion is left")
        elif numbers["lesion_voxels"] >= FEW:
            out += low("lesion_kept", KEPT[0], "{:.0%} of the lesion's volume is left")
            out += high("lesion_kept", KEPT[1], "the lesion's volume is {:.0%} of what it was")
    return out


def compare(numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what is unlike the other scans of the set, by key; nothing for sets that are too small to tell."""
    out: dict[str, list[str]] = {key: [] for key in numbers}
    # Only the bad side counts: nobody minds an unusually good overlap.
    for name, sign in (("metric", 1), ("dice", -1), ("centroid_mm", 1)):
        values = {key: sign * row[name] for key, row in numbers.items() if row.get(name) is not None}
        if len(values) < ENOUGH:
            continue
        middle = float(np.median(list(values.values())))
        usual = 1.4826 * float(np.median([abs(v - middle) for v in values.values()]))
        for key, value in values.items():
            if usual > 0 and (value - middle) / usual > ALONE:
                out[key].append(f"{name} {sign * value:.3g} is unlike the others ({sign * middle:.3g})")
    return out


def ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return rows with the suspicious ones first: failed, then by the number of flags, then by the overlap."""

    def rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
        failed = str(row.get("flags", "")).startswith("failed")
        number = len([text for text in str(row.get("flags", "")).split("; ") if text])
        dice = row.get("dice")
        return (not failed, -number, 1.0 if dice is None else dice, str(row["key"]))

    return sorted(rows, key=rank)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table as text, numbers with four figures."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else "" if v is None else v for k, v in row.items()})
    return text.getvalue()
