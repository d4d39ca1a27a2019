"""A noise model in Qiskit's words: a transpiler target, and Aer's noise model cut to the qubits in use."""

import numpy as np
from qiskit.circuit import Delay, Measure, Parameter, Reset
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.providers import QubitProperties
from qiskit.transpiler import InstructionProperties, Target
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_aer.noise import QuantumError, ReadoutError, depolarizing_error, thermal_relaxation_error

from qhybrid.noise_models.model import GateNoise, NoiseModel


def target(model: NoiseModel) -> Target:
    """The machine as Qiskit's transpiler sees it.

    Args:
        model: Its scale and parts do not matter: a circuit is laid out the same way for all of them.
    """
    usable = [q for q in range(model.n_qubits) if q not in model.faulty_qubits and not np.isnan(model.readout[q, 0])]
    properties = [
        QubitProperties(t1=None if np.isinf(t1) else float(t1), t2=None if np.isinf(t2) else float(t2))
        for t1, t2 in zip(model.t1, model.t2, strict=True)
    ]
    result = Target(
        description=model.name, num_qubits=model.n_qubits, dt=model.dt, qubit_properties=properties, **model.timing
    )
    standard = get_standard_gate_name_mapping()
    for name in sorted({name for name, _ in model.gates}):
        entries = {
            qubits: InstructionProperties(duration=c.duration, error=c.error)
            for (each, qubits), c in model.gates.items()
            if each == name
        }
        result.add_instruction(standard[name], entries, name=name)
    readout = {
        (q,): InstructionProperties(duration=float(model.readout_duration[q]), error=float(model.readout[q].mean()))
        for q in usable
    }
    result.add_instruction(Measure(), readout)
    result.add_instruction(Delay(Parameter("t")), {(q,): None for q in usable})
    result.add_instruction(Reset(), {(q,): None for q in usable})
    return result


def aer_noise_model(model: NoiseModel, qubits: tuple[int, ...]) -> AerNoiseModel:
    """Aer's form of the gate noise and readout errors, cut to some qubits.

    Args:
        model: With its scale and parts.
        qubits: Physical qubits, in the order of their new numbers.
    """
    place = {qubit: index for index, qubit in enumerate(qubits)}
    names = sorted({name for name, on in model.gates if all(q in place for q in on)})
    result = AerNoiseModel(basis_gates=names)
    for (name, on), _ in sorted(model.gates.items()):
        noise = model.gate_noise(name, on) if all(q in place for q in on) else None
        if noise is not None:
            result.add_quantum_error(quantum_error(noise), name, [place[q] for q in on])
    for qubit, index in place.items():
        if any(model.readout_error(qubit)):
            result.add_readout_error(ReadoutError(model.readout_matrix(qubit).T), [index])
    return result


def quantum_error(noise: GateNoise) -> QuantumError:
    """Aer's form of the noise after a gate: depolarizing, then the relaxation of each qubit."""
    n_qubits = len(noise.relaxation)
    error = depolarizing_error(-np.expm1(-noise.depolarizing), n_qubits) if noise.depolarizing else None
    relaxation: QuantumError | None = None
    if any(any(each) for each in noise.relaxation):
        for a, b in noise.relaxation:
            times = [1 / rate if rate else np.inf for rate in (a, b)]
            single = thermal_relaxation_error(times[0], min(times[1], 2 * times[0]), 1.0)
            relaxation = single if relaxation is None else relaxation.expand(single)
    if error is None:
        assert relaxation is not None
        return relaxation
    return error if relaxation is None else error.compose(relaxation)
