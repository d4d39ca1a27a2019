"""A batch of angles as rows and files of the ledger, one for each job that it takes."""

import io
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.devices.job_row import JobRow, now
from qhybrid.devices.runtime_program import ReadoutCalibration, RuntimeProgram
from qhybrid.devices.runtime_pubs import ANGLES, CIRCUITS, READOUT

Seconds = Callable[[int, ReadoutCalibration | None], float]
"""Rows of angles in a job, and the calibration of the readout in it -> the QPU seconds expected."""
Files = dict[str, dict[str, bytes]]
"""Tag -> name -> content."""


def jobs_of_batch(
    program: RuntimeProgram,
    angles: NDArray[np.float64],
    shots: int,
    readout: ReadoutCalibration | None,
    seconds: Seconds,
    **columns: Any,
) -> tuple[list[JobRow], Files]:
    """The jobs of a batch, none sent.

    Args:
        program: What runs.
        angles: Shape (B, P) in radians.
        shots: For every row and measurement basis.
        readout: Circuits for the first job, which measure the readout errors; None: none.
        seconds: What a job is expected to take.
        **columns: What all rows have in common.
    """
    rows, files = [], Files()
    lengths = program.jobs_of(len(angles), shots, readout)
    batch, created = f"batch-{secrets.token_hex(8)}", now()
    for index, part in enumerate(np.split(angles, np.cumsum(lengths)[:-1])):
        own = readout if index == 0 else None
        row = JobRow(
            circuit=program.circuit.name,
            layout=program.layout(len(part)) | ({} if own is None else {"readout": own.layout()}),
            circuits=len(part) * len(program.isa) + (0 if own is None else own.circuits),
            shots=shots,
            created=created,
            batch=batch,
            part=index,
            parts=len(lengths),
            estimate=seconds(len(part), own),
            calibration_at_submit=program.calibration,
            **columns,
        )
        rows.append(row)
        with io.BytesIO() as file:
            np.savez(file, angles=part)
            files[row.tag] = {CIRCUITS: program.qpy, ANGLES: file.getvalue()}
        if own is not None:
            files[row.tag][READOUT] = own.program.qpy
    return rows, files
