"""Device `qhybrid.density`: exact noisy simulation in torch, batched, differentiable by backprop through the noise."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.devices.base import LAYOUT_SEEDS, Capabilities, Estimates, NoisyDevice, Program, check_choice, check_shots
from qhybrid.devices.density_program import DensityProgram, Settings, ideal_program, noisy_program
from qhybrid.devices.sampling import sample_expectations
from qhybrid.errors import InputError
from qhybrid.noise_models.model import NoiseModel

if TYPE_CHECKING:
    from qhybrid.circuits.transpile import IsaCircuit

DTYPES = {"complex128": torch.float64, "complex64": torch.float32}
"""Precision of the density matrix -> that of its Pauli components, which are real."""
RESCALED_KEPT = 20
"""Programs of other noise scales that are kept compiled."""


class DensityDevice(NoisyDevice):
    """Exact simulation of density matrices as real vectors of Pauli components, on the CPU or the GPU of the angles.

    A circuit becomes a short program: constant channels (gates, their noise, idle noise, readout errors) are multiplied
    together when it is prepared, and what is left for every row are turns about Z by its angles.

    Args:
        name: The name that the user gave.
        noise: The noise model; None: ideal gates.
        layout_seeds: Transpiler seeds tried for each circuit.
        max_qubits: Most qubits it simulates, those that routing adds included; a state has 4**n components.
        dtype: "complex128" or "complex64", twice as fast and exact to about 1e-6.
        memory_gb: Memory that a batch may use, in 1e9 bytes; larger batches run in pieces, and gradients that do not
            fit compute states twice.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        name: str = "qhybrid.density",
        *,
        noise: NoiseModel | None = None,
        layout_seeds: int = LAYOUT_SEEDS,
        max_qubits: int = 10,
        dtype: str = "complex128",
        memory_gb: float = 2.0,
    ) -> None:
        super().__init__(name, noise=noise, layout_seeds=layout_seeds)
        check_choice(name, "dtype", dtype, DTYPES)
        if not 0 < memory_gb < float("inf"):
            raise InputError(f"{name}: memory_gb = {memory_gb}: allowed are numbers above 0")
        self.capabilities = Capabilities(
            diff_methods=("backprop", "parameter-shift", "spsa"), noise=True, max_qubits=max_qubits
        )
        self._settings = Settings(name, DTYPES[dtype], int(memory_gb * 1e9))

    def prepare(self, circuit: Circuit) -> Program:
        """Lay the circuit out on the noise model's machine, once, and write it down as channels and turns."""
        self._check_size(circuit, circuit.n_qubits)
        if self.noise is None:
            compiled = ideal_program(circuit, self._settings)
        else:
            isa = self.lay_out(circuit)
            self._check_size(circuit, max(len(each.qubits) for each in isa))
            compiled = noisy_program(isa, self.noise, self._settings)
        self.tracker.transpilations += 1
        return Program(circuit, compiled, decomposed=self.noise is not None)

    def isa_circuits(self, program: Program) -> "tuple[IsaCircuit, ...]":
        """The ISA circuits of a program, one for each measurement basis; none without a noise model."""
        compiled: DensityProgram = program.compiled
        return compiled.isa

    def program_of(self, isa: "tuple[IsaCircuit, ...]") -> Program:
        """A program of ISA circuits as they are, with the noise of their machine."""
        if self.noise is None:
            return super().program_of(isa)
        self.tracker.transpilations += 1
        return Program(isa[0].circuit, noisy_program(isa, self.noise, self._settings), decomposed=True)

    def rescaled(self, program: Program, factor: float) -> Program:
        """The same program with the rates of the device's noise model times a factor; the last ones are kept."""
        if self.noise is None:
            raise InputError(f"{self.name} has no noise model whose scale could be {factor}")
        known: dict[float, Program] = program.compiled.rescaled
        found = known.pop(factor, None)
        if found is None:
            compiled = noisy_program(program.compiled.isa, self.noise.scaled(factor), self._settings)
            compiled.rescaled = known
            found = Program(program.circuit, compiled, decomposed=True)
        known[factor] = found
        while len(known) > RESCALED_KEPT:
            del known[next(iter(known))]
        return found

    def run(self, program: Program, angles: Tensor, *, shots: int | None = None, seed: int | None = None) -> Estimates:
        """Run a batch; with `shots=None` the values are differentiable by torch."""
        check_shots(shots)
        compiled: DensityProgram = program.compiled
        self.tracker.count(circuits=len(angles) * compiled.circuits_per_row(shots), shots=shots)
        if not len(angles):  # nothing to simulate; the sum keeps the result in torch's graph
            return Estimates.exact(angles.new_zeros(0, program.circuit.n_observables) + angles.sum())
        if shots is None:
            return Estimates.exact(compiled.expectations(angles))
        tables = [np.asarray(table.cpu()) for table in compiled.probabilities(angles.detach())]
        estimates = sample_expectations(tables, program.circuit, shots, seed)
        return Estimates(estimates.values.to(angles), estimates.stderr.to(angles))

    def _check_size(self, circuit: Circuit, n_qubits: int) -> None:
        if n_qubits > self.capabilities.max_qubits:
            laid_out = "" if n_qubits == circuit.n_qubits or self.noise is None else f", routed on {self.noise.name},"
            raise InputError(
                f"circuit {circuit.name!r}{laid_out} uses {n_qubits} qubits; {self.name} takes at most "
                f"{self.capabilities.max_qubits}: qiskit.aer takes more"
            )
