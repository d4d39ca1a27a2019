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
            it has the three 0 and ±1/2 (Anselmetti et al., arXiv 2104.05695; Wierichs et al., arXiv 2107.12390).
    """

    n_wires: int
    generator: ComplexMatrix
    shift_terms: int = 2


_P1: ComplexMatrix = np.diag([0j, 1])

ROTATIONS: dict[str, Rotation] = {
    "rx": Rotation(1, _X / 2),
    "ry": Rotation(1, _Y / 2),
    "rz": Rotation(1, _Z / 2),
    "p": Rotation(1, -1 * _P1),
    "rxx": Rotation(2, np.kron(_X, _X) / 2),
    "ryy": Rotation(2, np.kron(_Y, _Y) / 2),
    "rzz": Rotation(2, np.kron(_Z, _Z) / 2),
    "cp": Rotation(2, -1 * np.kron(_P1, _P1)),
    "crx": Rotation(2, np.kron(_P1, _X) / 2, shift_terms=4),
    "cry": Rotation(2, np.kron(_P1, _Y) / 2, shift_terms=4),
    "crz": Rotation(2, np.kron(_P1, _Z) / 2, shift_terms=4),
}
"""Gates with an angle, U(angle) = exp(-i angle G)."""


def n_wires(name: str) -> int:
    """Number of wires that a gate of this name acts on."""
    return ROTATIONS[name].n_wires if name in ROTATIONS else FIXED[name].shape[0].bit_length() - 1


def shift_rule(name: str) -> tuple[tuple[float, float], ...]:
    """The parameter-shift rule of a rotation: dE/dangle = sum of coefficient * E(angle + shift).

    Returns:
        Pairs (shift in radians, coefficient).
    """
    half_pi = np.pi / 2
    if ROTATIONS[name].shift_terms == 2:
        return ((half_pi, 0.5), (-half_pi, -0.5))
    plus, minus = (np.sqrt(2) + 1) / (4 * np.sqrt(2)), (np.sqrt(2) - 1) / (4 * np.sqrt(2))
    return ((half_pi, plus), (-half_pi, -plus), (3 * half_pi, -minus), (-3 * half_pi, minus))
