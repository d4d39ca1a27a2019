"""An independent simulation with dense numpy matrices, gate by gate, which tests compare drivers with."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import expm

from qhybrid.circuits.builder import CircuitBuilder
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.encoders import AmplitudeEncoder, AngleEncoder
from qhybrid.circuits.gates import FIXED, PAULIS, ROTATIONS, n_wires
from qhybrid.circuits.observables import PauliWord

GATES = (*FIXED, *ROTATIONS)


def apply(
    matrix: NDArray[np.complex128], wires: tuple[int, ...], state: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """A matrix on some wires of a state vector, qubit 0 the most significant bit."""
    n, k = state.size.bit_length() - 1, len(wires)
    tensor = np.tensordot(matrix.reshape((2,) * (2 * k)), state.reshape((2,) * n), axes=(range(k, 2 * k), wires))
    return np.moveaxis(tensor, range(k), wires).reshape(-1)


@lru_cache(maxsize=4096)
def rotation(name: str, angle: float) -> NDArray[np.complex128]:
    """The matrix exponential that defines a rotation."""
    return np.asarray(expm(-1j * angle * ROTATIONS[name].generator))


def final_state(circuit: Circuit, row: NDArray[np.float64]) -> NDArray[np.complex128]:
    """The state behind all gates, for one row (S + P,)."""
    n, wires = circuit.n_qubits, circuit.amplitude_wires if circuit.n_amplitudes else ()
    others = [wire for wire in range(n) if wire not in wires]
    start = np.asarray(row[: circuit.n_amplitudes] if wires else [1.0], dtype=complex)
    ground = np.zeros(2 ** len(others), dtype=complex)
    ground[0] = 1
    state = np.moveaxis(np.kron(start, ground).reshape((2,) * n), range(n), [*wires, *others]).reshape(-1)
    for gate in circuit.gates:
        if gate.slot is None:
            matrix = FIXED[gate.name]
        else:
            matrix = rotation(gate.name, float(row[circuit.n_amplitudes + gate.slot]))
        state = apply(matrix, gate.wires, state)
    return state


def expectations(circuit: Circuit, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact expectation values, (B, S + P) -> (B, M)."""
    values = np.empty((len(rows), circuit.n_observables))
    for b, row in enumerate(rows):
        state = final_state(circuit, row)
        for m, word in enumerate(circuit.observables):
            moved = state
            for wire, pauli in word.factors:
                moved = apply(PAULIS[pauli], (wire,), moved)
            values[b, m] = np.vdot(state, moved).real
    return values


def gradient(circuit: Circuit, rows: NDArray[np.float64], cotangent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient of sum(cotangent * expectations) by central differences of fourth order, (B, S + P).

    Initial amplitudes are not normalised again: their gradient is that of the quadratic form.
    """
    result, step = np.zeros_like(rows), 1e-3
    for column in range(rows.shape[1]):
        for distance, factor in ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)):
            moved = rows.copy()
            moved[:, column] += distance * step
            result[:, column] += factor / step * (cotangent * expectations(circuit, moved)).sum(axis=1)
    return result


def circuit_of(
    gates: list[tuple[str, tuple[int, ...]]],
    observables: list[str],
    n_qubits: int,
    *,
    amplitude_wires: tuple[int, ...] = (),
    constants: Mapping[int, float] | None = None,
) -> Circuit:
    """A circuit of named gates, every rotation with a feature of its own (behind those of the initial state).

    `constants`: radians of those gates, by their place, that have a constant angle instead.
    """
    constants = constants or {}
    builder = CircuitBuilder(n_qubits)
    n_amplitudes = 2 ** len(amplitude_wires) if amplitude_wires else 0
    if n_amplitudes:
        builder.prepare(AmplitudeEncoder(0, n_amplitudes, len(amplitude_wires)), amplitude_wires)
    n_rotations = sum(name in ROTATIONS and place not in constants for place, (name, _) in enumerate(gates))
    rows = iter(builder.encode(AngleEncoder(n_amplitudes, n_rotations)) if n_rotations else ())
    for place, (name, wires) in enumerate(gates):
        if name in ROTATIONS and place in constants:
            builder.rotation(name, wires, offset=constants[place])
        elif name in ROTATIONS:
            builder.rotation(name, wires, encoding={next(rows): 1.0})
        else:
            builder.fixed(name, wires)
    return builder.circuit("random", tuple(PauliWord.parse(word, n_qubits) for word in observables))


def random_rows(circuit: Circuit, batch: int, seed: int) -> NDArray[np.float64]:
    """Random angles but for constant ones, behind random unit vectors where it starts from a state; (B, S + P)."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(batch, circuit.n_amplitudes))
    state /= np.linalg.norm(state, axis=1, keepdims=True) if circuit.n_amplitudes else 1.0
    angles = rng.uniform(-4, 4, size=(batch, circuit.n_angles))
    for slot, constant in circuit.constants.items():
        angles[:, slot] = constant
    return np.hstack([state, angles])


@st.composite
def circuits(draw: st.DrawFn, *, max_qubits: int = 4, max_gates: int = 12) -> Circuit:
    """Random circuits of all gates and Pauli words, half of them with an initial state on some wires in any order.

    Some rotations have constant angles, multiples of a quarter turn among them.
    """
    n = draw(st.integers(1, max_qubits))
    names = st.sampled_from([name for name in GATES if n_wires(name) <= n])
    wires = st.permutations(range(n))
    gates = [(name, tuple(draw(wires)[: n_wires(name)])) for name in draw(st.lists(names, max_size=max_gates))]
    angles = st.one_of(st.floats(-4, 4), st.integers(-4, 4).map(lambda quarter: quarter * np.pi / 2))
    constants = {place: draw(angles) for place in range(len(gates)) if draw(st.integers(0, 2)) == 0}
    gates.append(("ry", (draw(st.integers(0, n - 1)),)))
    words = []
    for _ in range(draw(st.integers(1, 3))):
        on = sorted(draw(st.sets(st.integers(0, n - 1), min_size=1)))
        words.append(" ".join(f"{draw(st.sampled_from('XYZ'))}{wire}" for wire in on))
    prepared = tuple(draw(wires)[: draw(st.integers(1, n))]) if draw(st.booleans()) else ()
    return circuit_of(gates, words, n, amplitude_wires=prepared, constants=constants)
