"""`qhybrid study`: train every arm of an experiment with every seed, and test the differences."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.experiments.study import Study

METRICS = {"accuracy": "accuracy", "auc": "AUC"}
PAIRED = ["arm", "against", *(column for name in METRICS.values() for column in (name, "p", "verdict"))]


def study(
    experiment: Annotated[
        str, typer.Argument(help="An experiment that has arms: a name from `qhybrid ls experiments`, or a file.")
    ] = "quickstudy",
    data: Annotated[str | None, typer.Option(help="angiography, medmnist:PATH.npz, folder:PATH or dicom:PATH.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds of the trainings, separated by commas.")] = None,
    settings: options.Settings = None,
    quick: options.Quick = False,
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="Remove training images that recur in validation or test.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Go on with trainings that failed.")] = False,
    executor: Annotated[
        str | None,
        typer.Option(help="Where trainings run: processes, serial, dask. Without it processes, on a GPU serial."),
    ] = None,
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    out: Annotated[Path, typer.Option(help="Folder of the studies.")] = Path("studies"),
    as_json: options.Json = False,
) -> None:
    """Train every arm of an experiment with every seed, and test the differences.

    All arms get the same images and, unless their file says otherwise, the same training. What is complete is not
    trained again and what was interrupted goes on: the same command again continues after whatever ended it.
    """
    from qhybrid.experiments.executors import Executor
    from qhybrid.experiments.leave_one_out import run_leave_one_out
    from qhybrid.experiments.spec import load_experiment
    from qhybrid.experiments.study import run_study
    from qhybrid.experiments.trainer import check_available

    given = options.overrides(
        settings,
        data__source=data,
        data__drop_leaks=drop_leaks or None,
        study__seeds=None if seeds is None else [_seed(word) for word in seeds.split(",") if word.strip()],
    )
    spec = load_experiment(experiment, given, quick=quick)
    kind = "dask" if scheduler else executor or ("serial" if check_available(spec.train) else "processes")
    run = run_study if spec.domains is None else run_leave_one_out
    found = run(spec, out=out, retry=retry, executor=Executor(kind, workers, scheduler))
    if as_json:
        options.print_json(found.results)
    else:
        _show(found)


def _show(study: "Study") -> None:
    """Print arms, comparisons, what they had in common, and the verdict."""
    results = study.results
    options.print_table(
        f"{results['name']}: {results['split']} split, n = {results['n_samples']}; "
        "mean ± standard deviation over seeds [95 % over seeds and samples]",
        ["arm", "seeds", "head", "all parameters", *METRICS.values(), "epochs", "seconds"],
        [_arm_row(arm) for arm in results["arms"]],
    )
    if results.get("centres"):
        _show_centres(results)
    if results["comparisons"]:
        options.print_table(
            "differences, paired by seed and sample [95 %]; p corrected by Holm", PAIRED, _pairs(results["comparisons"])
        )
    for each in results.get("devices") or ():
        options.print_table(
            f"on {each['label']}; against the same arm with exact values, and between arms there",
            PAIRED,
            _pairs([*each["losses"], *each["comparisons"]]),
        )
    console = options.console()
    for note in [*_notes(results), "", *results["verdict"]]:
        console.print(note, highlight=False, markup=False)
    trained = "centres" if results.get("centres") else "runs"
    for name, path in (("results", study.path / "study.json"), (trained, study.path / trained)):
        console.print(f"{name:8} {path}", highlight=False, markup=False, soft_wrap=True)


def _show_centres(results: dict[str, Any]) -> None:
    """Print accuracy / AUC of each arm at each centre, and their means."""
    centres, means = results["centres"], results["mean_of_centres"]

    def both(metrics: dict[str, Any]) -> str:
        return " / ".join(_short(metrics[metric]["mean"]) for metric in METRICS)

    options.print_table(
        "each centre by networks that have not seen it, mean over seeds: accuracy / AUC"
        if len(results["parts"]) > 1
        else f"each centre, {next(iter(results['parts']))}, mean over seeds: accuracy / AUC",
        ["arm", *(f"{each['name']} ({each['n_samples']})" for each in centres), "mean of centres"],
        [[name, *(both(each["arms"][name]) for each in centres), both(means[name])] for name in means],
    )
    if tests := results.get("mean_of_centres_auc"):
        options.print_table(
            "differences of the mean of the centres' AUCs, paired by seed and sample [95 %]; p corrected by Holm",
            ["arm", "against", "AUC", "p"],
            [[each["arm"], each["against"], *_difference(each)] for each in tests],
        )


def _pairs(compared: Sequence[dict[str, Any]]) -> list[list[object]]:
    return [
        [each["arm"], each["against"], *(cell for metric in METRICS for cell in _test(each["metrics"][metric]))]
        for each in compared
    ]


def _arm_row(arm: dict[str, Any]) -> list[object]:
    asked, done = len(arm["runs"]), arm["n_seeds"]
    parameters = arm["parameters"] or {}
    return [
        arm["name"],
        str(done) if done == asked else f"{done} of {asked}",
        parameters.get("head", ""),
        parameters.get("total", "none trained" if parameters else ""),
        *("" if arm["metrics"] is None else _mean(arm["metrics"][metric]) for metric in METRICS),
        _range([run["epochs"] for run in arm["runs"] if "epochs" in run]),
        _range([run["seconds"] for run in arm["runs"] if run.get("seconds") is not None]),
    ]


def _mean(metric: dict[str, Any]) -> str:
    spread = "" if metric["std"] is None else f" ± {_short(metric['std'])}"
    return f"{metric['mean']:.3f}{spread} [{', '.join(_short(limit) for limit in metric['interval'])}]"


def _test(test: dict[str, Any]) -> list[str]:
    return [*_difference(test), test["verdict"]]


def _difference(test: dict[str, Any]) -> list[str]:
    limits = ", ".join(_short(limit, sign="+") for limit in test["interval"])
    return [f"{_short(test['difference'], sign='+')} [{limits}]", f"{test['p_holm']:.2g}"]


def _notes(results: dict[str, Any]) -> list[str]:
    """What arms had in common and what not, and the words of the table."""
    from qhybrid.experiments.study_results import without_images
    from qhybrid.experiments.study_tuning import tuning_in_words

    budget = ", ".join(f"{key.partition('.')[2]} {_value(value)}" for key, value in results["budget"].items())
    differing = results["settings_that_differ"].items()
    differ = "; ".join(
        f"{key} ({', '.join(dict.fromkeys(_value(value) for value in values.values()))})" for key, values in differing
    )
    images = {_images(arm) for arm in results["arms"] if arm.get("training_images")}
    data = results["data"]
    common = f"Every arm: {budget}, and the same {data.get('source', 'images')}"
    return [
        f"{common}{f', {images.pop()}' if len(images) == 1 else ''}.",
        *(f"{arm['name']}: {_images(arm)}." for arm in results["arms"] if len(images) > 1 and arm["training_images"]),
        *without_images(results["arms"]),
        *([f"Arms differ in: {differ}."] if differ else []),
        *tuning_in_words(results),
        *([f"UNEQUAL BUDGET: {', '.join(results['unequal_budget'])}."] if results["unequal_budget"] else []),
        *(f"Leak: {leak}{' (dropped)' if data['leaks_dropped'] else ''}" for leak in data.get("leaks", [])),
        f"equivalent: shown to differ by less than {results['margin']:g} either way; non-inferior: to lose less than "
        f"that; undecided: neither that nor a difference is shown.",
    ]  # fmt: skip


def _images(arm: dict[str, Any]) -> str:
    """Such as `280 negative, 102 + 94 positive training images`."""
    real, synthetic = arm["training_images"]["real"], arm["training_images"]["synthetic"]
    parts = [f"{count}{f' + {synthetic[name]}' if synthetic[name] else ''} {name}" for name, count in real.items()]
    made = f" (real + synthetic by {arm['augmentation']})" if any(synthetic.values()) else ""
    return f"training images {', '.join(parts)}{made}"


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = round(min(values)), round(max(values))
    return str(low) if low == high else f"{low} to {high}"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(value: float, *, sign: str = "") -> str:
    """Three digits, without the zero before them, which makes room for a table."""
    return format(round(value, 3) + 0.0, f"{sign}.3f").replace("0.", ".")


def _seed(word: str) -> int:
    from qhybrid.errors import InputError

    try:
        return int(word)
    except ValueError:
        raise InputError(f"--seeds: {word!r} is none; allowed are whole numbers, separated by commas") from None
