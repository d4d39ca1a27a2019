"""Noise channels as Pauli transfer matrices: real, and simple for the channels that calibrations describe.

The basis is {I, X, Y, Z} on each qubit, unnormalised, the first qubit the most significant digit; a matrix R maps the
expectation values of the Pauli words before a channel to those after it (Greenbaum, arXiv 1509.02921, section 2.2).
"""

from collections.abc import Iterable, Sequence
from functools import cache, reduce
from itertools import product

import numpy as np
from numpy.typing import NDArray

from qhybrid.circuits.gates import PAULIS, ComplexMatrix

Matrix = NDArray[np.float64]

MIN_KEPT = 1e-300
"""Smallest 1 - p of a channel that loses everything, so that its rate -ln(1 - p) is finite."""


@cache
def pauli_words(n_qubits: int) -> ComplexMatrix:
    """All Pauli words on n qubits in the order of the basis, shape (4**n, 2**n, 2**n)."""
    words = [reduce(np.kron, factors) for factors in product(PAULIS.values(), repeat=n_qubits)]
    return np.stack(words) if n_qubits else np.ones((1, 1, 1), dtype=complex)


def unitary_channel(unitary: ComplexMatrix) -> Matrix:
    """Pauli transfer matrix of a unitary, shape (2**n, 2**n) -> (4**n, 4**n)."""
    return kraus_channel([unitary])


def kraus_channel(operators: Sequence[ComplexMatrix]) -> Matrix:
    """Pauli transfer matrix of a channel given by Kraus operators, each of shape (2**n, 2**n)."""
    size = operators[0].shape[0]
    words = pauli_words(size.bit_length() - 1)
    total = np.zeros((len(words), len(words)))
    for operator in operators:
        moved = operator @ words @ operator.conj().T
        total += np.einsum("iab,jba->ij", words, moved).real / size
    return total


def depolarizing_channel(rate: float, n_qubits: int) -> Matrix:
    """Depolarizing noise on n qubits: every word but the identity shrinks by exp(-rate) = 1 - p."""
    shrink = np.full(4**n_qubits, np.exp(-rate))
    shrink[0] = 1
    return np.diag(shrink)


def relaxation_channel(longitudinal: float, transverse: float) -> Matrix:
    """Relaxation of one qubit towards |0> for a time t.

    Args:
        longitudinal: t / T1.
        transverse: t / T2, at least half of t / T1.
    """
    transverse_factor, longitudinal_factor = np.exp(-transverse), np.exp(-longitudinal)
    channel = np.diag([1, transverse_factor, transverse_factor, longitudinal_factor])
    channel[3, 0] = 1 - longitudinal_factor
    return channel


def tensor(channels: Iterable[Matrix]) -> Matrix:
    """Channels side by side, the first on the most significant qubit."""
    result: Matrix = np.ones((1, 1))
    for channel in channels:
        result = np.asarray(np.kron(result, channel), dtype=np.float64)
    return result


def average_infidelity(channel: Matrix) -> float:
    """1 - F with the average gate fidelity F = (d F_e + 1) / (d + 1), F_e = tr R / d**2 (Nielsen, quant-ph/0205035).

    Args:
        channel: Pauli transfer matrix of the noise alone, shape (4**n, 4**n).
    """
    dimension = np.sqrt(len(channel))
    return float((1 - np.trace(channel) / len(channel)) * dimension / (dimension + 1))
