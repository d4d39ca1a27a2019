"""Circuit -> ISA circuit: laid out on a machine's qubits, in its gates, scheduled; the best of several trials, once.

Qiskit's transpiler does the work, on small maps (see `transpile_routing`). The result is Qiskit's circuit with one
parameter for each angle slot, and the same as a plain list of operations, for devices that simulate it without Qiskit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import ParameterExpression, ParameterVector
from qiskit.exceptions import QiskitError
from qiskit.transpiler import Target, generate_preset_pass_manager

from qhybrid.circuits import transpile_cache
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.isa import Affine, IsaOperation, IsaReport
from qhybrid.circuits.light_cone import without_unseen_gates
from qhybrid.circuits.observables import MeasurementBasis, measurement_bases
from qhybrid.circuits.transpile_machine import Machine, delay_seconds
from qhybrid.circuits.transpile_report import report
from qhybrid.circuits.transpile_routing import Edge, Placement, Plan, neighbourhoods, placements, routed, unrouted
from qhybrid.errors import InputError

__all__ = ["Affine", "IsaCircuit", "IsaOperation", "IsaReport", "ideal_operations", "isa_circuits", "to_qiskit"]

OPTIMIZATION_LEVEL = 3
FINALISTS = 6
"""Routed circuits, and then places of the best of them, that are translated, scheduled and counted exactly."""
TRIALS_PER_SEED = 4
MAX_SHAPES = 24


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
    """

    circuit: Circuit
    basis: MeasurementBasis
    isa: QuantumCircuit
    qubits: tuple[int, ...]
    measured: dict[int, int]
    report: IsaReport
    dt: float | None
    layout: dict[int, int]

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


def to_qiskit(circuit: Circuit, basis: MeasurementBasis | None = None) -> QuantumCircuit:
    """A circuit in Qiskit's form, with parameters `alpha[slot]`.

    Args:
        circuit: Without an initial state (see `Circuit.expanded`).
        basis: Measured at the end, one classical bit for each of its wires; None: nothing is measured.
    """
    angles = ParameterVector("alpha", circuit.n_angles)
    result = QuantumCircuit(circuit.n_qubits, len(basis.paulis) if basis else 0, name=circuit.name)
    for gate in circuit.gates:
        getattr(result, gate.name)(*([] if gate.slot is None else [angles[gate.slot]]), *gate.wires)
    if basis:
        _measure(result, basis, range(circuit.n_qubits))
    return result


def _measure(circuit: QuantumCircuit, basis: MeasurementBasis, place: Sequence[int]) -> None:
    for bit, (wire, pauli) in enumerate(basis.paulis):
        if pauli == "Y":
            circuit.sdg(place[wire])
        if pauli != "Z":
            circuit.h(place[wire])
        circuit.measure(place[wire], bit)


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
    bases = measurement_bases(circuit.observables)
    key = transpile_cache.key(circuit, target, schedule, layout_seeds, optimization_level) if cache else ""
    entries = transpile_cache.load(key) if cache else None
    if entries is None:
        try:
            entries = _search(circuit, bases, target, schedule, layout_seeds, optimization_level, machine)
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
        )
        for basis, entry in zip(bases, entries, strict=True)
    )


def _search(
    circuit: Circuit,
    bases: Sequence[MeasurementBasis],
    target: Target,
    schedule: bool,
    layout_seeds: int,
    optimization_level: int,
    machine: str,
) -> list[transpile_cache.Entry]:
    whole = Machine.of(target)
    _check_fits(circuit, whole, machine)
    body = to_qiskit(without_unseen_gates(circuit))
    measured = sorted({wire for basis in bases for wire, _ in basis.paulis})

    def place(plan: Plan) -> list[Placement]:
        return placements(whole, plan, measured, waits=schedule, count=FINALISTS)

    found = [place(unrouted(body, level)) for level in range(1, optimization_level + 1)]
    if not any(found):
        shapes = neighbourhoods(whole, circuit.n_qubits)
        if not shapes:
            raise InputError(
                f"circuit {circuit.name!r} needs {circuit.n_qubits} connected qubits; the largest connected group of "
                f"{machine} has {whole.largest_group()}"
            )
        found = _trials(body, shapes, place, TRIALS_PER_SEED * layout_seeds, optimization_level)

    def finish(placement: Placement, level: int) -> list[transpile_cache.Entry]:
        return [_isa(placement, basis, body, whole, schedule, level) for basis in bases]

    plans: dict[float, list[Placement]] = {}
    for trial in filter(None, found):
        plans.setdefault(round(trial[0].score, 9), trial)
    finalists = [plans[score] for score in sorted(plans, reverse=True)[:FINALISTS]]
    candidates = [(finish(trial[0], 1), trial) for trial in finalists]
    _, best = max(candidates, key=lambda each: _survival(each[0]))
    candidates += [(finish(each, 1), [each]) for each in best[1:]]
    _, (place_of_best, *_) = max(candidates, key=lambda each: _survival(each[0]))
    again = [finish(place_of_best, level) for level in range(2, optimization_level + 1)]
    return max([*(each for each, _ in candidates), *again], key=_survival)


