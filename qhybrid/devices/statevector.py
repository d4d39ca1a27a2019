"""Device `qhybrid.statevector`: a batched torch simulator, differentiable by backprop, on CPU or GPU."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.gates import FIXED
from qhybrid.devices.base import Capabilities, Device, Estimates, Program, check_shots, check_size
from qhybrid.devices.sampling import basis_rotation, sample_expectations
from qhybrid.devices.statevector_program import StatevectorProgram
from qhybrid.devices.statevector_tensors import complex_dtype

MAX_BATCH_ELEMENTS = 2**26
"""Amplitudes simulated at a time; larger batches run in pieces (without gradients the memory is bounded by this)."""


class StatevectorDevice(Device):
    """Exact batched simulation of pure states in torch.

    Args:
        name: The name that the user gave.
        max_qubits: Largest circuit it takes.
    """

    def __init__(self, name: str = "qhybrid.statevector", *, max_qubits: int = 20) -> None:
        super().__init__(name)
        self.capabilities = Capabilities(
            diff_methods=("backprop", "parameter-shift", "spsa"),
            state_preparation=True,
            max_qubits=max_qubits,
        )

    def prepare(self, circuit: Circuit) -> Program:
        """Fuse the circuit's gates into a short list of tensor operations."""
        check_size(self.name, circuit, self.capabilities.max_qubits)
        rotations = [basis_rotation(basis) for basis in circuit.bases]
        self.tracker.transpilations += 1
        return Program(circuit, (StatevectorProgram(circuit), rotations))

    def run(self, program: Program, angles: Tensor, *, shots: int | None = None, seed: int | None = None) -> Estimates:
        """Run a batch; with `shots=None` the values are differentiable by torch."""
        check_shots(shots)
        compiled, rotations = program.compiled
        self.tracker.count(circuits=len(angles) * (len(rotations) if shots else 1), shots=shots)
        if not len(angles):  # nothing to simulate; the sum keeps the result in torch's graph
            return Estimates.exact(angles.new_zeros(0, program.circuit.n_observables) + angles.sum())
        rows = max(1, MAX_BATCH_ELEMENTS // 2**program.circuit.n_qubits)
        if shots is None:
            parts = [compiled.expectations(part) for part in angles.split(rows)]
            return Estimates.exact(parts[0] if len(parts) == 1 else torch.cat(parts))
        pieces = []
        for part in angles.detach().split(rows):
            state = compiled.states(part)[0][-1]
            pieces.append([_probabilities(state, rotation) for rotation in rotations])
        tables = [np.concatenate(tables) for tables in zip(*pieces, strict=True)]
        estimates = sample_expectations(tables, program.circuit, shots, seed)
        return Estimates(estimates.values.to(angles), estimates.stderr.to(angles))

    def states(self, program: Program, angles: Tensor) -> Tensor:
        """The states behind the last gate.

        Args:
            program: From `prepare`.
            angles: As in `run`.

        Returns:
            Shape (B, 2**n), real where all gates are; qubit 0 is the most significant bit of an amplitude's index.
        """
        self.tracker.count(circuits=len(angles), shots=None)
        compiled, _ = program.compiled
        rows = max(1, MAX_BATCH_ELEMENTS // 2**program.circuit.n_qubits)
        return torch.cat([compiled.states(part)[0][-1] for part in angles.split(rows)])


def _probabilities(state: Tensor, rotation: list[tuple[str, int]]) -> NDArray[np.float64]:
    """Outcome probabilities after a basis rotation, shape (B, 2**n)."""
    for name, wire in rotation:
        matrix = torch.as_tensor(FIXED[name], device=state.device).to(complex_dtype(state))
        view = state.to(matrix.dtype).reshape(len(state), 2**wire, 2, -1)
        state = torch.einsum("ij,bljr->blir", matrix, view).reshape(len(state), -1)
    return np.asarray((state * state.conj()).real.double().cpu())
