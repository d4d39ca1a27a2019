"""A circuit as a short list of torch operations on a batch of state vectors.

Gates are collected into three kinds of step: a `Wall` of single-qubit gates on different wires (2x2 matrices, joined
by Kronecker products into larger ones), a `Monomial` (any stretch of CX, CZ, X, S, SWAP ... is one permutation and one
phase vector) and a `Diagonal` (any stretch of RZ, RZZ, controlled phases is one matrix product and one exponential).
A circuit of RY, CX and CZ stays in real numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Circuit, Gate
from qhybrid.circuits.gates import FIXED, ROTATIONS

WALL_WIRES = 4
"""Most wires that are joined into one matrix of a wall."""
DIAGONAL_WIRES = 8
"""Most wires that the rotations of one diagonal step act on."""


@dataclass
class Wall:
    """Single-qubit gates; the factors of a wire multiply, the first one acting first.

    A factor is a fixed matrix or (name, slot): a rotation RX or RY by that angle.
    """

    factors: dict[int, list[NDArray[np.complex128] | tuple[str, int]]] = field(default_factory=dict)


@dataclass
class Monomial:
    """new[i] = phases[i] * old[source[i]]."""

    source: NDArray[np.int64]
    phases: NDArray[np.complex128]

    @cached_property
    def moves(self) -> bool:
        """Whether it permutes anything."""
        return not np.array_equal(self.source, np.arange(len(self.source)))

    @cached_property
    def turns(self) -> bool:
        """Whether any phase is not 1."""
        return not np.all(self.phases == 1)


@dataclass
class Diagonal:
    """Diagonal rotations on some wires: multiplies by exp(i * angles @ table)."""

    wires: tuple[int, ...] = ()
    gates: list[Gate] = field(default_factory=list)

    @property
    def slots(self) -> NDArray[np.int64]:
        """Slot of each gate."""
        return np.array([gate.slot for gate in self.gates])

    def table(self) -> NDArray[np.float64]:
        """Minus the generators' eigenvalues, shape (gates, 2**wires)."""
        rows = []
        for gate in self.gates:
            local = _local_index(tuple(self.wires.index(wire) for wire in gate.wires), len(self.wires))
            rows.append(-np.diag(ROTATIONS[gate.name].generator).real[local])
        return np.stack(rows)


Step = Wall | Monomial | Diagonal


def compile_circuit(circuit: Circuit) -> "StatevectorProgram":
    """Collect a circuit's gates into steps."""
    steps: list[Step] = []
    n = circuit.n_qubits
    for gate in circuit.gates:
        for elementary in _elementary(gate):
            _append(steps, n, elementary)
    return StatevectorProgram(circuit, steps)


def _elementary(gate: Gate) -> list[Gate]:
    """Write a gate in single-qubit, monomial and diagonal gates."""
    into, out = (("h",), ("h",)) if gate.name.endswith("x") else (("sdg", "h"), ("h", "s"))
    if gate.name in ("rxx", "ryy"):
        targets, diagonal = gate.wires, "rzz"
    elif gate.name in ("crx", "cry"):
        targets, diagonal = gate.wires[1:], "crz"
    else:
        return [gate]
    before = [Gate(name, (wire,)) for wire in targets for name in into]
    after = [Gate(name, (wire,)) for wire in targets for name in out]
    return [*before, Gate(diagonal, gate.wires, gate.slot), *after]


def _append(steps: list[Step], n: int, gate: Gate) -> None:
    """Add one gate to the last step if it fits there, else begin a new step."""
    last = steps[-1] if steps else None
    if gate.slot is not None and gate.name not in ("rx", "ry"):
        union = {*(last.wires if isinstance(last, Diagonal) else ()), *gate.wires}
        if not isinstance(last, Diagonal) or len(union) > DIAGONAL_WIRES:
            steps.append(last := Diagonal())
            union = set(gate.wires)
        last.wires = tuple(sorted(union))
        last.gates.append(gate)
        return
    matrix = None if gate.slot is not None else FIXED[gate.name]
    is_monomial = matrix is not None and np.count_nonzero(matrix) == len(matrix)
    in_wall = isinstance(last, Wall) and len(gate.wires) == 1 and gate.wires[0] in last.factors
    if is_monomial and not in_wall:
        assert matrix is not None
        if not isinstance(last, Monomial):
            steps.append(last := Monomial(np.arange(2**n), np.ones(2**n, dtype=complex)))
        source, phases = _monomial(matrix, gate.wires, n)
        last.phases = phases * last.phases[source]
        last.source = last.source[source]
        return
    if not isinstance(last, Wall):
        steps.append(last := Wall())
    factors = last.factors.setdefault(gate.wires[0], [])
    factors.append((gate.name, gate.slot) if matrix is None and gate.slot is not None else FIXED[gate.name])


