"""The report of a run: verdict, scores, what devices cost, images whose diagnosis flips, training, provenance."""

from qhybrid.experiments.evaluation_table import METRIC_NAMES
from qhybrid.experiments.run_folder import Run
from qhybrid.report.comparison_report import comparison_section
from qhybrid.report.figures import confusion_figure, roc_figure, training_figure
from qhybrid.report.figures_arms import Arm, bars_figure, heat_figure, violin_figure
from qhybrid.report.flipped_images import images_section
from qhybrid.report.network_section import network_section
from qhybrid.report.page import Page, Picture, Section, Statement, Table
from qhybrid.report.provenance import provenance_section
from qhybrid.report.run_data import RunData, read_run
from qhybrid.report.words import (
    cautions,
    condition_statement,
    machine_statements,
    score_statements,
    size_statements,
    with_interval,
)


def run_page(run: Run, *, split: str = "test", comparison: str | None = None) -> Page:
    """Make the report of a run.

    Args:
        run: A complete run.
        split: Whose predictions.
        comparison: Its name or file; None: the newest.

    Raises:
        InputError: The run has no evaluation or not this comparison, or a file is damaged.
    """
    data = read_run(run, split=split, comparison=comparison)
    spec = run.spec
    verdict = score_statements(data)
    if data.usual:
        verdict += [condition_statement(each, data.margin) for each in data.usual]
        verdict += size_statements(data.usual, data.margin)
    else:
        verdict.append(_what_is_missing(data))
    verdict += machine_statements(data)
    circuit = f", circuit {spec.model.circuit}" if spec.model.has_circuit else ""
    sections = [
        _scores(data),
        *([comparison_section(data)] if data.conditions else []),
        *images_section(data),
        _training(data),
        network_section(run),
        _evaluations(data),
        provenance_section(data),
    ]
    return Page(
        title=f"{spec.name}: report of a run",
        subtitle=f"{spec.model.backbone}, {spec.model.head} head{circuit}; {data.run.data['source']}; {run.path.name}",
        verdict=verdict,
        cautions=cautions(data, data.usual),
        sections=sections,
    )


def _what_is_missing(data: RunData) -> Statement:
    run = data.run
    if not run.spec.model.is_quantum:
        return Statement(f"The head is classical ({run.spec.model.head}): no quantum device changes its diagnoses.")
    return Statement(
        "What devices, noise and shots cost is not known yet: "
        f"`qhybrid compare {run.path} --noise none,ibm_brisbane,ibm_torino --shots 100,1024,8192` finds out, and this "
        "report then shows it."
    )


def arms_of(data: RunData) -> list[Arm]:
    """The exact reference and the usual conditions, as arms of a figure."""
    name = "exact, no noise" if data.exact else f"{data.run.spec.model.head} head"
    arms = [Arm(name, data.metrics, data.intervals, {key: each.draws for key, each in data.distributions.items()})]
    for condition in data.usual[:6]:
        metrics = condition.cell["metrics"]
        arms.append(
            Arm(
                data.label(condition),
                {name: each["value"] for name, each in metrics.items()},
                {name: tuple(each["interval"]) for name, each in metrics.items()},
                condition.draws(int(condition.cell["seed"])),
            )
        )
    return arms


def metrics_table(arms: list[Arm], caption: str) -> Table:
    """Arms with their metrics and intervals."""
    names = [name for name in METRIC_NAMES if all(name in arm.values for arm in arms)]
    return Table(
        caption,
        ["condition", *[METRIC_NAMES[name] for name in names]],
        [[arm.name, *[with_interval(arm.values[name], arm.intervals.get(name)) for name in names]] for arm in arms],
    )


