"""The independent computation that devices are checked against: dense matrices, gate by gate, and random circuits.

It shares no code with any driver.
"""

import numpy as np
import torch
from torch import Tensor

from qhybrid.circuits.builder import CircuitBuilder
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.encoders import AngleEncoder
from qhybrid.circuits.gates import FIXED, PAULIS, ROTATIONS, n_wires
from qhybrid.circuits.observables import PauliWord


def reference_values(circuit: Circuit, features: Tensor, weights: Tensor) -> Tensor:
    """Expectation values by dense matrices, gate by gate and sample by sample, in double precision.

    Args:
        circuit: Any circuit.
        features: Shape (B, F), float64.
        weights: Shape (W,), float64.

    Returns:
        Shape (B, M), differentiable by torch.
    """
    columns = circuit.parameters(features, weights)
    return torch.stack([_reference_row(circuit, row) for row in columns])


def _reference_row(circuit: Circuit, row: Tensor) -> Tensor:
    n, n_amplitudes = circuit.n_qubits, circuit.n_amplitudes
    state = torch.zeros(2**n, dtype=torch.complex128)
    if n_amplitudes:
        state = state.index_put((torch.as_tensor(circuit.amplitude_index()),), row[:n_amplitudes].to(state.dtype))
    else:
        state[0] = 1
    for gate in circuit.gates:
        if gate.slot is None:
            unitary = torch.as_tensor(FIXED[gate.name])
        else:
            levels, basis = torch.linalg.eigh(torch.as_tensor(ROTATIONS[gate.name].generator))
            unitary = basis @ torch.diag(torch.exp(-1j * row[n_amplitudes + gate.slot] * levels)) @ basis.conj().T
        state = _applied(unitary, gate.wires, state, n)
    values = []
    for word in circuit.observables:
        moved = state
        for wire, pauli in word.factors:
            moved = _applied(torch.as_tensor(PAULIS[pauli]), (wire,), moved, n)
        values.append(torch.vdot(state, moved).real)
    return torch.stack(values)


def _applied(matrix: Tensor, wires: tuple[int, ...], state: Tensor, n: int) -> Tensor:
    """A matrix on some wires of one state vector."""
    k = len(wires)
    tensor = torch.tensordot(matrix.reshape((2,) * (2 * k)), state.reshape((2,) * n), (list(range(k, 2 * k)), wires))
    moved: Tensor = tensor.movedim(list(range(k)), wires)
    return moved.reshape(-1)


def random_circuit(generator: np.random.Generator, n_qubits: int = 3, n_gates: int = 12) -> Circuit:
    """A circuit of random gates, wires and Pauli words, with features and weights in random slots.

    Args:
        generator: Of the draws.
        n_qubits: Number of qubits, at least 2.
        n_gates: Number of gates behind an angle encoding.
    """
    builder = CircuitBuilder(n_qubits)
    rows = builder.encode(AngleEncoder(0, n_qubits, scale=float(generator.uniform(0.5, 2)), squash="tanh"))
    for wire, row in enumerate(rows):
        builder.rotation(str(generator.choice(["rx", "ry"])), (wire,), encoding={row: 1.0})
    for _ in range(n_gates):
        name = str(generator.choice([*FIXED, *ROTATIONS]))
        wires = tuple(int(wire) for wire in generator.permutation(n_qubits)[: n_wires(name)])
        if name not in ROTATIONS:
            builder.fixed(name, wires)
        elif generator.random() < 0.3:
            factor = float(generator.normal())
            builder.rotation(name, wires, encoding={int(generator.choice(rows)): factor}, offset=factor)
        else:
            builder.rotation(name, wires, weights={builder.new_weight(): 1.0})
    words = []
    for _ in range(3):
        letters = generator.choice(list("IXYZ"), size=n_qubits)
        letters[int(generator.integers(n_qubits))] = "Z"
        words.append(PauliWord(tuple((wire, str(p)) for wire, p in enumerate(letters) if p != "I")))
    return builder.circuit("random", tuple(words))
