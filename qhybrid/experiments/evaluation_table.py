"""Evaluations as tables and lines of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from qhybrid.experiments.adaptation import Adaptation
from qhybrid.experiments.comparison import Comparison
from qhybrid.experiments.device_choice import noise_lines
from qhybrid.experiments.measurement import Evaluation
from qhybrid.statistics import Interval

METRIC_NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "f1_binary": "F1, binary",
    "f1_macro": "F1, macro",
    "auc": "AUC",
}


def metrics_table(evaluation: Evaluation) -> Group:
    """The metrics as `value [low, high]`, beside the exact reference where there is one."""
    reference = evaluation.reference
    table = _narrow_table()
    table.add_column("metric")
    table.add_column("value [95 %]", justify="right")
    if evaluation.repeats:
        table.add_column("one repeat", justify="right")
    if reference is None:
        table.add_column("interval")
    else:
        table.add_column("exact", justify="right")
        table.add_column("difference [95 %]", justify="right")
    for metric, value in evaluation.metrics.items():
        interval, kind = evaluation.interval(metric)
        row = [METRIC_NAMES[metric], _with_interval(value, interval)]
        if evaluation.repeats:
            mean, deviation = evaluation.spread(metric)
            row.append(f"{mean:.3f} ± {deviation:.3f}")
        row += [kind] if reference is None else [f"{reference.reference[metric]:.3f}", difference(reference, metric)]
        table.add_row(*row)
    return Group(_title(evaluation), table)


def adaptation_table(adaptation: Adaptation) -> Group:
    """The metrics exact, noisy and adapted, with the paired differences that the adaptation makes and leaves."""
    reference = adaptation.adapted.reference
    assert reference is not None
    table = _narrow_table(space=0)
    table.add_column("metric")
    for column in ("exact", "noisy", "adapted", "adapted - noisy [95 %]", "adapted - exact [95 %]"):
        table.add_column(column, justify="right")
    for metric, value in adaptation.adapted.metrics.items():
        values = (reference.reference[metric], adaptation.noisy.metrics[metric], value)
        table.add_row(
            METRIC_NAMES[metric],
            *[f"{each:.3f}" for each in values],
            difference(adaptation.gain, metric),
            difference(reference, metric),
        )
    return Group(_title(adaptation.noisy), table)


def adaptation_notes(adaptation: Adaptation) -> list[str]:
    """What belongs under the table: what was fitted on what, and what stands under an evaluation."""
    numbers = adaptation.fit.numbers
    what = {
        "head": "last layer refitted to the labels of {n} training samples; C = {C:.3g} from the validation split",
        "rescale": "expectation values rescaled by a fit on {n} training samples without labels: RMS error "
        "{rms_before:.3f} -> {rms_after:.3f}",
    }[adaptation.method]
    return [
        what.format(n=adaptation.n_training, **numbers),
        f"noisy against exact: {deviations(adaptation.noisy)}",
        f"adapted against exact: {deviations(adaptation.adapted)}",
        *device_notes(adaptation.noisy),
    ]


def notes(evaluation: Evaluation) -> list[str]:
    """What belongs under the table: how the reference differs, what the circuit costs, what the noise is."""
    lines = [] if evaluation.reference is None else [f"against exact values without noise: {deviations(evaluation)}"]
    if evaluation.repeats:
        shots = f"{len(evaluation.repeats)} x {evaluation.device.get('shots')} shots"
        lines.append(f"value: from the mean of all {shots}; one repeat: what a single one of them gives, mean ± spread")
    if evaluation.baseline is not None and "scale" in evaluation.baseline:
        lines.append(_kernel_note(evaluation.baseline))
    if evaluation.adapted_at_test is not None:
        lines += adapted_notes(evaluation)
    return lines + device_notes(evaluation)


def adapted_notes(evaluation: Evaluation) -> list[str]:
    """How the CNN was adapted to the images that are tested, and the paired differences that this makes."""
    adapted = evaluation.adapted_at_test
    assert adapted is not None
    before, after = adapted["entropy"]
    differences = [
        f"{METRIC_NAMES[metric]} {_signed(each['difference'])} [{', '.join(map(_signed, each['paired_bootstrap']))}]"
        for metric, each in adapted["against_the_run_as_it_is"]["metrics"].items()
        if metric in ("accuracy", "auc")
    ]
    return [
        f"adapted at test: the {adapted['layers']} batch normalisations of the CNN take their statistics from the test "
        f"images, and {adapted['parameters']} of its parameters were trained on the entropy of the predictions, "
        f"without labels: {adapted['steps']} passes, learning rate {adapted['learning_rate']:g}; entropy {before:.3f} "
        f"-> {after:.3f}",
        f"against the run as it is: {', '.join(differences)}; "
        f"{adapted['against_the_run_as_it_is']['flipped_predictions']} predictions changed",
    ]


def _kernel_note(baseline: Mapping[str, Any]) -> str:
    """What a kernel was fitted to, and what was chosen on the validation split."""
    clipped, share = baseline["negative_eigenvalues"], baseline["negative_share"]
    return (
        f"fitted to {baseline['training_samples']} training samples; scale {baseline['scale']:g} and C = "
        f"{baseline['C']:g} from {baseline['validation_samples']} validation samples"
        + (f"; {clipped} negative eigenvalues of the Gram matrix ({share:.1%}) set to 0" if clipped else "")
    )


def device_notes(evaluation: Evaluation) -> list[str]:
    """What the circuit costs on the machine, what its noise is, and what jobs were sent to it."""
    device = evaluation.device
    verdict = device.get("verdict")
    mitigation = [f"mitigation: {device['mitigation']}"] if device.get("mitigation") else []
    mitigation += [device["remark"]] if device.get("remark") else []
    noise = noise_lines(evaluation.noise) if evaluation.noise else []
    jobs = job_notes(device.get("jobs", []), device.get("calibrations", []))
    return [*([verdict] if verdict else []), *mitigation, *noise, *jobs]


def job_notes(jobs: Sequence[Mapping[str, Any]], calibrations: Sequence[str]) -> list[str]:
    """Which jobs a result comes from, what they used, and whether the machine was calibrated anew meanwhile."""
    if not jobs:
        return []
    used = [job["usage"] for job in jobs if job["usage"] is not None]
    seconds = f", {sum(used):.1f} QPU seconds" if used else ""
    ids = ", ".join(str(job["job_id"]) for job in jobs)
    lines = [f"{'job' if len(jobs) == 1 else 'jobs'} {ids}, sent {jobs[0]['submitted'][:16]}{seconds}"]
    if len(calibrations) > 1:
        dates = " and ".join(date[:16] for date in calibrations)
        lines.append(f"the machine was calibrated anew between submission and result: {dates}")
    elif calibrations:
        lines[0] += f", calibration of {calibrations[0][:16]}"
    return lines


def difference(comparison: Comparison, metric: str) -> str:
    """A paired difference with its interval."""
    low, high = comparison.intervals[metric]
    return f"{_signed(comparison.differences[metric])} [{_signed(low)}, {_signed(high)}]"


def deviations(evaluation: Evaluation) -> str:
    """How far predictions and expectation values are from the exact reference."""
    reference = evaluation.reference
    assert reference is not None
    return (
        f"{reference.flipped} of {len(evaluation.predictions.labels)} predictions flipped, expectation values off by "
        f"{reference.rms:.3f} RMS, {reference.largest:.3f} at most"
    )


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # the sum turns -0.0 into 0.0


def _narrow_table(*, space: int = 1) -> Table:
    """An empty table whose columns stand so close that all fit into eighty characters."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, space, 0, 0))


def on_what(evaluation: Evaluation) -> str:
    """Device, machine and shots, as in `qhybrid.density, ibm_torino, 3 x 1024 shots`."""
    head = f"{evaluation.run.spec.model.head} head" if evaluation.baseline is None else evaluation.baseline["name"]
    on = evaluation.device.get("name", head)
    if evaluation.baseline is not None and evaluation.device:
        on = f"{head}, {on}"
    machine = evaluation.noise.label if evaluation.noise else evaluation.device.get("machine")
    parts = [on, *(["adapted at test"] if evaluation.adapted_at_test else []), *([machine] if machine else [])]
    shots = evaluation.device.get("shots")
    if shots:
        times = f"{len(evaluation.repeats)} x " if evaluation.repeats else ""
        parts.append(f"{times}{shots} shots")
    return ", ".join(parts)


def _title(evaluation: Evaluation) -> Text:
    n_samples = len(evaluation.predictions.labels)
    said = f"{evaluation.run.spec.name}: {evaluation.split} split (n = {n_samples}) on {on_what(evaluation)}"
    return Text(said, style="bold")


def _with_interval(value: float, interval: Interval) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
