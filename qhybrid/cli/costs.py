"""What a submission costs, as lines of text, for `qhybrid estimate` and `qhybrid submit`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qhybrid.devices.runtime_cost import RuntimeEstimate
    from qhybrid.experiments.hardware import Submission


def cost_lines(submission: "Submission", estimate: "RuntimeEstimate") -> list[str]:
    """Say what would be sent where, what it would cost, and whether the result would survive."""
    queue = "" if estimate.queue is None else f", {_count(estimate.queue, 'job')} in its queue"
    calibrated = (submission.calibration or "")[:16]
    lines = {
        "machine": f"{estimate.machine}, {submission.report.n_qubits} of its qubits in use"
        f"{f', calibrated {calibrated}' if calibrated else ''}{queue}",
        "job": f"{_count(estimate.jobs, 'job')}: {_count(estimate.circuits, 'circuit')}, {estimate.shots} shots each",
        "QPU time": f"about {duration(estimate.qpu_seconds)}: {estimate.assumptions}",
        "cost": _cost(estimate),
        "signal": submission.verdict,
    }
    return [f"{name:9} {text}" for name, text in lines.items()]


def cost_dict(submission: "Submission", estimate: "RuntimeEstimate") -> dict[str, Any]:
    """The same for `--json`."""
    return {
        "run": submission.run.path.as_posix(),
        "purpose": submission.purpose,
        "calibration": submission.calibration,
        **estimate.to_dict(),
        "isa": submission.report.to_dict(),
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
