"""Noise on PennyLane's devices: default.mixed against Aer, and what PennyLane's own conversion gets wrong."""

from functools import cache

import numpy as np
import pennylane as qml
import pytest
import torch
from dense_simulation import circuit_of, random_rows
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_aer.noise import depolarizing_error, thermal_relaxation_error

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.aer import AerDevice
from qhybrid.devices.pennylane_noise import GATES, MixedDevice, kraus_operators
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError
from qhybrid.noise_models.channels import depolarizing_channel, kraus_channel, relaxation_channel, tensor
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.spec import load_noise_model


@cache
def machine(name: str) -> NoiseModel:
    return load_noise_model(name)


def rotated() -> Circuit:
    gates = [("ry", (0,)), ("rx", (1,)), ("ry", (2,)), ("cx", (0, 1)), ("rzz", (1, 2)), ("crx", (2, 0)), ("ry", (2,))]
    return circuit_of(gates, ["X0 Y1", "Z2", "Y2 Z0", "Y2"], 3)


@pytest.mark.parametrize("name", ["ibm_brisbane", "ibm_torino", "fake:FakeAlmadenV2"])
@pytest.mark.parametrize("circuit", ["angle_4q", "rotated"])
def test_default_mixed_has_the_noise_that_aer_has(name: str, circuit: str) -> None:
    chosen = rotated() if circuit == "rotated" else load_circuit(circuit)
    mixed = load_device("default.mixed", noise=machine(name), layout_seeds=2)
    assert isinstance(mixed, MixedDevice)
    aer = AerDevice(noise=machine(name), layout_seeds=2)
    rows = torch.from_numpy(random_rows(chosen, 2, seed=3))
    program, theirs = mixed.prepare(chosen), aer.prepare(chosen)
    values, wanted = mixed.run(program, rows).values, aer.run(theirs, rows).values
    assert (values - wanted).abs().max() < 1e-6
    assert [isa.qubits for isa in mixed.isa_circuits(program)] == [isa.qubits for isa in aer.isa_circuits(theirs)]
    doubled = mixed.run(mixed.rescaled(program, 2.0), rows).values
    assert (doubled - aer.run(aer.rescaled(theirs, 2.0), rows).values).abs().max() < 1e-6
    sampled = mixed.run(program, rows, shots=4000, seed=1)
    assert ((sampled.values - wanted).abs() < 5 * sampled.stderr).all()


def test_kraus_operators_are_those_of_the_channel() -> None:
    relaxed = tensor([relaxation_channel(0.1, 0.3), relaxation_channel(0.4, 0.2)])
    channel = relaxed @ depolarizing_channel(0.2, 2)
    operators = kraus_operators(channel)
    assert np.abs(kraus_channel(operators) - channel).max() < 1e-12
    assert np.abs(sum(each.conj().T @ each for each in operators) - np.eye(4)).max() < 1e-12


def test_every_gate_of_the_machines_is_known() -> None:
    for name in ("ibm_brisbane", "ibm_torino", "ibm_fez", "ibm_kyoto", "fake:FakeAlmadenV2"):
        assert {gate for gate, _ in machine(name).gates} <= set(GATES)


def aer_probabilities(noise: AerNoiseModel) -> list[float]:
    """Of both qubits in |1> followed by a CZ, qubit 0 the least significant bit."""
    circuit = QuantumCircuit(2)
    circuit.x([0, 1])
    circuit.cz(0, 1)
    circuit.save_probabilities()
    simulator = AerSimulator(method="density_matrix", noise_model=noise)
    return [round(float(p), 3) for p in simulator.run(circuit).result().data()["probabilities"]]


def converted_probabilities(noise: AerNoiseModel) -> list[float]:
    """The same by PennyLane's conversion of the noise model."""
    tape = qml.tape.QuantumScript([qml.X(0), qml.X(1), qml.CZ([0, 1])], [qml.probs(wires=[1, 0])])
    (noisy,), finish = qml.add_noise(tape, qml.from_qiskit_noise(noise))
    results = qml.execute([noisy], qml.device("default.mixed", wires=2), diff_method=None)
    return [round(float(p), 3) for p in finish(results)]


def test_pennylanes_own_conversion_is_wrong_where_it_counts() -> None:
    """Why `qml.from_qiskit_noise` is not used."""
    relaxation, nothing = thermal_relaxation_error(1, 1, 1), depolarizing_error(1e-12, 1)
    first_relaxes = AerNoiseModel()
    first_relaxes.add_quantum_error(relaxation.expand(nothing), "cz", [0, 1])
    assert aer_probabilities(first_relaxes) == [0, 0, 0.632, 0.368]
    assert converted_probabilities(first_relaxes) == [0, 0.632, 0, 0.368]  # the other qubit
    other_direction = AerNoiseModel()
    other_direction.add_quantum_error(nothing.expand(relaxation), "cz", [1, 0])
    assert aer_probabilities(other_direction) == [0, 0, 0, 1]
    assert converted_probabilities(other_direction) != [0, 0, 0, 1]  # edges lose their direction
    misread = AerNoiseModel()
    misread.add_all_qubit_readout_error([[0.9, 0.1], [0.1, 0.9]])
    with pytest.warns(UserWarning, match="Readout errors are not supported currently and will be skipped"):
        converted_probabilities(misread)


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit", "reference.qubit"])
def test_other_devices_of_pennylane_refuse_noise_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} takes no noise model .*qhybrid\.density and qiskit\.aer") as caught:
        load_device(name, noise=machine("ibm_brisbane"))
    assert "\n" not in str(caught.value)


def test_a_gate_that_pennylane_does_not_have_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(GATES, "ecr")
    with pytest.raises(InputError, match=r"default\.mixed has no gate 'ecr' of ibm_brisbane"):
        MixedDevice(noise=machine("ibm_brisbane"), layout_seeds=1).prepare(rotated())


def test_empty_batches_and_counts() -> None:
    device = MixedDevice(noise=machine("ibm_brisbane"), layout_seeds=1)
    program = device.prepare(rotated())
    assert device.run(program, torch.zeros(0, 6)).values.shape == (0, 4)
    device.run(program, torch.zeros(3, 6), shots=10, seed=1)
    bases = len(program.compiled)
    counts = {"batches": 2, "circuits": 3 * bases, "shots": 30 * bases, "transpilations": 1, "jobs": 2}
    assert device.tracker.to_dict() == counts


def test_without_noise_it_is_the_plain_device() -> None:
    device = load_device("default.mixed")
    assert isinstance(device, MixedDevice)
    program = device.prepare(load_circuit("angle_4q"))
    assert device.isa_circuits(program) == ()
    with pytest.raises(InputError, match="has no noise model whose scale"):
        device.rescaled(program, 0.5)
