"""PennyLane devices: equal to QNodes written by hand, with seeds, trackers, and errors in words."""

import math
from collections.abc import Callable

import numpy as np
import pennylane as qml
import pytest
import torch
from dense_simulation import circuit_of, circuits, expectations, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import PauliWord
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.pennylane import PennyLaneDevice
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError, QHybridError
from qhybrid.layer import QuantumLayer

LOCAL = ["default.qubit", "lightning.qubit", "default.mixed"]
Z4 = [qml.Z(wire) for wire in range(4)]


def cnot_chain_layers(weights: torch.Tensor, wires: range) -> None:
    for layer in weights.reshape(2, len(wires)):
        for wire in wires:
            qml.RY(layer[wire], wires=wire)
        for wire in wires[:-1]:
            qml.CNOT(wires=[wire, wire + 1])


def angle_4q(x: torch.Tensor, weights: torch.Tensor) -> None:
    qml.AngleEmbedding(math.pi * torch.tanh(x), wires=range(4), rotation="Y")
    cnot_chain_layers(weights, range(4))


def sda_qec(x: torch.Tensor, weights: torch.Tensor) -> None:
    qml.AmplitudeEmbedding(x, wires=range(8), normalize=True)
    cnot_chain_layers(weights, range(4))


def strongly_entangling_4q(x: torch.Tensor, weights: torch.Tensor) -> None:
    qml.AngleEmbedding(math.pi * torch.tanh(x), wires=range(4), rotation="X")
    qml.StronglyEntanglingLayers(weights.reshape(2, 4, 3), wires=range(4))


