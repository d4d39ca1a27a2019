"""Circuit -> ISA circuit: laid out on a machine's qubits, in its gates, scheduled; the best of several trials, once.

The result (see `transpile_search`) is Qiskit's circuit with one parameter for each angle slot, and the same as a plain
list of operations, for devices that simulate it without Qiskit.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterExpression
from qiskit.exceptions import QiskitError
from qiskit.transpiler import Target

from qhybrid.circuits import transpile_cache
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.isa import Affine, IsaOperation, IsaReport
from qhybrid.circuits.observables import MeasurementBasis
from qhybrid.circuits.transpile_machine import delay_seconds
from qhybrid.circuits.transpile_search import search
from qhybrid.errors import InputError

__all__ = ["Affine", "IsaCircuit", "IsaOperation", "IsaReport", "ideal_operations", "isa_circuits"]

OPTIMIZATION_LEVEL = 3


@dataclass(frozen=True, eq=False)
class IsaCircuit:
    """A circuit as a machine runs it, for one measurement basis.

    Args:
        circuit: The circuit that its angles belong to.
        basis: What it measures.
        isa: Qiskit's circuit on all qubits of the machine, with parameters `alpha[slot]`, delays where it was
            scheduled, and one classical bit for each measured wire.
        qubits: Physical qubits used, ascending.
        measured: Wire of the circuit -> place among `qubits` where it is measured, in the order of the classical bits.
        report: What it costs.
        dt: Seconds; the unit of the delays.
        layout: Wire -> physical qubit that it starts on; wires without gates and measurement have none.
        target: The machine that it was laid out on.
        scheduled: Waiting times are filled with delays.
    """

    circuit: Circuit
    basis: MeasurementBasis
    isa: QuantumCircuit
    qubits: tuple[int, ...]
    measured: dict[int, int]
    report: IsaReport
    dt: float | None
    layout: dict[int, int]
    target: Target
    scheduled: bool

    @cached_property
    def operations(self) -> tuple[IsaOperation, ...]:
        """The gates and delays in the order of time, on places among `qubits`."""
        place = {qubit: index for index, qubit in enumerate(self.qubits)}
        index = {qubit: number for number, qubit in enumerate(self.isa.qubits)}
        slots = {parameter: int(parameter.index) for parameter in self.isa.parameters}
        found = []
        for instruction in self.isa.data:
            operation = instruction.operation
            if operation.name == "measure":
                continue
            qubits = tuple(place[index[qubit]] for qubit in instruction.qubits)
            if operation.name == "delay":
                found.append(IsaOperation("delay", qubits, seconds=delay_seconds(operation, self.dt)))
            else:
                found.append(IsaOperation(operation.name, qubits, tuple(_affine(p, slots) for p in operation.params)))
        return tuple(found)

    def bound(self, angles: NDArray[np.float64]) -> list[QuantumCircuit]:
        """Qiskit circuits with the angles filled in.

        Args:
            angles: Shape (B, P) in radians.
        """
        parameters = sorted(self.isa.parameters, key=lambda parameter: int(parameter.index))
        slots = [int(parameter.index) for parameter in parameters]
        return [
            self.isa.assign_parameters(dict(zip(parameters, map(float, row[slots]), strict=True))) for row in angles
        ]


def ideal_operations(circuit: Circuit) -> tuple[IsaOperation, ...]:
    """The gates of a circuit as they are, for simulation without noise."""
    return tuple(
        IsaOperation(gate.name, gate.wires, () if gate.slot is None else (Affine(0.0, ((gate.slot, 1.0),)),))
        for gate in circuit.gates
    )


def isa_circuits(
    circuit: Circuit,
    target: Target,
    *,
    schedule: bool,
    layout_seeds: int = 16,
    machine: str = "the machine",
    optimization_level: int = OPTIMIZATION_LEVEL,
    cache: bool = True,
) -> tuple[IsaCircuit, ...]:
    """Lay a circuit out on a machine. Equal arguments give equal layouts, each found once and then kept on disk.

    Args:
        circuit: Without an initial state (see `Circuit.expanded`).
        target: The machine: its usable gates, their errors and durations. Two-qubit gates with an angle are not used.
        schedule: Fill waiting times with delays, as late as possible (ALAP).
        layout_seeds: A quarter of the times that the circuit is routed, on different shapes and with different
            transpiler seeds; the result with the highest survival is taken. A circuit that fits without routing is not
            routed.
        machine: Its name, for errors.
        optimization_level: The highest of Qiskit's levels that is tried, 1 to 3.
        cache: Look for an earlier result, and keep this one (see `transpile_cache`).

    Returns:
        One ISA circuit for each measurement basis, all with the same layout and the same gates up to the readout.

    Raises:
        InputError: The circuit does not fit on the machine.
    """
    if layout_seeds < 1:
        raise InputError(f"layout seeds {layout_seeds}: at least 1 is needed")
    if not 1 <= optimization_level <= 3:
        raise InputError(f"optimization level {optimization_level}: allowed are 1, 2 and 3")
    bases = circuit.bases
    key = transpile_cache.key(circuit, target, schedule, layout_seeds, optimization_level) if cache else ""
    entries = transpile_cache.load(key) if cache else None
    if entries is None:
        try:
            entries = search(circuit, bases, target, schedule, layout_seeds, optimization_level, machine)
        except QiskitError as error:
            reason = " ".join(str(error.message).split())
            raise InputError(f"circuit {circuit.name!r} cannot be laid out on {machine}: {reason}") from None
        if cache:
            transpile_cache.store(key, entries)
    return tuple(
        IsaCircuit(
            circuit=circuit,
            basis=basis,
            isa=entry.isa,
            qubits=entry.qubits,
            measured={wire: entry.measured[bit] for bit, (wire, _) in enumerate(basis.paulis)},
            report=entry.report,
            dt=target.dt,
            layout=dict(entry.layout),
            target=target,
            scheduled=schedule,
        )
        for basis, entry in zip(bases, entries, strict=True)
    )


def _affine(angle: Any, slots: dict[Any, int]) -> Affine:
    """An angle of Qiskit's as a sum; the transpiler only adds and scales parameters."""
    if not isinstance(angle, ParameterExpression):
        return Affine(float(angle))
    terms = []
    for parameter in angle.parameters:
        slope = angle.gradient(parameter)
        terms.append((slots[parameter], float(slope.numeric() if isinstance(slope, ParameterExpression) else slope)))
    constant = angle.bind(dict.fromkeys(angle.parameters, 0.0))
    return Affine(float(constant.numeric()), tuple(sorted(terms)))
