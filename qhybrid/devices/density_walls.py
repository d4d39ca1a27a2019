"""A noisy circuit on a few qubits as dense maps between walls of turns, and the sectors of components of each wall."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from qhybrid.devices.density_elements import Channel, Element, Turn
from qhybrid.noise_models.channels import Matrix

Word = tuple[tuple[int, str], ...]
"""A Pauli word as (place, letter) pairs."""


@dataclass(frozen=True, eq=False)
class Wall:
    """Turns at once.

    Args:
        turns: On different qubits.
    """

    turns: tuple[Turn, ...]


@dataclass(frozen=True, eq=False)
class Sector:
    """Components that one wall multiplies by the same phase.

    Args:
        signs: How often each turn's angle enters the phase, -1, 0 or 1; all 0: real components, not turned.
        size: Number of components, complex unless all signs are 0.
    """

    signs: tuple[int, ...]
    size: int

    @property
    def is_real(self) -> bool:
        """Whether the wall leaves these components alone."""
        return not any(self.signs)

    @property
    def width(self) -> int:
        """Number of real coordinates."""
        return self.size if self.is_real else 2 * self.size


def wall_count(elements: Sequence[Element]) -> int:
    """Number of walls that `stages` finds."""
    depth: dict[int, int] = {}
    for each in elements:
        level = max(depth.get(qubit, 0) for qubit in each.qubits) + isinstance(each, Turn)
        depth.update(dict.fromkeys(each.qubits, level))
    return max(depth.values(), default=0)


def stages(elements: Sequence[Element], n: int, words: Sequence[Word]) -> tuple[list[Matrix], list[Wall]]:
    """Collect the turns of a circuit into walls, each as early as it can stand.

    Args:
        elements: The circuit, in the order of time.
        n: Number of qubits.
        words: What is read at the end.

    Returns:
        Maps and walls by turns: the state before the first wall (4**n, 1), the maps between walls (4**n, 4**n), the map
        onto the words (words, 4**n); with no wall the values (words, 1).
    """
    depth = [0] * n
    turns: dict[int, list[Turn]] = {}
    channels: dict[int, list[Channel]] = {}
    for each in elements:
        if isinstance(each, Turn):
            turns.setdefault(depth[each.qubit], []).append(each)
            depth[each.qubit] += 1
        else:
            level = max(depth[qubit] for qubit in each.qubits)
            channels.setdefault(level, []).append(each)
            for qubit in each.qubits:
                depth[qubit] = level
    ground = np.zeros((4**n, 1))
    ground[[_index(word, n) for word in _z_words(n)]] = 1
    reading = np.zeros((len(words), 4**n))
    reading[np.arange(len(words)), [_index(word, n) for word in words]] = 1
    last = len(turns)
    maps = []
    for level in range(last + 1):
        found = channels.get(level, [])
        if level == last and last > 0:
            matrix = reading
            for channel in reversed(found):
                matrix = _applied(channel.matrix.T, channel.qubits, matrix.T, n).T
            maps.append(matrix)
            continue
        matrix = ground if level == 0 else np.eye(4**n)
        for channel in found:
            matrix = _applied(channel.matrix, channel.qubits, matrix, n)
        maps.append(reading @ matrix if last == 0 else matrix)
    return maps, [Wall(tuple(turns[level])) for level in range(last)]


def _applied(matrix: Matrix, qubits: tuple[int, ...], columns: Matrix, n: int) -> Matrix:
    """A channel's matrix on some qubits of (4**n, K) columns."""
    k = len(qubits)
    tensor = columns.reshape((4,) * n + (-1,))
    moved = np.tensordot(matrix.reshape((4,) * (2 * k)), tensor, (list(range(k, 2 * k)), list(qubits)))
    return np.moveaxis(moved, range(k), qubits).reshape(4**n, -1)


def _index(word: Word, n: int) -> int:
    return sum("IXYZ".index(letter) << 2 * (n - 1 - place) for place, letter in word)


def _z_words(n: int) -> list[Word]:
    return [tuple((place, letter) for place, letter in enumerate(letters)) for letters in product("IZ", repeat=n)]


@cache
def sector_basis(n: int, turned: tuple[int, ...]) -> tuple[Matrix, list[Sector]]:
    """The orthogonal matrix to coordinates sector by sector, real parts before imaginary parts, and the sectors."""
    half = np.sqrt(0.5)
    turned_rows = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, half, 1j * half, 0], [0, half, -1j * half, 0]])
    signs_of = (0, 0, 1, -1)
    matrix = np.ones((1, 1), dtype=complex)
    for place in range(n):
        matrix = np.kron(matrix, turned_rows if place in turned else np.eye(4))
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, digits in enumerate(product(range(4), repeat=n)):
        signs = tuple(signs_of[digits[place]] for place in turned)
        first = next((sign for sign in signs if sign), 0)
        if first >= 0:  # the others are complex conjugates
            groups.setdefault(signs, []).append(row)
    rows, sectors = [], []
    for signs, members in groups.items():
        block = matrix[members]
        rows += [block.real] if not any(signs) else [np.sqrt(2) * block.real, np.sqrt(2) * block.imag]
        sectors.append(Sector(signs, len(members)))
    return np.vstack(rows), sectors


def phase(wall: Wall, signs: tuple[int, ...]) -> tuple[float, dict[int, float]]:
    """The angle of a sector's phase, constant and terms by slot."""
    constant, terms = 0.0, dict[int, float]()
    for sign, turn in zip(signs, wall.turns, strict=True):
        constant += sign * turn.constant
        for slot, factor in turn.terms:
            terms[slot] = terms.get(slot, 0.0) + sign * factor
    return constant, terms
