"""Finite shots: unbiased, with honest standard errors, seeded, independent."""

import numpy as np
import pytest
import torch

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.sampling import sample_expectations, shot_error
from qhybrid.devices.spec import load_device
from qhybrid.layer import QuantumLayer

BLOCKS = [{"encode": "angle"}, {"entangle": "chain"}, {"encode": "angle"}]


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    return load_circuit({"qubits": 2, "observables": ["Z0", "Z0 Z1", "X1"], "blocks": BLOCKS})


@pytest.fixture(scope="module")
def exact(circuit: Circuit) -> np.ndarray:
    return run(circuit, 1).values.numpy()[0]


def run(circuit: Circuit, batch: int, shots: int | None = None, seed: int | None = 0):  # type: ignore[no-untyped-def]
    device = load_device("qhybrid.statevector")
    features = torch.tensor([[0.7, 1.9]], dtype=torch.float64).expand(batch, -1)
    angles = circuit.parameters(features, torch.zeros(0, dtype=torch.float64))
    return device.run(device.prepare(circuit), angles, shots=shots, seed=seed)


@pytest.mark.parametrize("shots", [1, 10, 1000])
def test_means_over_many_draws_are_the_exact_values(circuit: Circuit, exact: np.ndarray, shots: int) -> None:
    draws = 4000
    values = run(circuit, draws, shots).values.numpy()
    error = np.sqrt((1 - exact**2) / shots / draws)
    assert np.all(np.abs(values.mean(axis=0) - exact) < 5 * error)


@pytest.mark.parametrize("shots", [300, 2000])
def test_standard_errors_are_calibrated(circuit: Circuit, exact: np.ndarray, shots: int) -> None:
    draws = 4000
    estimates = run(circuit, draws, shots)
    squares = ((estimates.values.numpy() - exact) / estimates.stderr.numpy()) ** 2
    # A squared standard score has mean 1 and variance 2; an error of 5 % in stderr would move the mean by .1.
    assert np.all(np.abs(squares.mean(axis=0) - 1) < 5 * np.sqrt(2 / draws) + 3 / shots)
    assert np.all((squares > 9).mean(axis=0) < 0.01)


@pytest.mark.parametrize("shots", [1, 2, 100])
@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_shots_that_all_agree_still_leave_an_error(shots: int, value: float) -> None:
    error = shot_error(np.array([value]), shots)
    assert 0 < error[0] < 1
    assert error[0] == pytest.approx(np.sqrt((1 - (shots / (shots + 2)) ** 2) / shots))


def test_certain_outcomes_are_sampled_exactly_with_an_error_above_zero(circuit: Circuit) -> None:
    estimates = sample_expectations([np.eye(4)[[0, 3]], np.eye(4)[[0, 3]]], circuit, 20, seed=0)
    assert estimates.values.tolist() == [[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]]
    assert estimates.stderr.gt(0).all()


def test_equal_seeds_are_equal_and_others_differ(circuit: Circuit) -> None:
    first, again, other = (run(circuit, 5, 100, seed).values for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(run(circuit, 5, 100, None).values, run(circuit, 5, 100, None).values)


def test_rows_of_a_batch_are_independent(circuit: Circuit, exact: np.ndarray) -> None:
    batch = 4000
    deviations = run(circuit, 2 * batch, 200).values.numpy() - exact
    for m in range(3):
        correlation = np.corrcoef(deviations[0::2, m], deviations[1::2, m])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(batch)


def test_words_of_one_basis_share_shots_and_others_do_not(circuit: Circuit, exact: np.ndarray) -> None:
    batch = 4000
    deviations = run(circuit, batch, 200).values.numpy() - exact
    product = load_circuit({"qubits": 2, "observables": ["Z1"], "blocks": BLOCKS})  # Z0 times Z0 Z1
    covariance = run(product, 1).values.item() - exact[0] * exact[1]
    expected = covariance / np.sqrt((1 - exact[0] ** 2) * (1 - exact[1] ** 2))
    assert abs(expected) > 0.1
    assert np.corrcoef(deviations[:, 0], deviations[:, 1])[0, 1] == pytest.approx(expected, abs=5 / np.sqrt(batch))
    assert abs(np.corrcoef(deviations[:, 0], deviations[:, 2])[0, 1]) < 5 / np.sqrt(batch)


def test_rounding_below_zero_does_not_stop_the_draw(circuit: Circuit) -> None:
    table = np.array([[1 + 3e-16, -1e-16, -2e-16, 0.0]])
    assert sample_expectations([table, table], circuit, 10, seed=0).values.tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize("device", ["qhybrid.statevector", "default.qubit", "lightning.qubit"])
def test_estimates_of_a_layer_carry_their_errors(device: str) -> None:
    layer = QuantumLayer("sda_qec_4q", device, shots=400, seed=1)
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    estimates = layer.estimate(x)
    exact = layer.with_device(device).estimate(x)
    assert estimates.values.shape == estimates.stderr.shape == (2, 3, 4)
    assert torch.all((estimates.values - exact.values).abs() < 5 * estimates.stderr)
    assert torch.equal(exact.stderr, torch.zeros_like(exact.stderr))


def test_tables_of_the_measured_wires_give_what_full_tables_give() -> None:
    circuit = load_circuit({"qubits": 3, "observables": ["Z0 Z2", "Z2", "X2"], "blocks": BLOCKS})
    full = np.random.default_rng(0).dirichlet(np.ones(8), size=5).reshape(5, 2, 2, 2)
    whole = [full.reshape(5, 8)] * 2
    measured = [full.sum(axis=2).reshape(5, 4), full.sum(axis=(1, 2))]
    shots = 10**6
    wide, narrow = (sample_expectations(tables, circuit, shots, seed=1).values for tables in (whole, measured))
    assert torch.all((wide - narrow).abs() < 6 * np.sqrt(2 / shots))
