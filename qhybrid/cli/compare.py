"""`qhybrid compare`: a trained run over a grid of devices, noise and shots."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.experiments.grid_comparison import GridComparison


def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN...]", help="Run folders; the newest complete run without them.")
    ] = None,
    devices: Annotated[str, typer.Option(help="Devices, separated by commas.")] = "qhybrid.density",
    noise: Annotated[
        str, typer.Option(help="Noise models, separated by commas; `none` for none.")
    ] = "none,ibm_fez,ibm_torino,ibm_brisbane",
    shots: Annotated[str, typer.Option(help="Shots, separated by commas; `exact` for exact values.")] = "exact,1024",
    noise_scale: Annotated[str, typer.Option(help="Factors on the rates of the noise, separated by commas.")] = "1",
    repeats: Annotated[int, typer.Option(min=1, max=10_000, help="Independent draws of the shots.")] = 10,
    mitigation: Annotated[
        str | None,
        typer.Option(
            help="Ways to mitigate errors, separated by commas, + for both: none,readout,zne:richardson,readout+zne."
        ),
    ] = None,
    adapt: Annotated[
        str,
        typer.Option(
            help="What is fitted anew to the training split under each condition, separated by commas: none, head (the "
            "last layer), rescale (the expectation values)."
        ),
    ] = "none",
    margin: Annotated[float, typer.Option(help="Loss of a metric that would matter.")] = 0.02,
    attribution: Annotated[
        bool, typer.Option(help="Take the noise apart: one part at a time, and all but one.")
    ] = True,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: options.Limit = None,
    layout_seeds: options.LayoutSeeds = None,
    seed: Annotated[int, typer.Option(help="Seed of the shots and of the bootstrap.")] = 0,
    executor: options.ExecutorName = "processes",
    workers: options.Workers = None,
    scheduler: options.Scheduler = None,
    root: Annotated[Path, typer.Option("--runs", help="Folder of the runs, for finding the newest.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Compare a trained run over devices, noise and shots: what each condition costs the diagnosis, and why.

    Every cell of the grid is computed once and kept in the run's folder; what was interrupted goes on. A run that
    differs from another one given only in the noise it was trained through is shown as a remedy of that one.
    """
    from qhybrid.experiments.executors import Executor
    from qhybrid.experiments.grid import grid
    from qhybrid.experiments.grid_comparison import compare_runs
    from qhybrid.experiments.runs import open_run

    opened = [open_run(run) for run in runs] if runs else [open_run(None, root=root)]
    cells, left_out = grid(
        _words(devices),
        [None if word.lower() == "none" else word for word in _words(noise)],
        [_number("--noise-scale", word, float) for word in _words(noise_scale)],
        [None if word.lower() == "exact" else _number("--shots", word, int) for word in _words(shots)],
        repeats=repeats,
        mitigations=[None] if mitigation is None else [word.replace("+", ",") for word in _words(mitigation)],
        adaptations=_words(adapt),
        layout_seeds=layout_seeds,
    )
    compared = compare_runs(
        opened,
        cells,
        split=split,
        limit=limit,
        seed=seed,
        margin=margin,
        attribute=attribution,
        left_out=left_out,
        executor=Executor("dask" if scheduler else executor, workers, scheduler),
    )
    if as_json:
        options.print_json(compared.to_dict())
    else:
        _show(compared)


def _show(compared: "GridComparison") -> None:
    """Print the tables: conditions, attribution, thresholds."""
    cells = compared.cells
    several = len({cell["run"] for cell in cells}) > 1
    devices = {cell["cell"]["device"] for cell in cells}
    metrics = cells[0]["metrics"]
    exact = "" if several else ", ".join(f"{name} {metrics[name]['exact']:.3f}" for name in ("accuracy", "auc"))
    options.print_table(
        f"{cells[0]['split']} split, n = {cells[0]['n_samples']}, on {', '.join(sorted(devices))}; difference to exact "
        f"values without noise{f' ({exact})' if exact else ''}",
        [
            *(["run"] if several else []),
            *(["device"] if len(devices) > 1 else []),
            "noise", "shots", "accuracy", "difference [95 %]", "p", "AUC", "difference [95 %]", "p", "flipped", "ECE",
            "signal",
        ],
        [
            [
                *([Path(cell["run"]).name] if several else []),
                *([cell["cell"]["device"]] if len(devices) > 1 else []),
                *_numbers(cell),
            ]
            for cell in cells
        ],
    )  # fmt: skip
    if compared.attributions:
        options.print_table(
            "what costs how much, at full strength (loss of the metric, RMS error of the expectation values)",
            ["noise", "part", "AUC, alone", "won back without it", "accuracy, alone", "RMS, alone", "without it"],
            [
                [
                    each.noise if len(devices) == 1 else f"{each.device}, {each.noise}",
                    each.part,
                    _signed(each.alone["auc"]),
                    "" if each.removed is None else _signed(each.removed["auc"]),
                    _signed(each.alone["accuracy"]),
                    f"{each.rms_alone:.3f}",
                    "" if each.rms_removed is None else f"{each.rms_removed:.3f}",
                ]
                for each in compared.attributions
            ],
        )
    if compared.recoveries:
        _show_recoveries(compared, devices=len(devices))
    if compared.thresholds:
        options.print_table(
            f"where a loss of {compared.margin:g} begins",
            ["noise", "at", "what"],
            [
                [
                    (each.noise or "none") if len(devices) == 1 else f"{each.device}, {each.noise or 'none'}",
                    f"noise x{each.at:g}" if each.kind == "shots" else f"{each.at or 'exact'} shots",
                    each.says,
                ]
                for each in compared.thresholds
            ],
        )
    for problem in compared.left_out:
        print(f"left out: {problem}")
    print(
        "p: paired bootstrap over samples and repeats, corrected by Holm over all cells (with so many, never below "
        f"{compared.smallest_p:.2g});\nsignal: slope of noisy against exact expectation values. "
        f"{compared.computed} cells computed now, the others were there."
    )
    print(f"results  {compared.path}")