def _local_index(wires: tuple[int, ...], n: int) -> NDArray[np.int64]:
    """For every basis state the value of its bits on some wires, the first wire the most significant."""
    index = np.arange(2**n)
    local = np.zeros_like(index)
    for wire in wires:
        local = 2 * local + ((index >> (n - 1 - wire)) & 1)
    return local


def _monomial(
    matrix: NDArray[np.complex128], wires: tuple[int, ...], n: int
) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
    """Source index and phase of every basis state under a gate with one entry a row."""
    local = _local_index(wires, n)
    column = np.argmax(np.abs(matrix), axis=1)
    source = np.arange(2**n)
    for position, wire in enumerate(wires):
        bit = len(wires) - 1 - position
        wanted = (column[local] >> bit) & 1
        shift = n - 1 - wire
        source = (source & ~(1 << shift)) | (wanted << shift)
    return source, matrix[local, column[local]]


class StatevectorProgram:
    """Runs the steps on a batch.

    Args:
        circuit: What was compiled.
        steps: From `compile_circuit`.
    """

    def __init__(self, circuit: Circuit, steps: list[Step]) -> None:
        self.circuit = circuit
        self.n = circuit.n_qubits
        self.steps = steps
        self.is_real = all(_is_real(step) for step in steps)
        self._flip_groups: dict[int, list[int]] = {}
        for index, word in enumerate(circuit.observables):
            self._flip_groups.setdefault(word.flips(self.n), []).append(index)
        self._constants: dict[tuple[object, ...], Tensor] = {}

    def expectations(self, parameters: Tensor) -> Tensor:
        """(B, S + P) amplitudes and angles -> (B, M) exact expectation values."""
        state = self.state(parameters)
        values: dict[int, Tensor] = {}
        for flips, members in self._flip_groups.items():
            density = self._density(state, flips)
            weights = self._constant(("phases of words", flips), lambda m=members: self._word_phases(m), density)
            # A real state has no part along the imaginary phases of words with an odd number of Y.
            result = (density @ weights).real if density.is_complex() else density @ weights.real
            if len(self._flip_groups) == 1:
                return result
            values.update(zip(members, result.unbind(1), strict=True))
        return torch.stack([values[member] for member in range(self.circuit.n_observables)], dim=1)

    def _density(self, state: Tensor, flips: int) -> Tensor:
        """conj(psi[i]) psi[i ^ flips], shape (B, 2**n)."""
        if flips == 0:
            return state.real.square() + state.imag.square() if state.is_complex() else state.square()
        source = self._constant(("flip", flips), lambda: np.arange(2**self.n) ^ flips, state)
        return state.conj() * state.index_select(1, source)

    def _word_phases(self, members: list[int]) -> NDArray[np.generic]:
        phases = np.stack([self.circuit.observables[member].phases(self.n) for member in members], axis=1)
        return phases if np.any(phases.imag) else phases.real

    def state(self, parameters: Tensor) -> Tensor:
        """(B, S + P) amplitudes and angles -> (B, 2**n) state vectors, real where the circuit is real."""
        n_amplitudes = self.circuit.n_amplitudes
        angles = parameters[:, n_amplitudes:] if n_amplitudes else parameters
        state = self._prepared(parameters[:, :n_amplitudes]) if n_amplitudes else None
        rotations = self._rotation_matrices(angles)
        for step in self.steps:
            if isinstance(step, Wall):
                state = self._apply_wall(state, step, rotations, angles)
                continue
            if state is None:
                state = self._ground_state(angles)
            if isinstance(step, Monomial):
                state = self._apply_monomial(state, step)
            else:
                state = self._apply_diagonal(state, step, angles)
        if state is None:
            state = self._ground_state(angles)
        return state

    def apply_fixed(self, state: Tensor, name: str, wire: int) -> Tensor:
        """Apply one fixed single-qubit gate."""
        matrix = torch.as_tensor(FIXED[name], device=state.device).to(_complex_dtype(state))
        view = state.to(matrix.dtype).view(len(state), 2**wire, 2, -1)
        return torch.einsum("ij,bljr->blir", matrix, view).reshape(len(state), -1)

    def _prepared(self, amplitudes: Tensor) -> Tensor:
        """The initial state with given amplitudes on the circuit's amplitude wires and |0> on the others."""
        wires, n = self.circuit.amplitude_wires, self.n
        state = amplitudes
        if wires != tuple(range(n)):
            index = self._constant(("amplitude wires",), lambda: _spread(wires, n), amplitudes)
            state = torch.zeros(len(amplitudes), 2**n, dtype=amplitudes.dtype, device=amplitudes.device)
            state = state.index_copy(1, index, amplitudes)
        return state if self.is_real else state.to(_complex_dtype(state))

    def _ground_state(self, like: Tensor) -> Tensor:
        dtype = like.dtype if self.is_real else _complex_dtype(like)
        state = torch.zeros(len(like), 2**self.n, dtype=dtype, device=like.device)
        state[:, 0] = 1
        return state

    def _rotation_matrices(self, angles: Tensor) -> dict[tuple[str, int], Tensor]:
        """The 2x2 matrices of all RX and RY of all walls, each (B, 2, 2), computed together."""
        found: dict[tuple[str, int], Tensor] = {}
        for axis in ("rx", "ry"):
            keys = [
                factor
                for step in self.steps
                if isinstance(step, Wall)
                for factors in step.factors.values()
                for factor in factors
                if isinstance(factor, tuple) and factor[0] == axis
            ]
            if not keys:
                continue
            slots = self._constant(("slots", axis), lambda k=keys: np.array([slot for _, slot in k]), angles)
            half = angles.index_select(1, slots) * 0.5
            cos, sin = torch.cos(half), torch.sin(half)
            if axis == "ry":
                entries = [cos, -sin, sin, cos]
            else:
                zero = torch.zeros_like(cos)
                cross = torch.complex(zero, -sin)
                cos = torch.complex(cos, zero)
                entries = [cos, cross, cross, cos]
            matrices = torch.stack(entries, dim=2).view(len(angles), len(keys), 2, 2)
            found.update(zip(keys, matrices.unbind(1), strict=True))
        return found

    def _apply_wall(
        self, state: Tensor | None, wall: Wall, rotations: dict[tuple[str, int], Tensor], angles: Tensor
    ) -> Tensor:
        """Apply a wall; on |0...0> (no state yet) only the first columns of its matrices are needed."""
        if state is None and len(wall.factors) == self.n:
            columns = [self._wire_matrix(wall.factors[wire], rotations, angles)[..., :1] for wire in range(self.n)]
            product = _kron(columns).squeeze(-1)
            return product if product.dim() == 2 else product.expand(len(angles), -1)
        if state is None:
            state = self._ground_state(angles)
        for wires in _neighbours(sorted(wall.factors)):
            matrix = _kron([self._wire_matrix(wall.factors[wire], rotations, angles) for wire in wires])
            state = _apply_matrix(state, matrix, wires[0], len(wires))
        return state

    def _wire_matrix(
        self,
        factors: list[NDArray[np.complex128] | tuple[str, int]],
        rotations: dict[tuple[str, int], Tensor],
        angles: Tensor,
    ) -> Tensor:
        """The product of one wire's factors: (B, 2, 2), or (2, 2) where no angle is in it."""
        product: Tensor | None = None
        for factor in factors:
            matrix = rotations[factor] if isinstance(factor, tuple) else self._matrix(factor, angles)
            if product is not None and product.is_complex() != matrix.is_complex():
                product, matrix = product.to(_complex_dtype(angles)), matrix.to(_complex_dtype(angles))
            product = matrix if product is None else matrix @ product
        assert product is not None
        return product

    def _matrix(self, matrix: NDArray[np.complex128], like: Tensor) -> Tensor:
        key = ("matrix", matrix.tobytes())
        return self._constant(key, lambda: matrix if np.any(matrix.imag) else matrix.real, like)

    def _apply_monomial(self, state: Tensor, step: Monomial) -> Tensor:
        if step.moves:
            state = state.index_select(1, self._constant(("source", id(step)), lambda: step.source, state))
        if step.turns:
            phases = step.phases if np.any(step.phases.imag) else step.phases.real
            state = state * self._constant(("phases", id(step)), lambda: phases, state)
        return state

    def _apply_diagonal(self, state: Tensor, step: Diagonal, angles: Tensor) -> Tensor:
        slots = self._constant(("diagonal slots", id(step)), lambda: step.slots, angles)
        exponents = self._constant(("exponents", id(step)), step.table, angles)
        phase = angles.index_select(1, slots) @ exponents
        factor = torch.polar(torch.ones_like(phase), phase)
        if step.wires != tuple(range(self.n)):
            where = self._constant(("diagonal wires", id(step)), lambda: _local_index(step.wires, self.n), angles)
            factor = factor.index_select(1, where)
        return state * factor

    def _constant(self, key: tuple[object, ...], make: Callable[[], NDArray[np.generic]], like: Tensor) -> Tensor:
        """A constant as a tensor beside `like`, made once for each device and precision."""
        full_key = (*key, like.device, like.dtype)
        if full_key not in self._constants:
            tensor = torch.as_tensor(make(), device=like.device)
            if tensor.is_complex():
                tensor = tensor.to(_complex_dtype(like))
            elif tensor.is_floating_point():
                tensor = tensor.to(_real_dtype(like))
            self._constants[full_key] = tensor
        return self._constants[full_key]


