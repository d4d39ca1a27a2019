"""Figures of a comparison: what devices, shots and noise cost, which part of the noise does it, and what is left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from qhybrid.report.figures import COLOURS, GREY, STYLE, shortened
from qhybrid.statistics import Interval

GRID = "#e6e6e6"
INK = "#222222"
MARKERS = "osD^vP*"
MANY_POINTS = 1500
"""From so many points on a cloud is a picture inside the figure: each as a drawing of its own would be heavy."""


@dataclass(frozen=True)
class Loss:
    """One row of a forest plot.

    Args:
        label: The condition.
        group: Rows of one group stand together under its name.
        difference: Metric under the condition - metric of the exact reference.
        interval: Of the difference.
        ruled_out: Whether a loss of the margin is ruled out.
    """

    label: str
    group: str
    difference: float
    interval: Interval
    ruled_out: bool


@dataclass(frozen=True)
class Curve:
    """One line with intervals.

    Args:
        label: In the legend.
        x: Places, ascending.
        values: A metric at each.
        intervals: Of the values.
    """

    label: str
    x: Sequence[float]
    values: Sequence[float]
    intervals: Sequence[Interval]


def forest_figure(
    rows: Sequence[Loss], metric: str, margin: float, to: str = "to exact values without noise"
) -> Figure:
    """Draw differences with their intervals, one row a condition.

    Args:
        rows: In the order of their groups.
        metric: Its name.
        margin: Loss that would matter; shaded.
        to: What they are differences to.
    """
    groups = list(dict.fromkeys(row.group for row in rows))
    height = 1.05 + 0.27 * (len(rows) + len(groups))
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False}):
        figure = Figure(figsize=(5.0, height), layout="constrained")
        axes = figure.subplots()
        ends = [abs(end) for row in rows for end in (*row.interval, row.difference)]
        reach = 1.12 * max(2 * margin, *ends)
        axes.axvspan(-reach, -margin, color=COLOURS[1], alpha=0.10, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.axvline(-margin, color=COLOURS[1], linewidth=1, linestyle=(0, (4, 3)))
        place = 0.0
        places: list[float] = []
        labels: list[str] = []
        heads: list[int] = []
        for group in groups:
            heads.append(len(places))
            places.append(place)
            labels.append(shortened(group, 30))
            place += 1
            for row in (row for row in rows if row.group == group):
                colour = COLOURS[0] if row.ruled_out else COLOURS[1]
                axes.plot(row.interval, (place, place), color=colour, linewidth=2, solid_capstyle="butt")
                fill = colour if row.ruled_out else "#ffffff"
                axes.plot(row.difference, place, "o", color=colour, markersize=5.5, markerfacecolor=fill, zorder=3)
                places.append(place)
                labels.append(shortened(row.label, 26))
                place += 1
        axes.set_yticks(places, labels, fontsize=9)
        for head in heads:
            axes.get_yticklabels()[head].set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(-reach, reach), ylim=(place - 0.3, -0.7))
        axes.set_xlabel(f"difference of {metric} {to}")
        axes.xaxis.set_major_formatter(FuncFormatter(_signed))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        handles = [
            Line2D([], [], color=COLOURS[0], marker="o", markersize=5.5, label=f"loss over {margin:g} ruled out"),
            Line2D(
                [], [], color=COLOURS[1], marker="o", markersize=5.5, markerfacecolor="#ffffff", label="not ruled out"
            ),
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=8.5, handlelength=1.6)
    return figure


def curves_figure(
    curves: Sequence[Curve], reference: float | None, metric: str, x_label: str, *, logarithmic: bool
) -> Figure:
    """Draw a metric against shots or against the strength of the noise, a line a condition.

    Args:
        curves: At most seven.
        reference: The exact value without noise; a line across.
        metric: Its name.
        x_label: What runs along.
        logarithmic: Places are spread by their logarithm.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 3.7), layout="constrained")
        axes = figure.subplots()
        if reference is not None:
            axes.axhline(reference, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="exact, no noise")
        xs = sorted({x for curve in curves for x in curve.x})
        step = 0.02 * ((np.log10(xs[-1] / xs[0]) if logarithmic else xs[-1] - xs[0]) or 1.0)
        for number, curve in enumerate(curves):
            aside = step * (number - (len(curves) - 1) / 2)  # intervals stand side by side
            x = np.array(curve.x, dtype=float)
            x = x * 10**aside if logarithmic else x + aside
            low, high = np.array(curve.intervals).T
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            axes.vlines(x, low, high, color=colour, linewidth=1.3, alpha=0.65)
            label = shortened(curve.label, 34)
            axes.plot(x, curve.values, color=colour, marker=marker, markersize=5.5, label=label, zorder=3)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.set_xlabel(x_label)
        axes.set_ylabel(metric)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower left", ncols=2, fontsize=8.5, handlelength=1.8)
    return figure


