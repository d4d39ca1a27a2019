"""Circuit -> ISA circuit: laid out on a machine's qubits, in its gates, scheduled; the best of several trials, once.

Qiskit's transpiler does the work, on small maps (see `transpile_routing`). The result is Qiskit's circuit with one
parameter for each angle slot, and the same as a plain list of operations, for devices that simulate it without Qiskit.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import ParameterExpression, ParameterVector
from qiskit.transpiler import Target, generate_preset_pass_manager
from qiskit.transpiler.exceptions import TranspilerError

from qhybrid.circuits import transpile_cache
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.isa import Affine, IsaOperation, IsaReport
from qhybrid.circuits.observables import MeasurementBasis, measurement_bases
from qhybrid.circuits.transpile_machine import VIRTUAL, Machine, gate_seconds, log_fidelity, relaxation_times
from qhybrid.circuits.transpile_routing import Placement, Plan, neighbourhoods, placements, routed, unrouted
from qhybrid.errors import InputError

__all__ = ["Affine", "IsaCircuit", "IsaOperation", "IsaReport", "ideal_operations", "isa_circuits", "to_qiskit"]

OPTIMIZATION_LEVEL = 3
FINALISTS = 6
"""Placements that are translated to the machine's gates, scheduled and counted exactly."""
FAVOURITES = 3
"""Shapes that share the later trials."""


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
        layout_seeds: How many times the circuit is routed, on different shapes and with different transpiler seeds; the
            result with the highest survival is taken. A circuit that fits without routing needs only a few trials.
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
        except TranspilerError as error:
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
    body = to_qiskit(circuit)
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
        levels = (min(2, optimization_level), optimization_level)
        tried = {shape: [place(routed(body, shape, levels[0], 0))] for shape in shapes[: max(1, layout_seeds // 2)]}
        favourites = sorted(tried, key=lambda shape: -tried[shape][0][0].score)[:FAVOURITES]
        for trial in range(layout_seeds - len(tried)):
            shape = favourites[trial % len(favourites)]
            seed = 1 + trial // len(favourites)
            tried[shape].append(place(routed(body, shape, levels[seed % 2], seed)))
        found = [each for trials in tried.values() for each in trials]
    finalists = sorted((each for trial in found for each in trial), key=lambda each: -each.score)[:FINALISTS]

    def finish(placement: Placement, level: int) -> list[transpile_cache.Entry]:
        return [_isa(placement, basis, body, whole, schedule, level) for basis in bases]

    candidates = [(finish(each, 1), each) for each in finalists]
    _, best = max(candidates, key=lambda each: _survival(each[0]))
    again = [finish(best, level) for level in range(2, optimization_level + 1)]
    return max([*(each for each, _ in candidates), *again], key=_survival)


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
    report = _report(done, target, plan.seed)
    return transpile_cache.Entry(isa, qubits, measured, layout, report)


def _report(isa: QuantumCircuit, target: Target, seed: int) -> IsaReport:
    log_survival, gates1q, names2q = 0.0, 0, []
    index = {qubit: number for number, qubit in enumerate(isa.qubits)}
    busy = dict.fromkeys(index.values(), 0.0)
    excited: set[int] = set()  # a qubit in its ground state loses nothing by waiting
    for each in isa.data:
        on = tuple(index[q] for q in each.qubits)
        name = each.operation.name
        if name == "barrier":
            continue
        if name == "delay":
            seconds = _seconds(each.operation, target.dt)
            if on[0] in excited:
                log_survival += math.log(_waiting_fidelity(target, on[0], seconds))
        else:
            seconds = gate_seconds(target, name, on)
            log_survival += log_fidelity(target, name, on)
            excited.update(on)
            if name == "measure":
                excited.discard(on[0])
            elif len(on) == 2:
                names2q.append(name)
            elif name not in VIRTUAL or seconds:
                gates1q += 1
        end = max(busy[q] for q in on) + seconds
        busy.update(dict.fromkeys(on, end))
    return IsaReport(
        n_qubits=isa.num_qubits,
        gates1q=gates1q,
        gates2q=len(names2q),
        two_qubit_gate=max(sorted(set(names2q)), key=names2q.count) if names2q else "",
        depth=isa.depth(lambda each: each.operation.name not in VIRTUAL and each.operation.name != "measure"),
        seconds=max(busy.values(), default=0.0),
        survival=math.exp(log_survival),
        seed=seed,
    )


def _waiting_fidelity(target: Target, qubit: int, seconds: float) -> float:
    """Average fidelity of a qubit that relaxes for a time."""
    t1, t2 = relaxation_times(target, qubit)
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
