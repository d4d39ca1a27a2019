"""Figures of a run: confusion matrix, ROC curves with their uncertainty, training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from qhybrid.experiments.evaluation_table import on_what
from qhybrid.experiments.measurement import Evaluation
from qhybrid.report.svg import CELL_INK, CELL_PAPER
from qhybrid.statistics import roc_band
from qhybrid.storage import write_atomically

# Okabe and Ito's palette, which all common forms of colour blindness can tell apart (jfly.uni-koeln.de/color).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#595959"
STYLE: dict[str, Any] = {
    "text.parse_math": False,  # names of classes and runs may hold dollar signs
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#222222",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}


def confusion_figure(
    confusion: NDArray[np.int64], class_names: Sequence[str], title: str = "", subtitle: str = ""
) -> Figure:
    """Draw a confusion matrix with counts and, per true class, percentages.

    Args:
        confusion: Counts, true class by predicted class, (C, C).
        class_names: One a class.
        title: Above the matrix.
        subtitle: Between the two.
    """
    n_classes = len(class_names)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = max(3.9, 1.5 + 0.62 * n_classes)
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False, "axes.spines.bottom": False}):
        figure = Figure(figsize=(side + 0.4, side), layout="constrained")
        axes = figure.subplots()
        at = np.arange(n_classes + 1) - 0.5
        axes.pcolormesh(at, at, shares, cmap="Blues", vmin=0, vmax=1, edgecolors="#ffffff", linewidth=2)
        axes.set(aspect="equal", xlim=(-0.5, n_classes - 0.5), ylim=(n_classes - 0.5, -0.5))
        for row, column in np.ndindex(confusion.shape):
            axes.text(
                column,
                row,
                f"{confusion[row, column]}\n{100 * shares[row, column]:.0f} %",
                ha="center",
                va="center",
                color=CELL_PAPER if shares[row, column] > 0.55 else CELL_INK,
                fontsize=13 if n_classes <= 3 else 8,
                linespacing=1.4,
            )
        slanted: dict[str, Any] = {"rotation": 40, "ha": "right"} if n_classes > 3 else {}
        axes.set_xticks(range(n_classes), [shortened(name) for name in class_names], **slanted)
        totals = [f"{shortened(name)}\n(n = {total})" for name, total in _with_totals(class_names, confusion)]
        axes.set_yticks(range(n_classes), totals)
        axes.tick_params(which="both", length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        _head(axes, title, subtitle, width=48)
    return figure


def roc_figure(
    labels: ArrayLike,
    probabilities: NDArray[np.float64],
    class_names: Sequence[str],
    title: str = "",
    subtitle: str = "",
    *,
    n: int = 2000,
    seed: int = 0,
) -> Figure:
    """Draw ROC curves with 95 % bootstrap bands, and the areas with their intervals.

    Args:
        labels: True classes, (N,).
        probabilities: (N, C). Two classes give the curve of the second, more give one curve a class against the
            rest, for the classes that occur.
        class_names: One a class.
        title: Above the curves.
        subtitle: Between the two.
        n: Bootstrap draws.
        seed: Of the draws.
    """
    truth = np.asarray(labels)
    shown = [1] if len(class_names) == 2 else [int(k) for k in np.unique(truth)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.7, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "chance",
            (0.44, 0.44),
            (0, -5),
            textcoords="offset points",
            rotation=45,
            color=GREY,
            fontsize=8.5,
            rotation_mode="anchor",
            va="top",
        )
        for number, k in enumerate(shown):
            band = roc_band(truth == k, probabilities[:, k], n=n, seed=seed)
            colour, line = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
            low, high = band.auc_interval
            area = f"AUC {band.auc:.3f} [{low:.3f}, {high:.3f}]"
            label = area if len(shown) == 1 else f"{shortened(class_names[k])}: {area}"
            rate = np.append(0.0, band.false_positive_rate)
            hits = np.append(0.0, band.true_positive_rate)
            axes.plot(rate, hits, color=colour, linestyle=line, drawstyle="steps-post", label=label, zorder=3)
            if len(shown) <= 4:  # more bands only hide each other
                axes.fill_between(
                    band.false_positive_rate,
                    band.low,
                    band.high,
                    step="post",
                    color=colour,
                    alpha=0.16,
                    linewidth=0,
                    label="95 % bootstrap band" if len(shown) == 1 else None,
                )
        axes.set(xlim=(-0.015, 1.005), ylim=(-0.005, 1.015), aspect="equal")
        axes.set_xlabel("false-positive rate (1 - specificity)")
        axes.set_ylabel("true-positive rate (sensitivity)")
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        _head(axes, title, subtitle, width=52)
        axes.legend(
            loc="lower right", handlelength=1.4, frameon=True, edgecolor="none", fontsize=9 if len(shown) <= 5 else 7
        )
    return figure


def training_figure(log: Mapping[str, NDArray[np.float64]], title: str = "") -> Figure:
    """Draw loss and accuracy over the epochs, the best epoch marked.

    Args:
        log: Columns of `metrics.csv`: epoch, train_loss, train_accuracy, validation_loss, validation_accuracy.
        title: Above the curves.
    """
    epochs = log["epoch"]
    best = int(np.argmin(log["validation_loss"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, log, "loss", best)
        _curves(right, log, "accuracy", best)
        left.set_ylabel("cross entropy")
        right.set_ylabel("accuracy")
        left.set_ylim(bottom=0)
        right.set_ylim(min(right.get_ylim()[0], 0.89), 1.01)
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
            axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
            axes.set_axisbelow(True)
        left.legend(loc="best")
        left.set_title(title)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, 200 dots an inch, in one piece."""
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=200, bbox_inches="tight"))
    return path


