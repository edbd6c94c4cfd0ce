"""The critical-difference diagram: the same bytes again, every word readable, bars where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from uadbench.errors import UsageError
from uadbench.statistics.diagram import INK, _figure, _levels, _Line, draw_diagram
from uadbench.statistics.groups import groups_by_difference

NAMES = [
    "mddpm",
    "pddpm",
    "ddpm [steps=1800, width=32]",
    "isolation_forest",
    "vae",
    "price in $ and €",
    *"abcdefghijklmn",
]


@pytest.mark.parametrize("ending", ["png", "svg", "SVG"])
def test_equal_input_gives_equal_files(tmp_path: Path, ending: str) -> None:
    ranks = np.array([1.5, 2.0, 2.5])
    one, two = (
        draw_diagram(NAMES[:3], ranks, [(0, 1)], tmp_path / f"{name}.{ending}", critical_difference=0.9, title="Dice")
        for name in ("one", "two")
    )
    assert one.read_bytes() == two.read_bytes()
    other = draw_diagram(
        NAMES[:3], ranks, [(1, 2)], tmp_path / f"other.{ending}", critical_difference=0.9, title="Dice"
    )
    assert one.read_bytes() != other.read_bytes()
    if ending == "png":
        picture = imread(one)
        assert picture.shape[1] > 700
        assert picture.min() < 0.3
    else:
        text = one.read_text(encoding="utf-8")
        assert text.lstrip().startswith("<?xml")
        assert all(f"<!-- {word} -->" in text for word in (*NAMES[:3], "critical difference 0.90", "Dice"))
        assert "dc:date" not in text


def test_a_dollar_sign_is_a_letter_and_not_mathematics(tmp_path: Path) -> None:
    path = draw_diagram(["$x$", "b"], np.array([1.0, 2.0]), [], tmp_path / "x.svg")
    assert "Oblique" not in path.read_text(encoding="utf-8")  # As mathematics, x would be slanted.


@pytest.mark.parametrize("m", [2, 3, 9, 20])
@pytest.mark.parametrize("kind", ["spread", "crowded", "equal"])
def test_every_word_is_inside_and_none_covers_another(m: int, kind: str) -> None:
    rng = np.random.default_rng(m)
    middle, spread = (m + 1) / 2, {"spread": (m - 1) / 2, "crowded": 0.2, "equal": 0.0}[kind]
    ranks = middle + spread * rng.uniform(-1, 1, m)
    title = "A title that is a good deal longer than the picture below it would be without it, if there were none"
    figure = _figure(NAMES[:m], ranks, groups_by_difference(ranks, m / 4), m / 4, title)
    renderer = figure.canvas.get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in figure.axes[0].texts]
    assert {*NAMES[:m], title} <= {text for text, _ in boxes}
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for k, (text, box) in enumerate(boxes):
        for other, beside in boxes[k + 1 :]:
            apart = box.x1 <= beside.x0 or beside.x1 <= box.x0 or box.y1 <= beside.y0 + 2 or beside.y1 <= box.y0 + 2
            assert apart, (text, other)


def test_the_best_is_on_the_right_and_outermost_names_are_on_top() -> None:
    figure = _figure(["good", "bad", "worse", "worst"], np.array([1.0, 2.0, 3.0, 4.0]), [], None, "")
    at = {t.get_text(): t.get_position() for t in figure.axes[0].texts}
    assert at["good"][0] == at["bad"][0] > at["worse"][0] == at["worst"][0]
    assert at["good"][1] == at["worst"][1] > at["bad"][1] == at["worse"][1]
    assert at["1"][0] > at["4"][0]
    assert "methods joined by a bar are not told apart" not in at


def test_bars_span_their_groups_and_do_not_touch() -> None:
    line = _Line(5, 0.0, 4.0)
    ranks = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    bars = _levels(ranks, [(0, 1), (1, 2, 3), (3, 4), (2,)], line)
    assert [level for level, _, _ in bars] == [0, 1, 0]
    assert [(round(start, 1), round(end, 1)) for _, start, end in bars] == [(3.0, 4.0), (1.0, 3.0), (0.0, 1.0)]


@pytest.mark.parametrize("length", [0.5, 1.9, 7.0])
def test_the_critical_difference_is_drawn_to_scale_if_it_fits(length: float) -> None:
    figure = _figure(["a", "b", "c"], np.array([1.0, 2.0, 3.0]), [], length, "")
    at = {t.get_text(): t.get_position()[0] for t in figure.axes[0].texts}
    rulers = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.6]
    if length > 2.0:
        assert not rulers
    else:
        (ruler,) = rulers
        assert ruler.get_color() == INK
        assert np.ptp(ruler.get_xdata()) == pytest.approx(length / 2.0 * (at["1"] - at["3"]))
    assert f"critical difference {length:.2f}" in at


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    ranks = np.array([1.0, 2.0])
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        draw_diagram(["a", "b"], ranks, [], tmp_path / "x.pdf")
    for names, given, groups in (
        (["a"], ranks[:1], []),
        (["a", "b", "c"], ranks, []),
        (["a", "b"], np.array([1.0, np.nan]), []),
        (["a", "b"], np.array([0.0, 2.0]), []),
        (["a", "b"], ranks, [(0, 2)]),
    ):
        with pytest.raises(ValueError, match="ranks|group"):
            draw_diagram(names, given, groups, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
