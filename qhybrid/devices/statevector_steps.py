"""The four kinds of step that a statevector program is made of, each with its own reverse step.

States are (B, 2**n) tensors, real (float) in a circuit of real gates, else complex. `apply` moves a batch of states
forward; `pull` moves the gradient of a real loss, lambda with dL = Re <lambda, dpsi>, backward through the same step
and returns the gradient of the step's angles.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Gate
from qhybrid.circuits.gates import FIXED, ROTATIONS

WALL_WIRES = 4
"""Most wires that are joined into one matrix."""


class Constant:
    """A constant array as a tensor beside another one, made once for each device and precision.

    Args:
        values: Index, real or complex array.
    """

    def __init__(self, values: NDArray[np.generic]) -> None:
        self.values = values
        self._tensors: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def beside(self, like: Tensor) -> Tensor:
        """The tensor on the device of `like`, in its precision."""
        key = (like.device, like.dtype)
        if key not in self._tensors:
            tensor = torch.as_tensor(self.values, device=like.device)
            if tensor.is_complex():
                tensor = tensor.to(complex_dtype(like))
            elif tensor.is_floating_point():
                tensor = tensor.to(real_dtype(like))
            self._tensors[key] = tensor
        return self._tensors[key]


class RyWall:
    """RY rotations on different wires, joined by Kronecker products into matrices of up to `WALL_WIRES` wires.

    Args:
        n: Number of qubits.
    """

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
        return _kron(single).view(len(angles), -1)

    def apply(self, state: Tensor, matrices: list[Tensor]) -> Tensor:
        """The state behind the wall; `matrices` holds one (B, K, K) for each group of wires."""
        for group, matrix in zip(self.groups, matrices, strict=True):
            state = _apply_matrix(state, matrix, group[0])
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
            bra, ket = _wires_first(gradient, group[0], len(group)), _wires_first(state, group[0], len(group))
            overlap = torch.bmm(bra, ket.transpose(1, 2))
            slopes.append(overlap.flatten(1) @ self._generators[len(group)].beside(overlap))
        if matrices is not None:
            for group, matrix in zip(self.groups, matrices, strict=True):
                gradient = _apply_matrix(gradient, matrix.transpose(-2, -1), group[0])
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
            built[size] = iter(_kron(single).unbind(1))
        matrices: dict[int, list[Tensor]] = {}
        for wall, index in self._groups:
            matrices.setdefault(id(wall), []).append(next(built[len(wall.groups[index])]))
        return matrices


@dataclass
class FixedWall:
    """Constant 2x2 matrices on different wires."""

    n: int
    factors: dict[int, NDArray[np.complex128]] = field(default_factory=dict)

    def close(self) -> None:
        """Called once, when no gate will be added any more."""
        self._groups = []
        for group in _neighbours(sorted(self.factors)):
            matrix: NDArray[Any] = np.eye(1, dtype=complex)
            for wire in group:
                matrix = np.kron(matrix, self.factors[wire])
            values = matrix if np.any(matrix.imag) else matrix.real
            self._groups.append((group[0], Constant(values), Constant(np.ascontiguousarray(values.conj().T))))

    def apply(self, state: Tensor) -> Tensor:
        """The state behind the wall."""
        for first, matrix, _ in self._groups:
            state = _apply_matrix(state, matrix.beside(state), first)
        return state

    def pull(self, gradient: Tensor) -> Tensor:
        """The gradient before the wall."""
        for first, _, inverse in self._groups:
            gradient = _apply_matrix(gradient, inverse.beside(gradient), first)
        return gradient


class Monomial:
    """Any stretch of X, CX, CZ, S, SWAP ...: new[i] = phases[i] * old[source[i]].

    Args:
        n: Number of qubits.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.gates: list[Gate] = []

    def close(self) -> None:
        """Called once, when no gate will be added any more."""
        wires = [wire for gate in self.gates for wire in gate.wires]
        # Only the span of wires that it touches is permuted: whole rows move where the last qubits are not in it.
        first, self._span = min(wires), 2 ** (max(wires) - min(wires) + 1)
        self._left = 2**first
        source, self.phases = np.arange(self._span), np.ones(self._span, dtype=complex)
        for gate in self.gates:
            local = tuple(wire - first for wire in gate.wires)
            gate_source, gate_phases = _monomial(FIXED[gate.name], local, max(wires) - first + 1)
            self.phases = gate_phases * self.phases[gate_source]
            source = source[gate_source]
        phases = self.phases if np.any(self.phases.imag) else self.phases.real
        self._source = None if np.array_equal(source, np.arange(self._span)) else Constant(source)
        self._back = Constant(np.argsort(source))
        self._phases = Constant(phases[:, None]) if np.any(phases != 1) else None
        self._conjugates = Constant(phases.conj()[:, None])

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


