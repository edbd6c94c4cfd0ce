"""A multiverse in one picture: ranks of every method, pairs that change places, what decides, and every pipeline."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uadbench.errors import UsageError
from uadbench.files import write_atomic
from uadbench.multiverse_ranks import REST, Multiverse, RankRow, first_shares
from uadbench.statistics.diagram import BAR, INK, QUIET, _width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All lengths are in inches.
MARGIN = 0.25
ROW = 0.36
HEAD = 0.62
GAP = 0.55
BARS = 2.9
STRIP = 0.2
LEGEND = 0.21
TALL = 0.22
LARGE, NORMAL, SMALL = 12.0, 9.5, 8.0
BINS = 288
"""Columns of a block at most; a column is the mean rank of neighbouring pipelines."""
STRIPS = 3
"""Dimensions whose choices are shown below the pipelines."""
COLOURS = ("#3b6fb6", "#e0a33a", "#4f9d69", "#b5524c", "#8069b0", "#8c6d4f", "#5aa9b8", "#c77ca8", "#93a13c", "#777777")


def draw_multiverse(found: Multiverse, path: Path, *, title: str = "") -> Path:
    """Draw into a PNG or SVG file. The same input gives the same bytes.

    Args:
        found: made for 2 to 20 methods.
        path: of the file; its ending, .png or .svg, says which.
        title: a line on top.

    Raises:
        UsageError: if the ending is another one.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise UsageError(f"cannot draw {path.name!r}: the name must end in .png or .svg")
    from matplotlib import rc_context

    # A fixed salt and no date make equal pictures equal files; a name may hold a dollar sign.
    with rc_context({"svg.hashsalt": "uadbench", "text.parse_math": False, "font.family": "DejaVu Sans"}):
        figure = _figure(found, title)
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=160, metadata={"Date" if kind == "svg" else "Software": None})
    write_atomic(path, content.getvalue())
    return path


def _figure(found: Multiverse, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    m, rows = len(found.methods), found.rows()
    variance = found.variance()
    names = MARGIN + max(_width(name, NORMAL) for name in found.methods) + 0.15
    square = max(0.44, 2.6 / m) * m
    labels = max(_width(name, NORMAL) for name in variance) + 0.2
    width = max(
        names + square + 0.75 + names + square + GAP + labels + BARS + MARGIN, _width(title, LARGE) + 2 * MARGIN
    )
    strips = [name for name in variance if name not in ("metric", REST)][:STRIPS]
    legends = [_legend_rows(found, name, width - names - MARGIN) for name in strips]
    upper = max(ROW * m, 0.3 * len(variance))
    lower = TALL * m + STRIP * len(strips) + 0.12
    below = 0.12 + LEGEND * sum(map(len, legends)) + MARGIN
    height = (0.45 if title else 0.05) + HEAD + upper + GAP + HEAD + lower + below
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)

    def panel(left: float, top: float, wide: float, tall: float) -> Axes:
        axes = figure.add_axes((left / width, 1.0 - (top + tall) / height, wide / width, tall / height))
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    if title:
        figure.text(MARGIN / width, 1.0 - 0.3 / height, title, fontsize=LARGE, color=INK)
    top = (0.45 if title else 0.05) + HEAD
    _draw_ranks(panel(names, top, square, ROW * m), found, rows)
    _draw_pairs(panel(names + square + 0.75 + names, top, square, ROW * m), found)
    _draw_variance(panel(width - MARGIN - BARS, top, BARS, 0.3 * len(variance)), variance)
    top += upper + GAP + HEAD
    axes = panel(names, top, width - names - MARGIN, lower)
    _draw_pipelines(axes, found, strips, list(variance))
    _draw_legends(panel(names, top + lower + 0.12, width - names - MARGIN, below - MARGIN), strips, legends, below)
    return figure


def _head(axes: Axes, title: str, text: str) -> None:
    """Write a title and a line of explanation above a panel."""
    for words, size, colour, up in ((title, NORMAL + 1, INK, 38.0), (text, SMALL, QUIET, 24.0)):
        axes.annotate(words, (0.0, 1.0), (0.0, up), "axes fraction", "offset points", fontsize=size, color=colour)


def _names(axes: Axes, names: Sequence[str]) -> None:
    for y, name in enumerate(names):
        axes.annotate(
            name, (0.0, 1.0 - (y + 0.5) / len(names)), (-6.0, 0.0), "axes fraction", "offset points",
            fontsize=NORMAL, color=INK, ha="right", va="center_baseline",
        )  # fmt: skip


