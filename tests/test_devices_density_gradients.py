"""Gradients, precision and memory of qhybrid.density."""

from typing import Any

import numpy as np
import psutil
import pytest
import torch
from dense_simulation import circuits, gradient, random_rows
from hypothesis import given, settings
from test_devices_density import device, long, prepared, values

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.density import DTYPES, DensityDevice
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer


def gradients(opened: DensityDevice, circuit: Circuit, rows: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
    """Gradient of sum(cotangent * values) by backprop, (B, P)."""
    angles = torch.from_numpy(rows).requires_grad_()
    found = opened.run(prepared(opened, circuit), angles).values
    return torch.autograd.grad((found * torch.from_numpy(cotangent)).sum(), angles)[0].numpy()


@settings(max_examples=20, deadline=None)
@given(circuit=circuits(max_qubits=3, max_gates=8))
def test_ideal_gradients_equal_finite_differences(circuit: Circuit) -> None:
    circuit = circuit.expanded()
    rows = random_rows(circuit, 2, seed=1)
    cotangent = np.random.default_rng(0).normal(size=(2, circuit.n_observables))
    got = gradients(device(None), circuit, rows, cotangent)
    np.testing.assert_allclose(got, gradient(circuit, rows, cotangent), atol=1e-8)


@pytest.mark.parametrize("circuit", ["angle_4q", "iqp_4q", "long"])
def test_gradients_through_noise_equal_finite_differences(circuit: str) -> None:
    made = long() if circuit == "long" else load_circuit(circuit)
    rows = random_rows(made, 2, seed=6)
    cotangent = np.random.default_rng(1).normal(size=(2, made.n_observables))
    got, step = gradients(device(), made, rows, cotangent), 1e-3
    for column in range(made.n_angles):
        slope = np.zeros(2)
        for distance, factor in ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)):
            moved = rows.copy()
            moved[:, column] += distance * step
            slope += factor / step * (cotangent * values(device(), made, moved)).sum(axis=1)
        np.testing.assert_allclose(got[:, column], slope, atol=1e-9)


@pytest.mark.parametrize("circuit", ["angle_4q", "iqp_4q"])
def test_gradients_of_features_and_weights_equal_parameter_shift(circuit: str) -> None:
    found = []
    for method in ("backprop", "parameter-shift"):
        layer = QuantumLayer(circuit, device("ibm_fez"), diff_method=method, seed=2).double()
        features = torch.linspace(-1, 1, 2 * layer.n_features, dtype=torch.float64).reshape(2, -1).requires_grad_()
        loss = (layer(features) * torch.tensor([1.0, -2.0, 0.5, 3.0])).sum()
        found.append(torch.autograd.grad(loss, [features, layer.weights]))
    for ours, shifted in zip(*found, strict=True):
        assert ours.abs().max() > 1e-3
        torch.testing.assert_close(ours, shifted, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("make", [lambda: load_circuit("angle_4q"), long])
def test_single_precision_is_close_to_double(make: Any) -> None:
    circuit = make()
    rows = random_rows(circuit, 3, seed=2)
    cotangent = np.ones((3, circuit.n_observables))
    double, single = device(), device(dtype="complex64")
    np.testing.assert_allclose(values(single, circuit, rows), values(double, circuit, rows), atol=1e-5)
    np.testing.assert_allclose(
        gradients(single, circuit, rows, cotangent), gradients(double, circuit, rows, cotangent), atol=1e-5
    )


@pytest.mark.parametrize("make", [lambda: load_circuit("angle_4q"), lambda: load_circuit("iqp_4q"), long])
def test_batches_in_pieces_equal_whole_batches(make: Any) -> None:
    circuit = make()
    whole = device()
    rows = random_rows(circuit, 7, seed=2)
    cotangent = np.random.default_rng(1).normal(size=(7, circuit.n_observables))
    program = whole.prepare(circuit)
    whole.run(program, torch.from_numpy(rows[:1]))
    engines = program.compiled._engines["exact"]
    least = max(engine.least_elements_per_row(gradient=True) for engine in engines)
    most = max(engine.elements_per_row(gradient=True) for engine in engines)
    for elements in (least, 3 * most):  # a row in segments, three rows at a time
        tight = device(memory_gb=8 * (elements + 1) / 1e9)
        np.testing.assert_allclose(values(tight, circuit, rows), values(whole, circuit, rows), atol=1e-13)
        np.testing.assert_allclose(
            gradients(tight, circuit, rows, cotangent), gradients(whole, circuit, rows, cotangent), atol=1e-12
        )


def test_memory_that_does_not_suffice_is_said_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.zeros(2, long().n_angles, dtype=torch.float64)
    small = device(memory_gb=1e-6)
    with pytest.raises(InputError, match=r"one row of circuit 'random' needs .* GB; 1e-06 GB may be used"):
        small.run(small.prepare(long()), rows)
    with pytest.raises(InputError, match="with its gradient"):
        small.run(small.prepare(long()), rows.requires_grad_())
    opened = device(memory_gb=1e3)
    many = torch.zeros(200_000, long().n_angles, dtype=torch.float64, requires_grad=True)
    free = type("Free", (), {"available": 0})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(InputError, match="0 GB may be used"):
        opened.run(opened.prepare(long()), many)


@pytest.mark.parametrize("dtype", DTYPES)
def test_angles_in_single_precision_give_values_in_single_precision(dtype: str) -> None:
    circuit = load_circuit("angle_4q")
    opened = device(dtype=dtype)
    angles = torch.zeros(2, circuit.n_angles, requires_grad=True)
    found = opened.run(opened.prepare(circuit), angles).values
    found.sum().backward()
    assert found.dtype == torch.float32
    assert angles.grad is not None
    assert angles.grad.dtype == torch.float32


@pytest.mark.parametrize("name", ["angle_4q", "iqp_4q"])
def test_rows_of_a_jacobian_come_from_one_run(name: str) -> None:
    circuit = load_circuit(name)
    rows = random_rows(circuit, 2, seed=3)
    angles = torch.from_numpy(rows).requires_grad_()
    found = device().run(prepared(device(), circuit), angles).values
    for member in range(circuit.n_observables):
        only = np.eye(circuit.n_observables)[[member, member]]
        (got,) = torch.autograd.grad(found[:, member].sum(), angles, retain_graph=True)
        np.testing.assert_allclose(got.numpy(), gradients(device(), circuit, rows, only), atol=1e-13)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", ["angle_4q", "iqp_4q"])
def test_angles_on_a_gpu_run_there(name: str) -> None:
    circuit = load_circuit(name)
    program = prepared(device(), circuit)
    found = []
    for where in ("cpu", "cuda"):
        angles = torch.from_numpy(random_rows(circuit, 5, seed=3)).to(where).requires_grad_()
        exact = device().run(program, angles).values
        assert exact.device.type == where
        found.append((exact.detach().cpu(), torch.autograd.grad(exact.square().sum(), angles)[0].cpu()))
    torch.testing.assert_close(found[0], found[1], atol=1e-12, rtol=0)
