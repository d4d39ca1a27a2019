"""Circuit -> ISA circuit: laid out on a machine's qubits, in its gates, scheduled; the best of several seeds, once.

Qiskit's transpiler does the work. The result is Qiskit's circuit with one parameter for each angle slot, and the same
as a plain list of operations, for devices that simulate it without Qiskit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterExpression, ParameterVector
from qiskit.transpiler import Target
from qiskit.transpiler.exceptions import TranspilerError

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import MeasurementBasis, measurement_bases
from qhybrid.errors import InputError

OPTIMIZATION_LEVEL = 3


@dataclass(frozen=True)
class Affine:
    """An angle in radians as `constant + sum of factor * angle[slot]`."""

    constant: float
    terms: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class IsaOperation:
    """One operation of an ISA circuit, or of an ideal circuit.

    Args:
        name: Qiskit's name of the gate, or "delay". Measurements are not operations: see `IsaCircuit.measured`.
        qubits: Places among `IsaCircuit.qubits`, in the gate's order.
        params: Its angles.
        seconds: Of a delay.
    """

    name: str
    qubits: tuple[int, ...]
    params: tuple[Affine, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class IsaReport:
    """What a circuit costs on a machine.

    Args:
        n_qubits: Physical qubits used.
        gates1q: Gates on one qubit, virtual RZ not counted.
        gates2q: Gates on two qubits.
        two_qubit_gate: Name of the machine's two-qubit gate.
        depth: Longest path, virtual RZ and delays not counted.
        seconds: Duration, readout included.
        survival: Product of the fidelities of all gates and waits and of the readout of the measured qubits: a
            rough estimate of the probability that nothing goes wrong.
        seed: The transpiler seed that was best.
    """

    n_qubits: int
    gates1q: int
    gates2q: int
    two_qubit_gate: str
    depth: int
    seconds: float
    survival: float
    seed: int


@dataclass(frozen=True, eq=False)
class IsaCircuit:
    """A circuit as a machine runs it, for one measurement basis.

    Args:
        circuit: The circuit that its angles belong to.
        basis: What it measures.
        isa: Qiskit's circuit on all qubits of the machine, with parameters `alpha[slot]`, delays where it was scheduled,
            and one classical bit for each measured wire.
        qubits: Physical qubits used, ascending.
        measured: Wire of the circuit -> place among `qubits` where it is measured, in the order of the classical bits.
        report: What it costs.
        dt: Seconds; the unit of the delays.
    """

    circuit: Circuit
    basis: MeasurementBasis
    isa: QuantumCircuit
    qubits: tuple[int, ...]
    measured: dict[int, int]
    report: IsaReport
    dt: float | None

    @cached_property
    def operations(self) -> tuple[IsaOperation, ...]:
        """The gates and delays in the order of time, on places among `qubits`."""
        place = {qubit: index for index, qubit in enumerate(self.qubits)}
        slots = {parameter: int(parameter.index) for parameter in self.isa.parameters}
        found = []
        for instruction in self.isa.data:
            operation = instruction.operation
            if operation.name in ("measure", "barrier"):
                continue
            qubits = tuple(place[self.isa.find_bit(qubit).index] for qubit in instruction.qubits)
            if operation.name == "delay":
                found.append(IsaOperation("delay", qubits, seconds=_seconds(operation, self.dt)))
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


def to_qiskit(circuit: Circuit, basis: MeasurementBasis | None = None) -> QuantumCircuit:
    """A circuit in Qiskit's form, with parameters `alpha[slot]`.

    Args:
        circuit: Without an initial state (see `Circuit.expanded`).
        basis: Measured at the end, one classical bit for each of its wires; None: nothing is measured.
    """
    angles = ParameterVector("alpha", circuit.n_angles)
    wires = [wire for wire, _ in basis.paulis] if basis else []
    result = QuantumCircuit(circuit.n_qubits, len(wires), name=circuit.name)
    for gate in circuit.gates:
        getattr(result, gate.name)(*([] if gate.slot is None else [angles[gate.slot]]), *gate.wires)
    for bit, (wire, pauli) in enumerate(basis.paulis if basis else ()):
        if pauli == "Y":
            result.sdg(wire)
        if pauli != "Z":
            result.h(wire)
        result.measure(wire, bit)
    return result


def ideal_operations(circuit: Circuit) -> tuple[IsaOperation, ...]:
    """The gates of a circuit as they are, for simulation without noise."""
    return tuple(
        IsaOperation(gate.name, gate.wires, () if gate.slot is None else (Affine(0.0, ((gate.slot, 1.0),)),))
        for gate in circuit.gates
    )


def isa_circuits(
    circuit: Circuit, target: Target, *, schedule: bool, layout_seeds: int = 16, machine: str = "the machine"
) -> tuple[IsaCircuit, ...]:
    """Lay a circuit out on a machine.

    Args:
        circuit: Without an initial state (see `Circuit.expanded`).
        target: The machine: its usable gates, their errors and durations.
        schedule: Fill waiting times with delays, as late as possible (ALAP).
        layout_seeds: Transpiler seeds 0, 1, ... tried; the one with the highest survival is taken.
        machine: Its name, for errors.

    Returns:
        One ISA circuit for each measurement basis, all on the layout of the first.

    Raises:
        InputError: The circuit does not fit on the machine.
    """
    usable = [q for (q,) in target["measure"]]
    if circuit.n_qubits > len(usable):
        raise InputError(
            f"circuit {circuit.name!r} has {circuit.n_qubits} qubits; {machine} has {len(usable)} that can be used"
        )
    if layout_seeds < 1:
        raise InputError(f"layout seeds {layout_seeds}: at least 1 is needed")
    found: list[IsaCircuit] = []
    for basis in measurement_bases(circuit.observables):
        drawn = to_qiskit(circuit, basis)
        candidates = []
        for seed in range(layout_seeds) if not found else [found[0].report.seed]:
            layout = None if not found else found[0].isa.layout.initial_index_layout(filter_ancillas=True)
            try:
                isa = transpile(
                    drawn,
                    target=target,
                    optimization_level=OPTIMIZATION_LEVEL,
                    seed_transpiler=seed,
                    initial_layout=layout,
                    scheduling_method="alap" if schedule else None,
                )
            except TranspilerError as error:
                reason = (error.message or "").strip().splitlines()[-1:]
                raise InputError(
                    f"circuit {circuit.name!r} cannot be laid out on {machine}: {' '.join(reason)}"
                ) from None
            candidates.append(_isa_circuit(circuit, basis, isa, target, seed))
        found.append(max(candidates, key=lambda each: each.report.survival))
    return tuple(found)


def _isa_circuit(
    circuit: Circuit, basis: MeasurementBasis, isa: QuantumCircuit, target: Target, seed: int
) -> IsaCircuit:
    """Drop the delays of unused qubits, and count."""
    index = {qubit: number for number, qubit in enumerate(isa.qubits)}
    used = {index[q] for each in isa.data if each.operation.name not in ("delay", "barrier") for q in each.qubits}
    kept = isa.copy_empty_like()
    for each in isa.data:
        if each.operation.name != "barrier" and all(index[q] in used for q in each.qubits):
            kept.append(each)
    kept._layout = isa.layout
    qubits = tuple(sorted(used))
    measured: dict[int, int] = {}
    for each in kept.data:
        if each.operation.name == "measure":
            wire = basis.paulis[kept.find_bit(each.clbits[0]).index][0]
            measured[wire] = qubits.index(index[each.qubits[0]])
    order = [wire for wire, _ in basis.paulis]
    report = _report(kept, target, qubits, seed)
    return IsaCircuit(circuit, basis, kept, qubits, {wire: measured[wire] for wire in order}, report, target.dt)


def _report(isa: QuantumCircuit, target: Target, qubits: Sequence[int], seed: int) -> IsaReport:
    log_survival, gates1q, names2q = 0.0, 0, []
    busy = dict.fromkeys(qubits, 0.0)
    for each in isa.data:
        on = tuple(isa.find_bit(q).index for q in each.qubits)
        name = each.operation.name
        if name == "delay":
            seconds = _seconds(each.operation, target.dt)
            log_survival += math.log(_waiting_fidelity(target, on[0], seconds))
        else:
            properties = target[name][on]
            seconds = (properties.duration or 0.0) if properties else 0.0
            log_survival += math.log1p(-min((properties.error or 0.0) if properties else 0.0, 1 - 1e-12))
            if len(on) == 2:
                names2q.append(name)
            elif name != "measure" and seconds:
                gates1q += 1
        end = max(busy[q] for q in on) + seconds
        busy.update(dict.fromkeys(on, end))
    return IsaReport(
        n_qubits=len(qubits),
        gates1q=gates1q,
        gates2q=len(names2q),
        two_qubit_gate=max(set(names2q), key=names2q.count) if names2q else "",
        depth=isa.depth(lambda each: each.operation.name not in ("rz", "delay", "barrier", "measure")),
        seconds=max(busy.values(), default=0.0),
        survival=math.exp(log_survival),
        seed=seed,
    )


def _waiting_fidelity(target: Target, qubit: int, seconds: float) -> float:
    """Average fidelity of a qubit that relaxes for a time."""
    properties = target.qubit_properties[qubit] if target.qubit_properties else None
    t1 = getattr(properties, "t1", None) or math.inf
    t2 = min(getattr(properties, "t2", None) or math.inf, 2 * t1)
    entanglement_fidelity = (1 + 2 * math.exp(-seconds / t2) + math.exp(-seconds / t1)) / 4
    return (2 * entanglement_fidelity + 1) / 3


def _seconds(delay: Any, dt: float | None) -> float:
    units = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12, "dt": dt or 1.0}
    return float(delay.duration) * units[delay.unit]


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