def _scores(data: RunData) -> Section:
    names, n = data.run.class_names, len(data.labels)
    arms = arms_of(data)
    how = "exact expectation values, no noise" if data.exact else f"{data.run.spec.model.head} head"
    table = Table(
        f"Metrics on the {data.split} split, n = {n}; {how}.",
        ["metric", "value", "95 % interval", "kind of interval"],
        [
            [
                METRIC_NAMES[name],
                f"{value:.3f}",
                "{:.3f} to {:.3f}".format(*data.intervals[name]),
                "Wilson" if name in data.wilson else "bootstrap",
            ]
            for name, value in data.metrics.items()
        ],
    )
    counts = Table(
        "Images by true class (rows) and predicted class.",
        ["true class", *[f"predicted {name}" for name in names], "all"],
        [[name, *map(str, row), str(sum(row))] for name, row in zip(names, data.confusion.tolist(), strict=True)],
    )
    seed = int(data.result["seed"])
    right = int(data.confusion.trace())
    pictures = [
        Picture(
            "confusion",
            "Confusion matrix",
            "Each row is a true class; percentages are of that row. On the diagonal is what is right.",
            f"Of {n} images {right} are on the diagonal. The table under the figure holds all counts.",
            confusion_figure(data.confusion, names),
            [counts],
        ),
        Picture(
            "roc",
            "ROC curve",
            "How many of a class are found (upwards) against how many others are taken for it (to the right), over all "
            "thresholds. The band is the pointwise 95 % bootstrap interval.",
            f"The area under the curve is {with_interval(data.metrics['auc'], data.intervals['auc'])}; chance is 0.5.",
            roc_figure(data.labels, data.probabilities, names, seed=seed),
            [table],
        ),
        Picture(
            "metrics",
            "Metrics with intervals",
            "Lines are 95 % intervals; of conditions with shots they hold images and shots. The axis need not begin at "
            "zero.",
            _compared(arms),
            bars_figure(arms),
            [metrics_table(arms, "Metrics with 95 % intervals.")],
            wide=len(arms) > 2,
        ),
        Picture(
            "violins",
            "What the bootstrap says",
            "Each shape is the distribution of a metric over 2000 redrawn test sets; the dot is the value, the line "
            "holds 95 %.",
            _compared(arms),
            violin_figure(arms),
            [metrics_table(arms, "Metrics with 95 % intervals.")],
            wide=len(arms) > 3,
        ),
    ]
    if len(arms) > 1:
        pictures.append(
            Picture(
                "heat-map",
                "Metrics by condition",
                "The darker, the better. Differences between rows are small where the device costs little.",
                _compared(arms),
                heat_figure(arms),
                [metrics_table(arms, "Metrics with 95 % intervals.")],
                wide=True,
            )
        )
    return Section("scores", "Scores", tables=[table], pictures=pictures)


def _compared(arms: list[Arm]) -> str:
    return (
        "; ".join(f"{arm.name}: accuracy {arm.values['accuracy']:.3f}, AUC {arm.values['auc']:.3f}" for arm in arms)
        + ". All numbers are in the table under the figure."
    )


def _training(data: RunData) -> Section:
    log = data.run.training_log()
    spec = data.run.spec
    best = int(log["validation_loss"].argmin())
    epochs = Table(
        "Each epoch.",
        [name.replace("_", " ") for name in log],
        [[f"{value:.0f}" if name == "epoch" else f"{value:.4g}" for name, value in zip(log, row, strict=True)]
         for row in zip(*log.values(), strict=True)],
    )  # fmt: skip
    counts = data.run.data.get("counts", {})
    classes = data.run.class_names
    images = Table(
        "Images by split and class, before augmentation.",
        ["split", *classes],
        [[split, *[str(by_class.get(name, 0)) for name in classes]] for split, by_class in counts.items()],
    )
    picture = Picture(
        "training",
        "Training curves",
        "The weights of the epoch with the lowest validation loss are kept.",
        f"Loss and accuracy over {len(log['epoch'])} epochs; the best epoch is {log['epoch'][best]:.0f}, with a "
        f"validation loss of {log['validation_loss'][best]:.3f} and accuracy {log['validation_accuracy'][best]:.3f}.",
        training_figure(log),
        [epochs],
        wide=True,
    )
    return Section(
        "training",
        "Training",
        [
            f"{spec.model.backbone} with weights “{spec.model.weights}”, {spec.model.feature_dim} features, "
            f"{spec.model.head} head; augmentation {spec.augment.kind}; learning rate {spec.train.learning_rate:g}, "
            f"batches of {spec.train.batch_size}, seed {spec.train.seed}."
        ],
        tables=[images] if counts else [],
        pictures=[picture],
    )


def _evaluations(data: RunData) -> Section:
    rows = []
    for each in data.results:
        metrics, reference = each["metrics"], each.get("reference")
        interval = metrics["accuracy"]["wilson"] or metrics["accuracy"]["bootstrap"]
        rows.append(
            [
                each["name"],
                each["device"].get("verdict") or "",
                str(each["n_samples"]),
                with_interval(metrics["accuracy"]["value"], interval),
                with_interval(metrics["auc"]["value"], metrics["auc"]["bootstrap"]),
                "" if reference is None else str(reference["flipped_predictions"]),
            ]
        )
    table = Table(
        "All evaluations of this run; flipped: diagnoses that are not those of exact values without noise.",
        ["evaluation", "what the machine means for the circuit", "n", "accuracy [95 %]", "AUC [95 %]", "flipped"],
        rows,
        text_columns=2,
    )
    return Section("evaluations", "All evaluations", tables=[table])
