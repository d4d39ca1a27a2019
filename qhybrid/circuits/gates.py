"""The gates of the circuit language, by their OpenQASM 3 names: wires, matrices and shift rules."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ComplexMatrix = NDArray[Any]  # complex128; numpy types most products of complex matrices more loosely

_1 = np.eye(2, dtype=complex)
_X = np.array([[0, 1], [1, 0]], dtype=complex)
_Y = np.array([[0, -1j], [1j, 0]])
_Z = np.diag([1, -1]).astype(complex)
_H = np.array([[1, 1], [1, -1]], dtype=complex) / np.sqrt(2)


def _controlled(matrix: ComplexMatrix) -> ComplexMatrix:
    return np.block([[np.eye(2), np.zeros((2, 2))], [np.zeros((2, 2)), matrix]])


PAULIS: dict[str, ComplexMatrix] = {"I": _1, "X": _X, "Y": _Y, "Z": _Z}

FIXED: dict[str, ComplexMatrix] = {
    "x": _X,
    "y": _Y,
    "z": _Z,
    "h": _H,
    "s": np.diag([1, 1j]),
    "sdg": np.diag([1, -1j]),
    "t": np.diag([1, np.exp(0.25j * np.pi)]),
    "tdg": np.diag([1, np.exp(-0.25j * np.pi)]),
    "sx": 0.5 * np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]),
    "cx": _controlled(_X),
    "cy": _controlled(_Y),
    "cz": _controlled(_Z),
    "swap": np.eye(4, dtype=complex)[[0, 2, 1, 3]],
}
"""Gates without an angle: name -> unitary, the first wire the most significant bit."""

ALIASES = {"cnot": "cx", "cphase": "cp", "phase": "p"}
"""Other names in use for the same gates, accepted in circuit files."""


@dataclass(frozen=True)
class Rotation:
    """A gate exp(-i angle G) with an angle slot of its own.

    Args:
        n_wires: Number of wires.
        generator: Hermitian G, shape (2**n_wires, 2**n_wires).
        shift_terms: Number of terms of its parameter-shift rule: 2 where G has two eigenvalues one apart, 4 where
            it has the three 0 and ±1/2 (Anselmetti et al., arXiv 2104.05695).
        parts: Number of half-angle rotations that a machine runs it as, with noise between them; 1 where it is one
            rotation by the whole angle.
    """

    n_wires: int
    generator: ComplexMatrix
    shift_terms: int = 2
    parts: int = 1


_P1: ComplexMatrix = np.diag([0j, 1])

ROTATIONS: dict[str, Rotation] = {
    "rx": Rotation(1, _X / 2),
    "ry": Rotation(1, _Y / 2),
    "rz": Rotation(1, _Z / 2),
    "p": Rotation(1, -1 * _P1),
    "rxx": Rotation(2, np.kron(_X, _X) / 2),
    "ryy": Rotation(2, np.kron(_Y, _Y) / 2),
    "rzz": Rotation(2, np.kron(_Z, _Z) / 2),
    "cp": Rotation(2, -1 * np.kron(_P1, _P1), parts=3),
    "crx": Rotation(2, np.kron(_P1, _X) / 2, shift_terms=4, parts=2),
    "cry": Rotation(2, np.kron(_P1, _Y) / 2, shift_terms=4, parts=2),
    "crz": Rotation(2, np.kron(_P1, _Z) / 2, shift_terms=4, parts=2),
}
"""Gates with an angle, U(angle) = exp(-i angle G)."""

VIRTUAL_GATES = ("p", "rz", "s", "sdg", "t", "tdg", "u1", "z")
"""Rotations about Z by Qiskit's names: on a machine they are a change of frame, without duration and error."""


def rotation_matrix(name: str, angle: float) -> ComplexMatrix:
    """The unitary exp(-i angle G) of a rotation, angle in radians."""
    generator = ROTATIONS[name].generator
    levels = np.diag(generator)
    if np.array_equal(generator, np.diag(levels)):
        unitary: ComplexMatrix = np.diag(np.exp(-1j * angle * levels))
    else:
        levels, basis = np.linalg.eigh(generator)
        unitary = (basis * np.exp(-1j * angle * levels)) @ basis.conj().T
    return np.asarray(np.real_if_close(unitary), dtype=complex)


def n_wires(name: str) -> int:
    """Number of wires that a gate of this name acts on."""
    return ROTATIONS[name].n_wires if name in ROTATIONS else FIXED[name].shape[0].bit_length() - 1


def shift_rule(name: str, *, decomposed: bool = False) -> tuple[tuple[float, float], ...]:
    """The parameter-shift rule of a rotation: dE/dangle = sum of coefficient * E(angle + shift).

    E has the frequencies 1 to R in units of u, which takes 2 R terms (Wierichs et al., arXiv 2107.12390, equation 22):
    1 for most rotations, 1/2 and 1 for controlled ones. Noise between the parts of a decomposed gate adds all
    frequencies that the sum of its half angles has.

    Args:
        name: Of the rotation.
        decomposed: It runs in the gates of a machine, with noise between them.

    Returns:
        Pairs (shift in radians, coefficient).
    """
    rotation = ROTATIONS[name]
    n_frequencies = max(rotation.shift_terms // 2, rotation.parts if decomposed else 1)
    unit = 1.0 if n_frequencies == 1 else 0.5
    terms = []
    for index in range(2 * n_frequencies):
        angle = (2 * index + 1) * np.pi / (2 * n_frequencies)
        coefficient = unit * (-1) ** index / (4 * n_frequencies * np.sin(angle / 2) ** 2)
        shift = angle if angle <= np.pi else angle - 2 * np.pi
        terms.append((float(shift / unit), float(coefficient)))
    return tuple(terms)
