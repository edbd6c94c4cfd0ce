"""The picture at the end of a run: image, reconstruction and map of the best, the median and the worst subject."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uadbench.arrays import BoolArray, FloatArray
from uadbench.bank import Bank
from uadbench.dataset import Subject
from uadbench.metrics.table import get_metric
from uadbench.postprocess import postprocess
from uadbench.preparation import inside

if TYPE_CHECKING:
    from uadbench.plan import Plan
    from uadbench.result import Cell
    from uadbench.store import CellFolder

NAME = "sheet.png"


@dataclass(frozen=True)
class Panel:
    """One row of the sheet: a slice (H, W) of a subject, ready to be drawn with its first row on top."""

    title: str
    image: FloatArray
    reconstruction: FloatArray | None
    anomaly_map: FloatArray
    lesion: BoolArray


def draw_sheet(folder: CellFolder, bank: Bank, plan: Plan, cell: Cell, rows: list[dict[str, Any]]) -> Path | None:
    """Draw best, median and worst lesion subject by the ranking metric, each in the slice with most lesion.

    Returns:
        The path of the PNG, or None if no subject has a value.
    """
    metric = get_metric(plan.protocol.rank_by)
    column, title, up = metric.column, metric.title, metric.higher_is_better
    if metric.compute is None:  # A number of all subjects together; each one has its own score.
        column, title, up = f"score {plan.protocol.reduction}", "score", True
    ranked = [r for r in rows if r["role"] == "test_lesion" and np.isfinite(r.get(column, np.nan))]
    ranked.sort(key=lambda r: r[column], reverse=up)
    if not ranked:
        return None
    by_key = {s.key: s for s in plan.split.test_lesion}
    chosen = [("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("worst", ranked[-1])]
    if len(ranked) < 3:
        chosen = [("", row) for row in ranked]
    panels = []
    for word, row in chosen:
        kind = row.get("group:lesion_kind")
        words = [word, row["subject"], str(kind) if kind else "", f"{title} {row[column]:.3f}"]
        words.append(f"Dice {row['dice']:.3f}" if np.isfinite(row.get("dice", np.nan)) else "")
        panels.append(_panel("\n".join(w for w in words if w), by_key[row["subject"]], folder, bank, plan))
    title = f"{cell.method} on {cell.dataset}, seed {cell.seed}, {plan.protocol.name}"
    _draw(panels, title, plan.dataset.card.note, folder.path / NAME)
    return folder.path / NAME


def _panel(title: str, subject: Subject, folder: CellFolder, bank: Bank, plan: Plan) -> Panel:
    volume, image = bank.get(subject)
    lesion = volume.foreground if volume.lesion is None else volume.lesion
    index = volume.grid[0] // 2 if lesion is None else int((lesion & inside(volume)).sum(axis=(1, 2)).argmax())
    lesion = np.zeros(volume.grid, bool) if volume.lesion is None else volume.lesion
    # A chain that is meant for another grid is not shown on this one.
    chain = plan.protocol.postprocess if plan.protocol.grid is None else ()
    anomaly_map = postprocess(folder.read_map(subject.key)[0], volume.foreground, chain)[0]
    restored = folder.read_reconstruction(subject.key)
    rows, columns = _box(volume.foreground, lesion)
    # A volume's rows run from back to front; a picture of it has the front on top.
    step = -1 if plan.dataset.card.orientation == "volume" else 1
    drawn = [plane[rows, columns][::step] for plane in (image[0, index], anomaly_map[index], lesion[index])]
    rest = None if restored is None else restored[0, index][rows, columns][::step]
    return Panel(title, drawn[0], rest, drawn[1], drawn[2])


def _box(foreground: BoolArray | None, lesion: BoolArray) -> tuple[slice, slice]:
    """Return the rows and columns of foreground and lesion with a margin; everything if there is no foreground."""
    if foreground is None:
        return slice(None), slice(None)
    shown = np.asarray((foreground | lesion).any(axis=0))
    spans = []
    for axis in (1, 0):
        used = np.flatnonzero(shown.any(axis=axis))
        spans.append(slice(max(int(used[0]) - 3, 0), int(used[-1]) + 4))
    return spans[0], spans[1]


def _draw(panels: list[Panel], title: str, note: str, path: Path) -> None:
    """Draw with one intensity scale and one scale of scores for all rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = [
        "image",
        *(["reconstruction"] if panels[0].reconstruction is not None else []),
        "anomaly map",
        "map and lesion",
    ]
    height, width = np.max([p.image.shape for p in panels], axis=0)
    figure = Figure(figsize=(2.5 * len(columns) + 1.2, 2.5 * len(panels) * height / width + 0.9), layout="constrained")
    axes = figure.subplots(len(panels), len(columns), squeeze=False)
    maps = np.concatenate([p.anomaly_map.ravel() for p in panels])  # The panels may differ in size.
    bottom, top = min(0.0, float(maps.min())), float(np.quantile(maps, 0.999))
    for row, panel in zip(axes, panels, strict=True):
        drawn = {"image": panel.image, "reconstruction": panel.reconstruction}
        for axis, column in zip(row, columns, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if column in drawn:
                axis.imshow(drawn[column], cmap="gray", vmin=0.0, vmax=1.1)
            else:
                shown = axis.imshow(panel.anomaly_map, cmap="inferno", vmin=bottom, vmax=top)
            if column in ("image", "map and lesion") and panel.lesion.any():
                axis.contour(panel.lesion, levels=[0.5], colors="#00d5ff", linewidths=0.9)
        row[0].set_ylabel(panel.title, rotation=0, ha="right", va="center", fontsize=8)
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(column, fontsize=9)
    bar = figure.colorbar(shown, ax=axes[:, -1], shrink=0.6, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("anomaly score", fontsize=8)
    figure.suptitle(title, fontsize=10)
    if note:
        figure.supxlabel(note, fontsize=7, color="#555555")
    FigureCanvasAgg(figure)
    temporary = path.with_name(f".{path.name}.part.png")
    figure.savefig(temporary, dpi=110)
    temporary.replace(path)
