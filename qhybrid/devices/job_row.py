"""What is known of a hardware job, the states that it goes through, and who is at work on it."""

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil  # type: ignore[import-untyped]

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "prepared": ("submitting", "cancelled"),
    "submitting": ("submitting", "prepared", "queued", "failed", "cancelled", "lost"),
    "queued": ("running", "done", "failed", "cancelled", "lost"),
    "running": ("queued", "done", "failed", "cancelled", "lost"),
    "done": ("collected", "lost"),
    "lost": ("submitting", "queued", "cancelled"),
    "failed": (),
    "cancelled": (),
    "collected": (),
}
"""State -> the states that may follow. `prepared`: written, not sent; `submitting`: one process is sending it;
`queued`, `running`, `done`, `failed`, `cancelled`: what the service says; `lost`: the service does not know it;
`collected`: the raw result is on disk."""
OPEN = ("prepared", "submitting", "queued", "running", "done", "lost")
"""States in which a job may still give a result."""


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class JobRow:
    """One job.

    Args:
        backend: The machine.
        circuit: Name of the circuit.
        settings: Options of the device; never credentials.
        layout: What turns the raw result into expectation values: primitive, observables and measurement bases; and
            what the circuits cost on the machine (ISA reports). Under `readout` the same of circuits that calibrate the
            readout in this job, with their shots.
        digest: Of the circuit, the angles and the shots of the whole batch: equal for equal work.
        circuits: Rows of angles times measurement bases, and the circuits that calibrate the readout.
        shots: Shots of each of them, but for the calibration.
        tag: The job's own, under which the service knows it.
        batch: Jobs that were cut from one batch of angles share it.
        part: Place of this job in its batch.
        parts: Jobs of the batch.
        run: Folder of the run that it belongs to; empty: none.
        purpose: What it is for, such as `evaluation` or `gradient step 12`.
        device: Name of the device.
        estimate: QPU seconds expected.
        state: A key of `TRANSITIONS`.
        job_id: IBM's; None before it is known.
        session_id: IBM's, of the session or batch that it was sent in.
        created: When the row was written; all times are ISO 8601, UTC.
        submitted: When the service had it.
        finished: When the service said that it ended.
        collected: When the raw result was saved.
        attempts: Times that sending was begun.
        owner: Who is sending it: host, process id, start of the process.
        claimed: When that began.
        usage: QPU seconds that the service reports.
        calibration_at_submit: Date of the machine's calibration.
        calibration_at_collect: The same when the result was fetched.
        error: Why it failed.
        request: What its result is to be turned into, for whoever asked for the job.
    """

    backend: str
    circuit: str
    settings: Mapping[str, Any]
    layout: Mapping[str, Any]
    digest: str
    circuits: int
    shots: int
    tag: str = field(default_factory=lambda: f"qhybrid-{secrets.token_hex(12)}")
    batch: str = ""
    part: int = 0
    parts: int = 1
    run: str = ""
    purpose: str = ""
    device: str = "qiskit.remote"
    estimate: float | None = None
    state: str = "prepared"
    job_id: str | None = None
    session_id: str | None = None
    created: str = field(default_factory=now)
    submitted: str | None = None
    finished: str | None = None
    collected: str | None = None
    attempts: int = 0
    owner: str | None = None
    claimed: str | None = None
    usage: float | None = None
    calibration_at_submit: str | None = None
    calibration_at_collect: str | None = None
    error: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def executions(self) -> int:
        """Circuits times their shots."""
        readout = self.layout.get("readout")
        if readout is None:
            return self.circuits * self.shots
        n_readout = len(readout["bases"])
        return (self.circuits - n_readout) * self.shots + n_readout * int(readout["shots"])

    @property
    def short(self) -> str:
        """The beginning of its tag, which is enough to name it."""
        return self.tag.removeprefix("qhybrid-")[:8]


def this_process() -> str:
    """Host, process id and start of this process."""
    process = psutil.Process()
    return f"{socket.gethostname()} {process.pid} {process.create_time():.2f}"


def is_this_process(owner: str | None) -> bool:
    """Whether a job was claimed by this process, or by an earlier one of the same process id."""
    return owner is not None and owner.rsplit(" ", 1)[0] == this_process().rsplit(" ", 1)[0]


def may_be_alive(owner: str | None) -> bool:
    """Whether the process that claimed a job may still be at work; on another host, always."""
    host, pid, started = (owner or "- 0 0").rsplit(" ", 2)
    if host != socket.gethostname():
        return owner is not None
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:  # dead, and its parent has not looked
            return False
        return bool(abs(process.create_time() - float(started)) < 2)  # clocks are adjusted
    except psutil.Error:
        return False
