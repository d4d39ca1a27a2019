"""Device qiskit.aer: exact values and shots, batches, gradients, and what it refuses."""

from typing import Any

import numpy as np
import psutil
import pytest
import torch
from aer_devices import device, rotated
from dense_simulation import circuit_of, expectations, random_rows
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit_aer import AerSimulator

from qhybrid.circuits.spec import load_circuit
from qhybrid.conformance import run_conformance
from qhybrid.devices.aer import AerDevice
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError, QHybridError
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.reference import random_circuit


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
