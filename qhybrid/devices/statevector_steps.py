"""The four kinds of step that a statevector program is made of, each with its own reverse step.

States are (B, 2**n) tensors, real (float) in a circuit of real gates, else complex. `apply` moves a batch of states
forward; `pull` moves the gradient of a real loss, lambda with dL = Re <lambda, dpsi>, backward through the same step
and returns the gradient of the step's angles.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Gate
from qhybrid.circuits.gates import ROTATIONS, ComplexMatrix
from qhybrid.devices.statevector_tensors import Constant, apply_matrix, kron, local_index, wires_first

WALL_WIRES = 4
"""Most wires that are joined into one matrix."""
FixedGate = tuple[ComplexMatrix, tuple[int, ...]]
"""A constant unitary and the wires that it acts on, the first the most significant bit."""


class RyWall:
    """RY rotations on different wires, joined by Kronecker products into matrices of up to `WALL_WIRES` wires.

    Args:
        n: Number of qubits.
    """

    is_real = True

    def __init__(self, n: int) -> None:
        self.n = n
        self.slots: dict[int, int] = {}
        """Angle slot of each wire."""

    def close(self) -> None:
        """Called once, when no gate will be added any more."""
        self.groups = _neighbours(sorted(self.slots))
        self.group_slots = [[self.slots[wire] for wire in group] for group in self.groups]
        self.order = Constant(np.array([slot for slots in self.group_slots for slot in slots]))
        self._generators = {len(group): Constant(_ry_generators(len(group))) for group in self.groups}

    def ground_state(self, angles: Tensor) -> Tensor:
        """The wall on |0...0>, where it acts on every wire: a product of real vectors, (B, 2**n)."""
        half = 0.5 * angles.index_select(1, self.order.beside(angles))
        single = torch.stack([torch.cos(half), torch.sin(half)], dim=2).view(len(angles), 1, -1, 2, 1)
        return kron(single).view(len(angles), -1)

    def apply(self, state: Tensor, matrices: list[Tensor]) -> Tensor:
        """The state behind the wall; `matrices` holds one (B, K, K) for each group of wires."""
        for group, matrix in zip(self.groups, matrices, strict=True):
            state = apply_matrix(state, matrix, group[0])
        return state

    def pull(self, gradient: Tensor, state: Tensor, matrices: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Back through the wall.

        Args:
            gradient: Behind the wall.
            state: Behind the wall.
            matrices: None where nothing before the wall needs the gradient.

        Returns:
            The gradient before the wall, and that of the angles, (B, wires of the group) for each group.
        """
        slopes = []
        for group in self.groups:
            bra, ket = wires_first(gradient, group[0], len(group)), wires_first(state, group[0], len(group))
            overlap = torch.bmm(bra, ket.transpose(1, 2))
            slopes.append(overlap.flatten(1) @ self._generators[len(group)].beside(overlap))
        if matrices is not None:
            for group, matrix in zip(self.groups, matrices, strict=True):
                gradient = apply_matrix(gradient, matrix.transpose(-2, -1), group[0])
        return gradient, slopes


class WallMatrices:
    """The matrices of all groups of all `RyWall`s, built together: groups of one size share their operations.

    Args:
        walls: The walls whose matrices are needed.
    """

    def __init__(self, walls: list[RyWall]) -> None:
        self._groups = [(wall, index) for wall in walls for index in range(len(wall.groups))]
        self._sizes = sorted({len(wall.groups[index]) for wall, index in self._groups})
        self._orders = {}
        for size in self._sizes:
            slots = [wall.group_slots[i] for wall, i in self._groups if len(wall.groups[i]) == size]
            self._orders[size] = Constant(np.array(slots).ravel())

    def __call__(self, angles: Tensor) -> dict[int, list[Tensor]]:
        """id of a wall -> matrix (B, K, K) of each of its groups."""
        built = {}
        for size in self._sizes:
            half = 0.5 * angles.index_select(1, self._orders[size].beside(angles))
            cos, sin = torch.cos(half), torch.sin(half)
            single = torch.stack([cos, -sin, sin, cos], dim=2).view(len(angles), -1, size, 2, 2)
            built[size] = iter(kron(single).unbind(1))
        matrices: dict[int, list[Tensor]] = {}
        for wall, index in self._groups:
            matrices.setdefault(id(wall), []).append(next(built[len(wall.groups[index])]))
        return matrices


@dataclass
class FixedWall:
    """Constant unitaries: 2x2 matrices on any wires, or any matrices on at most `WALL_WIRES` neighbouring ones.

    Args:
        n: Number of qubits.
        gates: Matrices and the wires that they act on, in their order.
    """

    n: int
    gates: list[FixedGate] = field(default_factory=list)

    def close(self) -> None:
        """Called once, when no gate will be added any more."""
        touched = sorted({wire for _, wires in self.gates for wire in wires})
        single = all(len(wires) == 1 for _, wires in self.gates)
        self._groups = []
        for group in _neighbours(touched) if single else [list(range(touched[0], touched[-1] + 1))]:
            inside = [(matrix, wires) for matrix, wires in self.gates if wires[0] in group]
            matrix = _product(inside, group[0], len(group))
            values = matrix if np.any(matrix.imag) else matrix.real
            self._groups.append((group[0], Constant(values), Constant(np.ascontiguousarray(values.conj().T))))
        self.is_real = not any(np.iscomplexobj(matrix.values) for _, matrix, _ in self._groups)

    def apply(self, state: Tensor) -> Tensor:
        """The state behind the wall."""
        for first, matrix, _ in self._groups:
            state = apply_matrix(state, matrix.beside(state), first)
        return state

    def pull(self, gradient: Tensor) -> Tensor:
        """The gradient before the wall."""
        for first, _, inverse in self._groups:
            gradient = apply_matrix(gradient, inverse.beside(gradient), first)
        return gradient