def draw_evaluation(evaluation: Evaluation) -> list[Path]:
    """Draw the figures of an evaluation and of the training before it into the run's `figures/`.

    Returns:
        The files: confusion matrix, ROC, training curves.
    """
    run = evaluation.run
    folder = run.path / "figures"
    names, predictions = run.class_names, evaluation.predictions
    title, on = f"{run.spec.name}, {evaluation.split} split", on_what(evaluation)
    confusion = confusion_figure(evaluation.confusion, names, title, on)
    roc = roc_figure(predictions.labels, predictions.probabilities, names, title, on, seed=evaluation.seed)
    return [
        save_figure(confusion, folder / f"confusion-{evaluation.name}.png"),
        save_figure(roc, folder / f"roc-{evaluation.name}.png"),
        save_figure(training_figure(run.training_log(), run.spec.name), folder / "training.png"),
    ]


def _head(axes: Axes, title: str, subtitle: str, width: int) -> None:
    """Write a title, and under it, in lines of so many characters, a subtitle."""
    lines, size, space = wrap(subtitle, width), 9.0, STYLE["axes.titlepad"]
    axes.set_title(title, pad=space + 1.5 * size * len(lines))
    if lines:
        axes.annotate("\n".join(lines), (0, 1), (0, space - 1), xycoords="axes fraction", textcoords="offset points",
                      fontsize=size, color="#222222", va="bottom")  # fmt: skip


def _curves(axes: Axes, log: Mapping[str, NDArray[np.float64]], quantity: str, best: int) -> None:
    epochs = log["epoch"]
    marker = "o" if len(epochs) < 4 else None  # a line through one epoch would be invisible
    axes.plot(epochs, log[f"train_{quantity}"], color=COLOURS[0], marker=marker, markersize=4, label="training")
    held_out = log[f"validation_{quantity}"]
    axes.plot(epochs, held_out, color=COLOURS[1], marker=marker, markersize=4, label="validation")
    axes.axvline(epochs[best], color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    axes.plot(
        epochs[best],
        held_out[best],
        "o",
        color=COLOURS[1],
        markersize=7,
        markeredgecolor="white",
        zorder=4,
        label=f"best epoch ({epochs[best]:.0f})",
    )


def _with_totals(class_names: Sequence[str], confusion: NDArray[np.int64]) -> list[tuple[str, int]]:
    return list(zip(class_names, confusion.sum(axis=1).tolist(), strict=True))


def shortened(name: str, length: int = 22) -> str:
    """A name in one line of at most so many characters."""
    line = " ".join(name.split())
    return line if len(line) <= length else f"{line[: length - 2]}…"
