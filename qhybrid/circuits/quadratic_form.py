"""Circuits that are a classical quadratic form: amplitude encoding, gates without features, Pauli words."""

import numpy as np
from numpy.typing import NDArray

from qhybrid import catalog
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.gates import FIXED, ROTATIONS, ComplexMatrix
from qhybrid.circuits.light_cone import seen_wires
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError

MAX_QUBITS = 12
"""Largest circuit whose matrices are computed; each has up to 4^12 entries."""


def check_quadratic_form(circuit: Circuit) -> None:
    """Check that a circuit's expectation values are a quadratic form of its features.

    Raises:
        InputError: It does not begin with amplitude encoding, or reads features after that; names circuits that are
            one.
    """
    if circuit.n_amplitudes == 0 or circuit.encoders:
        raise InputError(
            f"circuit {circuit.name!r} is no quadratic form of its features: that takes amplitude encoding first and "
            f"no feature after it; circuits that are one: {', '.join(_catalog_names())}"
        )


def quadratic_forms(circuit: Circuit, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrices that a circuit is: its exact expectation values are v @ A_m @ v, without any quantum computer.

    v is the unit vector that `circuit.amplitudes` makes of the features; A_m = Re(U^T* P_m U) on the amplitudes, with
    the unitary U of all gates and the Pauli word P_m: expectation values are linear in the density matrix of the data
    (Schuld, arXiv 2101.11020), which is v v^T here.

    Args:
        circuit: One that `check_quadratic_form` accepts, of at most `MAX_QUBITS` qubits.
        weights: Trained weights in radians, shape (W,).

    Returns:
        Symmetric matrices, shape (M, S, S), with S = 2^(number of encoded qubits) amplitudes.

    Raises:
        InputError: The circuit is no quadratic form or too large, or the weights are not as many as it has.
    """
    check_quadratic_form(circuit)
    n = circuit.n_qubits
    if n > MAX_QUBITS:
        raise InputError(f"circuit {circuit.name!r} has {n} qubits; matrices are computed for at most {MAX_QUBITS}")
    if weights.shape != (circuit.n_weights,):
        raise InputError(f"weights of shape {weights.shape}: circuit {circuit.name!r} has {circuit.n_weights}")
    columns = _unitary_columns(circuit, circuit.offset + weights @ circuit.weight_map)
    index = np.arange(2**n)
    forms = []
    for word in circuit.observables:
        moved = word.phases(n)[:, None] * columns[index ^ word.flips(n)]
        form = (columns.conj().T @ moved).real
        forms.append((form + form.T) / 2)
    return np.stack(forms)


def seen_amplitude_wires(circuit: Circuit) -> tuple[int, ...]:
    """Wires of the initial state that an observable can depend on; the others are traced out whatever the weights."""
    seen = seen_wires(circuit)
    return tuple(wire for wire in circuit.amplitude_wires if wire in seen)


def _unitary_columns(circuit: Circuit, angles: NDArray[np.float64]) -> ComplexMatrix:
    """What the gates make of each amplitude's basis state, shape (2**n, S)."""
    n, size = circuit.n_qubits, circuit.n_amplitudes
    columns: ComplexMatrix = np.zeros((2**n, size), dtype=complex)
    columns[circuit.amplitude_index(), np.arange(size)] = 1
    for gate in circuit.gates:
        if gate.slot is None:
            unitary = FIXED[gate.name]
        else:
            levels, basis = np.linalg.eigh(ROTATIONS[gate.name].generator)
            unitary = (basis * np.exp(-1j * angles[gate.slot] * levels)) @ basis.conj().T
        k = len(gate.wires)
        tensor = np.tensordot(
            unitary.reshape((2,) * (2 * k)), columns.reshape((2,) * n + (size,)), axes=(range(k, 2 * k), gate.wires)
        )
        columns = np.moveaxis(tensor, range(k), gate.wires).reshape(2**n, size)
    return columns


def _catalog_names() -> list[str]:
    names = []
    for name, path in catalog.entries("circuits").items():
        try:
            circuit = load_circuit(str(path))
        except InputError:
            continue  # `qhybrid ls circuits` says what is wrong with it
        if circuit.n_amplitudes and not circuit.encoders:
            names.append(name)
    return names