def waterfall_figure(steps: Sequence[tuple[str, float]], total: str, quantity: str) -> Figure:
    """Draw how parts add up: each bar begins where the one before it ends, the last one is the sum.

    Args:
        steps: Name and size of each part, of either sign.
        total: Name of the sum.
        quantity: What is added, with its unit.
    """
    sizes = np.array([size for _, size in steps])
    ends = np.cumsum(sizes)
    starts = ends - sizes
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False}):
        figure = Figure(figsize=(5.0, 1.1 + 0.33 * (len(steps) + 1)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(steps))
        colours = [COLOURS[1] if size >= 0 else COLOURS[2] for size in sizes]
        axes.barh(rows, sizes, left=starts, color=colours, height=0.66)
        axes.barh(len(steps), ends[-1], color=COLOURS[0], height=0.66)
        for row, end in zip(rows, ends, strict=True):
            axes.plot((end, end), (row - 0.33, row + 1.33), color=GREY, linewidth=0.8)
        span = max(np.ptp(np.append(ends, 0.0)), 1e-12)
        for row, size, right in zip(
            [*rows, len(steps)], [*sizes, ends[-1]], [*np.maximum(starts, ends), max(ends[-1], 0.0)], strict=True
        ):
            axes.text(right + 0.02 * span, row, _number(size), va="center", ha="left", fontsize=8.5, color=INK)
        axes.set_yticks([*rows, len(steps)], [*[name for name, _ in steps], total], fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(steps) + 0.6, -0.6)
        low, high = min(0.0, float(ends.min())), max(0.0, float(ends.max()))
        axes.set_xlim(low - 0.04 * span, high + 0.2 * span)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(quantity)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    return figure


def scatter_figure(
    clouds: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], observables: Sequence[str]
) -> Figure:
    """Draw noisy against exact expectation values, one panel a condition, one colour an observable.

    Args:
        clouds: Condition -> exact and noisy values, each (N, M).
        observables: Names, M.
    """
    columns = min(2, len(clouds))
    rows = -(-len(clouds) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.4 + 3.3 * columns, 0.7 + 3.3 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        reach = 1.04 * max(float(np.abs(np.stack(cloud)).max()) for cloud in clouds.values())
        for panel in panels.flat[len(clouds) :]:
            panel.set_axis_off()
        for panel, (name, cloud) in zip(panels.flat, clouds.items(), strict=False):
            _cloud(panel, cloud, observables, reach)
            panel.set_title(shortened(name, 36), fontsize=9.5)
        for panel in panels[-1]:
            panel.set_xlabel("exact expectation value")
        for panel in panels[:, 0]:
            panel.set_ylabel("on the device")
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=5, fontsize=8.5, handletextpad=0.5)
    return figure


def _cloud(
    axes: Axes, cloud: tuple[NDArray[np.float64], NDArray[np.float64]], observables: Sequence[str], reach: float
) -> None:
    ideal, noisy = cloud
    axes.plot((-reach, reach), (-reach, reach), color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="no loss")
    for k, observable in enumerate(observables):
        axes.plot(
            ideal[:, k],
            noisy[:, k],
            linestyle="none",
            marker=MARKERS[k % len(MARKERS)],
            markersize=3.5,
            markeredgewidth=0,
            alpha=0.65,
            color=COLOURS[k % len(COLOURS)],
            label=observable,
            rasterized=ideal.size > MANY_POINTS,
        )
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _signed(value: float, _: int = 0) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:+.3f}".rstrip("0")


def _number(value: float) -> str:
    return f"{value + 0.0:+.3g}" if abs(value) > 1e-12 else "0"
