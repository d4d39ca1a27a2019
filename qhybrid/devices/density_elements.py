"""What a noisy circuit consists of once it is written down: constant channels, and turns about Z by an angle.

Every gate with an angle is turns about Z between constant gates: RX(a) = H RZ(a) H, RZZ(a) = CX RZ(a) CX on the target,
and so on. A turn mixes the X and the Y component of one qubit; everything else is a constant real matrix.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from qhybrid.circuits.gates import FIXED, PAULIS, ComplexMatrix
from qhybrid.circuits.isa import Affine, IsaOperation
from qhybrid.errors import QHybridError
from qhybrid.noise_models.channels import Matrix, unitary_channel
from qhybrid.noise_models.model import NoiseModel

Terms = tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Channel:
    """A constant channel.

    Args:
        qubits: Places it acts on, the first the most significant digit of the matrix.
        matrix: Pauli transfer matrix, shape (4**k, 4**k).
    """

    qubits: tuple[int, ...]
    matrix: Matrix


@dataclass(frozen=True)
class Turn:
    """RZ by an angle `constant + sum of factor * angle[slot]` in radians.

    Args:
        qubit: Place it acts on.
        constant: In radians.
        terms: (slot, factor) pairs.
    """

    qubit: int
    constant: float
    terms: Terms

    @property
    def qubits(self) -> tuple[int, ...]:
        """The one place it acts on."""
        return (self.qubit,)


Element = Channel | Turn

UNITARIES: dict[str, ComplexMatrix] = {
    **FIXED,
    "id": np.eye(2, dtype=complex),
    "sxdg": FIXED["sx"].conj().T,
    "ecr": (np.kron(PAULIS["X"], PAULIS["I"]) - np.kron(PAULIS["Y"], PAULIS["X"])) / np.sqrt(2),
    "iswap": np.eye(4, dtype=complex)[[0, 2, 1, 3]] * np.array([[1], [1j], [1j], [1]]),
}
"""Gates without an angle by Qiskit's names, the first qubit the most significant bit."""

Recipe = tuple[tuple[str, tuple[int, ...], int, float], ...]
"""(gate, its places, index of a parameter, factor on it) in the order of time; "turn" turns by factor * parameter."""


def _fixed(name: str, *places: int) -> Recipe:
    return ((name, places, 0, 0.0),)


def _turn(place: int, parameter: int = 0, factor: float = 1.0) -> Recipe:
    return (("turn", (place,), parameter, factor),)


def _zz(factor: float = 1.0) -> Recipe:
    return _fixed("cx", 0, 1) + _turn(1, factor=factor) + _fixed("cx", 0, 1)


def _about(axis: str, core: Recipe, *places: int) -> Recipe:
    """Turns about Z on some places made turns about another axis."""
    before: Recipe = ()
    after: Recipe = ()
    for place in places:
        before += (_fixed("sdg", place) if axis == "y" else ()) + _fixed("h", place)
        after += _fixed("h", place) + (_fixed("s", place) if axis == "y" else ())
    return before + core + after


_CRZ = _turn(1, factor=0.5) + _zz(-0.5)
_U3 = _turn(0, 2) + _about("y", _turn(0, 0), 0) + _turn(0, 1)

RECIPES: dict[str, Recipe] = {
    "rz": _turn(0),
    "p": _turn(0),
    "u1": _turn(0),
    "rx": _about("x", _turn(0), 0),
    "ry": _about("y", _turn(0), 0),
    "u2": _turn(0, 1) + _fixed("z", 0) + _fixed("h", 0) + _turn(0, 0),
    "u3": _U3,
    "u": _U3,
    "r": _turn(0, 1, -1.0) + _about("x", _turn(0, 0), 0) + _turn(0, 1),
    "rzz": _zz(),
    "rxx": _about("x", _zz(), 0, 1),
    "ryy": _about("y", _zz(), 0, 1),
    "rzx": _about("x", _zz(), 1),
    "cp": _turn(0, factor=0.5) + _CRZ,
    "cu1": _turn(0, factor=0.5) + _CRZ,
    "crz": _CRZ,
    "crx": _about("x", _CRZ, 1),
    "cry": _about("y", _CRZ, 1),
}
"""Gates with angles by Qiskit's names, up to a global phase."""


def written_out(
    operations: Sequence[IsaOperation], noise: NoiseModel | None, qubits: Sequence[int]
) -> tuple[list[Element], Counter[str]]:
    """The operations of a circuit as channels and turns, the noise of each gate behind the whole gate.

    Args:
        operations: Of an ISA circuit, or of an ideal circuit.
        noise: What goes wrong; None: nothing.
        qubits: Physical qubit of each place.

    Returns:
        The elements, and how many operations of each name have noise.

    Raises:
        QHybridError: There is a gate that is not known here.
    """
    elements: list[Element] = []
    noisy: Counter[str] = Counter()
    channels: dict[tuple[str, tuple[int, ...], float], Matrix | None] = {}
    known: dict[tuple[str, tuple[int, ...], tuple[Affine, ...]], list[Element]] = {}
    for each in operations:
        if each.name != "delay":
            gate = (each.name, each.qubits, each.params)
            if gate not in known:
                known[gate] = _gate(each)
            elements += known[gate]
        key = (each.name, each.qubits, each.seconds)
        if noise is not None and key not in channels:
            physical = tuple(qubits[place] for place in each.qubits)
            idle = each.name == "delay"
            found = noise.idle_noise(physical[0], each.seconds) if idle else noise.gate_noise(each.name, physical)
            channels[key] = None if found is None else found.channel
        channel = channels.get(key)
        if channel is not None:
            noisy[each.name] += 1
            elements.append(Channel(each.qubits, channel))
    return elements, noisy


