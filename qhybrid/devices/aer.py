"""Device `qiskit.aer`: Qiskit Aer with the noise of a machine or without, one call for a whole batch."""

import logging
import os
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.aererror import AerError
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.transpile import IsaCircuit
from qhybrid.devices.aer_circuits import AerProgram, ideal_program, noisy_program
from qhybrid.devices.base import (
    LAYOUT_SEEDS,
    Capabilities,
    Estimates,
    NoisyDevice,
    Program,
    check_choice,
    check_shots,
    check_size,
)
from qhybrid.devices.sampling import exact_expectations, read_out, sample_expectations, shot_error
from qhybrid.errors import InputError, QHybridError
from qhybrid.noise_models.model import NoiseModel

logging.getLogger("qiskit_aer.backends.aerbackend").setLevel(logging.ERROR)  # its warnings are our errors

NO_OUTCOMES = ("unitary", "superop")
"""Methods of Aer that compute no measurement outcomes."""
EXACT_IDEAL = ("statevector", "density_matrix", "matrix_product_state", "stabilizer", "tensor_network")
"""Methods that give exact outcome probabilities without noise. With noise only the density matrix does: the others
follow one random trajectory a shot."""
SHARED_QUBITS = 20
"""States of 2**20 numbers and more are worth several threads; below, the threads take a circuit each: two threads on
the 8 qubits (4**8 numbers) of `sda_qec` take four times as long as one."""
MAX_OPERATIONS = 2**20
"""Operations, over all circuits, in one call of Aer, which copies the circuit for each row (about 1 kB an operation);
longer batches run in pieces."""
DEFAULT_MAX_QUBITS = {"density_matrix": 12}


