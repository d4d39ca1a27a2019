"""What a submission costs, as lines of text, for `qhybrid estimate` and `qhybrid submit`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qhybrid.devices.runtime_cost import RuntimeEstimate
    from qhybrid.experiments.hardware import Submission


def cost_lines(submission: "Submission", estimate: "RuntimeEstimate") -> list[str]:
    """Say what would be sent where, at what cost, with mitigation and without, and whether the result would survive."""
    queue = "" if estimate.queue is None else f", {_count(estimate.queue, 'job')} in its queue"
    calibrated = (submission.calibration or "")[:16]
    lines = {
        "machine": f"{estimate.machine}, {submission.report.n_qubits} of its qubits in use"
        f"{f', calibrated {calibrated}' if calibrated else ''}{queue}",
        "job": f"{_count(estimate.jobs, 'job')}: {_circuits(submission, estimate)}",
        "QPU time": f"about {duration(estimate.qpu_seconds)}: {estimate.assumptions}",
    }
    if (plain := submission.estimate_unmitigated()) is not None:
        lines["without"] = (
            f"mitigation: {_count(plain.jobs, 'job')}, {_count(plain.circuits, 'circuit')}, {plain.executions} "
            f"executions, about {duration(plain.qpu_seconds)}; {submission.mitigation} takes "
            f"{estimate.qpu_seconds / plain.qpu_seconds:.1f} times as long"
        )
    lines |= {"cost": _cost(estimate), "signal": submission.verdict + _folded(submission)}
    return [f"{name:9} {text}" for name, text in lines.items()]


def cost_dict(submission: "Submission", estimate: "RuntimeEstimate") -> dict[str, Any]:
    """The same for `--json`."""
    plain = submission.estimate_unmitigated()
    return {
        "run": submission.run.path.as_posix(),
        "purpose": submission.purpose,
        "calibration": submission.calibration,
        **estimate.to_dict(),
        "mitigation": submission.mitigation,
        "noise_factors": list(submission.noise_factors),
        "unmitigated": None if plain is None else plain.to_dict(),
        "isa": submission.report.to_dict(),
        "folded": None if submission.folded_report is None else submission.folded_report.to_dict(),
        "verdict": submission.verdict,
    }


def duration(seconds: float) -> str:
    """A duration to read, such as `45 s`, `2 min 6 s` or `1 h 12 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cost(estimate: "RuntimeEstimate") -> str:
    if estimate.cost is None:
        return "unknown: the device file gives no price_per_second"
    unit = f" {estimate.currency}" if estimate.currency else ""
    return f"about {estimate.cost:.2f}{unit} at {estimate.price_per_second:g}{unit} a second, as the device file says"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _circuits(submission: "Submission", estimate: "RuntimeEstimate") -> str:
    """How many circuits with how many shots, and what they are for where that is not one thing."""
    factors, main = submission.noise_factors, estimate.circuits - estimate.readout_circuits
    said = _count(main, "circuit")
    if len(factors) > 1:
        said += f" ({main // len(factors)} at each of the noise factors {', '.join(map(str, factors))})"
    said += f", {estimate.shots} shots each"
    if estimate.readout_circuits:
        said += f", and {estimate.readout_circuits} that calibrate the readout, {estimate.readout_shots} shots each"
    return said if submission.mitigation is None else f"{said}; {estimate.executions} executions"


def _folded(submission: "Submission") -> str:
    """What is left of the signal where the noise is amplified most."""
    from qhybrid.circuits.isa import percent

    if (report := submission.folded_report) is None:
        return ""
    gates = f"{report.gates2q} {report.two_qubit_gate.upper()}"
    return f"; at noise factor {submission.noise_factors[-1]} with {gates}: {percent(report.survival)}"
