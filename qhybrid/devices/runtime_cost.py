"""What a batch costs on a machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qhybrid.devices.job_row import JobRow
from qhybrid.errors import InputError

SECONDS_PER_JOB = 2.0
"""QPU seconds that IBM's own formula adds to every job
(https://quantum.cloud.ibm.com/docs/guides/estimate-job-run-time)."""
REP_DELAY = 250e-6
"""Seconds between two executions where the machine does not say its own."""
UNFINISHED = ("prepared", "submitting", "queued", "running")
"""States of a job whose usage is not known yet."""


@dataclass(frozen=True)
class RuntimeEstimate:
    """What a batch costs on a machine, before it is sent.

    Args:
        machine: Its name.
        jobs: Jobs that the batch makes.
        circuits: Rows of angles times measurement bases, and those that calibrate the readout.
        shots: Of each circuit, but for the calibration.
        circuit_seconds: Duration of one execution, readout included; the mean over all of them.
        rep_delay: Seconds between two executions.
        primitive: `sampler` or `estimator`.
        queue: Jobs that wait for the machine now; None: it does not say.
        price_per_second: As the device file gives it; None: it gives none.
        currency: Of the price.
    """

    machine: str
    jobs: int
    circuits: int
    shots: int
    circuit_seconds: float
    rep_delay: float
    primitive: str
    queue: int | None
    price_per_second: float | None
    currency: str
    readout_circuits: int = 0
    """Circuits that calibrate the readout."""
    readout_shots: int = 0
    """Of each of them."""

    @property
    def executions(self) -> int:
        """Circuits times their shots."""
        return (self.circuits - self.readout_circuits) * self.shots + self.readout_circuits * self.readout_shots

    @property
    def qpu_seconds(self) -> float:
        """By IBM's formula: an overhead for every job, and delay and duration of every execution."""
        return self.jobs * SECONDS_PER_JOB + self.executions * (self.rep_delay + self.circuit_seconds)

    @property
    def cost(self) -> float | None:
        """QPU seconds times the price; None without a price."""
        return None if self.price_per_second is None else self.qpu_seconds * self.price_per_second

    @property
    def assumptions(self) -> str:
        """What the seconds are made of, in one sentence."""
        said = (
            f"{SECONDS_PER_JOB:g} s a job + ({1e6 * self.rep_delay:.0f} us + {1e6 * self.circuit_seconds:.1f} us) an "
            "execution (IBM's formula; what IBM bills may differ)"
        )
        return said if self.primitive == "sampler" else f"{said}, without what the estimator's mitigation adds"

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, and `executions`, `qpu_seconds`, `cost` and `assumptions`."""
        return {
            **vars(self), "executions": self.executions, "qpu_seconds": self.qpu_seconds, "cost": self.cost,
            "assumptions": self.assumptions,
        }  # fmt: skip


def check_budget(device: str, budget_seconds: float, seconds: float, rows: Sequence[JobRow]) -> None:
    """Raise an InputError if jobs would exceed a budget.

    Args:
        device: Name, for errors.
        budget_seconds: QPU seconds that may be used.
        seconds: Expected of the new jobs.
        rows: All jobs that count: what the service reported, or what is expected of those that are on their way.
    """
    spent = sum(row.usage or 0.0 for row in rows)
    spent += sum(row.estimate or 0.0 for row in rows if row.usage is None and row.state in UNFINISHED)
    if spent + seconds > budget_seconds:
        raise InputError(
            f"{device}: about {seconds:.0f} QPU seconds more would exceed budget_seconds = {budget_seconds:g}: "
            f"{spent:.0f} are spent or on their way (`qhybrid jobs list`)"
        )