def _percent(share: float) -> str:
    """Return a share in at most four characters; nothing for nothing."""
    return "" if share == 0 else "<1" if share < 0.005 else f"{100 * share:.0f}"


def _cells(axes: Axes, shares: NDArray[np.float64], colour: str, full: float) -> None:
    """Draw a table of shares as shaded cells with percentages; NaN cells stay empty."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("shades", ["#ffffff", colour])
    axes.set_xlim(0, shares.shape[1])
    axes.set_ylim(shares.shape[0], 0)
    for (y, x), share in np.ndenumerate(shares):
        if share == share:
            strength = min(1.0, share / full)
            axes.fill_between([x + 0.03, x + 0.97], y + 0.05, y + 0.95, color=shades(strength), linewidth=0)
            ink = "white" if strength > 0.6 else INK
            axes.text(x + 0.5, y + 0.44, _percent(float(share)), fontsize=SMALL, color=ink, ha="center", va="center")


def _draw_ranks(axes: Axes, found: Multiverse, rows: Sequence[RankRow]) -> None:
    m = len(found.methods)
    shares = np.zeros((m, m))
    for ranks in found.ranks:
        # Equal methods share a rank such as 2.5, which lies half in each column.
        np.add.at(shares, (np.arange(m), np.floor(ranks).astype(int) - 1), 0.5 / len(found.ranks))
        np.add.at(shares, (np.arange(m), np.ceil(ranks).astype(int) - 1), 0.5 / len(found.ranks))
    _cells(axes, shares, BAR, 0.8)
    _names(axes, found.methods)
    for y, row in enumerate(rows):
        axes.plot([row.low - 0.5, row.high - 0.5], [y + 0.86] * 2, color=INK, linewidth=1.4, solid_capstyle="butt")
        axes.plot([row.median - 0.5], [y + 0.86], "o", color=INK, markersize=4)
    for x in range(m):
        axes.annotate(
            f"{x + 1}", (x + 0.5, 0.0), (0.0, 4.0), textcoords="offset points", fontsize=SMALL, color=QUIET, ha="center"
        )
    axes.annotate("best in", (1.0, 1.0), (10.0, 4.0), "axes fraction", "offset points", fontsize=SMALL, color=QUIET)
    for y, row in enumerate(rows):
        axes.annotate(
            f"{row.best:.1%}", (1.0, 1.0 - (y + 0.5) / m), (10.0, 0.0), "axes fraction", "offset points",
            fontsize=SMALL, color=INK, va="center_baseline",
        )  # fmt: skip
    _head(axes, "Rank of each method", f"% of {len(found.pipelines):,} pipelines; line 5 % to 95 %, dot median")


def _draw_pairs(axes: Axes, found: Multiverse) -> None:
    m = len(found.methods)
    first = first_shares(found.ranks)
    flips = np.minimum(first, first.T)
    flips[np.triu_indices(m)] = np.nan
    _cells(axes, flips, "#c4572e", 0.5)
    _names(axes, found.methods)
    for x, name in enumerate(found.methods[:-1]):
        # Along the diagonal, where the upper half of the table is empty.
        axes.annotate(
            name,
            (x + 0.5, x + 0.92),
            fontsize=SMALL,
            color=QUIET,
            rotation=35,
            ha="left",
            va="bottom",
            rotation_mode="anchor",
        )
    _head(axes, "Pairs that change places", "% of pipelines with the opposite of the pair's usual order")


def _draw_variance(axes: Axes, variance: dict[str, float]) -> None:
    axes.set_ylim(len(variance), 0)
    axes.set_xlim(0, max([0.01, *(1.25 * share for share in variance.values() if share == share)]))
    for y, (name, share) in enumerate(variance.items()):
        known = share == share
        axes.fill_between(
            [0, share if known else 0], y + 0.18, y + 0.82, color="#b8b8b8" if name == REST else BAR, linewidth=0
        )
        axes.annotate(
            f"{share:.1%}" if known else "-", (share if known else 0, y + 0.5), (4.0, 0.0), textcoords="offset points",
            fontsize=SMALL, color=INK, va="center_baseline",
        )  # fmt: skip
    _names(axes, list(variance))
    axes.axvline(0, color=INK, linewidth=0.8)
    _head(axes, "What decides the ranks", "share of their variance, main effects")


def _draw_pipelines(axes: Axes, found: Multiverse, strips: Sequence[str], order: Sequence[str]) -> None:
    """Draw the rank of each method under each pipeline; blocks of metrics are equally wide, whatever they hold."""
    from matplotlib.colors import ListedColormap

    m, levels = len(found.methods), found.levels()
    metrics = list(dict.fromkeys(p.metric for p in found.pipelines))
    metric = np.array([p.metric for p in found.pipelines])
    tall = m * TALL + 0.12 + STRIP * len(strips)
    axes.set_xlim(0, len(metrics))
    axes.set_ylim(tall, 0)
    inner = [name for name in order if name in levels and name != "metric"]
    for x, name in enumerate(metrics):
        here = np.flatnonzero(metric == name)
        codes = [_codes(levels[d])[here] for d in inner]
        here = here[np.lexsort(codes[::-1])] if codes else here
        left, right = x + 0.01, x + 0.99
        # Neighbours are averaged here, and not by the drawing, which would also mix methods.
        bins = np.array_split(found.ranks[here], min(len(here), BINS))
        axes.imshow(
            np.stack([part.mean(axis=0) for part in bins], axis=1), cmap="YlGnBu_r", vmin=1, vmax=m, aspect="auto",
            interpolation="nearest", extent=(left, right, m * TALL, 0),
        )  # fmt: skip
        axes.text(x + 0.5, -0.07, f"{name} ({len(here):,})", fontsize=SMALL, color=INK, ha="center")
        for i, strip in enumerate(strips):
            top = m * TALL + 0.12 + STRIP * i
            shown = _codes(levels[strip])[here].astype(float)
            shown[levels[strip][here] == ""] = np.nan
            colours = ListedColormap(COLOURS)
            axes.imshow(
                shown[None] % len(COLOURS), cmap=colours, vmin=0, vmax=len(COLOURS) - 1, aspect="auto",
                interpolation="nearest", extent=(left, right, top + STRIP - 0.04, top),
            )  # fmt: skip
    axes.set_xlim(0, len(metrics))
    axes.set_ylim(tall, 0)
    for y, name in enumerate([*found.methods, *strips]):
        at = TALL * (y + 0.5) if y < m else m * TALL + 0.12 + STRIP * (y - m + 0.4)
        axes.annotate(
            name, (0.0, at), (-6.0, 0.0), textcoords="offset points", fontsize=NORMAL if y < m else SMALL,
            color=INK if y < m else QUIET, ha="right", va="center_baseline",
        )  # fmt: skip
    _head(
        axes,
        "Every pipeline",
        "rank, dark is best; blocks of metrics are equally wide (number of pipelines); below, choices that matter most",
    )


def _codes(given: NDArray[np.str_]) -> NDArray[np.intp]:
    """Return the number of each choice in order of appearance; "" is -1."""
    known = [choice for choice in dict.fromkeys(given.tolist()) if choice]
    number = {choice: i for i, choice in enumerate(known)} | {"": -1}
    return np.array([number[choice] for choice in given.tolist()], np.intp)


def _legend_rows(found: Multiverse, name: str, room: float) -> list[list[tuple[str, str, float]]]:
    """Return colour, choice and place of every choice of a dimension, in rows that fit into `room`."""
    given = found.levels()[name]
    rows: list[list[tuple[str, str, float]]] = [[]]
    x = 0.0
    for i, choice in enumerate(c for c in dict.fromkeys(given.tolist()) if c):
        wide = _width(choice, SMALL) + 0.4
        if rows[-1] and x + wide > room:
            rows.append([])
            x = 0.0
        rows[-1].append((COLOURS[i % len(COLOURS)], choice, x))
        x += wide
    return rows


def _draw_legends(
    axes: Axes, strips: Sequence[str], legends: Sequence[list[list[tuple[str, str, float]]]], tall: float
) -> None:
    wide = axes.get_figure().get_figwidth() * axes.get_position().width  # type: ignore[union-attr]
    axes.set_xlim(0, wide)
    axes.set_ylim(tall - MARGIN, 0)
    y = LEGEND / 2
    for name, rows in zip(strips, legends, strict=True):
        axes.annotate(
            name,
            (0.0, y),
            (-6.0, 0.0),
            textcoords="offset points",
            fontsize=SMALL,
            color=QUIET,
            ha="right",
            va="center_baseline",
        )
        for row in rows:
            for colour, choice, x in row:
                axes.fill_between([x, x + 0.14], y - 0.06, y + 0.06, color=colour, linewidth=0)
                axes.text(x + 0.2, y, choice, fontsize=SMALL, color=INK, va="center_baseline")
            y += LEGEND
