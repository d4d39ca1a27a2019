"""What the mitigation of errors recovers in a comparison, and where it makes things worse."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from qhybrid.report.figures import COLOURS, GREY, STYLE, shortened
from qhybrid.report.figures_comparison import GRID
from qhybrid.report.page import Picture, Table
from qhybrid.report.run_data import RunData
from qhybrid.report.words import signed


def recovery_pictures(data: RunData) -> list[Picture]:
    """Errors without and with mitigation; none where the comparison mitigates nothing."""
    runs = {each.cell["run"] for each in data.conditions}
    found = [each for each in (data.comparison or {}).get("recoveries", []) if each["run"] in runs]
    if not found:
        return []
    names = []
    for each in found:
        scale = "" if each["noise_scale"] == 1 else f" x{each['noise_scale']:g}"
        shots = "exact" if each["shots"] is None else f"{each['shots']} shots"
        names.append(f"{each['noise']}{scale}, {shots}: {each['mitigation'].replace(',', ' + ')}")
    table = Table(
        "Without mitigation and with it.",
        ["condition: mitigation", "RMS error", "", "loss of accuracy", "loss of AUC", "shots, times"],
        [
            [
                name,
                f"{each['rms'][0]:.4f} → {each['rms'][1]:.4f}",
                "worse" if each["worse"] else "better",
                *[" → ".join(signed(loss) for loss in each["loss"][metric]) for metric in ("accuracy", "auc")],
                "" if each["shots_factor"] is None else f"{each['shots_factor']:.1f}",
            ]
            for name, each in zip(names, found, strict=True)
        ],
    )
    worse = sum(bool(each["worse"]) for each in found)
    said = f"In {worse} of {len(found)} cases mitigation makes the expectation values worse." if worse else (
        f"In all {len(found)} cases the expectation values are nearer to the exact ones."
    )  # fmt: skip
    return [
        Picture(
            "mitigation",
            "What mitigation recovers",
            f"From the open circle (without) to the full dot (with): error of the expectation values. {said} What it "
            "costs in shots is in the table.",
            said,
            recovery_figure(names, [tuple(each["rms"]) for each in found]),
            [table],
            wide=True,
        )
    ]


def recovery_figure(names: list[str], errors: list[tuple[float, float]]) -> Figure:
    """Draw the error of each condition before and after.

    Args:
        names: Conditions.
        errors: Root mean square error without and with mitigation.
    """
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False}):
        figure = Figure(figsize=(7.2, 1.0 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        for row, (before, after) in enumerate(errors):
            colour = COLOURS[1] if after > before else COLOURS[2]
            axes.plot((before, after), (row, row), color=colour, linewidth=2)
            axes.plot(before, row, "o", color=GREY, markerfacecolor="#ffffff", markersize=6)
            axes.plot(after, row, "o", color=colour, markersize=6)
        axes.set_yticks(np.arange(len(names)), [shortened(name, 52) for name in names], fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="RMS error of the expectation values")
        axes.set_xlim(left=0)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    return figure