def local_index(wires: tuple[int, ...], n: int) -> NDArray[np.int64]:
    """For every basis state of n qubits the value of its bits on some wires, the first wire the most significant."""
    index = np.arange(2**n)
    local = np.zeros_like(index)
    for wire in wires:
        local = 2 * local + ((index >> (n - 1 - wire)) & 1)
    return local


def _monomial(
    matrix: NDArray[np.complex128], wires: tuple[int, ...], n: int
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


def real_dtype(tensor: Tensor) -> torch.dtype:
    """float64 or float32, the precision of a tensor."""
    return torch.float64 if tensor.dtype in (torch.float64, torch.complex128) else torch.float32


def complex_dtype(tensor: Tensor) -> torch.dtype:
    """complex128 or complex64, the precision of a tensor."""
    return torch.complex128 if real_dtype(tensor) == torch.float64 else torch.complex64


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


def _kron(factors: Tensor) -> Tensor:
    """Kronecker products along dim 2: (B, g, k, r, c) -> (B, g, r**k, c**k), the first factor the most significant."""
    count = factors.shape[2]
    if count == 1:
        return factors[:, :, 0]
    if count % 2:
        return _kron_pairs(_kron(factors[:, :, :-1]).unsqueeze(2), factors[:, :, -1:])[:, :, 0]
    return _kron(_kron_pairs(factors[:, :, 0::2], factors[:, :, 1::2]))


def _kron_pairs(left: Tensor, right: Tensor) -> Tensor:
    """Kronecker products of (B, g, k, r, c) and (B, g, k, s, d): (B, g, k, r s, c d)."""
    (b, g, k, r, c), (s, d) = left.shape, right.shape[3:]
    product = left.reshape(b, g, k, r, 1, c, 1) * right.reshape(b, g, k, 1, s, 1, d)
    return product.view(b, g, k, r * s, c * d)


def _apply_matrix(state: Tensor, matrix: Tensor, first: int) -> Tensor:
    """Apply a matrix (K, K) or (B, K, K) on neighbouring wires, the first of which is `first`."""
    batch, size = len(state), matrix.shape[-1]
    if matrix.is_complex() and not state.is_complex():
        state = state.to(matrix.dtype)
    left = 2**first
    right = state.shape[1] // (left * size)
    as_real = state.is_complex() and not matrix.is_complex()
    work = torch.view_as_real(state) if as_real else state
    if left == 1:
        result = matrix @ work.reshape(batch, size, -1)
    elif right == 1 and not as_real:
        result = work.reshape(batch, left, size) @ matrix.transpose(-2, -1)
    else:
        broadcast = matrix.unsqueeze(1) if matrix.dim() == 3 else matrix
        result = broadcast @ work.reshape(batch, left, size, -1)
    return torch.view_as_complex(result.reshape(batch, -1, 2)) if as_real else result.reshape(batch, -1)


def _wires_first(state: Tensor, first: int, count: int) -> Tensor:
    """A state as real (B, K, everything else), K = 2**count for neighbouring wires."""
    work = torch.view_as_real(state) if state.is_complex() else state
    if first == 0:
        return work.reshape(len(state), 2**count, -1)
    return work.reshape(len(state), 2**first, 2**count, -1).transpose(1, 2).flatten(2)
