"""Coupling maps: which qubits have a two-qubit gate, and where they lie on a map."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

CouplingName = Literal["line", "ring", "grid", "heavy-hex", "full"]


@dataclass(frozen=True)
class Coupling:
    """A coupling map.

    Args:
        edges: Pairs of qubits, the smaller one first.
        coordinates: (column, row) of each qubit, rows counted downwards.
    """

    edges: tuple[tuple[int, int], ...]
    coordinates: tuple[tuple[float, float], ...]


def coupling_map(name: CouplingName, n_qubits: int, columns: int | None = None) -> Coupling:
    """A coupling map by its name.

    Args:
        name: `line`; `ring`; `grid`, filled row by row; `heavy-hex`, IBM's lattice of hexagons with a qubit on every
            corner and edge, filled row by row (156 qubits in 16 columns are a Heron); `full`, every pair.
        n_qubits: How many qubits.
        columns: Qubits in a row of a grid or of a heavy-hex lattice; None: about as wide as high.
    """
    makers: dict[CouplingName, Callable[[int, int | None], Coupling]] = {
        "line": lambda n, _: Coupling(_chain(n), tuple((float(q), 0.0) for q in range(n))),
        "ring": lambda n, _: Coupling((*_chain(n), *([(0, n - 1)] if n > 2 else [])), _circle(n)),
        "full": lambda n, _: Coupling(tuple(combinations(range(n), 2)), _circle(n)),
        "grid": _grid,
        "heavy-hex": _heavy_hex,
    }
    return makers[name](n_qubits, columns)


def _chain(n_qubits: int) -> tuple[tuple[int, int], ...]:
    return tuple((q, q + 1) for q in range(n_qubits - 1))


def _circle(n_qubits: int) -> tuple[tuple[float, float], ...]:
    """Points on a circle, neighbours a distance of about 1 apart."""
    radius = max(n_qubits / (2 * math.pi), 0.5)
    turns = [2 * math.pi * q / n_qubits for q in range(n_qubits)]
    return tuple((radius * math.sin(turn), -radius * math.cos(turn)) for turn in turns)


def _grid(n_qubits: int, columns: int | None) -> Coupling:
    width = columns or math.ceil(math.sqrt(n_qubits))
    right = [(q, q + 1) for q in range(n_qubits - 1) if (q + 1) % width]
    down = [(q, q + width) for q in range(n_qubits - width)]
    places = tuple((float(q % width), float(q // width)) for q in range(n_qubits))
    return Coupling(tuple(sorted(right + down)), places)


def _heavy_hex(n_qubits: int, columns: int | None) -> Coupling:
    """Full rows of qubits, and between them a qubit in every fourth column, shifted by two from row to row."""
    width = columns or max(5, round(math.sqrt(1.6 * n_qubits)))
    places: list[tuple[int, int]] = []
    row = 0
    while len(places) < n_qubits:
        places += [(column, row) for column in (range(width) if row % 2 == 0 else range(row % 4 - 1, width, 4))]
        row += 1
    number = {place: q for q, place in enumerate(places[:n_qubits])}
    edges = []
    for (column, row), q in number.items():
        neighbours = ((column + 1, row), (column, row + 1)) if row % 2 == 0 else ((column, row + 1),)
        edges += [(q, number[place]) for place in neighbours if place in number]
    return Coupling(tuple(sorted(edges)), tuple((float(column), float(row)) for column, row in number))
