"""What observables see of a circuit: gates at its end that commute with what is measured are not seen."""

from dataclasses import replace

import numpy as np

from qhybrid.circuits.circuit import Circuit, Gate
from qhybrid.circuits.gates import FIXED, PAULIS, ROTATIONS, ComplexMatrix
from qhybrid.circuits.observables import PauliWord


def without_unseen_gates(circuit: Circuit) -> Circuit:
    """Drop trailing gates that change no expectation value, whatever the angles: a CZ before Z is measured, say.

    Args:
        circuit: Its slots stay, also those whose gate is dropped.
    """
    kept: list[Gate] = []
    closed: set[int] = set()
    for gate in reversed(circuit.gates):
        if closed & set(gate.wires) or not all(_commute(gate, word) for word in circuit.observables):
            kept.append(gate)
            closed.update(gate.wires)
    return replace(circuit, gates=tuple(reversed(kept)), _tensors={})


def seen_wires(circuit: Circuit) -> frozenset[int]:
    """Wires whose initial state an observable can depend on, by the gates that lead from them to it."""
    seen = {wire for word in circuit.observables for wire, _ in word.factors}
    for gate in reversed(without_unseen_gates(circuit).gates):
        if seen & set(gate.wires):
            seen.update(gate.wires)
    return frozenset(seen)


def _commute(gate: Gate, word: PauliWord) -> bool:
    paulis = dict(word.factors)
    measured: ComplexMatrix = np.eye(1)
    for wire in gate.wires:
        measured = np.kron(measured, PAULIS[paulis.get(wire, "I")])
    matrix = FIXED[gate.name] if gate.slot is None else ROTATIONS[gate.name].generator
    return bool(np.allclose(matrix @ measured, measured @ matrix))
