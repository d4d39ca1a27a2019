"""Gradients of expectation values on any device: backprop, adjoint, parameter-shift, spsa behind one function."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.gates import shift_rule
from qhybrid.devices.base import AdjointDevice, Device, Estimates, Program
from qhybrid.errors import InputError, did_you_mean

DiffMethod = Literal["backprop", "adjoint", "parameter-shift", "spsa"]
DIFF_METHODS: tuple[DiffMethod, ...] = ("backprop", "adjoint", "parameter-shift", "spsa")
SAMPLED_METHODS: tuple[DiffMethod, ...] = ("parameter-shift", "spsa")
"""Those that work from finite shots."""

_ELSEWHERE = {
    "backprop": "qhybrid.statevector or default.qubit have backprop",
    "adjoint": "lightning.qubit has adjoint",
}


def choose_diff_method(device: Device, diff_method: str, shots: int | None) -> DiffMethod:
    """Resolve `best`, and check that the device can do what was asked.

    Args:
        device: Where the circuit runs.
        diff_method: One of `DIFF_METHODS` or "best".
        shots: Finite shots leave parameter-shift and spsa only.

    Raises:
        InputError: There is no such method, or this device cannot do it; names what it can.
    """
    if diff_method not in (*DIFF_METHODS, "best"):
        raise InputError(f"unknown diff_method {diff_method!r}; {did_you_mean(diff_method, (*DIFF_METHODS, 'best'))}")
    possible = [m for m in device.capabilities.diff_methods if shots is None or m in SAMPLED_METHODS]
    for method in DIFF_METHODS:
        if method == diff_method or (diff_method == "best" and possible and method == possible[0]):
            if method in possible:
                return method
            break
    can = " or ".join(possible) or "no gradient method"
    if shots is not None and diff_method in device.capabilities.diff_methods:
        raise InputError(f"{diff_method} needs exact expectation values; with shots = {shots} {device.name} has {can}")
    hint = f" ({_ELSEWHERE[diff_method]})" if diff_method in _ELSEWHERE else ""
    raise InputError(f"{device.name} has no {diff_method}: use {can}{hint}")


def expectation_values(
    device: Device,
    program: Program,
    angles: Tensor,
    *,
    diff_method: DiffMethod,
    columns: NDArray[np.bool_],
    shots: int | None = None,
    seed: int | None = None,
    spsa_step: float = 0.1,
    spsa_directions: int = 1,
) -> Tensor:
    """Run a batch on a device so that torch can differentiate the result.

    Args:
        device: Any device.
        program: The circuit prepared for it.
        angles: What the circuit's `parameters` gave, shape (B, S + P).
        diff_method: From `choose_diff_method`.
        columns: Which columns need a gradient, shape (S + P,). Only these are shifted or differentiated.
        shots: None means exact.
        seed: Of shots and spsa directions.
        spsa_step: Size of an spsa perturbation in radians.
        spsa_directions: Random directions averaged for each row.

    Returns:
        Expectation values, shape (B, M). With parameter-shift and spsa the shifted rows run in the same call as the
        values themselves: one job.
    """
    if not len(angles):
        return angles[:, :1].expand(0, program.circuit.n_observables)
    wants_gradient = torch.is_grad_enabled() and angles.requires_grad and bool(columns.any())
    if diff_method == "backprop" and shots is None:
        return device.run(program, angles, shots=None, seed=None).values
    if not wants_gradient:
        return device.run(program, angles.detach(), shots=shots, seed=seed).values
    settings = (shots, seed, spsa_step, spsa_directions)
    values: Tensor = _Expectation.apply(angles, device, program, diff_method, columns, settings)
    return values


class _Expectation(torch.autograd.Function):
    """Computes the values and, in the same job, what the backward pass needs."""

    @staticmethod
    def forward(
        ctx: Any,
        angles: Tensor,
        device: Device,
        program: Program,
        diff_method: DiffMethod,
        columns: NDArray[np.bool_],
        settings: tuple[int | None, int | None, float, int],
    ) -> Tensor:
        shots, seed, step, directions = settings
        angles = angles.detach()
        if diff_method == "adjoint":
            assert isinstance(device, AdjointDevice)
            estimates, pullback = device.run_with_adjoint(program, angles, columns)
            ctx.pullback = pullback
            return estimates.values

        def run(rows: Tensor) -> Estimates:
            return device.run(program, rows, shots=shots, seed=seed)

        if diff_method == "parameter-shift":
            values, jacobian = parameter_shift(run, program, angles, columns)
        else:
            values, jacobian = spsa(run, program.circuit, angles, columns, step=step, directions=directions, seed=seed)
        ctx.pullback = lambda cotangent: torch.einsum("bm,bmp->bp", cotangent, jacobian)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.pullback(cotangent), None, None, None, None, None


def rows_per_sample(program: Program, columns: NDArray[np.bool_], diff_method: str) -> int:
    """Rows of angles that one sample costs in a training step by parameter-shift or spsa, its value included.

    Args:
        program: Of the circuit, on its device.
        columns: Which columns need a gradient, shape (S + P,).
        diff_method: `parameter-shift` or `spsa`.
    """
    if diff_method == "spsa":
        return 3
    circuit = program.circuit
    gates = [circuit.slot_gates[column - circuit.n_amplitudes].name for column in np.flatnonzero(columns).tolist()
             if column >= circuit.n_amplitudes]  # fmt: skip
    shifted = sum(len(shift_rule(name, decomposed=program.decomposed)) for name in gates)
    return 1 + 2 * int(columns[: circuit.n_amplitudes].sum()) + shifted


def parameter_shift(
    run: Callable[[Tensor], Estimates], program: Program, angles: Tensor, columns: NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    """Values and exact Jacobian from shifted circuits, all in one call of `run`.

    An angle's gradient is a sum of shifted values (Schuld et al., arXiv 1811.11184; four terms for controlled
    rotations, and more where a machine runs them in parts). For the amplitudes v of an initial state the value is a
    quadratic form E(v) = v^T M v, so with u± = (v ± e_i) / |v ± e_i| one has
    dE/dv_i = 2 e_i^T M v = (1 + v_i) E(u+) - (1 - v_i) E(u-): polarisation.

    Args:
        run: (N, S + P) rows -> estimates (N, M).
        program: Which gate each column belongs to, and whether it runs in parts.
        angles: Shape (B, S + P).
        columns: Which columns to differentiate.

    Returns:
        Values (B, M) and Jacobian (B, M, S + P), zero in the other columns.
    """
    circuit = program.circuit
    n_amplitudes = circuit.n_amplitudes
    batch = len(angles)
    shifted = [angles]
    terms: list[tuple[int, Tensor]] = []  # column and coefficient (B, 1) of each further block of rows
    for column in np.flatnonzero(columns).tolist():
        if column < n_amplitudes:
            for sign in (1.0, -1.0):
                rows = angles.clone()
                rows[:, column] += sign
                norm = torch.linalg.vector_norm(rows[:, :n_amplitudes], dim=1, keepdim=True)
                degenerate = norm < 1e-8  # v = -sign * e_i: the coefficient is zero, any state will do
                rows[:, :n_amplitudes] /= torch.where(degenerate, torch.ones_like(norm), norm)
                rows[:, :n_amplitudes] = torch.where(degenerate, angles[:, :n_amplitudes], rows[:, :n_amplitudes])
                shifted.append(rows)
                terms.append((column, sign * (1 + sign * angles[:, column : column + 1])))
            continue
        rule = shift_rule(circuit.slot_gates[column - n_amplitudes].name, decomposed=program.decomposed)
        for shift, coefficient in rule:
            rows = angles.clone()
            rows[:, column] += shift
            shifted.append(rows)
            terms.append((column, torch.full_like(angles[:, :1], coefficient)))
    values = run(torch.cat(shifted)).values.reshape(len(shifted), batch, -1)
    jacobian = angles.new_zeros(batch, values.shape[2], angles.shape[1])
    for (column, factor), shifted_values in zip(terms, values[1:], strict=True):
        jacobian[:, :, column] += factor * shifted_values
    return values[0], jacobian


def spsa(
    run: Callable[[Tensor], Estimates],
    circuit: Circuit,
    angles: Tensor,
    columns: NDArray[np.bool_],
    *,
    step: float,
    directions: int,
    seed: int | None,
) -> tuple[Tensor, Tensor]:
    """Values and a stochastic estimate of the Jacobian from 2 * directions circuits a row (Spall 1992), in one call.

    Args:
        run: (N, S + P) rows -> estimates (N, M).
        circuit: Says which columns are amplitudes, which are kept normalised.
        angles: Shape (B, S + P).
        columns: Which columns to perturb.
        step: Size of a perturbation; the bias is of its second order, the shot noise of the gradient ~ 1 / step.
        directions: Random +-1 directions averaged for each row.
        seed: Of the directions.

    Returns:
        Values (B, M) and Jacobian estimate (B, M, S + P).
    """
    generator = np.random.default_rng(None if seed is None else [seed, 1])
    shape = (directions, *angles.shape)
    signs = torch.as_tensor(generator.choice([-1.0, 1.0], size=shape) * columns).to(angles)
    moved = torch.cat([angles + step * signs, angles - step * signs])
    rows = torch.cat([angles.unsqueeze(0), moved]).flatten(0, 1)
    if circuit.n_amplitudes:
        state = rows[:, : circuit.n_amplitudes]
        rows[:, : circuit.n_amplitudes] = state / torch.linalg.vector_norm(state, dim=1, keepdim=True)
    values = run(rows).values.reshape(1 + 2 * directions, len(angles), -1)
    slopes = (values[1 : 1 + directions] - values[1 + directions :]) / (2 * step)
    return values[0], torch.einsum("dbm,dbp->bmp", slopes, signs) / directions
