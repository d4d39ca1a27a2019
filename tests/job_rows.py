"""Rows of a ledger for tests."""

from dataclasses import replace

from qhybrid.devices.job_row import JobRow


def row(**changes: object) -> JobRow:
    """A new job of three circuits, with these columns."""
    new = JobRow(
        backend="ibm_fez", circuit="angle_4q", settings={"shots": 100}, layout={"bases": []}, digest="d",
        circuits=3, shots=100,
    )  # fmt: skip
    return replace(new, **changes)  # type: ignore[arg-type]
