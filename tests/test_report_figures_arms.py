"""Figures of arms, comparisons and studies: what is drawn is what was measured."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from qhybrid.report.figures import confusion_figure
from qhybrid.report.figures_arms import (
    Arm,
    bars_figure,
    heat_figure,
    improvement_figure,
    radar_figure,
    radar_floor,
    space_figure,
    violin_figure,
)
from qhybrid.report.figures_comparison import (
    Curve,
    Loss,
    curves_figure,
    forest_figure,
    scatter_figure,
    waterfall_figure,
)
from qhybrid.report.figures_study import confusions_figure, rocs_figure
from qhybrid.report.recoveries import recovery_figure
from qhybrid.report.svg import SVG, inline_svg, png_file, svg_file
from qhybrid.statistics import roc_band

METRICS = ("accuracy", "precision", "recall", "specificity", "f1_binary", "f1_macro", "auc")


def arm(name: str, level: float) -> Arm:
    values = {metric: level + 0.01 * k for k, metric in enumerate(METRICS)}
    draws = {metric: np.random.default_rng(0).normal(value, 0.02, 200) for metric, value in values.items()}
    return Arm(name, values, {metric: (value - 0.05, value + 0.03) for metric, value in values.items()}, draws)


ARMS = [arm("a", 0.8), arm("an arm with a name that is much too long to be written in full", 0.7), arm("c $x$", 0.84)]


def inside(figure: Figure) -> None:
    """Every text lies on the paper, which the file is cut to, and none of the tick labels overlap."""
    png_file(figure)
    for axes in figure.axes:
        labels = [label for label in axes.get_yticklabels() if label.get_text() and label.get_visible()]
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))


@pytest.mark.parametrize(
    "draw", [space_figure, radar_figure, improvement_figure, heat_figure, bars_figure, violin_figure]
)
@pytest.mark.parametrize("count", [1, 3])
def test_figures_of_arms_are_drawn_for_one_arm_and_for_several(draw: object, count: int) -> None:
    inside(draw(ARMS[:count]))  # type: ignore[operator]


def test_a_heat_map_shows_every_value() -> None:
    texts = [text.get_text() for text in heat_figure(ARMS).axes[0].texts]
    assert texts == [f"{each.values[metric]:.3f}" for each in ARMS for metric in METRICS]


def test_improvement_is_relative_to_the_worst() -> None:
    axes = improvement_figure(ARMS, metrics=("accuracy",)).axes[0]
    widths = [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert widths == pytest.approx([100 * (each.values["accuracy"] / 0.7 - 1) for each in ARMS])


def test_the_centre_of_a_radar_is_under_the_worst_value() -> None:
    assert 0.6 <= radar_floor(ARMS) < 0.7
    assert radar_floor([arm("none", 0.01)]) == 0


def test_a_forest_marks_what_is_ruled_out() -> None:
    rows = [Loss("1024 shots", "x", -0.01, (-0.019, 0.0), True), Loss("100 shots", "x", -0.03, (-0.06, 0.0), False)]
    figure = forest_figure(rows, "accuracy", 0.02)
    axes = figure.axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in dots] == [-0.01, -0.03]
    assert [line.get_markerfacecolor() == "#ffffff" for line in dots] == [False, True]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "1024 shots", "100 shots"]
    inside(figure)


def test_a_waterfall_ends_at_its_sum() -> None:
    steps = [("a", 2.0), ("b", 0.5), ("together", -0.75)]
    figure = waterfall_figure(steps, "all", "error")
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [bar.get_x() for bar in bars] == pytest.approx([0, 2, 2.5, 0])
    assert [bar.get_width() for bar in bars] == pytest.approx([2, 0.5, -0.75, 1.75])
    assert [text.get_text() for text in figure.axes[0].texts] == ["+2", "+0.5", "-0.75", "+1.75"]
    inside(figure)


def test_curves_hold_values_and_intervals() -> None:
    curve = Curve("x", (100, 1000), (0.8, 0.9), ((0.7, 0.85), (0.82, 0.95)))
    figure = curves_figure([curve], 0.92, "accuracy", "shots", logarithmic=True)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "x"]
    assert list(line.get_ydata()) == [0.8, 0.9]
    ends = [path.vertices[:, 1].tolist() for path in figure.axes[0].collections[0].get_paths()]
    assert ends == [[0.7, 0.85], [0.82, 0.95]]
    inside(curves_figure([curve, curve], None, "auc", "noise", logarithmic=False))


def test_a_large_cloud_is_a_picture_inside_the_figure() -> None:
    small, large = (np.linspace(-1, 1, n)[:, None] * np.ones((1, 2)) for n in (20, 2000))
    assert b"<image" not in svg_file(scatter_figure({"x": (small, small)}, ["Z0", "Z1"]))
    drawn = svg_file(scatter_figure({"x": (large, 0.9 * large), "y": (large, large)}, ["Z0", "Z1"]))
    assert b"<image" in drawn
    assert len(drawn) < 200_000


def test_the_mean_curve_of_a_study_has_the_mean_area() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    positive = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.15 * rng.normal(size=(3, 60)), 0.01, 0.99)
    seeds = np.stack([1 - positive, positive], axis=-1)
    figure = rocs_figure(labels, {"x": seeds, "y": seeds[:1]})
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("x")]
    areas = [roc_band(labels == 1, each, n=1).auc for each in positive]
    assert str(line.get_label()) == f"x: {np.mean(areas):.3f}"
    under = float(np.sum(np.diff(line.get_xdata()) * line.get_ydata()[:-1]))
    assert under == pytest.approx(np.mean(areas), abs=0.02)


@pytest.mark.parametrize(("n_arms", "n_classes"), [(1, 2), (4, 2), (5, 4)])
def test_confusion_matrices_stand_side_by_side(n_arms: int, n_classes: int) -> None:
    counts = 10 * np.eye(n_classes) + 1.5
    figure = confusions_figure({f"arm {k}": counts for k in range(n_arms)}, [f"class {k}" for k in range(n_classes)])
    png_file(figure)
    assert sum(len(panel.texts) for panel in figure.axes) == n_arms * n_classes**2


def test_mitigation_that_makes_worse_has_another_colour() -> None:
    figure = recovery_figure(["x", "y"], [(0.1, 0.05), (0.1, 0.2)])
    better, worse = (line.get_color() for line in figure.axes[0].lines if line.get_linewidth() == 2)
    assert better != worse


def test_an_inline_figure_takes_the_colours_of_the_page_and_shares_no_id() -> None:
    svg = svg_file(confusion_figure(np.array([[3, 1], [0, 4]]), ("<b>", "$x")))
    drawn = [inline_svg(svg, name, "title <i>", "text & more") for name in ("one", "two")]
    ids = [{element.get("id") for element in ElementTree.fromstring(text).iter()} - {None} for text in drawn]
    assert ids[0]
    assert not ids[0] & ids[1]
    root = ElementTree.fromstring(drawn[0])
    assert root.get("role") == "img"
    assert [element.text for element in root[:2]] == ["title <i>", "text & more"]
    assert root.find(f".//{{{SVG}}}style") is None
    assert "var(--figure-ink, #222222)" in drawn[0]
    assert "#1f1f1f" in drawn[0]  # on a light cell, whatever the page
    assert "var(" not in inline_svg(svg, "one", "t", "d", themed=False)
    assert "<b>" not in drawn[0]
