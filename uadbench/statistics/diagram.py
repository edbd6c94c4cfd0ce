"""The critical-difference diagram: average ranks on a line, and bars that join what the data do not tell apart.

The layout is that of Demsar (2006): the line runs from the worst rank on the left to rank 1, the best, on the right.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uadbench.arrays import FloatArray
from uadbench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, BAR = "#222222", "#6b6b6b", "#1f6fb2"

# All lengths are in inches; the line lies at height 0.
MARGIN = 0.2
ROW = 0.27
LEVEL = 0.13
ELBOW = 0.5
OVERHANG = 0.025
LARGE, NORMAL, SMALL = 11.0, 10.0, 8.0


@dataclass(frozen=True)
class _Line:
    """The line of ranks, from rank `methods` at `start` to rank 1 at `start + length`."""

    methods: int
    start: float
    length: float

    def at(self, rank: float) -> float:
        return self.start + (self.methods - rank) / (self.methods - 1) * self.length

    @property
    def middle(self) -> float:
        return self.start + self.length / 2.0


def draw_diagram(
    names: Sequence[str],
    average_ranks: FloatArray,
    groups: Sequence[Sequence[int]],
    path: Path,
    *,
    critical_difference: float | None = None,
    title: str = "",
) -> Path:
    """Draw the diagram into a PNG or SVG file. The same input gives the same bytes.

    Args:
        names: one a method; made for 2 to 20.
        average_ranks: (m,), 1 is the best.
        groups: for every bar the indices of the methods it joins, as from `uadbench.statistics.groups`.
        path: of the file; its ending, .png or .svg, says which.
        critical_difference: length of Nemenyi's critical difference, drawn above the line. Left out by default, as it
            means nothing for groups that another test has found.
        title: a line on top.

    Returns:
        The path.

    Raises:
        UsageError: if the ending is another one.
        ValueError: if names, ranks and groups do not belong together.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise UsageError(f"cannot draw {path.name!r}: the name must end in .png or .svg")
    ranks = np.asarray(average_ranks, np.float64)
    _check(len(names), ranks, groups)

    from matplotlib import rc_context

    # A fixed salt and no date make equal pictures equal files; a name may hold a dollar sign.
    with rc_context({"svg.hashsalt": "uadbench", "text.parse_math": False, "font.family": "DejaVu Sans"}):
        figure = _figure(names, ranks, groups, critical_difference, title)
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=160, metadata={"Date" if kind == "svg" else "Software": None})
    path.write_bytes(content.getvalue())
    return path


def _check(m: int, ranks: NDArray[np.float64], groups: Sequence[Sequence[int]]) -> None:
    if m < 2 or ranks.shape != (m,) or not ((ranks >= 1.0) & (ranks <= m)).all():
        raise ValueError(f"{m} names need as many average ranks, two or more, between 1 and {m}; got {ranks}")
    if any(not 0 <= i < m for group in groups for i in group):
        raise ValueError(f"a group holds an index that is not one of the {m} methods")


def _figure(
    names: Sequence[str],
    ranks: NDArray[np.float64],
    groups: Sequence[Sequence[int]],
    critical_difference: float | None,
    title: str,
) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = [int(i) for i in np.argsort(ranks, kind="stable")]
    half = (len(order) + 1) // 2
    right, left = order[:half], order[half:][::-1]  # Outermost first, so that no two lines to names cross.
    room = [ELBOW + MARGIN + max(_width(names[i], NORMAL) for i in side) for side in (left, right)]
    length = max(4.5, 0.36 * len(names))
    width = max(room[0] + length + room[1], _width(title, LARGE) + 2.0 * MARGIN)
    line = _Line(len(names), room[0] + (width - room[0] - length - room[1]) / 2.0, length)

    bars = _levels(ranks, groups, line)
    depth = 0.22 + LEVEL * (1 + max((level for level, _, _ in bars), default=0))
    below = depth + ROW * half + (0.3 if bars else 0.0) + MARGIN / 2.0
    ruler = 0.62 if critical_difference is None else 0.98
    above = ruler + (0.44 if title else 0.0)

    figure = Figure(figsize=(width, above + below), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0.0, width), ylim=(-below, above))
    axes.axis("off")
    _draw_line(axes, line)
    for side, end in ((right, line.at(1) + ELBOW), (left, line.at(line.methods) - ELBOW)):
        for row, i in enumerate(side):
            _draw_name(axes, names[i], ranks[i], line.at(ranks[i]), end, -depth - ROW * (row + 0.5))
    for level, start, end in bars:
        height = -0.22 - LEVEL * level
        axes.plot([start, end], [height, height], color=BAR, linewidth=4.0, solid_capstyle="butt", zorder=3)
    if critical_difference is not None:
        _draw_length(axes, line, critical_difference, ruler - 0.2)
    if bars:
        _write(axes, line.middle, -below + MARGIN, "methods joined by a bar are not told apart", SMALL, QUIET)
    if title:
        half_title = _width(title, LARGE) / 2.0 + MARGIN
        x = min(max(line.middle, half_title), width - half_title)
        _write(axes, x, above - 0.24, title, LARGE, INK)
    return figure


