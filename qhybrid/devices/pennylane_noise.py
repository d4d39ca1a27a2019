"""`default.mixed` with a machine's noise: the ISA circuit in PennyLane's gates, and a channel behind each of them.

PennyLane's own conversion (`qml.from_qiskit_noise`) is not used. It leaves readout errors out, puts the noise of a
two-qubit gate on its qubits the wrong way round, and knows no waiting qubits (tests/test_devices_pennylane_noise.py).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.gates import ComplexMatrix
from qhybrid.circuits.transpile import IsaCircuit, IsaOperation
from qhybrid.devices.base import LAYOUT_SEEDS, Capabilities, Estimates, NoisyDevice, Program, check_shots, check_size
from qhybrid.devices.pennylane import PennyLaneDevice
from qhybrid.devices.sampling import exact_expectations, read_out, sample_expectations
from qhybrid.errors import InputError, did_you_mean
from qhybrid.noise_models.channels import Matrix, pauli_words
from qhybrid.noise_models.model import NoiseModel

GATES: dict[str, Callable[..., Any]] = {
    "x": qml.X, "y": qml.Y, "z": qml.Z, "h": qml.Hadamard, "s": qml.S, "t": qml.T, "sx": qml.SX,
    "sdg": lambda wires: qml.adjoint(qml.S(wires)), "tdg": lambda wires: qml.adjoint(qml.T(wires)),
    "sxdg": lambda wires: qml.adjoint(qml.SX(wires)),
    "rx": qml.RX, "ry": qml.RY, "rz": qml.RZ, "p": qml.PhaseShift, "u": qml.U3, "u1": qml.U1, "u2": qml.U2,
    "u3": qml.U3, "cx": qml.CNOT, "cy": qml.CY, "cz": qml.CZ, "ecr": qml.ECR, "swap": qml.SWAP, "iswap": qml.ISWAP,
    "cp": qml.ControlledPhaseShift, "rxx": qml.IsingXX, "ryy": qml.IsingYY, "rzz": qml.IsingZZ,
}  # fmt: skip
"""PennyLane's form of the machines' gates."""
MAX_QUBITS = 8


class MixedDevice(PennyLaneDevice, NoisyDevice):
    """PennyLane's density-matrix simulator, with the noise of a machine or without.

    Args:
        name: The name that the user gave.
        noise: The noise model; None: ideal gates.
        layout_seeds: Transpiler seeds tried for each circuit.
    """

    def __init__(
        self, name: str = "default.mixed", *, noise: NoiseModel | None = None, layout_seeds: int = LAYOUT_SEEDS
    ) -> None:
        super().__init__(name, device="default.mixed")
        self.noise, self.layout_seeds = noise, layout_seeds
        self.capabilities = Capabilities(noise=True, state_preparation=noise is None, max_qubits=MAX_QUBITS)

    def prepare(self, circuit: Circuit) -> Program:
        """Lay the circuit out on the noise model's machine, and make the tapes' gates and channels."""
        if self.noise is None:
            return super().prepare(circuit)
        check_size(self.name, circuit, self.capabilities.max_qubits)
        tapes = [NoisyTapes(each, self.noise) for each in self.lay_out(circuit)]
        self.tracker.transpilations += 1
        return Program(circuit, tapes, decomposed=True)

    def isa_circuits(self, program: Program) -> tuple[IsaCircuit, ...]:
        """The ISA circuits of a program, one for each measurement basis; none without a noise model."""
        return () if self.noise is None else tuple(each.isa for each in program.compiled)

    def program_of(self, isa: tuple[IsaCircuit, ...]) -> Program:
        """A program of ISA circuits as they are, with the noise of their machine."""
        if self.noise is None:
            return super().program_of(isa)
        self.tracker.transpilations += 1
        return Program(isa[0].circuit, [NoisyTapes(each, self.noise) for each in isa], decomposed=True)

    def rescaled(self, program: Program, factor: float) -> Program:
        """The same program with the rates of the device's noise model times a factor."""
        if self.noise is None:
            raise InputError(f"{self.name} has no noise model whose scale could be {factor}")
        scaled = self.noise.scaled(factor)
        return Program(program.circuit, [NoisyTapes(each.isa, scaled) for each in program.compiled], decomposed=True)

    def run(self, program: Program, angles: Tensor, *, shots: int | None = None, seed: int | None = None) -> Estimates:
        """Run a batch in one call of the device; shots are drawn from its exact distribution."""
        if self.noise is None:
            return super().run(program, angles, shots=shots, seed=seed)
        check_shots(shots)
        self.tracker.count(circuits=len(angles) * len(program.compiled), shots=shots)
        if not len(angles):
            return Estimates.exact(angles.new_zeros(0, program.circuit.n_observables))
        rows = np.asarray(angles.detach().double().cpu())
        tapes = [tapes.tape(row) for tapes in program.compiled for row in rows]
        device = self._open(max(len(tapes.isa.qubits) for tapes in program.compiled))
        results = iter(qml.execute(tapes, device, diff_method=None))
        tables = [read_out(np.stack([next(results) for _ in rows]), tapes.confusion) for tapes in program.compiled]
        if shots is None:
            estimates = exact_expectations(tables, program.circuit)
        else:
            estimates = sample_expectations(tables, program.circuit, shots, seed)
        return Estimates(estimates.values.to(angles), estimates.stderr.to(angles))