def iqp_4q(x: torch.Tensor, weights: torch.Tensor) -> None:
    qml.IQPEmbedding(math.pi / 2 * torch.tanh(x), wires=range(4), n_repeats=2)
    cnot_chain_layers(weights, range(4))


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
@pytest.mark.parametrize("written", [angle_4q, sda_qec, strongly_entangling_4q, iqp_4q], ids=lambda each: each.__name__)
def test_shipped_circuits_are_the_qnodes_one_writes_by_hand(
    written: Callable[[torch.Tensor, torch.Tensor], None], device: str
) -> None:
    layer = QuantumLayer(written.__name__, device, seed=4).double()

    @qml.qnode(qml.device("default.qubit", wires=layer.circuit.n_qubits), interface="torch", diff_method="backprop")
    def qnode(x: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
        written(x, weights)
        return [qml.expval(observable) for observable in Z4]

    x = torch.randn(3, layer.n_features, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    values = layer(ours)
    expected = torch.stack(qnode(theirs, layer.weights), dim=1)
    torch.testing.assert_close(values, expected, atol=1e-12, rtol=0)
    cotangent = torch.linspace(-1, 1, values.numel(), dtype=torch.float64).reshape(values.shape)
    gradients = torch.autograd.grad(values, [ours, layer.weights], cotangent)
    expected_gradients = torch.autograd.grad(expected, [theirs, layer.weights], cotangent)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-12, rtol=0)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(circuit=circuits(), seed=st.integers(0, 2**31))
@pytest.mark.parametrize("name", LOCAL)
def test_random_circuits_equal_dense_matrices(name: str, circuit: Circuit, seed: int) -> None:
    device = PennyLaneDevice(name)
    rows = random_rows(circuit, 2, seed)
    values = device.run(device.prepare(circuit), torch.tensor(rows)).values
    np.testing.assert_allclose(values, expectations(circuit, rows), atol=1e-10)


@pytest.mark.parametrize("name", LOCAL)
def test_the_identity_has_expectation_one(name: str) -> None:
    circuit = circuit_of([("ry", (0,))], ["Z0"], 1)
    identity = Circuit(**{**vars(circuit), "observables": (PauliWord(()), *circuit.observables)})
    device = PennyLaneDevice(name)
    for shots in (None, 50):
        values = device.run(device.prepare(identity), torch.ones(1, 1, dtype=torch.float64), shots=shots, seed=0).values
        assert values[0, 0].item() == pytest.approx(1.0)


def test_default_mixed_takes_shots_of_its_own_with_a_seed() -> None:
    layers = [QuantumLayer("angle_4q", "default.mixed", shots=200, seed=seed) for seed in (3, 3, 4)]
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for layer in layers:
            layer.weights.copy_(layers[0].weights)
        first, again, other = (layer(x) for layer in layers)
        exact = layers[0].with_device("default.qubit")(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first - exact).abs().max() < 5 / math.sqrt(200)


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit"])
def test_a_seed_means_the_same_shots_on_every_statevector_device(name: str) -> None:
    circuit = load_circuit({"qubits": 3, "observables": ["Z0", "X1 Y2", "Y0"], "blocks": [
        {"encode": "angle"}, {"entangle": "ring"}, {"encode": "angle", "axis": "X"}]})  # fmt: skip
    rows = torch.tensor(random_rows(circuit, 4, seed=0))
    here, reference = load_device(name), load_device("qhybrid.statevector")
    ours = here.run(here.prepare(circuit), rows, shots=333, seed=5)
    theirs = reference.run(reference.prepare(circuit), rows, shots=333, seed=5)
    torch.testing.assert_close(ours.values, theirs.values)
    torch.testing.assert_close(ours.stderr, theirs.stderr)


@pytest.mark.parametrize("name", LOCAL)
def test_a_batch_is_one_call_and_counted_so(name: str) -> None:
    device = PennyLaneDevice(name)
    circuit = load_circuit("angle_4q")
    program = device.prepare(circuit)
    device.run(program, torch.zeros(7, 8, dtype=torch.float64))
    device.run(program, torch.zeros(7, 8, dtype=torch.float64), shots=10, seed=0)
    assert device.tracker.to_dict() == {
        "batches": 2, "circuits": 14, "shots": 70, "transpilations": 1, "jobs": 2}  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("circuit", ["angle_4q", "sda_qec_4q"])
def test_empty_batches_give_empty_values_and_gradients(name: str, circuit: str) -> None:
    layer = QuantumLayer(circuit, name)
    values = layer(torch.zeros(0, layer.n_features, requires_grad=True))
    values.sum().backward()
    assert values.shape == (0, 4)
    assert layer.weights.grad is not None
    assert torch.equal(layer.weights.grad, torch.zeros_like(layer.weights))


def test_unknown_devices_suggest_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^unknown device 'lightning\.qbit'; did you mean 'lightning\.qubit'"):
        load_device("lightning.qbit")


def test_a_plugin_that_does_not_start_says_why() -> None:
    with pytest.raises(InputError, match=r"'qiskit\.remote' does not start here: .*backend"):
        PennyLaneDevice("qiskit.remote")
    with pytest.raises(InputError, match=r"does not start here: .*nonsense"):
        PennyLaneDevice("lightning.qubit", nonsense=3)


@pytest.mark.filterwarnings("ignore:Operator (RY|CNOT) does not define a decomposition")
@pytest.mark.parametrize("name", ["default.gaussian", "default.qutrit"])
def test_devices_of_another_kind_fail_in_one_line_that_names_them(name: str) -> None:
    with pytest.raises(QHybridError) as caught:
        QuantumLayer("angle_4q", name)(torch.zeros(2, 4))
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_large_circuits_are_refused() -> None:
    device = PennyLaneDevice("default.qubit")
    circuit = circuit_of([("ry", (0,))], ["Z0"], device.capabilities.max_qubits + 1)
    with pytest.raises(InputError, match=r"has 25 qubits; default\.qubit takes at most 24"):
        device.prepare(circuit)


@pytest.mark.parametrize(
    ("name", "best"),
    [("default.qubit", "backprop"), ("lightning.qubit", "adjoint"), ("default.mixed", "parameter-shift")],
)
def test_the_best_gradient_method_is_the_devices_own(name: str, best: str) -> None:
    assert QuantumLayer("angle_4q", name).diff_method == best