def _spread(wires: tuple[int, ...], n: int) -> NDArray[np.int64]:
    """Index among 2**n basis states of each state of some wires, the other wires in |0>."""
    local = np.arange(2 ** len(wires))
    index = np.zeros_like(local)
    for position, wire in enumerate(wires):
        index |= ((local >> (len(wires) - 1 - position)) & 1) << (n - 1 - wire)
    return index


def _is_real(step: Step) -> bool:
    if isinstance(step, Diagonal):
        return False
    if isinstance(step, Monomial):
        return not np.any(step.phases.imag)
    return all(
        factor[0] == "ry" if isinstance(factor, tuple) else not np.any(factor.imag)
        for factors in step.factors.values()
        for factor in factors
    )


def _neighbours(wires: list[int]) -> list[list[int]]:
    """Cut sorted wires into runs of neighbours of at most WALL_WIRES."""
    runs: list[list[int]] = []
    for wire in wires:
        if runs and runs[-1][-1] == wire - 1 and len(runs[-1]) < WALL_WIRES:
            runs[-1].append(wire)
        else:
            runs.append([wire])
    return runs


def _kron(matrices: list[Tensor]) -> Tensor:
    """Kronecker product of matrices (B, r, c) or (r, c), the first the most significant."""
    product = matrices[0]
    for matrix in matrices[1:]:
        if product.is_complex() != matrix.is_complex():
            dtype = _complex_dtype(product)
            product, matrix = product.to(dtype), matrix.to(dtype)
        joined = product[..., :, None, :, None] * matrix[..., None, :, None, :]
        product = joined.flatten(-2, -1).flatten(-3, -2)
    return product


def _apply_matrix(state: Tensor, matrix: Tensor, first: int, count: int) -> Tensor:
    """Apply a matrix on `count` neighbouring wires, the first of which is `first`."""
    batch, size = len(state), 2**count
    if matrix.is_complex() and not state.is_complex():
        state = state.to(matrix.dtype)
    left = 2**first
    right = state.shape[1] // (left * size)
    real_on_complex = state.is_complex() and not matrix.is_complex()
    work = torch.view_as_real(state) if real_on_complex else state
    if right == 1 and not real_on_complex:
        rows = work.reshape(batch, left, size)
        return (rows @ matrix.transpose(-2, -1)).reshape(batch, -1)
    if left == 1 or matrix.dim() == 2:
        view = work.reshape(batch, size, -1) if left == 1 else work.reshape(batch, left, size, -1)
        result = matrix @ view
    else:
        result = matrix.unsqueeze(1) @ work.reshape(batch, left, size, -1)
    if real_on_complex:
        return torch.view_as_complex(result.reshape(batch, -1, 2))
    return result.reshape(batch, -1)


def _real_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype in (torch.float64, torch.complex128) else torch.float32


def _complex_dtype(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if _real_dtype(tensor) == torch.float64 else torch.complex64