def _show_recoveries(compared: "GridComparison", *, devices: int) -> None:
    """Print what mitigation, adaptation and training through the noise win back, and what each costs, run by run."""
    runs = list(dict.fromkeys(each.run for each in compared.recoveries))
    for run in runs:
        of_run = [each for each in compared.recoveries if each.run == run]
        options.print_table(
            f"what wins back how much{f', {Path(run).name}' if len(runs) > 1 else ''}: difference to the same without "
            "it, on the same images (RMS: error of expectation values)",
            ["noise", "shots", "what", "accuracy [95 %]", "p", "AUC [95 %]", "p", "RMS", "", "shots x", "shots once"],
            [
                [
                    _noise(each.noise if devices == 1 else f"{each.device}, {each.noise or 'none'}", each.noise_scale),
                    str(each.shots or "exact"),
                    each.what,
                    *_gain(each.gain["accuracy"]),
                    *_gain(each.gain["auc"]),
                    "" if each.rms is None else " -> ".join(f"{rms:.3f}".lstrip("0") for rms in each.rms),
                    "worse" if each.worse_in else "",
                    "" if each.shots_factor is None else f"{each.shots_factor:.1f}",
                    "unknown" if each.shots_once is None else f"{each.shots_once:,}",
                ]
                for each in of_run
            ],
        )
    for line in dict.fromkeys(each.caution for each in compared.recoveries):
        if line is not None:
            print(line)
    print(
        "worse: accuracy, AUC or expectation values, by chance or not (p: corrected by Holm over all rows, with so "
        f"many never below {compared.smallest_recovery_p:.2g});\nshots once: for the fit, or for the training, which a "
        "simulator does without shots of a machine."
    )
    print()


def _numbers(cell: dict[str, Any]) -> list[str]:
    from qhybrid.experiments.adaptation_fits import DONE

    place, metrics = cell["cell"], cell["metrics"]
    noise = _noise(place["noise"], place["noise_scale"])
    if place["mitigation"] not in (None, "none"):
        noise += f", {place['mitigation'].replace(',', ' + ')}"
    if place.get("adapt") is not None:
        noise += f", {DONE[place['adapt']]}"
    row = [noise, str(place["shots"] or "exact")]
    for name in ("accuracy", "auc"):
        each = metrics[name]
        row += [f"{each['value']:.3f}", *_gain(each | {"interval": each["difference_interval"]})]
    slopes = [slope for slope in cell["signal"]["slope"] if slope is not None]
    return [
        *row,
        f"{cell['flipped']['mean']:.1f}",
        f"{cell['calibration']['ece']['value']:.3f}",
        f"{sum(slopes) / len(slopes):.2f}" if slopes else "",
    ]


def _noise(noise: str | None, scale: float) -> str:
    return (noise or "none") + ("" if scale == 1 else f" x{scale:g}")


def _gain(test: dict[str, Any]) -> list[str]:
    low, high = (_signed(limit).replace("0.", ".") for limit in test["interval"])
    return [f"{_signed(test['difference'])} [{low}, {high}]", f"{test['p_holm']:.2g}"]


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(option: str, word: str, kind: Any) -> Any:
    from qhybrid.errors import InputError

    try:
        return kind(word)
    except ValueError:
        what = "whole numbers, or `exact`" if kind is int else "numbers"
        raise InputError(f"{option}: {word!r} is none; allowed are {what}, separated by commas") from None
