"""Device qiskit.aer against the full noise model of the machine, and what it refuses."""

import dataclasses
import functools
import warnings
from typing import Any

import numpy as np
import pennylane as qml
import psutil
import pytest
import qiskit_ibm_runtime.fake_provider as fakes
import torch
from dense_simulation import circuit_of, expectations, random_rows
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SuperOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel as AerNoiseModel

from qhybrid import catalog
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile import Affine, IsaCircuit, IsaOperation
from qhybrid.conformance import run_conformance
from qhybrid.devices.aer import AerDevice
from qhybrid.devices.aer_circuits import noisy_program
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError, QHybridError
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.reference import random_circuit

MACHINES = {"ibm_brisbane": "FakeBrisbane", "ibm_torino": "FakeTorino", "ibm_fez": "FakeFez"}
SMALL = [name for name in catalog.entries("circuits") if load_circuit(name).n_qubits <= 6]


@functools.cache
def full_noise(machine: str) -> AerNoiseModel:
    """Aer's own, uncut noise model of a machine, with its pass for waiting qubits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of qiskit-aer, on T2 > 2 T1
        return AerNoiseModel.from_backend(getattr(fakes, MACHINES[machine])())


def independent_values(
    machine: str, isa_circuits: tuple[IsaCircuit, ...], rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expectation values (B, M) by Aer's density matrix with the uncut noise model on the bound ISA circuits."""
    noise = full_noise(machine)
    words = isa_circuits[0].circuit.observables
    circuits, measured = [], {}
    for isa in isa_circuits:
        for circuit in isa.bound(rows):
            bits = {
                circuit.find_bit(each.clbits[0]).index: circuit.find_bit(each.qubits[0]).index
                for each in circuit.data
                if each.operation.name == "measure"
            }
            measured[isa] = [bits[bit] for bit in range(len(bits))]
            circuit.remove_final_measurements()
            circuit.save_probabilities(measured[isa])  # the first qubit is the least significant bit
            circuits.append(circuit)
    results = iter(AerSimulator(method="density_matrix", noise_model=noise).run(circuits).result().results)
    values = np.empty((len(rows), len(words)))
    for isa, qubits in measured.items():
        for row in range(len(rows)):
            table = np.asarray(next(results).data.probabilities).reshape((2,) * len(qubits)).transpose()
            for axis, qubit in enumerate(qubits):  # axis i is the i-th wire of the basis
                confusion = noise._local_readout_errors[(qubit,)].probabilities  # [true, read]
                table = np.moveaxis(np.tensordot(table, confusion, axes=(axis, 0)), -1, axis)
            for member in isa.basis.members:
                signed = table
                for wire, _ in words[member].factors:
                    axis = isa.basis.wires.index(wire)
                    signed = np.moveaxis(np.moveaxis(signed, axis, -1) * [1.0, -1.0], -1, axis)
                values[row, member] = signed.sum()
    return values


def rotated() -> Circuit:
    """Three qubits, observables in two bases."""
    gates = [("ry", (0,)), ("rx", (1,)), ("ry", (2,)), ("cx", (0, 1)), ("rzz", (1, 2)), ("crx", (2, 0)), ("ry", (2,))]
    return circuit_of(gates, ["X0 Y1", "Z2", "Y2 Z0", "Y2"], 3)


@functools.cache
def device(machine: str | None = "ibm_brisbane", **options: Any) -> AerDevice:
    noise = None if machine is None else load_noise_model(machine)
    return AerDevice("qiskit.aer", noise=noise, layout_seeds=2, **options)


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


@pytest.mark.parametrize(
    ("machine", "circuit"),
    [
        ("ibm_brisbane", "angle_4q"),
        ("ibm_torino", "rotated"),
        pytest.param("ibm_fez", "rotated", marks=pytest.mark.slow),  # Aer takes 15 s to build its noise model
    ],
)
def test_values_are_those_of_the_full_uncut_noise_model(machine: str, circuit: str) -> None:
    check_against_full_model(machine, rotated() if circuit == "rotated" else load_circuit(circuit), batch=2)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("circuit", SMALL)
def test_values_are_those_of_the_full_uncut_noise_model_on_every_small_circuit(machine: str, circuit: str) -> None:
    check_against_full_model(machine, load_circuit(circuit), batch=2)


@pytest.mark.parametrize("machine", ["ibm_brisbane", "ibm_torino"])
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