@dataclass
class Monomial:
    """Any stretch of X, CX, CZ, S, SWAP, constant phases ...: new[i] = phases[i] * old[source[i]].

    Args:
        n: Number of qubits.
        gates: Matrices with one entry a row and the wires that they act on, in their order.
    """

    n: int
    gates: list[FixedGate] = field(default_factory=list)

    def close(self) -> None:
        """Called once, when no gate will be added any more."""
        touched = [wire for _, wires in self.gates for wire in wires]
        # Only the span of wires that it touches is permuted: whole rows move where the last qubits are not in it.
        first, self._span = min(touched), 2 ** (max(touched) - min(touched) + 1)
        self._left = 2**first
        source, phases = np.arange(self._span), np.ones(self._span, dtype=complex)
        for matrix, wires in self.gates:
            local = tuple(wire - first for wire in wires)
            gate_source, gate_phases = _monomial(matrix, local, self._span.bit_length() - 1)
            phases = gate_phases * phases[gate_source]
            source = source[gate_source]
        self.is_real = not np.any(phases.imag)
        values = phases.real if self.is_real else phases
        self._source = None if np.array_equal(source, np.arange(self._span)) else Constant(source)
        self._back = Constant(np.argsort(source))
        self._phases = Constant(values[:, None]) if np.any(values != 1) else None
        self._conjugates = Constant(values.conj()[:, None])

    def apply(self, state: Tensor) -> Tensor:
        """The state behind the step."""
        work = self._view(state)
        if self._source is not None:
            work = work.index_select(2, self._source.beside(state))
        if self._phases is not None:
            work = work * self._phases.beside(state)
        return work.reshape(len(state), -1)

    def pull(self, gradient: Tensor) -> Tensor:
        """The gradient before the step."""
        work = self._view(gradient)
        if self._phases is not None:
            work = work * self._conjugates.beside(gradient)
        if self._source is not None:
            work = work.index_select(2, self._back.beside(gradient))
        return work.reshape(len(gradient), -1)

    def _view(self, state: Tensor) -> Tensor:
        return state.view(len(state), self._left, self._span, -1)


@dataclass
class Diagonal:
    """Any stretch of RZ, RZZ, controlled phases on some wires: multiplies by exp(i * angles @ table)."""

    is_real = False

    n: int
    wires: tuple[int, ...] = ()
    gates: list[Gate] = field(default_factory=list)

    def close(self) -> None:
        """Called once, when no gate will be added any more."""
        rows = []
        for gate in self.gates:
            local = local_index(tuple(self.wires.index(wire) for wire in gate.wires), len(self.wires))
            rows.append(-np.diag(ROTATIONS[gate.name].generator).real[local])
        table = np.stack(rows)  # minus the generators' eigenvalues, (gates, 2**wires)
        if self.wires != tuple(range(self.n)):
            table = table[:, local_index(self.wires, self.n)]
        self._table = Constant(table)
        self._transposed = Constant(np.ascontiguousarray(table.T))
        self.order = Constant(np.array([gate.slot for gate in self.gates]))

    def factor(self, angles: Tensor) -> Tensor:
        """The diagonal, (B, 2**n)."""
        phase = angles.index_select(1, self.order.beside(angles)) @ self._table.beside(angles)
        return torch.polar(torch.ones_like(phase), phase)

    def pull(self, gradient: Tensor, state: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient before the step and that of the angles, (B, gates); `state` is the one behind it."""
        slopes = -(gradient.conj() * state).imag @ self._transposed.beside(state.real)
        return gradient * factor.conj(), slopes


Step = RyWall | FixedWall | Monomial | Diagonal


def _product(gates: list[FixedGate], first: int, count: int) -> ComplexMatrix:
    """The matrix of gates one after the other on `count` wires from `first` on."""
    whole: ComplexMatrix = np.eye(2**count, dtype=complex)
    for matrix, wires in gates:
        k, axes = len(wires), [wire - first for wire in wires]
        state = whole.reshape((2,) * count + (-1,))
        state = np.tensordot(matrix.reshape((2,) * (2 * k)), state, (range(k, 2 * k), axes))
        whole = np.moveaxis(state, range(k), axes).reshape(2**count, -1)
    return whole


def _monomial(
    matrix: ComplexMatrix, wires: tuple[int, ...], n: int
) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
    """Source index and phase of every basis state under a gate with one entry a row."""
    local = local_index(wires, n)
    column = np.argmax(np.abs(matrix), axis=1)
    source = np.arange(2**n)
    for position, wire in enumerate(wires):
        wanted = (column[local] >> (len(wires) - 1 - position)) & 1
        shift = n - 1 - wire
        source = (source & ~(1 << shift)) | (wanted << shift)
    return source, matrix[local, column[local]]


def _neighbours(wires: list[int]) -> list[list[int]]:
    """Cut sorted wires into runs of neighbours of at most WALL_WIRES."""
    runs: list[list[int]] = []
    for wire in wires:
        if runs and runs[-1][-1] == wire - 1 and len(runs[-1]) < WALL_WIRES:
            runs[-1].append(wire)
        else:
            runs.append([wire])
    return runs


def _ry_generators(count: int) -> NDArray[np.float64]:
    """d RY/d angle = RY @ [[0, -1/2], [1/2, 0]] on each of `count` wires, shape (4**count, count)."""
    columns = []
    for position in range(count):
        before, after = np.eye(2**position), np.eye(2 ** (count - 1 - position))
        columns.append(np.kron(np.kron(before, [[0, -0.5], [0.5, 0]]), after).ravel())
    return np.stack(columns, axis=1)
