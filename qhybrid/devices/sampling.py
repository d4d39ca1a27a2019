"""Finite shots drawn from the exact distribution of measurement outcomes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import MeasurementBasis
from qhybrid.devices.base import Estimates


def sample_expectations(
    probabilities: list[NDArray[np.float64]], circuit: Circuit, shots: int, seed: int | None
) -> Estimates:
    """Draw shots for every row and basis, and estimate the expectation values from them.

    Args:
        probabilities: For each of the circuit's measurement bases the outcome probabilities, of all wires, shape
            (B, 2**n), or of `basis.wires` only, shape (B, 2**k); the first wire is the most significant bit.
        circuit: Whose observables are estimated.
        shots: Shots for every row and basis.
        seed: Of the draws; None draws a fresh one.

    Returns:
        Values and standard errors, shape (B, M), float64.
    """
    generator = np.random.default_rng(seed)
    batch = probabilities[0].shape[0]
    values = np.empty((batch, circuit.n_observables))
    for basis, table in zip(circuit.bases, probabilities, strict=True):
        table = np.clip(table, 0, None)
        counts = generator.multinomial(shots, table / table.sum(axis=1, keepdims=True))
        wires = basis.wires if table.shape[1] == 2 ** len(basis.wires) else range(circuit.n_qubits)
        values[:, list(basis.members)] = counts @ basis.signs(circuit.observables, wires) / shots
    return Estimates(torch.from_numpy(values), torch.from_numpy(shot_error(values, shots)))


def exact_expectations(probabilities: list[NDArray[np.float64]], circuit: Circuit) -> Estimates:
    """Expectation values of outcome probabilities, which are laid out as in `sample_expectations`."""
    values = np.empty((len(probabilities[0]), circuit.n_observables))
    for basis, table in zip(circuit.bases, probabilities, strict=True):
        wires = basis.wires if table.shape[1] == 2 ** len(basis.wires) else range(circuit.n_qubits)
        values[:, list(basis.members)] = table @ basis.signs(circuit.observables, wires)
    return Estimates.exact(torch.from_numpy(values))


def read_out(table: NDArray[np.float64], confusion: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Outcome probabilities after readout errors.

    Args:
        table: Shape (B, 2**k), the first wire the most significant bit.
        confusion: Confusion matrix [read, true] of each wire.
    """
    for place, matrix in enumerate(confusion):
        true = table.reshape(len(table), 2**place, 2, -1)
        table = np.einsum("rt,blti->blri", matrix, true).reshape(len(table), -1)
    return table


def shot_error(values: NDArray[np.float64], shots: int) -> NDArray[np.float64]:
    """Standard error of a Pauli word's mean over shots.

    The variance of a +-1 outcome is 1 - E^2. E is taken with one pseudo-count on either side (Laplace), so that a run
    in which all shots agreed does not claim to know the value exactly.

    Args:
        values: Means, in [-1, 1].
        shots: Number of shots of each.
    """
    shrunk = values * shots / (shots + 2)
    return np.sqrt((1 - shrunk**2) / shots)


def basis_rotation(basis: MeasurementBasis) -> list[tuple[str, int]]:
    """Fixed gates (name, wire) that turn a measurement in this basis into one of Z."""
    gates = []
    for wire, pauli in basis.paulis:
        if pauli == "Y":
            gates.append(("sdg", wire))
        if pauli in "XY":
            gates.append(("h", wire))
    return gates