def _trials(
    body: QuantumCircuit,
    shapes: Sequence[tuple[Edge, ...]],
    place: Callable[[Plan], list[Placement]],
    n_trials: int,
    optimization_level: int,
) -> list[list[Placement]]:
    """Route with many seeds: all shapes share a round of trials, the better half of them the next, and so on."""
    found: dict[tuple[Edge, ...], list[list[Placement]]] = {shape: [] for shape in shapes[: min(MAX_SHAPES, n_trials)]}
    alive = list(found)
    n_rounds = len(alive).bit_length()
    for left in range(n_rounds, 0, -1):
        for shape in alive:
            for _ in range(max(1, n_trials // (n_rounds * len(alive)))):
                seed = len(found[shape])
                level = optimization_level if seed % 2 else min(2, optimization_level)
                found[shape].append(place(routed(body, shape, level, seed)))
        if left > 1:
            alive.sort(key=lambda shape: -max(trial[0].score for trial in found[shape]))
            alive = alive[: (len(alive) + 1) // 2]
    return [trial for trials in found.values() for trial in trials]


def _survival(entries: Iterable[transpile_cache.Entry]) -> float:
    return min(entry.report.survival for entry in entries)


def _check_fits(circuit: Circuit, whole: Machine, machine: str) -> None:
    n_usable, n_qubits = int(whole.usable.sum()), len(whole.usable)
    if circuit.n_qubits > n_usable:
        usable = "" if n_usable == n_qubits else f", of which {n_usable} can be used"
        raise InputError(f"circuit {circuit.name!r} has {circuit.n_qubits} qubits; {machine} has {n_qubits}{usable}")
    if circuit.n_two_qubit_gates and not np.isfinite(whole.gate2q).any():
        raise InputError(f"circuit {circuit.name!r} needs two-qubit gates; {machine} has none that can be used")


def _isa(
    placement: Placement, basis: MeasurementBasis, body: QuantumCircuit, whole: Machine, schedule: bool, level: int
) -> transpile_cache.Entry:
    """Measure a placed circuit, translate it to the gates of its qubits, schedule it, and put it on the machine."""
    plan = placement.plan
    qubits = tuple(sorted(placement.qubits.values()))
    place = {node: qubits.index(qubit) for node, qubit in placement.qubits.items()}
    small = plan.on(place, n_bits=len(basis.paulis))
    _measure(small, basis, [place.get(node, -1) for node in plan.final])
    target = whole.cut(qubits)
    passes = generate_preset_pass_manager(
        optimization_level=level,
        target=target,
        seed_transpiler=plan.seed,
        initial_layout=list(range(len(qubits))),
        scheduling_method="alap" if schedule else None,
    )
    done = passes.run(small)
    isa = QuantumCircuit(
        QuantumRegister(len(whole.usable), "q"),
        ClassicalRegister(len(basis.paulis), "c"),
        name=body.name,
    )
    done.data = [each for each in done.data if each.name != "barrier"]
    isa.compose(done, list(qubits), range(len(basis.paulis)), inplace=True, copy=False)
    reads = {each.clbits[0]: each.qubits[0] for each in done.get_instructions("measure")}
    measured = tuple(done.find_bit(reads[bit]).index for bit in done.clbits)
    layout = {wire: placement.qubits[node] for wire, node in enumerate(plan.initial) if node in placement.qubits}
    found = report(done, target, plan.seed)
    return transpile_cache.Entry(isa, qubits, measured, layout, found)


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
