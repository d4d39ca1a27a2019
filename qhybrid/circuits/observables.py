"""Pauli words such as `Z0` or `Z0 Z1`, and which of them one measurement basis serves."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import InputError

_FACTOR = re.compile(r"([XYZ])(\d+)")


@dataclass(frozen=True)
class PauliWord:
    """A tensor product of Pauli matrices; its expectation value lies in [-1, 1].

    Args:
        factors: (wire, "X" | "Y" | "Z") pairs in the order of the wires; empty is the identity.
    """

    factors: tuple[tuple[int, str], ...]

    @classmethod
    def parse(cls, text: str, n_qubits: int) -> "PauliWord":
        """Read a word such as `Z0 X2`.

        Raises:
            InputError: It is not such a word, a wire is named twice or lies outside the circuit.
        """
        factors: dict[int, str] = {}
        for part in text.split():
            match = _FACTOR.fullmatch(part)
            if not match:
                raise InputError(f"observable {text!r}: {part!r} is not X, Y or Z and a qubit number, as in 'Z0 Z1'")
            wire = int(match[2])
            if wire >= n_qubits:
                raise InputError(f"observable {text!r}: qubit {wire} is outside the circuit (0 to {n_qubits - 1})")
            if wire in factors:
                raise InputError(f"observable {text!r} names qubit {wire} twice")
            factors[wire] = match[1]
        if not factors:
            raise InputError(f"observable {text!r} is empty; write for example 'Z0'")
        return cls(tuple(sorted(factors.items())))

    def __str__(self) -> str:
        return " ".join(f"{pauli}{wire}" for wire, pauli in self.factors)

    def flips(self, n_qubits: int) -> int:
        """The bit mask that this word XORs onto a basis state's index (qubit 0 the most significant bit)."""
        return sum(1 << (n_qubits - 1 - wire) for wire, pauli in self.factors if pauli != "Z")

    def phases(self, n_qubits: int) -> NDArray[np.complex128]:
        """c with <psi|P|psi> = sum_i conj(psi[i]) c[i] psi[i ^ flips], shape (2**n_qubits,)."""
        index = np.arange(2**n_qubits)
        phase = np.ones(2**n_qubits, dtype=complex)
        for wire, pauli in self.factors:
            bit = (index >> (n_qubits - 1 - wire)) & 1
            if pauli == "Z":
                phase *= 1 - 2 * bit
            elif pauli == "Y":
                phase *= 1j * (2 * bit - 1)
        return phase


@dataclass(frozen=True)
class MeasurementBasis:
    """Pauli words that commute qubit by qubit: measured together, from the same shots.

    Args:
        paulis: The basis that each named wire is measured in, (wire, "X" | "Y" | "Z") pairs.
        members: Indices of the words in the circuit's list of observables.
    """

    paulis: tuple[tuple[int, str], ...]
    members: tuple[int, ...]

    @property
    def wires(self) -> tuple[int, ...]:
        """The wires that are measured, ascending."""
        return tuple(wire for wire, _ in self.paulis)

    def signs(self, words: Iterable[PauliWord], wires: Sequence[int]) -> NDArray[np.float64]:
        """Eigenvalue of each member for each outcome of the measurement, shape (2**len(wires), members).

        Args:
            words: The circuit's observables.
            wires: Wires that the outcomes are about, the first the most significant bit; `self.wires` or more.
        """
        index = np.arange(2 ** len(wires))
        shift = {wire: len(wires) - 1 - place for place, wire in enumerate(wires)}
        words = list(words)
        columns = []
        for member in self.members:
            parity = np.zeros_like(index)
            for wire, _ in words[member].factors:
                parity ^= (index >> shift[wire]) & 1
            columns.append(1.0 - 2.0 * parity)
        return np.stack(columns, axis=1)


def measurement_bases(words: Iterable[PauliWord]) -> tuple[MeasurementBasis, ...]:
    """Group Pauli words greedily into bases that are measured with one set of shots each."""
    groups: list[tuple[dict[int, str], list[int]]] = []
    for index, word in enumerate(words):
        for paulis, members in groups:
            if all(paulis.get(wire, pauli) == pauli for wire, pauli in word.factors):
                paulis.update(word.factors)
                members.append(index)
                break
        else:
            groups.append((dict(word.factors), [index]))
    return tuple(MeasurementBasis(tuple(sorted(paulis.items())), tuple(members)) for paulis, members in groups)
