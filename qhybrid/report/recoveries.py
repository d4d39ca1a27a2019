"""What wins back what noise costs, and where it makes things worse: mitigation, adaptation, training through noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qhybrid.experiments.evaluation_table import METRIC_NAMES
from qhybrid.experiments.recoveries import VISIBLE
from qhybrid.report.figures import COLOURS, GREY, STYLE, shortened
from qhybrid.report.figures_comparison import GRID
from qhybrid.report.page import Picture, Table
from qhybrid.report.run_data import RunData
from qhybrid.report.words import p_value, signed, signed_interval
from qhybrid.statistics import Interval

METRICS = ("accuracy", "auc")
LABEL = 66
"""Characters of a label; the table has it in full."""


@dataclass(frozen=True)
class Gain:
    """One row of a figure of what is won back.

    Args:
        label: The condition, and what was done.
        differences: Of each metric, with it - without it.
        intervals: Of the differences.
    """

    label: str
    differences: Sequence[float]
    intervals: Sequence[Interval]


def recovery_pictures(data: RunData) -> list[Picture]:
    """What is won back of the metrics and of the expectation values; none where nothing was done about the noise."""
    runs = {each.cell["run"] for each in data.conditions}
    found = [each for each in (data.comparison or {}).get("recoveries", []) if each["run"] in runs]
    smallest = float((data.comparison or {}).get("smallest_recovery_p", 0))
    gains = _gains([each for each in found if "gain" in each], smallest)
    return [*gains, *_errors([each for each in found if each["rms"]])]


def _gains(found: list[dict[str, Any]], smallest: float) -> list[Picture]:
    """What is won back of accuracy and AUC; older comparisons do not tell."""
    if not found:
        return []
    rows = [
        Gain(
            f"{_condition(each)}: {_what(each)}",
            [each["gain"][metric]["difference"] for metric in METRICS],
            [tuple(each["gain"][metric]["interval"]) for metric in METRICS],
        )
        for each in found
    ]
    names = [METRIC_NAMES[metric] for metric in METRICS]
    table = Table(
        "What was done, and what it wins back: paired differences to the same condition without it, on the same "
        "images; p of the paired bootstrap, corrected by Holm over all rows, with so many never below "
        f"{smallest:.2g}.",
        ["condition: what was done", "cost", "",
         *[column for name in names for column in (f"{name} won back [95 %]", "p, Holm")]],
        [
            [
                row.label,
                each["cost"],
                f"worse: {', '.join(each['worse_in'])}" if each["worse_in"] else "",
                *[
                    text
                    for test in (each["gain"][metric] for metric in METRICS)
                    for text in (signed_interval(test["difference"], test["interval"]), p_value(test["p_holm"]))
                ],
            ]
            for row, each in zip(rows, found, strict=True)
        ],
        text_columns=3,
    )  # fmt: skip
    said = _verdict(found)
    cautions = dict.fromkeys(
        f"{each['caution'][:1].upper()}{each['caution'][1:]}" for each in found if each.get("caution")
    )
    return [
        Picture(
            "won-back",
            "What is won back, and what is made worse",
            "Right of the line it is better than the same condition without it, on the same images; lines are 95 % "
            f"intervals over images and shots. {' '.join([said, *cautions])} What each costs in shots is in the table.",
            said,
            gain_figure(rows, names),
            [table],
            wide=True,
        )
    ]


def _verdict(found: Sequence[dict[str, Any]]) -> str:
    """How many win something back, how many make it worse, and which of these do so more than by chance."""
    return " ".join(
        f"Of {len(found)}, {_counted(found, metric, 1)} have a better {METRIC_NAMES[metric]}, "
        f"{_counted(found, metric, -1)} a worse one."
        for metric in METRICS
    )


def _counted(found: Sequence[dict[str, Any]], metric: str, sign: int) -> str:
    tests = [(each, each["gain"][metric]) for each in found]
    shown = [(each, test) for each, test in tests if sign * test["difference"] > VISIBLE]
    sure = [f"{_what(each)} at {_condition(each)}" for each, test in shown if test["p_holm"] < 0.05]
    beyond = f"more than chance: {'; '.join(sure)}" if sure else "none more than chance"
    return f"{len(shown)}{f' ({beyond})' if shown else ''}"


def _errors(found: list[dict[str, Any]]) -> list[Picture]:
    """The error of the expectation values without and with what changes them."""
    if not found:
        return []
    names = [f"{_condition(each)}: {_what(each)}" for each in found]
    worse = ["expectation values" in each.get("worse_in", ["expectation values"] * each["worse"]) for each in found]
    table = Table(
        "Without and with it.",
        ["condition: what was done", "RMS error", "", "loss of accuracy", "loss of AUC", "shots, times"],
        [
            [
                name,
                f"{each['rms'][0]:.4f} → {each['rms'][1]:.4f}",
                "worse" if off else "better" if each["rms"][1] < each["rms"][0] else "",
                *[" → ".join(signed(loss) for loss in each["loss"][metric]) for metric in METRICS],
                "" if each["shots_factor"] is None else f"{each['shots_factor']:.1f}",
            ]
            for name, each, off in zip(names, found, worse, strict=True)
        ],
    )
    said = f"In {sum(worse)} of {len(found)} cases the expectation values are made worse." if any(worse) else (
        f"In none of {len(found)} cases are the expectation values made worse."
    )  # fmt: skip
    return [
        Picture(
            "mitigation",
            "What mitigation and rescaling recover of the expectation values",
            f"From the open circle (without) to the full dot (with): error of the expectation values. {said} What it "
            "costs in shots is in the table.",
            said,
            recovery_figure(names, [tuple(each["rms"]) for each in found]),
            [table],
            wide=True,
        )
    ]


def gain_figure(rows: Sequence[Gain], metrics: Sequence[str]) -> Figure:
    """Draw what is won back with its intervals, one row a condition, one panel a metric.

    Args:
        rows: In order.
        metrics: Names of the metrics of each row.
    """
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False}):
        figure = Figure(figsize=(8.6, 1.2 + 0.3 * len(rows)), layout="constrained")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for number, (axes, metric) in enumerate(zip(panels, metrics, strict=True)):
            axes.axvline(0, color=GREY, linewidth=1)
            for place, row in enumerate(rows):
                difference, interval = row.differences[number], row.intervals[number]
                worse = difference < -VISIBLE
                colour = COLOURS[1] if worse else COLOURS[0]
                fill = "#ffffff" if worse else colour
                axes.plot(interval, (place, place), color=colour, linewidth=2, solid_capstyle="butt")
                axes.plot(difference, place, "o", color=colour, markersize=5.5, markerfacecolor=fill, zorder=3)
            axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"{metric} won back")
            axes.tick_params(axis="y", length=0)
            axes.locator_params(axis="x", nbins=5)
            axes.grid(axis="x", color=GRID, linewidth=0.8)
            axes.set_axisbelow(True)
        panels[0].set_yticks(np.arange(len(rows)), [shortened(row.label, LABEL) for row in rows], fontsize=8.5)
        handles = [
            Line2D([], [], color=COLOURS[0], marker="o", markersize=5.5, label="better or equal"),
            Line2D([], [], color=COLOURS[1], marker="o", markersize=5.5, markerfacecolor="#ffffff", label="worse"),
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=8.5, handlelength=1.6)
    return figure


def recovery_figure(names: list[str], errors: list[tuple[float, float]]) -> Figure:
    """Draw the error of each condition before and after.

    Args:
        names: Conditions.
        errors: Root mean square error of the expectation values without and with what was done.
    """
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False}):
        figure = Figure(figsize=(7.2, 1.0 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        for row, (before, after) in enumerate(errors):
            colour = COLOURS[1] if after - before > VISIBLE else COLOURS[2]
            axes.plot((before, after), (row, row), color=colour, linewidth=2)
            axes.plot(before, row, "o", color=GREY, markerfacecolor="#ffffff", markersize=6)
            axes.plot(after, row, "o", color=colour, markersize=6)
        axes.set_yticks(np.arange(len(names)), [shortened(name, LABEL) for name in names], fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="RMS error of the expectation values")
        axes.set_xlim(left=0)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    return figure


def _condition(recovery: dict[str, Any]) -> str:
    scale = "" if recovery["noise_scale"] == 1 else f" x{recovery['noise_scale']:g}"
    shots = "exact" if recovery["shots"] is None else f"{recovery['shots']} shots"
    return f"{recovery['noise'] or 'no noise'}{scale}, {shots}"


def _what(recovery: dict[str, Any]) -> str:
    return str(recovery.get("what") or recovery["mitigation"].replace(",", " + "))
