"""Circuits in Aer's form: cut to the qubits in use, one parameter for each different angle, noise beside them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, Parameter
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_aer.noise import QuantumError
from qiskit_aer.noise.noise_model import QuantumErrorLocation

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import MeasurementBasis
from qhybrid.circuits.transpile import Affine, IsaCircuit, IsaOperation, ideal_operations
from qhybrid.devices.sampling import basis_rotation
from qhybrid.errors import InputError
from qhybrid.noise_models.channels import Matrix
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.qiskit_forms import quantum_error

CONTROLLED_ROTATIONS = ("cp", "crx", "cry", "crz")
"""Aer 0.17 binds the parameters of these to the wrong place, without a word (qiskit-aer#2323, #2403)."""


@dataclass(frozen=True, eq=False)
class AerCircuit:
    """The circuit of one measurement basis as Aer runs it.

    Args:
        basis: What it measures, k wires.
        exact: Qiskit's circuit, which ends by saving the outcome probabilities of the measured qubits.
        sampled: The same, which ends by measuring them; in both the first wire is the most significant bit.
        parameters: Of both circuits, F of them.
        factors: Shape (P, F).
        constants: Shape (F,): the values of the parameters are `angles @ factors + constants`.
        confusion: Readout errors of the measured wires, [read, true].
    """

    basis: MeasurementBasis
    exact: QuantumCircuit
    sampled: QuantumCircuit
    parameters: tuple[Parameter, ...]
    factors: NDArray[np.float64]
    constants: NDArray[np.float64]
    confusion: tuple[Matrix, ...]

    def binding(self, angles: NDArray[np.float64]) -> dict[Parameter, list[float]]:
        """The values of the parameters for a batch of angles (B, P), as Aer's `parameter_binds` takes them."""
        values = angles @ self.factors + self.constants
        return dict(zip(self.parameters, values.T.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class AerProgram:
    """A circuit in Aer's form, one for each measurement basis.

    Args:
        circuits: In the order of the bases, all on the same qubits.
        n_qubits: Qubits simulated.
        noise_model: Of these qubits; None: ideal gates.
        isa: What the circuits were made of; empty without noise.
    """

    circuits: tuple[AerCircuit, ...]
    n_qubits: int
    noise_model: AerNoiseModel | None
    isa: tuple[IsaCircuit, ...]


def noisy_program(isa: tuple[IsaCircuit, ...], noise: NoiseModel) -> AerProgram:
    """ISA circuits with their noise, cut to the qubits that they use.

    Waiting qubits relax at the delays of the circuits, by errors that are in the circuits by reference, as Aer's own
    `RelaxationNoisePass` puts them there. Readout errors are in the noise model, for Aer's shots, and in the circuits'
    `confusion`, for exact probabilities.
    """
    used = tuple(sorted({qubit for each in isa for qubit in each.qubits}))
    model = noise.aer(used)
    idle: dict[tuple[int, float], QuantumError | None] = {}
    circuits = []
    for each in isa:
        places = [used.index(qubit) for qubit in each.qubits]
        body = _Body(len(used))
        for operation in each.operations:
            on = [places[qubit] for qubit in operation.qubits]
            if operation.name in CONTROLLED_ROTATIONS and operation.params[0].terms:
                raise InputError(
                    f"Aer binds the angles of {noise.name}'s gate {operation.name!r} wrongly (qiskit-aer#2403): take "
                    "qhybrid.density, or a noise model without that gate"
                )
            if operation.name != "delay":
                body.append(operation, on)
                continue
            key = (on[0], operation.seconds)
            if key not in idle:
                relaxation = noise.idle_noise(used[on[0]], operation.seconds)
                idle[key] = None if relaxation is None else quantum_error(relaxation)
            if (error := idle[key]) is not None:
                body.circuit.append(QuantumErrorLocation(error), on)
        measured = [places[place] for place in each.measured.values()]
        confusion = tuple(noise.readout_matrix(used[place]) for place in measured)
        circuits.append(body.close(each.basis, measured, each.circuit.n_angles, confusion))
    for error in idle.values():
        if error is not None:
            model.add_all_qubit_quantum_error(error, error.id)
    return AerProgram(tuple(circuits), len(used), model, isa)


def ideal_program(circuit: Circuit) -> AerProgram:
    """A circuit as it is, without noise.

    Args:
        circuit: Without an initial state (see `Circuit.expanded`).
    """
    circuits = []
    for basis in circuit.bases:
        body = _Body(circuit.n_qubits)
        rotation = [IsaOperation(name, (wire,)) for name, wire in basis_rotation(basis)]
        for operation in (*ideal_operations(circuit), *rotation):
            for part in _uncontrolled(operation):
                body.append(part, part.qubits)
        circuits.append(body.close(basis, list(basis.wires), circuit.n_angles, ()))
    return AerProgram(tuple(circuits), circuit.n_qubits, None, ())


class _Body:
    """A circuit under construction."""

    def __init__(self, n_qubits: int) -> None:
        self.circuit = QuantumCircuit(n_qubits)
        self._parameters: dict[Affine, Parameter] = {}
        self._gates = get_standard_gate_name_mapping()

    def append(self, operation: IsaOperation, places: Iterable[int]) -> None:
        """Add a gate; equal angles share a parameter."""
        gate = self._gates[operation.name]
        if operation.params:
            gate = gate.base_class(*map(self._angle, operation.params))
        self.circuit.append(CircuitInstruction(gate, [self.circuit.qubits[place] for place in places], ()))

    def close(
        self, basis: MeasurementBasis, measured: list[int], n_angles: int, confusion: tuple[Matrix, ...]
    ) -> AerCircuit:
        """Add the two kinds of measurement of the wires of a basis, which are on the places `measured`."""
        if not self._parameters:  # Aer runs a circuit once for each value of its parameters, so it must have one
            self._parameters[Affine(0.0)] = Parameter("phase")
            self.circuit.global_phase = self._parameters[Affine(0.0)]
        least_significant_first = measured[::-1]
        exact = self.circuit.copy()
        exact.save_probabilities(least_significant_first)
        sampled = QuantumCircuit(self.circuit.num_qubits, len(measured), global_phase=self.circuit.global_phase)
        sampled.compose(self.circuit, inplace=True)
        sampled.measure(least_significant_first, range(len(measured)))
        factors = np.zeros((n_angles, len(self._parameters)))
        for column, angle in enumerate(self._parameters):
            for slot, factor in angle.terms:
                factors[slot, column] = factor
        constants = np.array([angle.constant for angle in self._parameters])
        return AerCircuit(basis, exact, sampled, tuple(self._parameters.values()), factors, constants, confusion)

    def _angle(self, angle: Affine) -> float | Parameter:
        if not angle.terms:
            return angle.constant
        return self._parameters.setdefault(angle, Parameter(f"angle_{len(self._parameters)}"))


def _uncontrolled(operation: IsaOperation) -> list[IsaOperation]:
    """A controlled rotation in rotations of half the angle and CX (Barenco et al., PRA 52, 3457 (1995), lemma 5.1)."""
    if operation.name not in CONTROLLED_ROTATIONS:
        return [operation]
    (angle,), (control, target) = operation.params, operation.qubits
    half, back = (
        Affine(sign * angle.constant, tuple((slot, sign * factor) for slot, factor in angle.terms))
        for sign in (0.5, -0.5)
    )
    axis, flip = "ry" if operation.name == "cry" else "rz", IsaOperation("cx", operation.qubits)
    parts = [IsaOperation(axis, (target,), (half,)), flip, IsaOperation(axis, (target,), (back,)), flip]
    if operation.name == "cp":
        parts.append(IsaOperation("p", (control,), (half,)))
    change = [IsaOperation("h", (target,))] if operation.name == "crx" else []
    return [*change, *parts, *change]
