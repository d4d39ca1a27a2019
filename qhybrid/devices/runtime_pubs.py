"""What is sent: circuits as QPY and angles as NPZ on the disk, PUBs for the primitives."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, qpy
from qiskit.quantum_info import SparsePauliOp

from qhybrid.devices.job_row import JobRow
from qhybrid.devices.runtime_results import bases_of
from qhybrid.errors import InputError
from qhybrid.storage import read_arrays

CIRCUITS, ANGLES, READOUT = "circuits.qpy", "angles.npz", "readout.qpy"
"""Files of a job; the last one only where it calibrates the readout."""


def packed(circuits: Sequence[QuantumCircuit]) -> bytes:
    """Circuits as QPY."""
    with io.BytesIO() as file:
        qpy.dump(list(circuits), file)
        return file.getvalue()


def pubs(folder: Path, row: JobRow) -> list[Any]:
    """The PUBs of a job from its files: those that calibrate the readout, and one for each measurement basis.

    Args:
        folder: With the job's files.
        row: The job.

    Raises:
        InputError: A file is damaged.
    """
    circuits = _circuits(folder / CIRCUITS)
    angles = angles_sent(folder)
    if row.layout["primitive"] == "sampler":
        readout = row.layout.get("readout")
        first = [(each, np.zeros((1, 0)), readout["shots"]) for each in _circuits(folder / READOUT)] if readout else []
        return [*first, *((circuit, _of(circuit, angles), row.shots) for circuit in circuits)]
    return [
        (circuit, [[operator] for operator in _operators(circuit, row, index)], _of(circuit, angles))
        for index, circuit in enumerate(circuits)
    ]


def angles_sent(folder: Path) -> NDArray[np.float64]:
    """The angles of a job, shape (B, P) in radians.

    Raises:
        InputError: The file is missing or damaged.
    """
    return read_arrays(folder / ANGLES, ("angles",))["angles"]


def _circuits(path: Path) -> list[QuantumCircuit]:
    try:
        with path.open("rb") as file:
            return list(qpy.load(file))
    except Exception as error:  # qpy raises a dozen kinds for damaged files
        raise InputError(f"{path}: missing or damaged ({type(error).__name__})") from None


def _of(circuit: QuantumCircuit, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The columns of the angles that a circuit uses, in the order of its parameters."""
    return angles[:, [int(parameter.index) for parameter in circuit.parameters]]


def _operators(circuit: QuantumCircuit, row: JobRow, index: int) -> list[Any]:
    """The observables of a basis, which the circuit turns into Z, on the physical qubits where they are measured."""
    basis, places = bases_of(row.layout)[index], row.layout["measured"][index]
    qubit = dict(zip(basis.wires, places, strict=True))
    words = [row.layout["observables"][member].split() for member in basis.members]
    return [
        SparsePauliOp.from_sparse_list(
            [("Z" * len(word), [qubit[int(factor[1:])] for factor in word], 1.0)], num_qubits=circuit.num_qubits
        )
        for word in words
    ]
