"""Device qiskit.aer under noise: against the full noise model of the machine, gate by gate and part by part."""

import dataclasses
import warnings

import numpy as np
import pennylane as qml
import pytest
import torch
from aer_devices import device, rotated
from dense_simulation import expectations, random_rows
from full_noise import MACHINES, SMALL, full_noise, independent_values
from qiskit.quantum_info import SuperOp

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile import Affine, IsaOperation
from qhybrid.devices.aer import AerDevice
from qhybrid.devices.aer_circuits import noisy_program
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.spec import load_noise_model


def check_against_full_model(machine: str, circuit: Circuit, batch: int) -> None:
    circuit = circuit.expanded()
    opened = device(machine)
    program = opened.prepare(circuit)
    rows = random_rows(circuit, batch, seed=3)
    exact = opened.run(program, torch.from_numpy(rows))
    wanted = independent_values(machine, opened.isa_circuits(program), rows)
    assert np.abs(exact.values.numpy() - wanted).max() < 1e-6
    assert not exact.stderr.any()
    assert np.abs(wanted - expectations(circuit, rows)).max() > 0.005  # and it is noisy
    for sampling in ("exact", "aer"):
        sampler = device(machine, sampling=sampling)
        sampled = sampler.run(sampler.prepare(circuit), torch.from_numpy(rows), shots=4000, seed=8)
        assert (np.abs(sampled.values.numpy() - wanted) < 5 * sampled.stderr.numpy()).all()


@pytest.mark.slow  # Aer takes 10 to 15 s to build its noise model; test_devices_density.py does it, and equals Aer
@pytest.mark.parametrize("machine", MACHINES)
def test_values_are_those_of_the_full_uncut_noise_model(machine: str) -> None:
    check_against_full_model(machine, rotated(), batch=2)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("circuit", SMALL)
def test_values_are_those_of_the_full_uncut_noise_model_on_every_small_circuit(machine: str, circuit: str) -> None:
    check_against_full_model(machine, load_circuit(circuit), batch=2)


@pytest.mark.parametrize("machine", ["ibm_brisbane", pytest.param("ibm_torino", marks=pytest.mark.slow)])
def test_every_two_qubit_gate_has_its_calibrated_error(machine: str) -> None:
    opened = device(machine)
    program = opened.prepare(load_circuit("angle_4q"))
    (isa,) = opened.isa_circuits(program)
    simulated = program.compiled.noise_model._local_quantum_errors
    full = full_noise(machine)._local_quantum_errors
    counted = 0
    for operation in isa.operations:
        if len(operation.qubits) == 2:
            physical = tuple(isa.qubits[place] for place in operation.qubits)
            error, calibrated = simulated[operation.name][operation.qubits], full[operation.name][physical]
            assert np.abs(SuperOp(error).data - SuperOp(calibrated).data).max() < 1e-9
            counted += 1
    assert counted == isa.report.gates2q > 0
    assert counted == program.compiled.circuits[0].exact.num_nonlocal_gates()
    rows = torch.from_numpy(random_rows(program.circuit, 2, seed=1))
    parts = load_noise_model(machine).with_parts(["gates1q", "thermal", "readout", "idle"])
    without = AerDevice(noise=parts, layout_seeds=2)
    difference = opened.run(program, rows).values - without.run(without.prepare(program.circuit), rows).values
    assert difference.abs().max() > 0.002


def test_pennylane_qiskit_drops_the_noise_of_two_qubit_gates() -> None:
    """Why `qml.device("qiskit.aer", noise_model=...)` is not used: without a coupling map it runs ECR gates in
    directions that the machine, and so its noise model, does not have."""
    noise = full_noise("ibm_brisbane")
    theirs = qml.device("qiskit.aer", wires=4, noise_model=noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tape = qml.tape.QuantumScript(
            [qml.RY(0.3, 0), *[qml.CNOT([i, i + 1]) for i in range(3)], qml.RY(0.2, 1)], [qml.expval(qml.Z(0))]
        )
        theirs.reset()
        theirs.apply(tape.operations)
        compiled = theirs.compile()
    on = [
        tuple(compiled.find_bit(qubit).index for qubit in each.qubits)
        for each in compiled.data
        if each.operation.name == "ecr"
    ]
    assert on
    assert not [qubits for qubits in on if qubits in noise._local_quantum_errors["ecr"]]


def test_parts_and_scales() -> None:
    circuit = load_circuit("angle_4q")
    rows = torch.from_numpy(random_rows(circuit, 2, seed=5))
    ideal = torch.from_numpy(expectations(circuit, rows.numpy()))
    opened = device()
    program = opened.prepare(circuit)
    noisy = opened.run(program, rows).values
    off = opened.rescaled(program, 0.0)
    assert (opened.run(off, rows).values - ideal).abs().max() < 1e-9
    assert opened.isa_circuits(off) == opened.isa_circuits(program)
    assert torch.equal(opened.run(opened.rescaled(program, 1.0), rows).values, noisy)
    errors = [(opened.run(opened.rescaled(program, f), rows).values - ideal).abs().sum() for f in (0.5, 1.0, 2.0)]
    assert errors[0] < errors[1] < errors[2]
    model = load_noise_model("ibm_brisbane")
    for part in ("gates1q", "gates2q", "thermal", "readout", "idle"):
        only = AerDevice(noise=model.with_parts([part]), layout_seeds=2)
        values = only.run(only.prepare(circuit), rows).values
        assert 1e-6 < (values - ideal).abs().max() < (noisy - ideal).abs().max()
    with pytest.raises(InputError, match="has no noise model whose scale"):
        device(None).rescaled(device(None).prepare(circuit), 0.5)


def test_trajectories_sample_and_have_no_exact_values() -> None:
    opened = device(method="statevector")
    circuit = load_circuit("angle_4q")
    rows = torch.from_numpy(random_rows(circuit, 2, seed=5))
    program = opened.prepare(circuit)
    sampled = opened.run(program, rows, shots=1000, seed=2)
    exact = device().run(device().prepare(circuit), rows)
    assert ((sampled.values - exact.values).abs() < 5 * sampled.stderr).all()
    with pytest.raises(InputError, match="'statevector' with noise follows random trajectories"):
        opened.run(program, rows)
    with pytest.raises(InputError, match="no exact expectation values"):
        QuantumLayer(circuit, opened)


def test_a_machine_whose_gates_aer_binds_wrongly_is_refused() -> None:
    opened = device()
    (isa,) = opened.isa_circuits(opened.prepare(load_circuit("angle_4q")))
    native = dataclasses.replace(isa)
    native.__dict__["operations"] = (IsaOperation("cp", (0, 1), (Affine(0.0, ((0, 1.0),)),)),)
    with pytest.raises(InputError, match=r"binds the angles of ibm_brisbane's gate 'cp' wrongly \(qiskit-aer#2403\)"):
        noisy_program((native,), load_noise_model("ibm_brisbane"))
