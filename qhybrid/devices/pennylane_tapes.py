"""Circuits as PennyLane's tapes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pennylane as qml
from numpy.typing import NDArray

from qhybrid.circuits.circuit import Circuit, Gate

_PLAIN = {"x": qml.X, "y": qml.Y, "z": qml.Z, "h": qml.Hadamard, "s": qml.S, "t": qml.T, "sx": qml.SX}
_PLAIN |= {"cx": qml.CNOT, "cy": qml.CY, "cz": qml.CZ, "swap": qml.SWAP}
_ADJOINTS = {"sdg": qml.S, "tdg": qml.T}
_ROTATIONS = {"rx": qml.RX, "ry": qml.RY, "rz": qml.RZ, "p": qml.PhaseShift, "cp": qml.ControlledPhaseShift}
_ROTATIONS |= {"crx": qml.CRX, "cry": qml.CRY, "crz": qml.CRZ}
_ROTATIONS |= {"rxx": qml.IsingXX, "ryy": qml.IsingYY, "rzz": qml.IsingZZ}
_PAULIS = {"X": qml.X, "Y": qml.Y, "Z": qml.Z}


class TapeFactory:
    """Builds tapes of one circuit; operations without an angle are made once and shared.

    Args:
        circuit: The circuit.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self._operations = [None if gate.slot is not None else fixed_operation(gate) for gate in circuit.gates]
        self.expectations = [
            qml.expval(qml.prod(*factors) if len(factors) > 1 else factors[0])
            for factors in ([_PAULIS[p](wire) for wire, p in w.factors] or [qml.I(0)] for w in circuit.observables)
        ]
        self.basis_rotations = [
            [operation for wire, pauli in basis.paulis for operation in _to_z_basis(pauli, wire)]
            for basis in circuit.bases
        ]

    def tape(
        self,
        angles: Any,
        measurements: Sequence[Any],
        rotation: Sequence[Any] = (),
        *,
        trainable: NDArray[np.int64] | None = None,
        shots: int | None = None,
    ) -> Any:
        """A tape for one row of angles (S + P,), or for a whole batch (B, S + P) by broadcasting."""
        n_amplitudes = self.circuit.n_amplitudes
        operations = []
        if n_amplitudes:
            state = angles[..., :n_amplitudes]
            operations.append(qml.StatePrep(state, wires=self.circuit.amplitude_wires, validate_norm=False))
        operations += self._gates(angles[..., n_amplitudes:])
        tape = qml.tape.QuantumScript([*operations, *rotation], measurements, shots=shots)
        if trainable is not None:
            order = [gate.slot for gate in self.circuit.gates if gate.slot is not None]
            position = {slot: index + bool(n_amplitudes) for index, slot in enumerate(order)}
            tape.trainable_params = [position[slot] for slot in trainable.tolist()]
        return tape

    def inverse_tape(self, state: NDArray[np.complex128], angles: NDArray[np.float64]) -> Any:
        """A tape that starts from a state of all wires and undoes the gates."""
        gates = self._gates(angles[self.circuit.n_amplitudes :])
        start = qml.StatePrep(state, wires=range(self.circuit.n_qubits), validate_norm=False)
        inverse = [qml.adjoint(operation, lazy=False) for operation in reversed(gates)]
        return qml.tape.QuantumScript([start, *inverse], [qml.state()])

    def _gates(self, angles: Any) -> list[Any]:
        operations = []
        for gate, operation in zip(self.circuit.gates, self._operations, strict=True):
            if operation is None:
                operation = _ROTATIONS[gate.name](angles[..., gate.slot], wires=gate.wires)
            operations.append(operation)
        return operations


def fixed_operation(gate: Gate) -> Any:
    """The PennyLane operation of a gate without an angle."""
    if gate.name in _ADJOINTS:
        return qml.adjoint(_ADJOINTS[gate.name](wires=gate.wires))
    return _PLAIN[gate.name](wires=gate.wires)


def _to_z_basis(pauli: str, wire: int) -> list[Any]:
    return {"Z": [], "X": [qml.Hadamard(wire)], "Y": [qml.adjoint(qml.S(wire)), qml.Hadamard(wire)]}[pauli]