def test_gradients_by_parameter_shift_are_finite_differences() -> None:
    layer = QuantumLayer("reupload_4q", device(), diff_method="parameter-shift").double()
    features = torch.randn(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(features).square().sum(), features)
    step, found = 1e-4, torch.zeros_like(gradient)
    with torch.no_grad():
        for index in range(features.numel()):
            moved = torch.zeros(features.numel(), dtype=torch.float64)
            moved[index] = step
            up, down = (layer(features + sign * moved.view_as(features)).square().sum() for sign in (1, -1))
            found.view(-1)[index] = (up - down) / (2 * step)
    assert (gradient - found).abs().max() < 1e-4
    assert gradient.abs().max() > 0.1


def test_the_device_conforms_without_noise() -> None:
    circuits = [load_circuit("angle_4q"), load_circuit("sda_qec_4q"), random_circuit(np.random.default_rng(5))]
    assert [check for check in run_conformance(device(None), circuits) if check.passed is False] == []


@pytest.mark.slow
def test_the_device_conforms_without_noise_on_every_catalog_circuit() -> None:
    assert [check for check in run_conformance(AerDevice("qiskit.aer")) if check.passed is False] == []


@pytest.mark.parametrize("method", ["statevector", "density_matrix", "matrix_product_state"])
def test_methods_agree_without_noise(method: str) -> None:
    opened = device(None, method=method)
    circuit = rotated()
    rows = random_rows(circuit, 4, seed=2)
    program = opened.prepare(circuit)
    wanted = expectations(circuit, rows)
    assert np.abs(opened.run(program, torch.from_numpy(rows)).values.numpy() - wanted).max() < 1e-9
    own = device(None, method=method, sampling="aer")
    sampled = own.run(own.prepare(circuit), torch.from_numpy(rows), shots=2000, seed=1)
    assert (np.abs(sampled.values.numpy() - wanted) < 5 * sampled.stderr.numpy()).all()


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


