"""Noisy circuits on more qubits: channels and turns gathered into maps on two qubits at a time.

A qubit enters the register with the first block that touches it. After its last block only those of its components
stay that are read at the end, none if it is not measured. A block that holds turns is a different matrix for every row:
a sum of constant matrices times products of cosines and sines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from qhybrid.devices.density_elements import Element, Terms, Turn, embedded
from qhybrid.devices.density_walls import Word

TURNS_AT_A_TIME = 3
"""Most turns whose cosines and sines are multiplied out; a block with more is a product of matrices."""
GROUND = np.array([1.0, 0.0, 0.0, 1.0])
"""Components of |0>."""
# RZ as a sum: what it leaves alone, cos times what it keeps, sin times what it swaps.
_TURN = np.zeros((3, 4, 4))
_TURN[0, [0, 3], [0, 3]] = 1
_TURN[1, [1, 2], [1, 2]] = 1
_TURN[2, [2, 1], [1, 2]] = [1, -1]


@dataclass(frozen=True, eq=False)
class Factor:
    """A matrix that is linear in products of (1, cos, sin) of some turns.

    Args:
        turns: Numbers of the turns, r of them; none: a constant matrix.
        terms: Shape (3**r, rows, columns), the first turn the most significant digit.
    """

    turns: tuple[int, ...]
    terms: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Step:
    """One block's map on the state.

    Args:
        order: Axes of the state in the order that brings the block's to the front.
        shape: Sizes of the axes before that.
        columns: Components of the block's qubits that are in the register.
        rows: Components that leave it.
        factors: Matrices from the first applied to the last.
    """

    order: tuple[int, ...]
    shape: tuple[int, ...]
    columns: int
    rows: int
    factors: tuple[Factor, ...]

    @property
    def elements(self) -> tuple[int, int]:
        """Size of the state before and behind it."""
        size = prod(self.shape)
        return size, size // self.columns * self.rows


@dataclass(eq=False)
class Block:
    """Elements on one or two qubits, in the order of time."""

    qubits: tuple[int, ...]
    elements: list[Element] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class BlockPlan:
    """A whole circuit.

    Args:
        steps: In the order of time, from the state (1,).
        turns: Constant and terms of each turn's angle.
        picks: Index of each word in the final state.
    """

    steps: tuple[Step, ...]
    turns: tuple[tuple[float, Terms], ...]
    picks: NDArray[np.int64]


def block_plan(elements: Sequence[Element], words: Sequence[Word]) -> BlockPlan:
    """Plan how a circuit is run.

    Args:
        elements: The circuit, in the order of time.
        words: What is read at the end.
    """
    letters: dict[int, str] = {}
    for place, letter in sorted({factor for word in words for factor in word}):
        letters[place] = letters.get(place, "I") + letter
    touched = {qubit for each in elements for qubit in each.qubits}
    idle = [Block((place,)) for place in letters if place not in touched]
    blocks = _ordered([*gathered(elements), *idle])
    last = {qubit: index for index, block in enumerate(blocks) for qubit in block.qubits}
    axes: list[tuple[int, int]] = []  # (qubit, number of components)
    steps, turns = [], list[tuple[float, Terms]]()
    for index, block in enumerate(blocks):
        sizes = dict(axes)
        present = [qubit for qubit, _ in axes if qubit in block.qubits]
        fresh = [qubit for qubit in block.qubits if qubit not in sizes]
        kept = {q: letters.get(q, "I") if last[q] == index else "IXYZ" for q in (*present, *fresh)}
        places = [qubit for qubit, _ in axes]
        others = [axis for axis, qubit in enumerate(places) if qubit not in present]
        factors = _factors(block, tuple(present), tuple(fresh), kept, turns)
        front = [places.index(qubit) for qubit in present]
        shape = tuple(size for _, size in axes)
        rows = prod(len(found) for found in kept.values())
        steps.append(Step((*front, *others), shape, 4 ** len(present), rows, factors))
        axes = [(qubit, len(found)) for qubit, found in kept.items() if len(found) > 1] + [axes[a] for a in others]
    return BlockPlan(tuple(steps), tuple(turns), _picks(words, axes, letters))


def gathered(elements: Sequence[Element]) -> list[Block]:
    """Elements on the same two qubits, with those on one of them before and behind, as blocks."""
    blocks: list[Block] = []
    on: dict[int, Block] = {}
    waiting: dict[int, list[Element]] = {}
    for each in elements:
        homes = [on.get(qubit) for qubit in each.qubits]
        if homes[0] is not None and all(home is homes[0] for home in homes):
            homes[0].elements.append(each)
        elif len(each.qubits) == 1:
            waiting.setdefault(each.qubits[0], []).append(each)
        else:
            block = Block(each.qubits, [e for q in each.qubits for e in waiting.pop(q, [])] + [each])
            blocks.append(block)
            on.update(dict.fromkeys(each.qubits, block))
    return blocks + [Block((qubit,), found) for qubit, found in waiting.items()]


def _ordered(blocks: list[Block]) -> list[Block]:
    """The blocks in an order in which qubits enter the register as late as possible."""
    queues: dict[int, list[int]] = {}
    for index, block in enumerate(blocks):
        for qubit in block.qubits:
            queues.setdefault(qubit, []).append(index)
    heads = dict.fromkeys(queues, 0)
    entered: set[int] = set()
    ordered: list[Block] = []
    while len(ordered) < len(blocks):
        nexts = {queues[qubit][head] for qubit, head in heads.items() if head < len(queues[qubit])}
        ready = [i for i in nexts if all(queues[q][heads[q]] == i for q in blocks[i].qubits)]
        chosen = min(ready, key=lambda i: (len(set(blocks[i].qubits) - entered), i))
        for qubit in blocks[chosen].qubits:
            heads[qubit] += 1
            entered.add(qubit)
        ordered.append(blocks[chosen])
    return ordered


def _factors(
    block: Block,
    present: tuple[int, ...],
    fresh: tuple[int, ...],
    kept: dict[int, str],
    turns: list[tuple[float, Terms]],
) -> tuple[Factor, ...]:
    """The matrices of a block from its qubits in the register to what is kept; numbers its turns."""
    qubits = (*present, *fresh)
    size = 4 ** len(qubits)
    start = np.eye(size)
    for _ in fresh:
        start = start.reshape(size, -1, 4) @ GROUND
    factors: list[Factor] = []
    inside: list[int] = []
    terms = start[None]
    for each in block.elements:
        if isinstance(each, Turn):
            if len(inside) == TURNS_AT_A_TIME:
                factors.append(Factor(tuple(inside), terms))
                inside, terms = [], np.eye(size)[None]
            inside.append(len(turns))
            turns.append((each.constant, each.terms))
            parts = _turn_parts(qubits.index(each.qubit), len(qubits))
            terms = (parts @ terms[:, None]).reshape(-1, *terms.shape[1:])
        else:
            terms = embedded(each.matrix, each.qubits, qubits) @ terms
    rows = np.zeros((1,), dtype=int)
    for qubit in qubits:
        rows = (4 * rows[:, None] + ["IXYZ".index(letter) for letter in kept[qubit]]).ravel()
    factors.append(Factor(tuple(inside), np.ascontiguousarray(terms[:, rows])))
    return tuple(factors)


@cache
def _turn_parts(position: int, count: int) -> NDArray[np.float64]:
    """The parts of a turn of one of several qubits on all of them, (3, 4**count, 4**count)."""
    return np.stack([embedded(part, (position,), tuple(range(count))) for part in _TURN])


def _picks(words: Sequence[Word], axes: list[tuple[int, int]], letters: dict[int, str]) -> NDArray[np.int64]:
    found: list[int] = []
    for word in words:
        index, named = 0, dict(word)
        for qubit, size in axes:
            index = index * size + letters[qubit].index(named.get(qubit, "I"))
        found.append(index)
    return np.array(found)