class AerDevice(NoisyDevice):
    """Qiskit Aer (https://qiskit.github.io/qiskit-aer).

    With a noise model the circuit is laid out on its machine once, cut to the qubits in use, and every gate, wait and
    readout has the noise of the physical qubits that it is on.

    Args:
        name: The name that the user gave.
        noise: The noise model; None: ideal gates.
        layout_seeds: Transpiler seeds tried for each circuit.
        method: Aer's simulation method; "automatic" is the density matrix with noise and the statevector without.
        sampling: Who draws shots: "exact", we do, from Aer's exact distribution, which is faster; "aer", Aer does.
            Methods without an exact distribution leave it to Aer.
        device: "CPU" or "GPU" (needs a build of Aer for it).
        precision: "double" or "single".
        threads: Threads used; None: all that this process may use.
        max_qubits: Largest circuit it takes; None: 12 with density matrices, else 28. Memory may allow less.

    Raises:
        InputError: An argument is none of these, or this build of Aer does not have it.
    """

    def __init__(
        self,
        name: str = "qiskit.aer",
        *,
        noise: NoiseModel | None = None,
        layout_seeds: int = LAYOUT_SEEDS,
        method: str = "automatic",
        sampling: str = "exact",
        device: str = "CPU",
        precision: str = "double",
        threads: int | None = None,
        max_qubits: int | None = None,
    ) -> None:
        super().__init__(name, noise=noise, layout_seeds=layout_seeds)
        aer = AerSimulator()
        check_choice(name, "method", method, [each for each in aer.available_methods() if each not in NO_OUTCOMES])
        check_choice(name, "sampling", sampling, ("exact", "aer"))
        check_choice(name, "precision", precision, ("double", "single"))
        check_choice(name, "device", device, ("CPU", "GPU"))
        if device not in aer.available_devices():
            has = ", ".join(aer.available_devices())
            raise InputError(
                f"{name}: device {device!r}: Aer finds {has} only here (GPUs need the package qiskit-aer-gpu)"
            )
        if threads is not None and threads < 1:
            raise InputError(f"{name}: threads = {threads}: at least 1 is needed")
        if method == "automatic":
            method = "statevector" if noise is None else "density_matrix"
        self.method = method
        """Aer's method in use, "automatic" resolved."""
        exact = method in EXACT_IDEAL if noise is None else method == "density_matrix"
        self.samples_itself = sampling == "aer" or not exact
        """Whether Aer draws the shots."""
        self.threads = threads or _usable_cores()
        self._options = {"method": method, "device": device, "precision": precision}
        self.capabilities = Capabilities(
            analytic=exact, noise=True, max_qubits=max_qubits or DEFAULT_MAX_QUBITS.get(method, 28)
        )

    def prepare(self, circuit: Circuit) -> Program:
        """Lay the circuit out on the noise model's machine, once, and translate it to Aer's form."""
        check_size(self.name, circuit, self.capabilities.max_qubits)
        gates = set(AerSimulator(method=self.method).configuration().basis_gates)
        compiled = ideal_program(circuit) if self.noise is None else noisy_program(self.lay_out(circuit), self.noise)
        self.tracker.transpilations += 1
        used = {name for each in compiled.circuits for name in each.exact.count_ops()}
        if missing := sorted(used - gates - {"save_probabilities", "qerror_loc"}):
            raise InputError(
                f"{self.name}: method {self.method!r} has no gate {', '.join(missing)}, "
                f"which circuit {circuit.name!r} needs"
            )
        self._fitting(compiled, circuit)
        return Program(circuit, compiled, decomposed=self.noise is not None)

    def isa_circuits(self, program: Program) -> tuple[IsaCircuit, ...]:
        """The ISA circuits of a program, one for each measurement basis; none without a noise model."""
        compiled: AerProgram = program.compiled
        return compiled.isa

    def program_of(self, isa: tuple[IsaCircuit, ...]) -> Program:
        """A program of ISA circuits as they are, with the noise of their machine."""
        if self.noise is None:
            return super().program_of(isa)
        self.tracker.transpilations += 1
        return Program(isa[0].circuit, noisy_program(isa, self.noise), decomposed=True)

    def rescaled(self, program: Program, factor: float) -> Program:
        """The same program with the rates of the device's noise model times a factor."""
        if self.noise is None:
            raise InputError(f"{self.name} has no noise model whose scale could be {factor}")
        return Program(program.circuit, noisy_program(program.compiled.isa, self.noise.scaled(factor)), decomposed=True)

    def run(self, program: Program, angles: Tensor, *, shots: int | None = None, seed: int | None = None) -> Estimates:
        """Run a batch in one call of Aer."""
        check_shots(shots)
        if shots is None and not self.capabilities.analytic:
            raise InputError(
                f"{self.name}: method {self.method!r} with noise follows random trajectories and has no exact "
                "expectation values; give shots, or take method 'density_matrix'"
            )
        compiled: AerProgram = program.compiled
        circuit = program.circuit
        self.tracker.count(circuits=len(angles) * len(compiled.circuits), shots=shots)
        if not len(angles):
            return Estimates.exact(angles.new_zeros(0, circuit.n_observables))
        rows = np.asarray(angles.detach().double().cpu())
        if shots is not None and self.samples_itself:
            values = self._sampled(program, rows, shots, seed)
            estimates = Estimates(torch.from_numpy(values), torch.from_numpy(shot_error(values, shots)))
        else:
            tables = self._probabilities(program, rows)
            estimates = (
                exact_expectations(tables, circuit)
                if shots is None
                else sample_expectations(tables, circuit, shots, seed)
            )
        return Estimates(estimates.values.to(angles), estimates.stderr.to(angles))

    def _probabilities(self, program: Program, rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Outcome probabilities of each basis after the readout errors, each (B, 2**k)."""
        circuits = program.compiled.circuits
        tables: list[list[NDArray[np.float64]]] = [[] for _ in circuits]
        for piece in self._pieces(program, rows):
            # Bound at run time a circuit is not copied for each row, which halves the time; but its rows take turns,
            # so each thread gets a circuit of its own. Phases cannot be bound that way.
            at_run_time = all(each.exact.global_phase == 0 for each in circuits)
            parts = np.array_split(piece, min(self._fitting(program.compiled, program.circuit), len(piece)))
            results = self._run(
                program,
                [each.exact for each in circuits for _ in parts],
                [each.binding(part) for each in circuits for part in parts],
                shots=1,
                runtime_parameter_bind_enable=at_run_time,
            )
            for index, each in enumerate(circuits):
                own = results[index * len(piece) : (index + 1) * len(piece)]
                tables[index].append(read_out(np.stack([result.data.probabilities for result in own]), each.confusion))
        return [np.concatenate(table) for table in tables]

    def _sampled(
        self, program: Program, rows: NDArray[np.float64], shots: int, seed: int | None
    ) -> NDArray[np.float64]:
        """Expectation values (B, M) from shots that Aer draws; it seeds every circuit of a call differently."""
        circuits, words = program.compiled.circuits, program.circuit.observables
        values = np.empty((len(rows), len(words)))
        start, sequence = 0, np.random.SeedSequence(seed)
        for piece in self._pieces(program, rows):
            results = self._run(
                program,
                [each.sampled for each in circuits],
                [each.binding(piece) for each in circuits],
                shots=shots,
                seed_simulator=int(sequence.spawn(1)[0].generate_state(1, np.uint64)[0] >> 2),
            )
            for index, each in enumerate(circuits):
                signs = each.basis.signs(words, each.basis.wires)
                for row in range(len(piece)):
                    counts = results[index * len(piece) + row].data.counts
                    outcomes = [int(outcome, 16) for outcome in counts]
                    mean = np.array(list(counts.values())) @ signs[outcomes] / shots
                    values[start + row, list(each.basis.members)] = mean
            start += len(piece)
        return values

    def _run(
        self, program: Program, circuits: list[QuantumCircuit], bindings: list[dict[Any, list[float]]], **options: Any
    ) -> list[Any]:
        """One call of Aer; one result for each circuit and row, the rows of a circuit beside each other."""
        compiled: AerProgram = program.compiled
        simulator = AerSimulator(**self._options, noise_model=compiled.noise_model)
        parallel = self._fitting(compiled, program.circuit)
        threads = {"max_parallel_threads": self.threads if self._shares(compiled) else parallel}
        threads |= {"max_parallel_experiments": parallel, "max_parallel_shots": 1}  # shots do not depend on the cores
        try:
            result = simulator.run(circuits, parameter_binds=bindings, **threads, **options).result()
            failures = [str(each.status) for each in result.results if not each.success]
            problem = "" if result.success else (failures or [str(result.status)])[0]
        except AerError as error:
            problem = error.message
        if problem:
            raise QHybridError(
                f"{self.name}: Aer failed on circuit {program.circuit.name!r}: {' '.join(problem.split())}"
            )
        results: list[Any] = result.results
        return results

    def _pieces(self, program: Program, rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """The rows of each call of Aer: all of them, unless their circuits would fill the memory."""
        length = max(1, MAX_OPERATIONS // sum(len(each.exact.data) for each in program.compiled.circuits))
        return [rows[start : start + length] for start in range(0, len(rows), length)]

    def _shares(self, compiled: AerProgram) -> bool:
        """Whether a state is so large that several threads work on it."""
        return _log_size(self.method, compiled.n_qubits) >= SHARED_QUBITS

    def _fitting(self, compiled: AerProgram, circuit: Circuit) -> int:
        """How many circuits to simulate side by side.

        Raises:
            InputError: Not even one fits into the memory that is free.
        """
        if self._options["device"] != "CPU":
            return 1
        number = 16 if self._options["precision"] == "double" else 8
        needed = number * 2 ** _log_size(self.method, compiled.n_qubits)
        free = psutil.virtual_memory().available
        if needed > free:
            what = "density matrix" if self.method == "density_matrix" else "state"
            raise InputError(
                f"circuit {circuit.name!r} on {self.name}: the {what} of {compiled.n_qubits} qubits takes "
                f"{needed / 1e9:.3g} GB; {free / 1e9:.3g} GB are free"
            )
        return 1 if self._shares(compiled) else max(1, min(self.threads, free // needed))


def _log_size(method: str, n_qubits: int) -> int:
    """Base-2 logarithm of the numbers in a simulated state; 0 for methods that keep no whole state."""
    return {"density_matrix": 2, "statevector": 1}.get(method, 0) * n_qubits


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
