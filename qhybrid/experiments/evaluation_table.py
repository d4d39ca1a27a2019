"""Evaluations as tables and lines of text."""

from typing import Any

from rich.table import Table

from qhybrid.experiments.comparison import Comparison
from qhybrid.experiments.device_choice import noise_lines
from qhybrid.experiments.evaluation import Evaluation
from qhybrid.statistics import Interval

METRIC_NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "f1_binary": "F1, binary",
    "f1_macro": "F1, macro",
    "auc": "AUC",
}


def metrics_table(evaluation: Evaluation) -> Table:
    """The metrics as `value [low, high]`, beside the exact reference where there is one."""
    reference = evaluation.reference
    table = Table(title=_title(evaluation), title_justify="left")
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
    return table


def notes(evaluation: Evaluation) -> list[str]:
    """What belongs under the table: how the reference differs, what the circuit costs, what the noise is."""
    lines = []
    if evaluation.reference is not None:
        lines.append(deviations(evaluation.reference, len(evaluation.predictions.labels)))
    lines += [_isa_line(report) for report in evaluation.device.get("isa", [])[:1]]
    return lines + (noise_lines(evaluation.noise) if evaluation.noise else [])


def difference(comparison: Comparison, metric: str) -> str:
    """A paired difference with its interval."""
    low, high = comparison.intervals[metric]
    return f"{comparison.differences[metric]:+.3f} [{low:+.3f}, {high:+.3f}]"


def deviations(comparison: Comparison, n_samples: int) -> str:
    """How far predictions and expectation values are from the reference."""
    return (
        f"{comparison.flipped} of {n_samples} predictions flipped; expectation values differ from the exact ones by "
        f"{comparison.rms:.3f} RMS, {comparison.largest:.3f} at most"
    )


def _title(evaluation: Evaluation) -> str:
    on = evaluation.device.get("name", f"{evaluation.run.spec.model.head} head")
    parts = [on, *([evaluation.noise.label] if evaluation.noise else [])]
    shots = evaluation.device.get("shots")
    if shots:
        times = f"{len(evaluation.repeats)} x " if evaluation.repeats else ""
        parts.append(f"{times}{shots} shots")
    n_samples = len(evaluation.predictions.labels)
    return f"{evaluation.run.spec.name}: {evaluation.split} split (n = {n_samples}) on {', '.join(parts)}"


def _with_interval(value: float, interval: Interval) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _isa_line(report: dict[str, Any]) -> str:
    gate = str(report["two_qubit_gate"]).upper()
    return (
        f"circuit on the machine: {report['n_qubits']} qubits, {report['gates2q']} {gate}, "
        f"{1e6 * report['seconds']:.1f} us, success probability {100 * report['survival']:.0f} %"
    )
