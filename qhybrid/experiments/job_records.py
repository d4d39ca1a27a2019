"""What is said of the jobs of an evaluation: in its results, in their names, and to whoever sent them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from qhybrid.circuits.isa import IsaReport, verdict, worst
from qhybrid.devices.job_row import JobRow
from qhybrid.devices.mitigation_combine import RECIPE
from qhybrid.devices.runtime_jobs import Job
from qhybrid.experiments.measurement import device_name, evaluation_name


def name_of(row: JobRow) -> str:
    """Name of the evaluation that a job is for, and of its files."""
    asked = {key: row.request[key] for key in ("split", "limit", "repeats", "seed")}
    mitigation = row.request.get(RECIPE, {}).get("label")
    return evaluation_name(device_name(row.device, row.backend, row.shots, mitigation), **asked)


def describe_jobs(rows: Sequence[JobRow]) -> dict[str, Any]:
    """What a result from a machine says about it: the machine, its calibration, mitigation, jobs and what they cost."""
    row = rows[0]
    how = row.request.get(RECIPE)
    circuit, bases = (row.circuit, None) if how is None else (how["circuit"], len(how["readings"]))  # not folded
    isa = row.layout["isa"][:bases]
    reports = [IsaReport(**{key: value for key, value in each.items() if key != "level"}) for each in isa]
    dates = {date for each in rows for date in (each.calibration_at_submit, each.calibration_at_collect) if date}
    used = [each.usage for each in rows if each.usage is not None]
    columns = ("tag", "job_id", "created", "submitted", "finished", "collected", "circuits", "estimate", "usage")
    return {
        "name": row.device,
        "machine": row.backend,
        "mitigation": None if how is None else how["label"],
        "diff_method": None,
        "shots": row.shots,
        "noise": None,
        "settings": dict(row.settings),
        "isa": [report.to_dict() for report in reports],
        "verdict": verdict(worst(reports), circuit, row.backend),
        "calibrations": sorted(dates),
        "jobs": [{column: getattr(each, column) for column in columns} for each in rows],
        "tracker": {
            "jobs": len(rows),
            "circuits": sum(each.circuits for each in rows),
            "shots": sum(each.executions for each in rows),
            **({"qpu_seconds": sum(used)} if used else {}),
        },
    }


def goes_on(rows: Sequence[JobRow]) -> str:
    """What happens to a job whose process stops waiting."""
    row = rows[0]
    there = "is in the ledger" if row.job_id is None else f"{row.job_id} on {row.backend} goes on without this process"
    return f"interrupted; job {there}: `qhybrid jobs collect {row.short}` collects it"


def was_sent(job: Job) -> str:
    """That an evaluation is not sent a second time."""
    row = job.rows[0]
    return (
        f"this evaluation was sent before (job {row.job_id or row.tag}, {row.created[:16]}, {row.state}) and is taken "
        "up, not sent again; another --seed sends it anew"
    )


def elapsed(rows: Sequence[JobRow]) -> float:
    """Seconds from the first row to the last result."""
    start = datetime.fromisoformat(min(row.created for row in rows))
    end = datetime.fromisoformat(max(row.collected or row.created for row in rows))
    return (end - start).total_seconds()
