"""Readout mitigation as linear algebra of Z words.

Flips on single qubits, P(1|0) = f and P(0|1) = g, turn the Z of a qubit into (1 - f - g) Z + (g - f). The inverse of a
product of Z is therefore a sum over its sub-words, all of which were measured with the same shots. For single words
that is a shift and a stretch. Bravyi et al., arXiv 2006.14044, section II; the matrix-free form for the outcomes that
were seen: Nation et al., arXiv 2108.12518.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.observables import MeasurementBasis, PauliWord
from qhybrid.errors import InputError, QHybridError

Array = NDArray[np.float64]
MAX_WIRES = 10
"""Most wires of a word whose sub-words are all read, 2**10 of them."""
LEAST_CONTRAST = 0.05
"""Below this difference between the readings of 0 and of 1 a readout is not inverted."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """What is known of the readout of N qubits.

    Args:
        place: Qubit -> its index.
        zero: Mean of Z when 0 was prepared, shape (N,).
        one: Mean of Z when 1 was prepared, shape (N,).
        variances: Of both, shape (2, N); zero where they are known exactly.
    """

    place: Mapping[int, int]
    zero: Array
    one: Array
    variances: Array = field(default_factory=lambda: np.zeros((2, 0)))

    @classmethod
    def of(cls, flips: Mapping[int, tuple[float, float]]) -> "Confusion":
        """From (P(1 | 0), P(0 | 1)) of each qubit."""
        table = np.array(list(flips.values()), dtype=float).reshape(-1, 2)
        place = {qubit: index for index, qubit in enumerate(flips)}
        return cls(place, 1 - 2 * table[:, 0], 2 * table[:, 1] - 1, np.zeros((2, len(table))))

    def __post_init__(self) -> None:
        for qubit, index in self.place.items():
            if self.contrast[index] < LEAST_CONTRAST:
                raise QHybridError(
                    f"readout of qubit {qubit}: 0 and 1 are told apart in {100 * self.contrast[index]:.0f} % of the "
                    "shots only, which no mitigation undoes"
                )

    @property
    def contrast(self) -> Array:
        """1 - P(1|0) - P(0|1), shape (N,)."""
        return (self.zero - self.one) / 2

    def matrix(self, qubit: int) -> Array:
        """Confusion matrix [read, true] of a qubit, shape (2, 2)."""
        zero, one = self.zero[self.place[qubit]], self.one[self.place[qubit]]
        return np.array([[1 + zero, 1 + one], [1 - zero, 1 - one]]) / 2


@dataclass(frozen=True, eq=False)
class Corrected:
    """Values of a basis' words after readout mitigation.

    Args:
        values: Shape (B, M).
        variances: From the shots of these values, shape (B, M).
        slopes: Derivative with respect to the 2 N readings of `Confusion`, shape (B, M, 2, N).
    """

    values: Tensor
    variances: Tensor
    slopes: Tensor


class WordReading:
    """Which Z words are read in a measurement basis, and what is made of them.

    Args:
        basis: The basis.
        observables: Of the circuit.
        method: `inverse`, `mthree`, or None for the observables as they are.
        qubits: The qubit of each wire of the basis, as `Confusion` names it.

    Raises:
        InputError: A word has too many wires.
    """

    def __init__(
        self, basis: MeasurementBasis, observables: Sequence[PauliWord], method: str | None, qubits: Sequence[int]
    ) -> None:
        self.basis, self.method, self.qubits = basis, method, tuple(qubits)
        place = {wire: index for index, wire in enumerate(basis.wires)}
        own = [tuple(place[wire] for wire, _ in observables[member].factors) for member in basis.members]
        whole = [tuple(range(len(basis.wires)))] if method == "mthree" else []
        if method and (longest := max(map(len, own + whole))) > MAX_WIRES:
            raise InputError(
                f"readout mitigation ({method}) of {longest} wires at once reads 2**{longest} words; at most "
                f"{MAX_WIRES} wires are possible"
            )
        closed = {part for word in own + whole for n in range(1, len(word) + 1) for part in combinations(word, n)}
        words = sorted(closed, key=lambda word: (len(word), word)) if method else sorted(set(own) - {()})
        self.words = ((), *words)
        """The words, as places among the wires of the basis; the first is the identity, which is not read."""
        self.index = {word: number for number, word in enumerate(self.words)}
        self.members = [self.index[word] for word in own]

    @property
    def observables(self) -> tuple[PauliWord, ...]:
        """The words that are read."""
        return tuple(PauliWord(tuple(self.basis.paulis[place] for place in word)) for word in self.words[1:])

    def correct(self, read: Tensor, shots: int | None, confusion: Confusion | None) -> Corrected:
        """Correct a batch.

        Args:
            read: Means of `observables`, shape (B, W), float64.
            shots: That they were estimated from; None: they are exact.
            confusion: Of the readout; None without mitigation.
        """
        ones = torch.cat([torch.ones_like(read[:, :1]), read], dim=1)
        if confusion is None:
            values = ones[:, self.members]
            shrunk = values.detach() * (shots / (shots + 2) if shots else 1.0)
            variances = (1 - shrunk**2) / shots if shots else torch.zeros_like(shrunk)
            return Corrected(values, variances, values.detach().new_zeros(*values.shape, 2, 0))
        if self.method == "mthree" and shots is not None:
            all_words, variances = self._by_mthree(ones, shots, confusion)
        else:
            inverse = self._inverse(confusion)
            all_words = ones @ torch.from_numpy(inverse.T).to(ones)
            variances = self._variances(ones.detach(), shots, inverse)
        return Corrected(all_words[:, self.members], variances, self._slopes(all_words.detach(), confusion))

    def _inverse(self, confusion: Confusion) -> Array:
        """Words without readout errors as sums of words with them, shape (1 + W, 1 + W)."""
        at = [confusion.place[qubit] for qubit in self.qubits]
        stretch = 1 / confusion.contrast[at]
        shift = -(confusion.zero + confusion.one)[at] / 2 * stretch
        matrix = np.zeros((len(self.words), len(self.words)))
        for row, word in enumerate(self.words):
            for n in range(len(word) + 1):
                for part in combinations(word, n):
                    rest = [place for place in word if place not in part]
                    matrix[row, self.index[part]] = np.prod(stretch[list(part)]) * np.prod(shift[rest])
        return matrix

    def _variances(self, ones: Tensor, shots: int | None, inverse: Array) -> Tensor:
        """Of the members, from their shots: E[f^2] - E[f]^2, f being the sum over sub-words of one shot."""
        if shots is None:
            return torch.zeros_like(ones[:, self.members])
        squares = np.zeros((len(self.members), len(self.words)))
        for row, member in enumerate(self.members):
            word = self.words[member]
            parts = [part for n in range(len(word) + 1) for part in combinations(word, n)]
            columns = [self.index[part] for part in parts]
            signs = _characters(word, parts)
            squares[row, columns] = ((signs @ inverse[member, columns]) ** 2 @ signs) / len(parts)
        shrunk = ones * (shots / (shots + 2))  # as in sampling.shot_error
        shrunk[:, 0] = 1.0
        means = shrunk @ torch.from_numpy(inverse[self.members].T).to(ones)
        return (shrunk @ torch.from_numpy(squares.T).to(ones) - means**2).clamp(min=0) / shots

    def _slopes(self, words: Tensor, confusion: Confusion) -> Tensor:
        """Derivatives of the members with respect to the readings of 0 and of 1 of each qubit, (B, M, 2, N)."""
        slopes = words.new_zeros(len(words), len(self.members), 2, len(confusion.place))
        for column, member in enumerate(self.members):
            word = self.words[member]
            for place in word:
                at = confusion.place[self.qubits[place]]
                rest = words[:, self.index[tuple(other for other in word if other != place)]]
                half = 1 / (2 * confusion.contrast[at])
                slopes[:, column, 0, at] = -half * (rest + words[:, member])
                slopes[:, column, 1, at] = -half * (rest - words[:, member])
        return slopes

    def _by_mthree(self, ones: Tensor, shots: int, confusion: Confusion) -> tuple[Tensor, Tensor]:
        """All words (B, 1 + W) and the variances of the members, from counts, which all the words together give."""
        wires = tuple(range(len(self.qubits)))
        signs = _characters(wires, self.words)
        counts = np.rint(np.asarray(ones.detach().cpu()) @ signs.T * (shots / len(signs))).astype(int)
        solver, order = mthree_solver(), list(wires[::-1])  # its strings have the first qubit at the end
        solver.cals_from_matrices([confusion.matrix(qubit) for qubit in self.qubits])
        values = np.empty((len(counts), len(self.words)))
        variances = np.empty((len(counts), len(self.members)))
        for row, own in enumerate(counts):
            seen = {format(outcome, f"0{len(wires)}b"): int(own[outcome]) for outcome in np.flatnonzero(own)}
            quasi = solver.apply_correction(seen, order)
            values[row] = np.array(list(quasi.values()), float) @ signs[[int(outcome, 2) for outcome in quasi]]
            reduced, index = solver.reduced_cal_matrix(seen, order)
            outcomes = [int(outcome, 2) for outcome in index]
            weights = np.linalg.solve(reduced.T.astype(float), signs[np.ix_(outcomes, self.members)])
            share = own[outcomes] / shots
            means = share @ weights * (shots / (shots + 2))
            variances[row] = np.clip(share @ weights**2 - means**2, 0, None) / shots
        return torch.from_numpy(values).to(ones), torch.from_numpy(variances).to(ones)


def _characters(wires: Sequence[int], words: Sequence[tuple[int, ...]]) -> Array:
    """Sign of each word for each outcome of some wires, the first the most significant bit, (2**len(wires), words)."""
    outcomes = np.arange(2 ** len(wires))
    bit = {wire: (outcomes >> (len(wires) - 1 - index)) & 1 for index, wire in enumerate(wires)}
    columns = [np.bitwise_xor.reduce([bit[wire] for wire in word], axis=0) if word else 0 * outcomes for word in words]
    return 1.0 - 2.0 * np.stack(columns, axis=1)


def mthree_solver() -> Any:
    """M3's solver (https://qiskit.github.io/qiskit-addon-mthree/).

    Raises:
        InputError: The package is not installed.
    """
    try:
        import mthree
    except ImportError:
        raise InputError(
            "readout mitigation by mthree needs the package mthree: pip install 'qhybrid[mitigation]'; readout = "
            '"inverse" needs nothing'
        ) from None
    return mthree.M3Mitigation()