@pytest.mark.parametrize("sampling", ["exact", "aer"])
def test_seeds_repeat_and_rows_and_bases_are_independent(sampling: str) -> None:
    opened = device(None, sampling=sampling)
    circuit = circuit_of([("ry", (0,)), ("cx", (0, 1)), ("h", (0,))], ["Z0 Z1", "X0 X1", "Y0 Y1"], 2)
    program = opened.prepare(circuit)
    rows = torch.full((400, 1), 0.7, dtype=torch.float64)
    first, again, other = (opened.run(program, rows, shots=200, seed=seed).values for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    fresh = [opened.run(program, rows, shots=200, seed=None).values for _ in range(2)]
    assert not torch.equal(*fresh)
    draws = torch.cat([first, other], dim=1)
    assert len(first.unique(dim=0)) > 100
    bound = 5 / np.sqrt(len(rows))
    spread = draws - draws.mean(0)
    correlation = (spread.T @ spread) / torch.outer(spread.norm(dim=0), spread.norm(dim=0))
    assert (correlation - torch.eye(6)).abs().max() < bound  # bases and seeds
    neighbours = (spread[1:] * spread[:-1]).mean(0) / spread.square().mean(0)
    assert neighbours.abs().max() < bound  # rows


def test_long_batches_run_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, circuit = device(None, sampling="aer"), rotated()
    program = opened.prepare(circuit)
    rows = torch.from_numpy(random_rows(circuit, 7, seed=2))
    whole = opened.run(program, rows).values
    monkeypatch.setattr("qhybrid.devices.aer.MAX_OPERATIONS", 100)
    assert torch.equal(opened.run(program, rows).values, whole)
    equal_rows = rows[:1].expand(40, -1)
    sampled = opened.run(program, equal_rows, shots=500, seed=3).values
    assert ((sampled.mean(0) - whole[0]).abs() < 5 / np.sqrt(500 * 40)).all()
    assert len(sampled.unique(dim=0)) > 35


def test_one_run_is_one_job_and_one_transpilation() -> None:
    opened = AerDevice(noise=load_noise_model("ibm_brisbane"), layout_seeds=1)
    program = opened.prepare(rotated())
    rows = torch.from_numpy(random_rows(program.circuit, 5, seed=2))
    opened.run(program, rows, shots=10, seed=1)
    bases = len(program.compiled.circuits)
    assert opened.tracker.to_dict() == {
        "batches": 1, "circuits": 5 * bases, "shots": 50 * bases, "transpilations": 1, "jobs": 1
    }  # fmt: skip


def test_empty_batches_and_circuits_without_angles() -> None:
    fixed = circuit_of([("x", (0,)), ("h", (1,)), ("rx", (1,))], ["Z0", "X1"], 2)
    for machine in (None, "ibm_brisbane"):
        for sampling in ("exact", "aer"):
            opened = device(machine, sampling=sampling)
            program = opened.prepare(fixed)
            for shots in (None, 100):
                empty = opened.run(program, torch.zeros(0, 1), shots=shots, seed=1)
                assert (empty.values.shape, empty.values.dtype) == ((0, 2), torch.float32)
                found = opened.run(program, torch.zeros(3, 1), shots=shots, seed=1)  # the rotation acts on its own axis
                assert (found.values - torch.tensor([-1.0, 1.0])).abs().max() < 0.2


def test_the_name_means_our_driver_and_takes_noise() -> None:
    opened = load_device("qiskit.aer", noise=load_noise_model("ibm_torino"), layout_seeds=1)
    assert isinstance(opened, AerDevice)
    assert opened.method == "density_matrix"
    assert opened.capabilities.noise
    assert load_device("qiskit.aer").method == "statevector"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "densty_matrix"}, "unknown method 'densty_matrix'; did you mean 'density_matrix'?"),
        ({"method": "unitary"}, "unknown method 'unitary'"),
        ({"sampling": "ear"}, "unknown sampling 'ear'; did you mean 'aer'?"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"device": "TPU"}, "unknown device 'TPU'"),
        ({"threads": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_errors_of_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        AerDevice("qiskit.aer", **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_method_cannot_do_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="method 'stabilizer' has no gate ry, which circuit 'angle_4q' needs"):
        device(None, method="stabilizer").prepare(load_circuit("angle_4q"))
    with pytest.raises(InputError, match="8 qubits; small takes at most 4"):
        AerDevice("small", max_qubits=4).prepare(load_circuit("sda_qec_8q").expanded())
    memory = type("Memory", (), {"available": 2000})()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(InputError, match=r"density matrix of 4 qubits takes 4\.1e-06 GB; 2e-06 GB are free"):
        device().prepare(load_circuit("angle_4q"))


def test_a_device_that_this_build_of_aer_lacks_is_an_error_of_one_line() -> None:
    if "GPU" in AerSimulator().available_devices():
        pytest.skip("Aer finds a GPU here")
    with pytest.raises(InputError, match=r"device 'GPU': Aer finds CPU only here \(GPUs need the package"):
        load_device("qiskit.aer.gpu")


def test_a_failure_inside_aer_is_one_line_that_names_the_circuit(capfd: pytest.CaptureFixture[str]) -> None:
    opened = AerDevice("mine")
    program = opened.prepare(load_circuit("angle_4q"))
    opened._options["method"] = "stabilizer"  # which prepare would have refused
    with pytest.raises(QHybridError, match=r"mine: Aer failed on circuit 'angle_4q': .*invalid instructions") as caught:
        opened.run(program, torch.zeros(3, program.circuit.n_angles))
    assert len(str(caught.value)) < 300
    assert capfd.readouterr().err == ""


def test_a_machine_whose_gates_aer_binds_wrongly_is_refused() -> None:
    opened = device()
    (isa,) = opened.isa_circuits(opened.prepare(load_circuit("angle_4q")))
    native = dataclasses.replace(isa)
    native.__dict__["operations"] = (IsaOperation("cp", (0, 1), (Affine(0.0, ((0, 1.0),)),)),)
    with pytest.raises(InputError, match=r"binds the angles of ibm_brisbane's gate 'cp' wrongly \(qiskit-aer#2403\)"):
        noisy_program((native,), load_noise_model("ibm_brisbane"))


def test_aer_still_binds_controlled_rotations_wrongly() -> None:
    """Why they are taken apart; when this fails, they need not be."""
    angle, circuit = Parameter("angle"), QuantumCircuit(2)
    circuit.h([0, 1])
    circuit.cp(angle, 0, 1)
    circuit.h([0, 1])
    circuit.save_probabilities()
    bound = AerSimulator().run([circuit], parameter_binds=[{angle: [1.1]}], shots=1).result().data()["probabilities"]
    right = AerSimulator().run(circuit.assign_parameters({angle: 1.1}), shots=1).result().data()["probabilities"]
    assert np.abs(np.subtract(bound, right)).max() > 0.1
