"""Controls of a circuit: the same circuit with a part of it taken away, to see what that part was worth."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qhybrid.circuits.builder import CircuitBuilder
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.gates import n_wires
from qhybrid.errors import InputError

ON_TARGET = {"crx": "rx", "cry": "ry", "crz": "rz", "cp": "p", "rxx": "rx", "ryy": "ry", "rzz": "rz"}
"""Which rotation of its last wire takes the place of a rotation on two wires."""


def without_entanglement(circuit: Circuit) -> Circuit:
    """Take all gates between two qubits out of a circuit (Bowles et al., arXiv 2403.07059: "separable" models).

    CX, CY, CZ and SWAP are dropped. SWAP alone entangles nothing, but is three CX on a machine: what is left is a
    circuit of its own on every qubit. A rotation on two wires becomes the same rotation of the last of them, by the
    same angle, whether a weight or a feature makes it: the control has as many weights and reads the same features.
    Rotations that become neighbours are one gate, as everywhere; their weights then act as a sum only, so that a
    control has as many weights as its circuit, but may have less to say with them.

    A circuit that begins with amplitude encoding keeps its initial state, whose qubits are entangled by the data: what
    is taken away is the entanglement that the circuit adds, not that which the features bring.

    Args:
        circuit: Any, but one whose initial state is prepared by gates (`Circuit.expanded`).

    Returns:
        The control, with the same features, weights and observables; its name ends in `-separable`.

    Raises:
        InputError: There is no gate between two qubits to take away, or the initial state is prepared by gates.
    """
    if circuit.prepares_by_gates:
        raise InputError(f"circuit {circuit.name!r} is expanded: take entangling gates away before its preparation")
    if not circuit.n_two_qubit_gates:
        raise InputError(f"circuit {circuit.name!r} has no gate between two qubits: without entanglement it is itself")
    builder = CircuitBuilder(circuit.n_qubits)
    if circuit.amplitudes is not None:
        builder.prepare(circuit.amplitudes, circuit.amplitude_wires)
    for encoder in circuit.encoders:
        builder.encode(encoder)
    for _ in range(circuit.n_weights):
        builder.new_weight()
    for gate in circuit.gates:
        if gate.slot is not None:
            builder.rotation(
                ON_TARGET.get(gate.name, gate.name),
                gate.wires[-1:],
                encoding=_factors(circuit.encoding_map[:, gate.slot]),
                weights=_factors(circuit.weight_map[:, gate.slot]),
                offset=float(circuit.offset[gate.slot]),
            )
        elif n_wires(gate.name) == 1:
            builder.fixed(gate.name, gate.wires)
    control = builder.circuit(
        f"{circuit.name}-separable",
        circuit.observables,
        description=f"{circuit.description}, without entangling gates".lstrip(", "),
        source=circuit.source,
    )
    return replace(control, grouping=circuit.grouping)


def _factors(column: NDArray[np.float64]) -> dict[int, float]:
    return {int(row): float(column[row]) for row in np.flatnonzero(column)}
