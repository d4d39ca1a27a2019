"""The report of a study: verdict, arms, their differences, Figures 1 to 6 of the paper, how it was obtained."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS
from qhybrid.experiments.evaluation_table import METRIC_NAMES
from qhybrid.experiments.study import Study
from qhybrid.report.augmentation_section import augmentation_section
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
from qhybrid.report.page import Kind, Page, Picture, Section, Statement, Table
from qhybrid.report.study_devices_section import devices_section, forest_picture
from qhybrid.report.study_provenance import study_provenance
from qhybrid.report.words import FEW, p_value, signed_interval, with_interval
from qhybrid.statistics import bootstrap_distributions, confusion_matrix, seeds_and_samples
from qhybrid.storage import read_arrays

TESTED = ("accuracy", "auc")
MAIN = ("accuracy", "recall", "specificity", "f1_macro", "auc")
"""Metrics of the first table; the others open on demand."""
MOST_LINES = 7
"""Arms in one figure with a colour each."""
Predicted = dict[str, NDArray[np.float64]]
"""Arm -> probabilities of each seed, (S, N, C)."""


def study_page(study: Study) -> Page:
    """Make the report of a study.

    Raises:
        InputError: A run of it is missing or damaged.
    """
    found = study.results
    labels, predicted = _predictions(study)
    arms = [each for each in found["arms"] if each["metrics"]]
    drawn = [_arm(each, labels, predicted) for each in arms]
    return Page(
        title=f"{found['name']}: report of a study",
        subtitle=f"{len(found['arms'])} arms, {len(found['seeds'])} seeds, {found['n_samples']} images of the "
        f"{found['split']} split; {found['data'].get('source', 'no data')}",
        verdict=[
            *_scores_in_words(found, arms),
            *[Statement(sentence, _kind(sentence)) for sentence in found["verdict"]],
        ],
        cautions=_cautions(found),
        sections=[
            *([_scores(found, arms, drawn, labels, predicted)] if drawn and labels is not None else []),
            *([_differences(found)] if found["comparisons"] else []),
            *devices_section(found),
            *augmentation_section(found),
            _seeds(found),
            study_provenance(study),
        ],
    )


def _predictions(study: Study) -> tuple[NDArray[np.int64] | None, Predicted]:
    """Labels (N,) and what each arm predicts."""
    labels, predicted = None, {}
    for arm in study.results["arms"]:
        seeds = []
        for run in arm["runs"]:
            if "evaluation" in run:
                file = study.path / run["run"] / "predictions" / f"{run['evaluation']}.npz"
                arrays = read_arrays(file, ("labels", "probabilities"))
                labels = arrays["labels"]
                seeds.append(arrays["probabilities"])
        if seeds:
            predicted[arm["name"]] = np.stack(seeds)
    return labels, predicted


def _arm(described: dict[str, Any], labels: NDArray[np.int64] | None, predicted: Predicted) -> Arm:
    metrics, name = described["metrics"], described["name"]
    draws = {}
    if labels is not None and name in predicted:
        seeds = predicted[name]
        found = (
            seeds_and_samples(labels, seeds, n=BOOTSTRAP_DRAWS)
            if len(seeds) > 1
            else bootstrap_distributions(labels, seeds[0], n=BOOTSTRAP_DRAWS)
        )
        draws = {metric: np.clip(each.draws, 0, 1) for metric, each in found.items()}
    return Arm(
        name,
        {metric: each["mean"] for metric, each in metrics.items()},
        {metric: _cut(each["interval"]) for metric, each in metrics.items()},
        draws,
    )


def _cut(interval: Sequence[float]) -> tuple[float, float]:
    """Few seeds give limits that no metric can have."""
    low, high = np.clip(interval, 0, 1).tolist()
    return low, high


def _scores_in_words(found: dict[str, Any], arms: Sequence[dict[str, Any]]) -> list[Statement]:
    """The worst and the best arm, before anything is said about differences."""
    if not arms:
        return []
    low, *_, high = sorted([*arms, *arms[:1]], key=lambda arm: float(arm["metrics"]["accuracy"]["mean"]))
    means = [f"{arm['metrics']['accuracy']['mean']:.3f} (“{arm['name']}”)" for arm in (low, high)]
    generated = "generated " if found["data"].get("source") == "angiography" else ""
    return [
        Statement(
            f"On {found['n_samples']} {generated}images of the {found['split']} split, mean accuracy over the seeds "
            f"runs from {means[0]} to {means[1]}."
        )
    ]


def _kind(sentence: str) -> Kind:
    return "shown" if sentence.startswith("Shown") else "open" if sentence.startswith("Parity") else "fact"


def _cautions(found: dict[str, Any]) -> list[str]:
    data, n, words = found["data"], found["n_samples"], []
    if data.get("source") == "angiography":
        words.append(
            "The images are generated by a computer. Differences on them show that everything works, and nothing "
            "about patients."
        )
    words.append(
        "Counted are images, not patients: several images of one person are not told apart. This is research software "
        "and not for diagnosis."
    )
    if n < 2 * FEW:
        words.append(f"{n} test images are few: differences of a few hundredths cannot be seen with them.")
    if len(found["seeds"]) < 5:
        words.append(
            f"{len(found['seeds'])} seeds are few: intervals over seeds are wide, and five or more are advised."
        )
    if found["unequal_budget"]:
        words.append(
            f"The arms did not have the same budget: {', '.join(found['unequal_budget'])} differ, so that a difference "
            "may come from there."
        )
    if leaks := data.get("leaks"):
        kept = "dropped from training" if data.get("leaks_dropped") else "kept: scores may be too good"
        words.append(f"The audit found images in more than one split: {'; '.join(leaks)}; copies were {kept}.")
    words.append(
        "No difference shown is not the same as shown to be equal; the verdict says which of the two it is."
        + (
            ""
            if found.get("devices")
            else " All arms were tested with exact expectation values or as trained; what "
            "devices cost is in the reports of the runs."
        )
    )
    return words


def _scores(
    found: dict[str, Any], described: Sequence[dict[str, Any]], arms: list[Arm],
    labels: NDArray[np.int64], predicted: Predicted,
) -> Section:  # fmt: skip
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
    few = arms[:MOST_LINES]
    shown = {name: predicted[name] for name in list(predicted)[:MOST_LINES]}
    pictures = [
        Picture("confusion", "Confusion matrices (Fig. 1)", "Rows are true classes; counts are means over the seeds, "
                "percentages are of the row.", said, confusions_figure(confusions, classes), [counts], wide=True),
        Picture("roc", "ROC curves (Fig. 2)", "Mean over the seeds; the band is the range of the seeds, of a single "
                "seed the 95 % bootstrap band.", said, rocs_figure(labels, shown), [table]),
        Picture("space", "Accuracy, AUC and F1 (Fig. 2)", "Right and up is better, a larger marker is a better F1 "
                "(macro). Lines are 95 % intervals.", said, space_figure(few), [table]),
        Picture("radar", "All metrics (Fig. 2)", f"The centre is {radar_floor(few):.2f}. "
                "Further out is better; small gaps are no differences: see the tests.",
                said, radar_figure(few), [whole]),
        Picture("improvement", "Relative improvement (Fig. 3)", "Per cent above the worst arm, metric by metric, "
                "without regard to chance.", said, improvement_figure(arms), [table]),
        Picture("heat-map", "Arms and metrics (Fig. 4)", "The darker, the better.", said, heat_figure(arms), [whole],
                wide=True),
        Picture("bars", "Metrics with intervals (Fig. 5)", "Lines are 95 % intervals over seeds and images; the "
                "axis need not begin at zero.", said, bars_figure(few), [whole], wide=True),
    ]  # fmt: skip
    if any(arm.draws for arm in few):
        pictures.append(
            Picture("violins", "What the bootstrap says (Fig. 6)", "Each shape is the distribution over redrawn seeds "
                    "and test sets; the dot is the mean, the line holds 95 %.", said, violin_figure(few), [table],
                    wide=True)
        )  # fmt: skip
    return Section("scores", "Scores", tables=[table], pictures=pictures, folded=[whole])


def _differences(found: dict[str, Any]) -> Section:
    compared = found["comparisons"]
    table = Table(
        "Paired differences, mean over seeds; intervals over seeds and images; p corrected over all comparisons.",
        [
            "pair",
            "metric",
            "verdict",
            "what differs",
            "seeds",
            "difference [95 %]",
            "p, Holm",
            "p, one-sided, of a loss",
        ],
        [
            [
                f"{each['arm']} against {each['against']}",
                METRIC_NAMES[metric],
                each["metrics"][metric]["verdict"],
                ", ".join(each["changed"]),
                str(len(each["seeds"])),
                signed_interval(each["metrics"][metric]["difference"], each["metrics"][metric]["interval"]),
                p_value(each["metrics"][metric]["p_holm"]),
                p_value(each["metrics"][metric]["claims"]["non-inferior"]["p_holm"]),
            ]
            for each in compared
            for metric in TESTED
        ],
        text_columns=4,
    )
    pictures = [_forest(found, metric, table) for metric in TESTED]
    return Section(
        "differences",
        "Differences",
        [
            f"A difference of {found['margin']:g} would matter. “Equivalent” and “non-inferior” are claims that were "
            "tested, corrected for all comparisons; “undecided” means that the data allow neither."
        ],
        tables=[table],
        pictures=pictures,
    )


def _forest(found: dict[str, Any], metric: str, table: Table) -> Picture:
    name = METRIC_NAMES[metric]
    rows = [(each["arm"], f"against {each['against']}", each["metrics"][metric]) for each in found["comparisons"]]
    said = ("comparisons", f"Differences of {name}", "to the other arm")
    return forest_picture(found, f"difference-{metric}", said, name, rows, table)


def _seeds(found: dict[str, Any]) -> Section:
    rows = []
    for arm in found["arms"]:
        for run in arm["runs"]:
            values = run.get("metrics", {})
            rows.append(
                [
                    arm["name"], str(run["seed"]), run["state"], str(run.get("best_epoch", "")),
                    *[f"{values[name]:.3f}" if name in values else "" for name in METRIC_NAMES],
                    run["message"],
                ]
            )  # fmt: skip
    failed = sum(run["state"] != "complete" for arm in found["arms"] for run in arm["runs"])
    table = Table(
        "Every training.",
        ["arm", "seed", "state", "best epoch", *METRIC_NAMES.values(), "message"],
        rows,
    )
    text = "All trainings are complete." if not failed else f"{failed} trainings are not complete and in no mean."
    return Section("seeds", "Every training", [text], folded=[table])