def _write(axes: Axes, x: float, y: float, text: str, size: float, colour: str, align: str = "center") -> None:
    axes.text(x, y, text, fontsize=size, color=colour, ha=align, va="center_baseline")


def _width(text: str, size: float) -> float:
    """Return how wide `text` is when drawn."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0.0, 0.0), text, size=size).get_extents().x1) / 72.0 if text.strip() else 0.0


def _levels(ranks: NDArray[np.float64], groups: Sequence[Sequence[int]], line: _Line) -> list[tuple[int, float, float]]:
    """Return level, start and end of every bar; bars that would touch get different levels, the first is the highest."""
    spans = [
        (line.at(max(ranks[list(g)])) - OVERHANG, line.at(min(ranks[list(g)])) + OVERHANG) for g in groups if len(g) > 1
    ]
    taken: list[float] = []
    out = []
    for start, end in sorted(spans, key=lambda span: (-span[1], span[0])):
        level = next((i for i, reached in enumerate(taken) if end < reached - 0.06), len(taken))
        taken[level : level + 1] = [start]
        out.append((level, start, end))
    return out


def _draw_line(axes: Axes, line: _Line) -> None:
    axes.plot([line.at(line.methods), line.at(1)], [0.0, 0.0], color=INK, linewidth=1.2, solid_capstyle="projecting")
    for rank in np.arange(1.0, line.methods + 0.25, 0.5):
        whole = float(rank).is_integer()
        x = line.at(float(rank))
        axes.plot([x, x], [0.0, 0.1 if whole else 0.05], color=INK, linewidth=1.0 if whole else 0.7)
        if whole:
            _write(axes, x, 0.2, f"{rank:.0f}", NORMAL, INK)
    _write(axes, line.middle, 0.43, "average rank, 1 is the best", SMALL, QUIET)


def _draw_name(axes: Axes, name: str, rank: float, x: float, end: float, y: float) -> None:
    """Draw the line from the rank at `x` down to height `y` and on to the name at `end`."""
    outward, away, towards = (1.0, "left", "right") if end > x else (-1.0, "right", "left")
    axes.plot([x, x, end], [0.0, y, y], color=QUIET, linewidth=0.9, solid_joinstyle="miter")
    _write(axes, end + outward * 0.06, y, name, NORMAL, INK, away)
    _write(axes, end, y + 0.09, f"{rank:.2f}", SMALL, QUIET, towards)


def _draw_length(axes: Axes, line: _Line, length: float, y: float) -> None:
    """Draw the critical difference from the left end of the line; only its number if it is longer than the line."""
    start = end = line.start
    if 0.0 < length <= line.methods - 1:
        end = line.at(line.methods - length)
        axes.plot([start, end], [y, y], color=INK, linewidth=1.6, solid_capstyle="butt")
        for x in (start, end):
            axes.plot([x, x], [y - 0.05, y + 0.05], color=INK, linewidth=1.2)
    words = f"critical difference {length:.2f}"
    if end + 0.1 + _width(words, SMALL) <= line.start + line.length:
        _write(axes, end + 0.1, y, words, SMALL, INK, "left")
    else:
        _write(axes, (start + end) / 2.0, y + 0.13, words, SMALL, INK)
