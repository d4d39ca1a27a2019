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

    Every cell of the grid is computed once and kept in the run's folder; what was interrupted goes on.
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
        options.print_table(
            "what mitigation recovers (loss and RMS error, without -> with)",
            ["noise", "shots", "mitigation", "RMS", "", "loss of AUC", "loss of accuracy", "shots, times"],
            [
                [
                    each.noise if each.noise_scale == 1 else f"{each.noise} x{each.noise_scale:g}",
                    each.shots or "exact",
                    each.mitigation,
                    f"{each.rms[0]:.3f} -> {each.rms[1]:.3f}",
                    "worse" if each.worse else "",
                    *(" -> ".join(_signed(loss) for loss in each.loss[metric]) for metric in ("auc", "accuracy")),
                    "" if each.shots_factor is None else f"{each.shots_factor:.1f}",
                ]
                for each in compared.recoveries
            ],
        )
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


def _numbers(cell: dict[str, Any]) -> list[str]:
    place, metrics = cell["cell"], cell["metrics"]
    noise = place["noise"] or "none"
    if place["noise_scale"] != 1:
        noise += f" x{place['noise_scale']:g}"
    if place["mitigation"] not in (None, "none"):
        noise += f", {place['mitigation'].replace(',', ' + ')}"
    row = [noise, str(place["shots"] or "exact")]
    for name in ("accuracy", "auc"):
        each = metrics[name]
        low, high = (_signed(limit).replace("0.", ".") for limit in each["difference_interval"])
        row += [f"{each['value']:.3f}", f"{_signed(each['difference'])} [{low}, {high}]", f"{each['p_holm']:.2g}"]
    slopes = [slope for slope in cell["signal"]["slope"] if slope is not None]
    return [
        *row,
        f"{cell['flipped']['mean']:.1f}",
        f"{cell['calibration']['ece']['value']:.3f}",
        f"{sum(slopes) / len(slopes):.2f}" if slopes else "",
    ]


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
