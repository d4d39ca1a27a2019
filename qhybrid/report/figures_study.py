"""Figures of a study that need its predictions: confusion matrices and ROC curves of every arm (Figs. 1 and 2)."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from qhybrid.report.figures import COLOURS, GREY, STYLE, shortened
from qhybrid.report.figures_comparison import GRID
from qhybrid.report.svg import CELL_INK, CELL_PAPER
from qhybrid.statistics import roc_band

COLUMNS = 3
BOOTSTRAP_DRAWS = 500
"""Of the band of a single seed; 2000 make no difference to the eye."""


def confusions_figure(confusions: Mapping[str, NDArray[np.float64]], class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix an arm.

    Args:
        confusions: Arm -> mean counts over the seeds, true class by predicted class, (C, C).
        class_names: One a class.
    """
    n_classes = len(class_names)
    columns = 2 if len(confusions) in (2, 4) else min(COLUMNS, len(confusions))
    rows = -(-len(confusions) // columns)
    side = 2.3 if n_classes == 2 else 1.0 + 0.45 * n_classes
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False, "axes.spines.bottom": False}):
        figure = Figure(figsize=(0.5 + side * columns, 0.3 + side * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        at = np.arange(n_classes + 1) - 0.5
        for panel in panels.flat[len(confusions) :]:
            panel.set_axis_off()
        for number, (panel, (name, counts)) in enumerate(zip(panels.flat, confusions.items(), strict=False)):
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            panel.pcolormesh(at, at, shares, cmap="Blues", vmin=0, vmax=1, edgecolors="#ffffff", linewidth=1.5)
            for row, column in np.ndindex(counts.shape):
                panel.text(
                    column,
                    row,
                    f"{counts[row, column]:.3g}\n{100 * shares[row, column]:.0f} %",
                    ha="center",
                    va="center",
                    color=CELL_PAPER if shares[row, column] > 0.55 else CELL_INK,
                    fontsize=9.5 if n_classes <= 3 else 6.5,
                )
            short = [shortened(class_name, 12) for class_name in class_names]
            last = number + columns >= len(confusions)
            slanted = {"rotation": 40, "ha": "right"} if n_classes > 2 else {}
            panel.set_xticks(range(n_classes), short if last else [], fontsize=8, **slanted)
            upright = {"rotation": 90, "va": "center"} if n_classes == 2 else {}
            panel.set_yticks(range(n_classes), short if number % columns == 0 else [], fontsize=8, **upright)
            panel.tick_params(which="both", length=0)
            panel.set(aspect="equal", xlim=(-0.5, n_classes - 0.5), ylim=(n_classes - 0.5, -0.5))
            panel.set_title(shortened(name, 24), fontsize=9, loc="center")
        figure.supxlabel("predicted", fontsize=9)
        figure.supylabel("true", fontsize=9)
    return figure


def rocs_figure(
    labels: NDArray[np.int64], probabilities: Mapping[str, NDArray[np.float64]], *, seed: int = 0
) -> Figure:
    """Draw the mean ROC curve of each arm over its seeds, with the range of the seeds.

    A single seed has its 95 % bootstrap band. More than two classes: the mean of each against the rest.

    Args:
        labels: True classes, (N,).
        probabilities: Arm -> of each seed, (S, N, C).
        seed: Of the bootstrap.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 5.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        for number, (name, seeds) in enumerate(probabilities.items()):
            classes = [1] if seeds.shape[2] == 2 else [int(k) for k in np.unique(labels)]
            draws = BOOTSTRAP_DRAWS if len(seeds) == 1 else 1
            bands = [[roc_band(labels == k, each[:, k], n=draws, seed=seed) for k in classes] for each in seeds]
            curves = np.array([np.mean([band.true_positive_rate for band in several], axis=0) for several in bands])
            area = float(np.mean([[band.auc for band in several] for several in bands]))
            low, high = curves.min(axis=0), curves.max(axis=0)
            if len(seeds) == 1:
                low, high = (np.mean([getattr(each, end) for each in bands[0]], axis=0) for end in ("low", "high"))
            colour, line = COLOURS[number % len(COLOURS)], ("-", "--")[number // len(COLOURS) % 2]
            rate = bands[0][0].false_positive_rate
            axes.fill_between(rate, low, high, step="post", color=colour, alpha=0.10, linewidth=0)
            label = f"{shortened(name, 26)}: {area:.3f}"
            around, hits = np.append(0.0, rate), np.append(0.0, curves.mean(axis=0))
            axes.plot(around, hits, line, color=colour, drawstyle="steps-post", label=label)
        axes.set(xlim=(-0.015, 1.005), ylim=(-0.005, 1.015), aspect="equal")
        axes.set_xlabel("false-positive rate (1 - specificity)")
        axes.set_ylabel("true-positive rate (sensitivity)")
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(
            loc="outside lower left", ncols=2, fontsize=8.5, title="AUC", title_fontsize=8.5, alignment="left"
        )
    return figure
