"""Figures 2 to 6 of arXiv 2601.18556, of any arms: models of a study, or conditions of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from qhybrid.experiments.evaluation_table import METRIC_NAMES
from qhybrid.report.figures import COLOURS, GREY, STYLE, shortened
from qhybrid.report.figures_comparison import GRID, INK, MARKERS
from qhybrid.report.svg import CELL_INK, CELL_PAPER
from qhybrid.statistics import Interval


@dataclass(frozen=True)
class Arm:
    """What is compared.

    Args:
        name: In the figures.
        values: Metric -> value.
        intervals: Metric -> interval; those without one are missing.
        draws: Metric -> bootstrap draws, (D,), for the violins; empty: none.
    """

    name: str
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    draws: Mapping[str, NDArray[np.float64]]


def space_figure(arms: Sequence[Arm]) -> Figure:
    """Draw arms in the plane of accuracy and AUC, the size of a marker being F1 (Fig. 2)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 4.1), layout="constrained")
        axes = figure.subplots()
        f1 = np.array([arm.values["f1_macro"] for arm in arms])
        spread = float(np.ptp(f1)) or 1.0
        for number, arm in enumerate(arms):
            colour = COLOURS[number % len(COLOURS)]
            x, y = arm.values["accuracy"], arm.values["auc"]
            for metric, along in (("accuracy", True), ("auc", False)):
                if metric in arm.intervals:
                    ends = arm.intervals[metric]
                    across = ((y, y), (x, x))[not along]
                    axes.plot(*((ends, across) if along else (across, ends)), color=colour, linewidth=1, alpha=0.5)
            area = 40 + 160 * (arm.values["f1_macro"] - float(f1.min())) / spread
            label = f"{shortened(arm.name, 24)}: F1 {arm.values['f1_macro']:.3f}"
            marker = MARKERS[number % len(MARKERS)]
            axes.scatter([x], [y], s=area, color=colour, marker=marker, label=label, zorder=3)
        axes.set_xlabel("accuracy")
        axes.set_ylabel("AUC")
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower left", ncols=2, fontsize=8, handletextpad=0.2, markerscale=0.7)
    return figure


def radar_figure(arms: Sequence[Arm]) -> Figure:
    """Draw all metrics of each arm as a polygon; the centre is a little under the worst of all (Fig. 2)."""
    metrics = _metrics(arms)
    turns = np.linspace(0, 2 * np.pi, len(metrics), endpoint=False)
    floor = radar_floor(arms)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 4.6), layout="constrained")
        axes: Any = figure.add_subplot(projection="polar")
        for number, arm in enumerate(arms):
            around = [arm.values[name] for name in metrics]
            colour, line = COLOURS[number % len(COLOURS)], ("-", "--", "-.", ":")[number % 4]
            closed = np.append(turns, turns[0])
            axes.plot(closed, [*around, around[0]], line, color=colour, linewidth=1.6, label=shortened(arm.name, 24))
        axes.set_xticks(turns, [METRIC_NAMES[name] for name in metrics], fontsize=9)
        axes.tick_params(axis="x", pad=8)
        axes.set_ylim(floor, 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(axis="y", labelsize=8, labelcolor=GREY)
        axes.set_rlabel_position(180 / len(metrics))
        axes.grid(color=GRID, linewidth=0.8)
        axes.spines["polar"].set_color(GRID)
        figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    return figure


def radar_floor(arms: Sequence[Arm]) -> float:
    """The value at the centre of `radar_figure`."""
    worst = min(arm.values[name] for arm in arms for name in _metrics(arms))
    return max(0.0, float(np.floor(20 * worst - 1)) / 20)


def improvement_figure(arms: Sequence[Arm], metrics: Sequence[str] = ("accuracy", "f1_macro", "auc")) -> Figure:
    """Draw by how many per cent each arm is above the worst arm, metric by metric (Fig. 3)."""
    shown = [name for name in metrics if all(name in arm.values for arm in arms)]
    thickness = 0.8 / len(shown)
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False}):
        figure = Figure(figsize=(5.0, 1.2 + 0.5 * len(arms)), layout="constrained")
        axes = figure.subplots()
        for number, name in enumerate(shown):
            values = np.array([arm.values[name] for arm in arms])
            gains = 100 * (values / max(values.min(), 1e-12) - 1)
            rows = np.arange(len(arms)) + thickness * (number - (len(shown) - 1) / 2)
            axes.barh(rows, gains, height=0.9 * thickness, color=COLOURS[number], label=METRIC_NAMES[name])
            for row, gain in zip(rows, gains, strict=True):
                axes.annotate(f"{gain:.1f}", (gain, row), (3, 0), textcoords="offset points", fontsize=7.5,
                              va="center", color=INK)  # fmt: skip
        axes.set_yticks(range(len(arms)), [shortened(arm.name, 40) for arm in arms], fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        axes.set_xlabel("per cent above the worst of them")
        figure.legend(loc="outside lower left", ncols=3, fontsize=8.5)
    return figure


def heat_figure(arms: Sequence[Arm]) -> Figure:
    """Draw metrics by arm as a heat map; the darker, the better (Fig. 4)."""
    metrics = _metrics(arms)
    values = np.array([[arm.values[name] for name in metrics] for arm in arms])
    low, high = float(values.min()), float(values.max())
    shades = 0.12 + 0.8 * (values - low) / max(high - low, 1e-9)
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False, "axes.spines.bottom": False}):
        figure = Figure(figsize=(1.9 + 0.66 * len(metrics), 1.2 + 0.36 * len(arms)), layout="constrained")
        axes = figure.subplots()
        across, down = np.arange(len(metrics) + 1) - 0.5, np.arange(len(arms) + 1) - 0.5
        axes.pcolormesh(across, down, shades, cmap="Blues", vmin=0, vmax=1, edgecolors="#ffffff", linewidth=1.5)
        for row, column in np.ndindex(values.shape):
            colour = CELL_PAPER if shades[row, column] > 0.55 else CELL_INK
            text = f"{values[row, column]:.3f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=colour)
        names = [METRIC_NAMES[name].replace(", ", ",\n").replace("specificity", "speci-\nficity") for name in metrics]
        axes.set_xticks(range(len(metrics)), names, fontsize=8.5)
        axes.set_yticks(range(len(arms)), [shortened(arm.name, 40) for arm in arms], fontsize=9)
        axes.xaxis.tick_top()
        axes.tick_params(which="both", length=0)
        axes.set_ylim(len(arms) - 0.5, -0.5)
    return figure


