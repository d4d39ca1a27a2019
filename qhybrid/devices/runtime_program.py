"""A circuit as it is sent to a machine, how much of a batch fits into one job, and what makes two batches the same."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.transpile import IsaCircuit
from qhybrid.devices.runtime_pubs import packed
from qhybrid.devices.runtime_results import layout_of

MAX_EXECUTIONS = 10_000_000
"""Circuits times shots in a job (https://quantum.cloud.ibm.com/docs/guides/job-limits)."""
MAX_INSTRUCTIONS = 26_800_000
"""Instructions on one qubit, over all circuits of a job (same page)."""
MAX_PAYLOAD = 50_000_000
"""Bytes of a job's request."""
BYTES_PER_ANGLE = 11
"""Of a request: eight bytes in base 64."""


@dataclass(frozen=True, eq=False)
class RuntimeProgram:
    """A circuit as it is sent.

    Args:
        isa: One circuit for each measurement basis.
        qpy: These in bytes.
        primitive: `sampler`, or `estimator`, whose circuits are not measured.
        calibration: Date of the calibration that the layout was chosen for.
    """

    isa: tuple[IsaCircuit, ...]
    qpy: bytes
    primitive: str
    calibration: str | None

    @property
    def circuit(self) -> Circuit:
        """The circuit that was laid out."""
        return self.isa[0].circuit

    def rows_a_job(self, shots: int, readout: "ReadoutCalibration | None" = None) -> int:
        """Rows of angles that fit into one job, beside the calibration of the readout if there is one."""
        n_bases = len(self.isa)
        depth = max(1, *(each.isa.depth() for each in self.isa))
        columns = sum(max(1, len(each.isa.parameters)) for each in self.isa)
        taken = (0, 0, 0) if readout is None else (readout.executions, readout.instructions, len(readout.program.qpy))
        executions = (MAX_EXECUTIONS - taken[0]) // (shots * n_bases) if self.primitive == "sampler" else MAX_EXECUTIONS
        instructions = (MAX_INSTRUCTIONS - taken[1]) // (depth * n_bases)
        payload = (MAX_PAYLOAD - 2 * (len(self.qpy) + taken[2])) // (columns * BYTES_PER_ANGLE)
        return int(max(1, min(executions, instructions, payload)))

    def jobs_of(self, n_rows: int, shots: int, readout: "ReadoutCalibration | None" = None) -> list[int]:
        """Rows of angles in each of the jobs that a batch takes; the first has the calibration of the readout."""
        first, length = self.rows_a_job(shots, readout), self.rows_a_job(shots)
        starts = [0, *range(first, n_rows, length), n_rows]
        return [end - start for start, end in itertools.pairwise(starts)] if n_rows else []

    def layout(self, n_rows: int) -> dict[str, Any]:
        """What turns the raw result of a job into expectation values, and what its circuits cost; as JSON."""
        return layout_of(self.circuit, self.primitive, n_rows) | {
            "measured": [[each.qubits[place] for place in each.measured.values()] for each in self.isa],
            "isa": [each.report.to_dict() for each in self.isa],
        }


@dataclass(frozen=True, eq=False)
class ReadoutCalibration:
    """Circuits that measure readout errors, sent in the first job of a batch.

    Args:
        program: Without angles.
        shots: Of each of its circuits.
    """

    program: RuntimeProgram
    shots: int

    @property
    def circuits(self) -> int:
        """Number of its circuits."""
        return len(self.program.isa)

    @property
    def executions(self) -> int:
        """Circuits times shots."""
        return self.circuits * self.shots

    @property
    def instructions(self) -> int:
        """Instructions on one qubit, over all its circuits."""
        return int(sum(each.isa.depth() for each in self.program.isa))

    def layout(self) -> dict[str, Any]:
        """As `RuntimeProgram.layout`, with the shots."""
        return self.program.layout(1) | {"shots": self.shots}


def runtime_program(
    isa: Sequence[IsaCircuit], calibration: str | None, *, primitive: str, delays: bool
) -> RuntimeProgram:
    """Take from ISA circuits what a machine does itself.

    Args:
        isa: Laid out and scheduled.
        calibration: Date of the calibration that this was done for.
        primitive: `sampler` or `estimator`.
        delays: Keep waiting times.
    """
    sent = tuple(replace(each, isa=_as_sent(each.isa, primitive, delays)) for each in isa)
    return RuntimeProgram(sent, packed([each.isa for each in sent]), primitive, calibration)


def _as_sent(isa: QuantumCircuit, primitive: str, delays: bool) -> QuantumCircuit:
    circuit = isa.copy()
    if not delays:
        circuit.data = [part for part in circuit.data if part.name != "delay"]
    return circuit.remove_final_measurements(inplace=False) if primitive == "estimator" else circuit


def digest_of(circuit: Circuit, rows: NDArray[np.float64], shots: int, settings: Mapping[str, Any]) -> str:
    """Hash what is asked, whatever the layout: a new calibration does not make it other work.

    Args:
        circuit: The circuit.
        rows: All angles of the batch, shape (B, P).
        shots: Of each row.
        settings: Of the device, the machine included; tags do not count.
    """
    asked = [
        {key: value for key, value in settings.items() if key != "job_tags"},
        circuit.n_qubits,
        [(gate.name, gate.wires, gate.slot) for gate in circuit.gates],
        [str(word) for word in circuit.observables],
        rows.shape,
        shots,
        *([circuit.name] if circuit.grouping else []),  # the folding of circuits for mitigation is in their names
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + rows.tobytes()).hexdigest()