def gates(names: Sequence[tuple[str, int]]) -> list[Element]:
    """Gates on one qubit without noise, from (name, place) pairs."""
    return [Channel((place,), _unitary(name)) for name, place in names]


def readout_channel(flip0: float, flip1: float) -> Matrix:
    """A confusion matrix as a channel before an ideal measurement of Z.

    Args:
        flip0: P(1 | 0).
        flip1: P(0 | 1).
    """
    channel = np.diag([1.0, 0.0, 0.0, 1 - flip0 - flip1])
    channel[3, 0] = flip1 - flip0
    return channel


def needed(elements: Sequence[Element], measured: set[int]) -> list[Element]:
    """The elements that can change a measurement: channels preserve the trace, so later ones elsewhere cannot.

    Args:
        elements: In the order of time.
        measured: Places that are measured at the end.
    """
    seen, kept = set(measured), []
    for each in reversed(elements):
        if not seen.isdisjoint(each.qubits):
            seen.update(each.qubits)
            kept.append(each)
    return kept[::-1]


def simplified(elements: Sequence[Element]) -> list[Element]:
    """Fewer elements: neighbouring channels on the same qubits multiplied, neighbouring turns added.

    A channel on one qubit joins the two-qubit channel behind it.
    """
    kept: list[Element | None] = []
    trails: dict[int, list[int]] = {}  # qubit -> indices of the elements on it

    def last(qubit: int) -> Element | None:
        trail = trails.setdefault(qubit, [])
        return kept[trail[-1]] if trail else None

    def append(element: Element) -> None:
        for qubit in element.qubits:
            trails.setdefault(qubit, []).append(len(kept))
        kept.append(element)

    for each in elements:
        before = last(each.qubits[0])
        if isinstance(each, Turn):
            if each.terms and isinstance(before, Turn):
                kept[trails[each.qubit][-1]] = _added(before, each)
                continue
            if each.terms:
                append(each)
                continue
            each = Channel(each.qubits, turn_matrix(each.constant))
        matrix = each.matrix
        for qubit in each.qubits if len(each.qubits) > 1 else ():
            single = last(qubit)
            if isinstance(single, Channel) and single.qubits == (qubit,):
                matrix = matrix @ embedded(single.matrix, single.qubits, each.qubits)
                kept[trails[qubit].pop()] = None
        before = last(each.qubits[0])
        same = all(last(qubit) is before for qubit in each.qubits)
        if isinstance(before, Channel) and same and len(before.qubits) == len(each.qubits):
            kept[trails[each.qubits[0]][-1]] = Channel(
                each.qubits, matrix @ embedded(before.matrix, before.qubits, each.qubits)
            )
        else:
            append(Channel(each.qubits, matrix))
    return [each for each in kept if each is not None]


def embedded(matrix: Matrix, qubits: tuple[int, ...], within: tuple[int, ...]) -> Matrix:
    """The matrix of a channel on more qubits than it acts on, or on the same in another order."""
    if qubits == within:
        return matrix
    if qubits == within[::-1] and len(within) == 2:
        return matrix.reshape(4, 4, 4, 4).transpose(1, 0, 3, 2).reshape(16, 16)
    k, n = len(qubits), len(within)
    axes = [within.index(qubit) for qubit in qubits]
    if k == 1:
        result = np.zeros((4 ** axes[0], 4, 4 ** (n - 1 - axes[0])) * 2)
        left, right = np.arange(result.shape[0])[:, None], np.arange(result.shape[2])
        result[left, :, right, left, :, right] = matrix
        return result.reshape(4**n, 4**n)
    whole = np.eye(4**n).reshape((4,) * n + (4**n,))
    whole = np.tensordot(matrix.reshape((4,) * (2 * k)), whole, (list(range(k, 2 * k)), axes))
    return np.ascontiguousarray(np.moveaxis(whole, range(k), axes).reshape(4**n, 4**n))


def turn_matrix(angle: float) -> Matrix:
    """Pauli transfer matrix of RZ."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])


def _gate(operation: IsaOperation) -> list[Element]:
    if operation.name not in RECIPES:
        return [Channel(operation.qubits, _unitary(operation.name))]
    found: list[Element] = []
    for name, local, index, factor in RECIPES[operation.name]:
        qubits = tuple(operation.qubits[place] for place in local)
        if name == "turn":
            angle = operation.params[index]
            terms = tuple((slot, factor * each) for slot, each in angle.terms)
            constant = factor * angle.constant
            found.append(Turn(qubits[0], constant, terms) if terms else Channel(qubits, turn_matrix(constant)))
        else:
            found.append(Channel(qubits, _unitary(name)))
    return found


@cache
def _unitary(name: str) -> Matrix:
    if name not in UNITARIES:
        raise QHybridError(f"qhybrid.density does not know the gate {name!r}; qiskit.aer does")
    return unitary_channel(UNITARIES[name])


def _added(first: Turn, second: Turn) -> Turn:
    terms = dict(first.terms)
    for slot, factor in second.terms:
        terms[slot] = terms.get(slot, 0.0) + factor
    return Turn(first.qubit, first.constant + second.constant, tuple(sorted(terms.items())))