def bars_figure(arms: Sequence[Arm]) -> Figure:
    """Draw each metric with its interval, arms side by side (Fig. 5)."""
    metrics = _metrics(arms)
    with matplotlib.rc_context(STYLE):
        width = max(5.0, 1.0 + 0.22 * len(metrics) * (len(arms) + 1))
        figure = Figure(figsize=(width, 3.7), layout="constrained")
        axes = figure.subplots()
        thickness = 0.8 / len(arms)
        low = 1.0
        for number, arm in enumerate(arms):
            places = np.arange(len(metrics)) + thickness * (number - (len(arms) - 1) / 2)
            values = np.array([arm.values[name] for name in metrics])
            colour = COLOURS[number % len(COLOURS)]
            label = shortened(arm.name, 40)
            axes.bar(places, values, width=0.92 * thickness, color=colour, alpha=0.6, label=label)
            ends = [arm.intervals.get(name, (arm.values[name],) * 2) for name in metrics]
            axes.vlines(places, *np.array(ends).T, color=INK, linewidth=1.2)
            low = min(low, float(np.min(ends)), float(values.min()))
        axes.set_ylim(max(0.0, np.floor(10 * low - 0.5) / 10), 1.0)
        names = [METRIC_NAMES[name].replace(", ", ",\n").replace("specificity", "speci-\nficity") for name in metrics]
        axes.set_xticks(range(len(metrics)), names, fontsize=9)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        if len(arms) > 1:
            figure.legend(loc="outside lower left", ncols=2, fontsize=8.5)
    return figure


def violin_figure(arms: Sequence[Arm], metrics: Sequence[str] = ("accuracy", "f1_macro", "auc")) -> Figure:
    """Draw what the bootstrap says of each arm: the thicker, the likelier (Fig. 6)."""
    drawn = [arm for arm in arms if arm.draws]
    shown = [name for name in metrics if all(name in arm.draws for arm in drawn)]
    with matplotlib.rc_context(STYLE):
        width = 5.0 if len(drawn) <= 3 else 7.2
        figure = Figure(figsize=(width, 3.7), layout="constrained")
        axes = figure.subplots()
        thickness = 0.84 / len(drawn)
        for number, arm in enumerate(drawn):
            colour = COLOURS[number % len(COLOURS)]
            for place, name in enumerate(shown):
                at = place + thickness * (number - (len(drawn) - 1) / 2)
                draws = np.asarray(arm.draws[name])
                if np.ptp(draws) > 0:  # no density of a single number
                    found: Any = axes.violinplot([draws], [at], widths=0.9 * thickness, showextrema=False)
                    found["bodies"][0].set(facecolor=colour, edgecolor="none", alpha=0.45)
                axes.vlines(at, *np.percentile(draws, [2.5, 97.5]), color=colour, linewidth=1.4)
                label = shortened(arm.name, 40) if place == 0 else None
                axes.plot(at, arm.values[name], "o", color=colour, markersize=4.5, label=label)
        axes.set_xticks(range(len(shown)), [METRIC_NAMES[name] for name in shown], fontsize=9)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        if len(drawn) > 1:
            figure.legend(loc="outside lower left", ncols=2, fontsize=8.5)
    return figure


def _metrics(arms: Sequence[Arm]) -> list[str]:
    """Metrics that all arms have, in the order of the tables."""
    return [name for name in METRIC_NAMES if all(name in arm.values for arm in arms)]
