"""The independent computation that devices are checked against: dense matrices, gate by gate, and random circuits.

It shares no code with any driver.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qhybrid.circuits.builder import CircuitBuilder
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.encoders import AngleEncoder
from qhybrid.circuits.gates import FIXED, PAULIS, ROTATIONS, n_wires
from qhybrid.circuits.observables import PauliWord
from qhybrid.noise_models.model import GateNoise, NoiseModel

if TYPE_CHECKING:
    from qhybrid.circuits.transpile import Affine, IsaCircuit


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


def noisy_reference_values(
    isa_circuits: "Sequence[IsaCircuit]", noise: NoiseModel, features: Tensor, weights: Tensor
) -> Tensor:
    """Expectation values of ISA circuits under noise by dense density matrices, gate by gate and sample by sample.

    Args:
        isa_circuits: One for each measurement basis of a circuit.
        noise: The noise model that they were laid out for.
        features: Shape (B, F), float64.
        weights: Shape (W,), float64.

    Returns:
        Shape (B, M), differentiable by torch.
    """
    circuit = isa_circuits[0].circuit
    angles = circuit.parameters(features, weights)
    rows = []
    for row in angles:
        values: dict[int, Tensor] = {}
        for isa in isa_circuits:
            values |= _noisy_row(isa, noise, row)
        rows.append(torch.stack([values[member] for member in range(circuit.n_observables)]))
    return torch.stack(rows)


def _noisy_row(isa: "IsaCircuit", noise: NoiseModel, angles: Tensor) -> dict[int, Tensor]:
    """One row's expectation values of the observables that an ISA circuit measures."""
    n = len(isa.qubits)
    state = torch.zeros((2,) * (2 * n), dtype=torch.complex128)  # row bits, then column bits
    state[(0,) * (2 * n)] = 1
    for operation in isa.operations:
        physical = tuple(isa.qubits[place] for place in operation.qubits)
        if operation.name == "delay":
            after = noise.idle_noise(physical[0], operation.seconds)
        else:
            unitary = _unitary(operation.name, [_angle(param, angles) for param in operation.params])
            columns = tuple(n + place for place in operation.qubits)
            state = _applied(unitary, operation.qubits, state.reshape(-1), 2 * n).reshape(state.shape)
            state = _applied(unitary.conj(), columns, state.reshape(-1), 2 * n).reshape(state.shape)
            after = noise.gate_noise(operation.name, physical)
        if after is not None:
            state = _with_noise(state, after, operation.qubits, n)
    probabilities = torch.diagonal(state.reshape(2**n, 2**n)).real.reshape((2,) * n)
    for place, qubit in enumerate(isa.qubits):
        if place in isa.measured.values():
            flip0, flip1 = noise.readout_error(qubit)
            confusion = torch.tensor([[1 - flip0, flip1], [flip0, 1 - flip1]], dtype=torch.float64)
            probabilities = _applied(confusion, (place,), probabilities.reshape(-1), n).reshape((2,) * n)
    values = {}
    for member in isa.basis.members:
        signed = probabilities
        for wire, _ in isa.circuit.observables[member].factors:
            signed = _applied(
                torch.diag(torch.tensor([1.0, -1.0]).double()), (isa.measured[wire],), signed.reshape(-1), n
            )
            signed = signed.reshape((2,) * n)
        values[member] = signed.sum()
    return values


def _with_noise(state: Tensor, noise: GateNoise, places: tuple[int, ...], n: int) -> Tensor:
    """Depolarizing as mixing with the maximally mixed state, relaxation element by element of each qubit's matrix."""
    if noise.depolarizing:
        mixed = state
        for place in places:
            traced = torch.diagonal(mixed, dim1=place, dim2=n + place).sum(-1)
            mixed = torch.diag_embed(0.5 * traced.unsqueeze(-1).expand(*traced.shape, 2), dim1=place, dim2=n + place)
        kept = float(np.exp(-noise.depolarizing))
        state = kept * state + (1 - kept) * mixed
    for place, (longitudinal, transverse) in zip(places, noise.relaxation, strict=True):
        rows = torch.movedim(state, (place, n + place), (0, 1))
        decayed, coherence = float(np.exp(-longitudinal)), float(np.exp(-transverse))
        top = torch.stack([rows[0, 0] + (1 - decayed) * rows[1, 1], coherence * rows[0, 1]])
        bottom = torch.stack([coherence * rows[1, 0], decayed * rows[1, 1]])
        state = torch.movedim(torch.stack([top, bottom]), (0, 1), (place, n + place))
    return state


def _angle(param: "Affine", angles: Tensor) -> Tensor:
    terms = [factor * angles[slot] for slot, factor in param.terms]
    return angles.new_tensor(param.constant) + sum(terms, start=angles.new_zeros(()))


def _unitary(name: str, params: list[Tensor]) -> Tensor:
    """A machine's gate, the first qubit the most significant bit; up to a phase."""
    if name in FIXED:
        return torch.as_tensor(FIXED[name])
    if name in ROTATIONS:
        levels, basis = torch.linalg.eigh(torch.as_tensor(ROTATIONS[name].generator))
        turned: Tensor = basis @ torch.diag(torch.exp(-1j * params[0] * levels)) @ basis.conj().T
        return turned
    if name == "ecr":  # (XI - YX) / sqrt(2): Qiskit's ECRGate, whose words are read from the right
        x, y = PAULIS["X"], PAULIS["Y"]
        return torch.as_tensor((np.kron(x, np.eye(2)) - np.kron(y, x)) / np.sqrt(2))
    if name == "id":
        return torch.eye(2, dtype=torch.complex128)
    if name == "u1":
        return _unitary("p", params)
    quarter = torch.tensor(np.pi / 2, dtype=torch.float64)
    theta, phi, lam = (quarter, *params) if name == "u2" else params  # else u3 or u
    product: Tensor = _unitary("rz", [phi]) @ _unitary("ry", [theta]) @ _unitary("rz", [lam])
    return product


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
