"""What becomes of hardware jobs, in words."""

from collections.abc import Sequence

from qhybrid.devices.job_row import JobRow

ENDED = ("collected", "failed", "cancelled")
"""States that no job leaves."""


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
