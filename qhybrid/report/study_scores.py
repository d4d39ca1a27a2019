"""The scores of a study's arms: tables, and Figures 1 to 6 of the paper."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.experiments.evaluation_table import METRIC_NAMES
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
from qhybrid.report.figures_study import confusions_figure, rocs_figure
from qhybrid.report.page import Picture, Section, Table
from qhybrid.report.words import with_interval
from qhybrid.statistics import confusion_matrix

MAIN = ("accuracy", "recall", "specificity", "f1_macro", "auc")
"""Metrics of the first table; the others open on demand."""
MOST_LINES = 7
"""Arms in one figure with a colour each."""
Predicted = dict[str, NDArray[np.float64]]
"""Arm -> probabilities of each seed, (S, N, C)."""


def scores_section(
    found: dict[str, Any], described: Sequence[dict[str, Any]], arms: list[Arm],
    labels: NDArray[np.int64], predicted: Predicted,
) -> Section:  # fmt: skip
    """Show what each arm reached.

    Args:
        found: What `study.json` holds.
        described: Its arms that have metrics.
        arms: The same arms as figures draw them.
        labels: True classes, (N,).
        predicted: What each arm predicts.
    """
    caption = (
        f"Mean over seeds [95 %, other seeds and other images], n = {found['n_samples']}; limits beyond 0, 1 are cut"
    )
    names = [name for name in METRIC_NAMES if all(name in arm.values for arm in arms)]
    main = [name for name in MAIN if name in names]
    table = Table(
        f"{caption}.",
        ["arm", "seeds", *[METRIC_NAMES[name] for name in main]],
        [
            [arm.name, str(each["n_seeds"]), *[with_interval(arm.values[name], arm.intervals[name]) for name in main]]
            for arm, each in zip(arms, described, strict=True)
        ],
    )
    whole = Table(
        f"All metrics. {caption}; ±: standard deviation over seeds.",
        ["arm", *[METRIC_NAMES[name] for name in names]],
        [
            [
                arm.name,
                *[
                    with_interval(arm.values[name], arm.intervals[name])
                    + ("" if each["metrics"][name]["std"] is None else f" ± {each['metrics'][name]['std']:.3f}")
                    for name in names
                ],
            ]
            for arm, each in zip(arms, described, strict=True)
        ],
    )
    said = "; ".join(f"{arm.name}: accuracy {arm.values['accuracy']:.3f}, AUC {arm.values['auc']:.3f}" for arm in arms)
    classes = found["data"]["class_names"]
    confusions = {
        name: np.mean([confusion_matrix(labels, each) for each in seeds], axis=0) for name, seeds in predicted.items()
    }
    counts = Table(
        "Mean counts over seeds, true class to predicted class.",
        ["arm", *[f"{true} → {said_to_be}" for true in classes for said_to_be in classes]],
        [[name, *[f"{count:.1f}" for count in matrix.flat]] for name, matrix in confusions.items()],
    )
    drawn = arms_to_draw(found, [arm.name for arm in arms])
    few = [arm for arm in arms if arm.name in drawn]
    curves = {name: predicted[name] for name in drawn if name in predicted}
    left_out = (
        ""
        if len(few) == len(arms)
        else (f" {len(few)} of {len(arms)} arms: those compared with “{found['reference']}” come first.")
    )
    pictures = [
        Picture("confusion", "Confusion matrices (Fig. 1)", "Rows are true classes; counts are means over the seeds, "
                "percentages are of the row.", said, confusions_figure(confusions, classes), [counts], wide=True),
        Picture("roc", "ROC curves (Fig. 2)", "Mean over the seeds; the band is the range of the seeds, of a single "
                f"seed the 95 % bootstrap band.{left_out}", said, rocs_figure(labels, curves), [table]),
        Picture("space", "Accuracy, AUC and F1 (Fig. 2)", "Right and up is better, a larger marker is a better F1 "
                f"(macro). Lines are 95 % intervals.{left_out}", said, space_figure(few), [table]),
        Picture("radar", "All metrics (Fig. 2)", f"The centre is {radar_floor(few):.2f}. "
                f"Further out is better; small gaps are no differences: see the tests.{left_out}",
                said, radar_figure(few), [whole]),
        Picture("improvement", "Relative improvement (Fig. 3)", "Per cent above the worst arm, metric by metric, "
                "without regard to chance.", said, improvement_figure(arms), [table]),
        Picture("heat-map", "Arms and metrics (Fig. 4)", "The darker, the better.", said, heat_figure(arms), [whole],
                wide=True),
        Picture("bars", "Metrics with intervals (Fig. 5)", "Lines are 95 % intervals over seeds and images; the "
                f"axis need not begin at zero.{left_out}", said, bars_figure(few), [whole], wide=True),
    ]  # fmt: skip
    if any(arm.draws for arm in few):
        pictures.append(
            Picture("violins", "What the bootstrap says (Fig. 6)", "Each shape is the distribution over redrawn seeds "
                    f"and test sets; the dot is the mean, the line holds 95 %.{left_out}", said,
                    violin_figure(few), [table], wide=True)
        )  # fmt: skip
    return Section("scores", "Scores", tables=[table], pictures=pictures, folded=[whole])


def arms_to_draw(found: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Arms that a figure has colours for: the reference, those compared with it, then others; in their own order."""
    reference = found["reference"]
    pairs = [{each["arm"], each["against"]} for each in found["comparisons"]]
    compared = {name for pair in pairs if reference in pair for name in pair}
    first = sorted(names, key=lambda name: (name != reference, name not in compared))[:MOST_LINES]
    return [name for name in names if name in first]