class NoisyTapes:
    """Builds tapes of one ISA circuit with its noise; what no angle changes is made once.

    Args:
        isa: The circuit.
        noise: Of its machine.
    """

    def __init__(self, isa: IsaCircuit, noise: NoiseModel) -> None:
        self.isa = isa
        self.confusion = [noise.readout_matrix(isa.qubits[place]) for place in isa.measured.values()]
        self._measured = [qml.probs(wires=list(isa.measured.values()))]
        self._operations: list[Any] = []
        channels: dict[Any, Any] = {}
        for operation in isa.operations:
            on = tuple(isa.qubits[place] for place in operation.qubits)
            if operation.name == "delay":
                key: Any = (on, operation.seconds)
                errors = noise.idle_noise(on[0], operation.seconds)
            else:
                if operation.name not in GATES:
                    known = did_you_mean(operation.name, GATES)
                    raise InputError(f"default.mixed has no gate {operation.name!r} of {noise.name}; {known}")
                fixed = not any(angle.terms for angle in operation.params)
                self._operations.append(_gate(operation, None) if fixed else operation)
                key, errors = (operation.name, on), noise.gate_noise(operation.name, on)
            if errors is not None:
                if key not in channels:
                    channels[key] = qml.QubitChannel(kraus_operators(errors.channel), wires=operation.qubits)
                self._operations.append(channels[key])

    def tape(self, angles: NDArray[np.float64]) -> Any:
        """The tape of one row of angles (P,); it gives the outcome probabilities, first wire most significant."""
        operations = [_gate(each, angles) if isinstance(each, IsaOperation) else each for each in self._operations]
        return qml.tape.QuantumScript(operations, self._measured)


def kraus_operators(channel: Matrix) -> list[ComplexMatrix]:
    """Kraus operators of a channel given by its Pauli transfer matrix (Greenbaum, arXiv 1509.02921, section 2.3).

    Args:
        channel: Shape (4**n, 4**n), see `qhybrid.noise_models.channels`.

    Returns:
        At most 4**n operators, each of shape (2**n, 2**n).
    """
    size = int(np.sqrt(len(channel)))
    words = pauli_words(size.bit_length() - 1)
    choi = np.einsum("ij,jba,icd->acbd", channel, words, words).reshape(size**2, size**2) / size
    weights, vectors = np.linalg.eigh(choi)
    return [
        np.sqrt(weight) * vector.reshape(size, size).T
        for weight, vector in zip(weights, vectors.T, strict=True)
        if weight > 1e-15
    ]


def _gate(operation: IsaOperation, angles: NDArray[np.float64] | None) -> Any:
    values = [angle.constant for angle in operation.params]
    if angles is not None:
        values = [
            angle.constant + sum(factor * angles[slot] for slot, factor in angle.terms) for angle in operation.params
        ]
    return GATES[operation.name](*values, wires=operation.qubits)
