"""What is known of hardware jobs while they are waited for, and what becomes of them, in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qhybrid.devices.job_row import JobRow
from qhybrid.errors import QHybridError

ENDED = ("collected", "failed", "cancelled")
"""States that no job leaves."""


@dataclass(frozen=True)
class Waiting:
    """What is known while a job is waited for.

    Args:
        rows: Of its parts.
        seconds: Waited so far.
        position: Place in the queue of the part that is next; None: in no queue, or the service does not say.
        trouble: What keeps us from hearing of it; empty: nothing.
    """

    rows: Sequence[JobRow]
    seconds: float
    position: int | None
    trouble: str


Progress = Callable[[Waiting], None]
"""Called after every question while a job is waited for."""


class StillRunning(QHybridError):
    """Waiting ended before the job did; the message says how to collect it."""


def ending(row: JobRow) -> str:
    """How a job ended without a result."""
    job = f"job {row.job_id or row.tag} on {row.backend}"
    if row.state == "lost":
        return f"{job} is lost: {row.error}; `qhybrid jobs forget {row.tag}` drops it"
    return f"{job} {'was cancelled' if row.state == 'cancelled' else 'failed'}: {row.error}"


def still(rows: Sequence[JobRow], waited: float, trouble: str) -> str:
    """That waiting ended before the jobs did, and how to collect them.

    Args:
        rows: Of the jobs that were waited for.
        waited: Seconds.
        trouble: What kept us from hearing of them; empty: nothing.
    """
    open_rows = [row for row in rows if row.state not in ENDED]
    what = ", ".join(f"{row.job_id or row.tag} is {row.state}" for row in open_rows)
    trouble = f" ({trouble})" if trouble else ""
    return (
        f"after {waited:.0f} s job {what} on {rows[0].backend}{trouble}; it goes on without this process: "
        f"`qhybrid jobs collect {open_rows[0].tag}` collects it"
    )
