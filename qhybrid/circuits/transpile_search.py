"""The search for the best layout of a circuit on a machine: routed, placed, translated, scheduled and counted.

Qiskit's transpiler does the work, on small maps (see `transpile_routing`).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import ParameterVector
from qiskit.transpiler import Target, generate_preset_pass_manager

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.light_cone import without_unseen_gates
from qhybrid.circuits.observables import MeasurementBasis
from qhybrid.circuits.transpile_cache import Entry
from qhybrid.circuits.transpile_machine import Machine
from qhybrid.circuits.transpile_report import report
from qhybrid.circuits.transpile_routing import Edge, Placement, Plan, neighbourhoods, placements, routed, unrouted
from qhybrid.errors import InputError

FINALISTS = 6
"""Routed circuits, and then places of the best of them, that are translated, scheduled and counted exactly."""
TRIALS_PER_SEED = 4
MAX_SHAPES = 24


def search(
    circuit: Circuit,
    bases: Sequence[MeasurementBasis],
    target: Target,
    schedule: bool,
    layout_seeds: int,
    optimization_level: int,
    machine: str,
) -> list[Entry]:
    """Find the layout with the highest survival.

    Args:
        circuit: As in `isa_circuits`, like all the others.
        bases: Measurement bases of its observables.
        target: The machine.
        schedule: Fill waiting times with delays.
        layout_seeds: A quarter of the times that the circuit is routed.
        optimization_level: The highest that is tried.
        machine: Its name, for errors.

    Returns:
        One ISA circuit for each basis, all with the same layout.

    Raises:
        InputError: The circuit does not fit on the machine.
        QiskitError: Qiskit cannot translate it.
    """
    whole = Machine.of(target)
    _check_fits(circuit, whole, machine)
    body = _to_qiskit(without_unseen_gates(circuit))
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

    def finish(placement: Placement, level: int) -> list[Entry]:
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


def _survival(entries: Iterable[Entry]) -> float:
    return min(entry.report.survival for entry in entries)


def _check_fits(circuit: Circuit, whole: Machine, machine: str) -> None:
    n_usable, n_qubits = int(whole.usable.sum()), len(whole.usable)
    if circuit.n_qubits > n_usable:
        usable = "" if n_usable == n_qubits else f", of which {n_usable} can be used"
        raise InputError(f"circuit {circuit.name!r} has {circuit.n_qubits} qubits; {machine} has {n_qubits}{usable}")
    if circuit.n_two_qubit_gates and not np.isfinite(whole.gate2q).any():
        raise InputError(f"circuit {circuit.name!r} needs two-qubit gates; {machine} has none that can be used")


def _to_qiskit(circuit: Circuit) -> QuantumCircuit:
    """A circuit in Qiskit's form, with parameters `alpha[slot]` but for angles that are constant."""
    angles = ParameterVector("alpha", circuit.n_angles)
    result = QuantumCircuit(circuit.n_qubits, name=circuit.name)
    for gate in circuit.gates:
        angle = [] if gate.slot is None else [circuit.constants.get(gate.slot, angles[gate.slot])]
        getattr(result, gate.name)(*angle, *gate.wires)
    return result


def _measure(circuit: QuantumCircuit, basis: MeasurementBasis, place: Sequence[int]) -> None:
    for bit, (wire, pauli) in enumerate(basis.paulis):
        if pauli == "Y":
            circuit.sdg(place[wire])
        if pauli != "Z":
            circuit.h(place[wire])
        circuit.measure(place[wire], bit)


def _isa(
    placement: Placement, basis: MeasurementBasis, body: QuantumCircuit, whole: Machine, schedule: bool, level: int
) -> Entry:
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
    return Entry(isa, qubits, measured, layout, found)
