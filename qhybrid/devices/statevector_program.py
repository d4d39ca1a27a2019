"""A circuit compiled into a short list of torch steps on a batch of states, with its own reverse pass.

A circuit of RY, CX, CZ stays in real numbers. The reverse pass is written out (one node in torch's graph instead of a
hundred), which makes a small layer three times faster than recording each operation.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.devices.statevector_schedule import schedule
from qhybrid.devices.statevector_steps import Diagonal, RyWall, WallMatrices
from qhybrid.devices.statevector_tensors import Constant, complex_dtype

SINGLE_THREAD_ELEMENTS = 2**16
"""Up to this many amplitudes in a batch one thread is used."""


class StatevectorProgram:
    """Runs a compiled circuit on batches.

    Args:
        circuit: What is compiled.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.n = circuit.n_qubits
        self.steps = schedule(circuit)
        self.is_real = all(step.is_real for step in self.steps)
        words = circuit.observables
        self._flips = {flips: Constant(np.arange(2**self.n) ^ flips) for flips in {w.flips(self.n) for w in words}}
        self._members = members = {
            flips: [i for i, word in enumerate(words) if word.flips(self.n) == flips] for flips in self._flips
        }
        self._phases = {flips: Constant(self._phase_table(members[flips])) for flips in self._flips}
        self._order = np.argsort([index for flips in self._flips for index in members[flips]])
        first = self.steps[0] if self.steps else None
        whole = isinstance(first, RyWall) and len(first.slots) == self.n
        self._opening = first if isinstance(first, RyWall) and whole and not circuit.n_amplitudes else None
        walls = [step for step in self.steps if isinstance(step, RyWall) and step is not self._opening]
        self._matrices = WallMatrices(walls)
        slots = [step.order.values for step in reversed(self.steps) if isinstance(step, RyWall | Diagonal)]
        self._slope_columns = Constant(np.concatenate([np.zeros(0, dtype=int), *slots]) + circuit.n_amplitudes)
        index = circuit.amplitude_index()
        self._amplitude_index = Constant(index)
        self._whole_state_given = np.array_equal(index, np.arange(2**self.n))

    def expectations(self, parameters: Tensor) -> Tensor:
        """(B, S + P) amplitudes and angles -> (B, M) exact expectation values, differentiable once."""
        if torch.is_grad_enabled() and parameters.requires_grad:
            values: Tensor = _Expectations.apply(parameters, self)
            return values
        with self.few_threads(parameters):
            return self.measure(self.states(parameters)[0][-1])

    def few_threads(self, parameters: Tensor) -> "FewThreads":
        """One torch thread while a small batch runs: waking the others costs more than they save."""
        return FewThreads(small=len(parameters) * 2**self.n <= SINGLE_THREAD_ELEMENTS)

    def states(self, parameters: Tensor) -> tuple[list[Tensor], list[Any]]:
        """The state before the first step and behind each one (B, 2**n), and what each step was made of."""
        angles = parameters[:, self.circuit.n_amplitudes :]
        matrices = self._matrices(angles)
        if self._opening is not None:
            state = self._opening.ground_state(angles)
            states: list[Tensor] = [state, state if self.is_real else state.to(complex_dtype(state))]
            made: list[Any] = [None]
        else:
            states, made = [self._initial_state(parameters)], []
        for step in self.steps[len(made) :]:
            state = states[-1]
            parts: Any = None
            if isinstance(step, RyWall):
                parts = matrices[id(step)]
                state = step.apply(state, parts)
            elif isinstance(step, Diagonal):
                parts = step.factor(angles)
                state = state * parts
            else:
                state = step.apply(state)
            states.append(state)
            made.append(parts)
        return states, made

    def measure(self, state: Tensor) -> Tensor:
        """(B, 2**n) states -> (B, M) expectation values."""
        results = []
        for flips, source in self._flips.items():
            if flips == 0:
                density = state.real.square() + state.imag.square() if state.is_complex() else state.square()
            else:
                density = state.conj() * state.index_select(1, source.beside(state))
            results.append(_real_product(density, self._phases[flips].beside(density)))
        return results[0] if len(results) == 1 else torch.cat(results, dim=1)[:, self._order]

    def gradient(self, parameters: Tensor, states: list[Tensor], made: list[Any], cotangent: Tensor) -> Tensor:
        """Gradient of sum(cotangent * expectations) with respect to the parameters, (B, S + P)."""
        n_amplitudes = self.circuit.n_amplitudes
        gradient = torch.zeros_like(parameters)
        bra = self._pull_measurement(cotangent, states[-1])
        slopes: list[Tensor] = []
        for index in range(len(self.steps) - 1, -1, -1):
            step, parts, state = self.steps[index], made[index], states[index + 1]
            if isinstance(step, RyWall):
                bra, found = step.pull(bra, state, parts if index > 0 or n_amplitudes else None)
                slopes += found
            elif isinstance(step, Diagonal):
                bra, slope = step.pull(bra, state, parts)
                slopes.append(slope)
            else:
                bra = step.pull(bra)
        if slopes:
            gradient.index_copy_(1, self._slope_columns.beside(parameters), torch.cat(slopes, dim=1))
        if self._whole_state_given:
            gradient[:, :n_amplitudes] = bra.real
        elif n_amplitudes:
            gradient[:, :n_amplitudes] = bra.real.index_select(1, self._amplitude_index.beside(bra))
        return gradient

    def _pull_measurement(self, cotangent: Tensor, state: Tensor) -> Tensor:
        """2 sum_m cotangent_m P_m psi."""
        bra: Tensor | None = None
        for flips, source in self._flips.items():
            phases = self._phases[flips].beside(state)
            weights = cotangent if len(self._flips) == 1 else cotangent[:, self._members[flips]]
            diagonal = (2 * weights).to(phases.dtype) @ phases.T
            diagonal = diagonal.real if not state.is_complex() and diagonal.is_complex() else diagonal
            part = diagonal * (state if flips == 0 else state.index_select(1, source.beside(state)))
            bra = part if bra is None else bra + part
        assert bra is not None
        return bra

    def _initial_state(self, parameters: Tensor) -> Tensor:
        """|0...0>, or the given amplitudes on the circuit's amplitude wires and |0> on the others."""
        amplitudes = parameters[:, : self.circuit.n_amplitudes]
        if self._whole_state_given:
            state = amplitudes.contiguous()
        else:
            state = torch.zeros(len(parameters), 2**self.n, dtype=parameters.dtype, device=parameters.device)
            if self.circuit.n_amplitudes:
                state.index_copy_(1, self._amplitude_index.beside(parameters), amplitudes)
            else:
                state[:, 0] = 1
        return state if self.is_real else state.to(complex_dtype(state))

    def _phase_table(self, members: list[int]) -> NDArray[np.generic]:
        phases = np.stack([self.circuit.observables[member].phases(self.n) for member in members], axis=1)
        return phases if np.any(phases.imag) else phases.real


class FewThreads:
    """A context in which torch uses one thread if the work is small (a class: half the cost of a generator)."""

    def __init__(self, *, small: bool) -> None:
        self._small = small
        self._threads = torch.get_num_threads()

    def __enter__(self) -> None:
        if self._small:
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self._small:
            torch.set_num_threads(self._threads)


class _Expectations(torch.autograd.Function):
    """One node for the whole circuit."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, program: StatevectorProgram) -> Tensor:
        ctx.program = program
        ctx.save_for_backward(parameters)
        with program.few_threads(parameters):
            ctx.states, ctx.made = program.states(parameters)
            return program.measure(ctx.states[-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        (parameters,) = ctx.saved_tensors
        with ctx.program.few_threads(parameters):
            return ctx.program.gradient(parameters, ctx.states, ctx.made, cotangent), None


def _real_product(density: Tensor, phases: Tensor) -> Tensor:
    """Real part of density @ phases; a real state has none along imaginary phases (words with an odd number of Y)."""
    if density.is_complex() or not phases.is_complex():
        product = density @ phases.to(density.dtype)
        return product.real if product.is_complex() else product
    return density @ phases.real
