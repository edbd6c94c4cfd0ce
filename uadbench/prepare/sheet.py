"""The contact sheet: three slices of each prepared scan with outlines, the suspicious ones on top."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uadbench.arrays import BoolArray
from uadbench.prepare.images import array, to_grid, to_image
from uadbench.prepare.template import load_template
from uadbench.reading import read_volume

MOST = 40
"""Scans on a sheet. More make a picture that nothing opens; the table has all."""
COLOURS = {"foreground": "#35c4ff", "template": "#ffd23f", "lesion": "#ff4d4d"}
HEIGHT = 1.7
"""Inches of a row."""


def draw(rows: Sequence[Mapping[str, Any]], root: Path, title: str) -> bytes:
    """Return the sheet as a PNG.

    Args:
        rows: of the quality table in its order, each with key, flags, folder, template (what `load_template` takes).
        root: the prepared folder.
        title: printed on top.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.get("folder")][:MOST]
    height = HEIGHT * max(1, len(shown)) + 0.9
    figure = Figure(figsize=(9.2, height), facecolor="black")
    FigureCanvasAgg(figure)
    top = 1 - 0.75 / height
    words = "" if len(shown) == len(rows) else f" ({len(shown)} of {len(rows)} scans; qc.csv has all)"
    figure.text(0.02, 1 - 0.25 / height, title + words, color="white", fontsize=11, va="center")
    for n, (name, colour) in enumerate(COLOURS.items()):
        label = {"foreground": "brain mask", "template": "the template's brain"}.get(name, name)
        figure.text(0.02 + 0.2 * n, 1 - 0.55 / height, label, color=colour, fontsize=9, va="center")
    figure.text(0.62, 1 - 0.55 / height, "axial, coronal: right is right", color="grey", fontsize=9, va="center")
    for n, row in enumerate(shown):
        bottom = top * (1 - (n + 1) / len(shown))
        _draw_row(figure, row, root, bottom, top / len(shown))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, facecolor="black", metadata={"Software": None})
    return buffer.getvalue()


def _draw_row(figure: Any, row: Mapping[str, Any], root: Path, bottom: float, height: float) -> None:
    words = textwrap.wrap(str(row["key"]), 28)
    for flag in filter(None, str(row.get("flags") or "").split("; ")):
        words += textwrap.wrap("! " + flag, 34)
    if row.get("dice") is not None:
        words.append(f"Dice {row['dice']:.3f}, coverage {row['coverage']:.3f}")
    colour = "#ffb0a0" if row.get("flags") else "white"
    figure.text(0.02, bottom + height * 0.93, "\n".join(words[:9]), color=colour, fontsize=7.5, va="top")
    image, masks, spacing = _read(root / str(row["folder"]), row.get("template"))
    place = _place(masks, image.shape)
    # On the grid of the image nothing may be left of a mask that lies on another one.
    inside = image[masks["foreground"]] if masks.get("foreground", np.zeros(1)).any() else image
    high = float(np.percentile(inside, 99.5)) or 1.0
    for n, axis in enumerate(range(3)):
        axes = figure.add_axes((0.30 + 0.235 * n, bottom + 0.01 * height, 0.225, 0.97 * height))
        axes.set_axis_off()
        plane = np.take(image, place[axis], axis=axis)
        tall, wide = (spacing[i] for i in range(3) if i != axis)
        axes.imshow(
            plane, cmap="gray", vmin=min(0.0, float(image.min())), vmax=high, origin="lower", aspect=tall / wide
        )
        for name, colour in COLOURS.items():
            if name in masks:
                outline = np.take(masks[name], place[axis], axis=axis)
                if outline.any() and not outline.all():
                    axes.contour(outline, [0.5], colors=[colour], linewidths=0.7)


def _read(folder: Path, template: Any) -> tuple[Any, dict[str, BoolArray], tuple[float, float, float]]:
    """Return the first image (D, H, W), masks on its grid by name, and millimetres (D, H, W)."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    names = record["files"]
    scan = read_volume(folder / next(name for key, name in names.items() if key.startswith("image:")), "qc")
    grid = to_image(scan)
    masks = {}
    for key in ("foreground", "lesion"):
        if key in names:
            mask = read_volume(folder / names[key], "qc")
            masks[key] = array(to_grid(to_image(mask), grid, nearest=True)) > 0.5
    if template:
        masks["template"] = array(to_grid(load_template(*template).mask, grid, nearest=True)) > 0
    return scan.data, masks, scan.spacing


def _place(masks: Mapping[str, BoolArray], shape: Sequence[int]) -> list[int]:
    """Return which slice is shown along D, H, W: with most of the lesion, else through the middle of the brain."""
    if "lesion" in masks and masks["lesion"].any():
        lesion = masks["lesion"]
        return [int(np.argmax(lesion.sum(axis=tuple(i for i in range(3) if i != axis)))) for axis in range(3)]
    if "foreground" in masks and masks["foreground"].any():
        return [int(v) for v in np.argwhere(masks["foreground"]).mean(axis=0)]
    return [n // 2 for n in shape]
