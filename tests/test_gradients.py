"""Every gradient method against finite differences of dense matrices; what a device cannot do is said."""

import numpy as np
import pytest
import torch
from dense_simulation import circuit_of, circuits, expectations, gradient, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.gates import ROTATIONS, n_wires, shift_rule
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.base import Device
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError
from qhybrid.gradients import DiffMethod, choose_diff_method, expectation_values
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.spec import load_noise_model

PROPERTY = settings(deadline=None, derandomize=True, max_examples=30)
SPREAD = [(name, (wire,)) for name in ("ry", "rx") for wire in range(3)]


def value_and_gradient(  # type: ignore[no-untyped-def]
    device: Device, circuit: Circuit, rows: np.ndarray, cotangent: np.ndarray, diff_method: DiffMethod, **settings
) -> tuple[np.ndarray, np.ndarray]:
    angles = torch.tensor(rows, requires_grad=True)
    settings.setdefault("columns", np.ones(rows.shape[1], dtype=bool))
    values = expectation_values(device, device.prepare(circuit), angles, diff_method=diff_method, **settings)
    values.backward(torch.tensor(cotangent))
    assert angles.grad is not None
    return values.detach().numpy(), angles.grad.numpy()


def assert_like_dense(device: Device, circuit: Circuit, diff_method: DiffMethod, seed: int, batch: int = 2) -> None:
    rows = random_rows(circuit, batch, seed)
    cotangent = np.random.default_rng(seed).normal(size=(batch, circuit.n_observables))
    values, slopes = value_and_gradient(device, circuit, rows, cotangent, diff_method)
    np.testing.assert_allclose(values, expectations(circuit, rows), atol=1e-10)
    passed = circuit.columns_that_depend_on(features=True, weights=True)  # constant angles are no parameters
    np.testing.assert_allclose(slopes[:, passed], gradient(circuit, rows, cotangent)[:, passed], atol=1e-9)


@PROPERTY
@given(circuit=circuits(), seed=st.integers(0, 2**31))
@pytest.mark.parametrize(
    ("name", "diff_method"), [("qhybrid.statevector", "parameter-shift"), ("lightning.qubit", "adjoint")]
)
def test_random_circuits_have_the_gradients_of_dense_matrices(
    name: str, diff_method: DiffMethod, circuit: Circuit, seed: int
) -> None:
    assert_like_dense(load_device(name), circuit, diff_method, seed)


@pytest.mark.parametrize("name", ROTATIONS)
@pytest.mark.parametrize("diff_method", ["parameter-shift", "adjoint"])
def test_every_rotation_is_differentiated(name: str, diff_method: DiffMethod) -> None:
    wires = (2, 0) if n_wires(name) == 2 else (1,)
    circuit = circuit_of([*SPREAD, (name, wires), *SPREAD], ["X0 Y1 Z2", "Y0", "Z2"], 3)
    device = load_device("lightning.qubit" if diff_method == "adjoint" else "qhybrid.statevector")
    assert_like_dense(device, circuit, diff_method, seed=1)


@pytest.mark.parametrize("name", ROTATIONS)
def test_every_rotation_is_shifted_right_where_a_machine_runs_it_in_parts(name: str) -> None:
    wires = (2, 0) if n_wires(name) == 2 else (1,)
    circuit = circuit_of([*SPREAD, (name, wires), *SPREAD], ["X0 Y1 Z2", "Y0", "Z2"], 3)
    device = load_device("qhybrid.density", noise=load_noise_model("ibm_brisbane"), layout_seeds=2)
    rows, cotangent = random_rows(circuit, 2, 0), np.ones((2, 3))
    exact = value_and_gradient(device, circuit, rows, cotangent, "backprop")
    shifted = value_and_gradient(device, circuit, rows, cotangent, "parameter-shift")
    for ours, theirs in zip(shifted, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_controlled_rotations_need_four_terms() -> None:
    assert [len(shift_rule(name)) for name in ("rx", "p", "rzz", "cp", "crx", "cry", "crz")] == [2, 2, 2, 2, 4, 4, 4]
    assert [len(shift_rule(name, decomposed=True)) for name in ("rx", "rzz", "cp", "crx", "crz")] == [2, 2, 6, 4, 4]
    circuit = circuit_of([*SPREAD, ("cry", (0, 1))], ["X1"], 3)
    device = load_device("qhybrid.statevector")
    value_and_gradient(device, circuit, random_rows(circuit, 3, 0), np.ones((3, 1)), "parameter-shift")
    assert device.tracker.circuits == 3 * (1 + 6 * 2 + 4)
    assert device.tracker.jobs == 1


@pytest.mark.parametrize("hot", [0, 3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_amplitudes_that_are_basis_states_are_differentiated_too(hot: int, sign: float) -> None:
    circuit = circuit_of([("ry", (0,)), ("cx", (0, 1)), ("rx", (1,))], ["Z0", "X1 X0"], 2, amplitude_wires=(1, 0))
    rows = np.hstack([sign * np.eye(4)[[hot]], [[0.4, -1.1]]])
    cotangent = np.array([[1.0, -2.0]])
    expected = gradient(circuit, rows, cotangent)
    for name, method in (("qhybrid.statevector", "parameter-shift"), ("lightning.qubit", "adjoint")):
        _, slopes = value_and_gradient(load_device(name), circuit, rows, cotangent, method)  # type: ignore[arg-type]
        np.testing.assert_allclose(slopes, expected, atol=1e-9)


@pytest.mark.parametrize("diff_method", ["parameter-shift", "spsa", "adjoint"])
def test_only_the_columns_asked_for_are_differentiated(diff_method: DiffMethod) -> None:
    circuit = circuit_of([*SPREAD, ("crz", (0, 1))], ["Z0", "X1"], 3, amplitude_wires=(0, 2))
    device = load_device("lightning.qubit" if diff_method == "adjoint" else "qhybrid.statevector")
    rows, cotangent = random_rows(circuit, 2, 0), np.ones((2, 2))
    columns = np.zeros(rows.shape[1], dtype=bool)
    columns[[1, 5, 10]] = True  # an amplitude, an ry, the crz
    _, slopes = value_and_gradient(device, circuit, rows, cotangent, diff_method, columns=columns, seed=0)
    assert np.all(slopes[:, ~columns] == 0)
    assert np.all(slopes[:, columns] != 0)
    if diff_method == "parameter-shift":
        np.testing.assert_allclose(slopes[:, columns], gradient(circuit, rows, cotangent)[:, columns], atol=1e-9)
        assert device.tracker.circuits == 2 * (1 + 2 + 2 + 4)


def tangent(circuit: Circuit, rows: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """The part of the amplitudes' gradient along the unit sphere, where they live."""
    state, slopes = rows[:, : circuit.n_amplitudes], slopes.copy()
    along = (slopes[:, : circuit.n_amplitudes] * state).sum(axis=1, keepdims=True)
    slopes[:, : circuit.n_amplitudes] -= along * state
    return slopes


@pytest.mark.parametrize("amplitude_wires", [(), (0, 1)])
def test_the_mean_of_spsa_converges_to_the_gradient(amplitude_wires: tuple[int, ...]) -> None:
    circuit = circuit_of([*SPREAD, ("cx", (0, 1)), ("crx", (1, 2))], ["Z1", "X2"], 3, amplitude_wires=amplitude_wires)
    row, cotangent = random_rows(circuit, 1, 3), np.array([[1.0, 0.5]])
    exact = tangent(circuit, row, gradient(circuit, row, cotangent))
    copies, directions = 400, 10
    _, slopes = value_and_gradient(
        load_device("qhybrid.statevector"), circuit, row.repeat(copies, 0), cotangent.repeat(copies, 0), "spsa",
        seed=5, spsa_step=1e-3, spsa_directions=directions,
    )  # fmt: skip
    slopes = tangent(circuit, row, slopes)
    error = slopes.std(axis=0) / np.sqrt(copies)
    assert np.all(np.abs(slopes.mean(axis=0) - exact[0]) < 5 * error + 1e-4)
    assert error.max() < 0.05


def test_the_seed_of_spsa_is_honoured_and_rows_have_directions_of_their_own() -> None:
    circuit, device = circuit_of(SPREAD, ["Z0", "Z1"], 3), load_device("qhybrid.statevector")
    rows, cotangent = random_rows(circuit, 1, 0).repeat(4, 0), np.ones((4, 2))
    first, again, other, free = (
        value_and_gradient(device, circuit, rows, cotangent, "spsa", seed=seed)[1] for seed in (1, 1, 2, None)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first, free)
    assert len(np.unique(first.round(12), axis=0)) > 1
    assert device.tracker.jobs == 4
    assert device.tracker.circuits == 4 * 4 * 3


@pytest.mark.parametrize("name", ["qhybrid.statevector", "lightning.qubit", "default.mixed"])
def test_parameter_shift_from_shots_is_unbiased_within_its_error(name: str) -> None:
    circuit = circuit_of([("ry", (0,)), ("rx", (1,)), ("cry", (0, 1))], ["Z0", "X1"], 2)
    copies, shots = (25, 100) if name == "default.mixed" else (300, 100)
    row, cotangent = random_rows(circuit, 1, 2), np.array([[1.0, -1.0]])
    _, slopes = value_and_gradient(
        load_device(name), circuit, row.repeat(copies, 0), cotangent.repeat(copies, 0), "parameter-shift",
        shots=shots, seed=11,
    )  # fmt: skip
    error = slopes.std(axis=0, ddof=1) / np.sqrt(copies)
    assert np.all(error > 0)
    assert np.all(np.abs(slopes.mean(axis=0) - gradient(circuit, row, cotangent)[0]) < 5 * error)


@pytest.mark.parametrize("circuit", ["sda_qec_4q", "iqp_4q", "strongly_entangling_4q"])
@pytest.mark.parametrize("diff_method", ["backprop", "parameter-shift", "adjoint"])
def test_features_and_weights_of_shipped_circuits(circuit: str, diff_method: str) -> None:
    device = "lightning.qubit" if diff_method == "adjoint" else "qhybrid.statevector"
    layer = QuantumLayer(circuit, device, diff_method=diff_method, seed=2).double()
    x = torch.randn(2, layer.n_features, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cotangent = np.random.default_rng(0).normal(size=(2, 4))

    def loss(features: torch.Tensor, weights: torch.Tensor) -> float:
        rows = layer.circuit.parameters(features, weights).numpy()
        return float((cotangent * expectations(layer.circuit, rows)).sum())

    x.requires_grad_()
    gradients = torch.autograd.grad(layer(x), [x, layer.weights], torch.tensor(cotangent))
    point = [x.detach(), layer.weights.detach()]
    for which, entry in ((0, 1), (0, layer.n_features), (1, 0), (1, layer.circuit.n_weights - 1)):
        slope = 0.0
        for distance, factor in ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)):
            moved = [each.clone() for each in point]
            moved[which].view(-1)[entry] += distance * 1e-3
            slope += factor / 1e-3 * loss(*moved)
        assert gradients[which].view(-1)[entry].item() == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "shots", "best"),
    [
        ("qhybrid.statevector", None, "backprop"),
        ("qhybrid.statevector", 100, "parameter-shift"),
        ("default.qubit", None, "backprop"),
        ("lightning.qubit", None, "adjoint"),
        ("lightning.qubit", 100, "parameter-shift"),
        ("default.mixed", None, "parameter-shift"),
    ],
)
def test_best_is_what_the_device_does_best(name: str, shots: int | None, best: str) -> None:
    assert choose_diff_method(load_device(name), "best", shots) == best


REFUSALS = [
    ("lightning.qubit", "backprop", None, "lightning.qubit has no backprop: use adjoint or parameter-shift or spsa"),
    ("lightning.qubit", "backprop", None, "(qhybrid.statevector or default.qubit have backprop)"),
    ("qhybrid.statevector", "adjoint", None, "has no adjoint: use backprop or parameter-shift or spsa (lightning"),
    ("default.mixed", "backprop", None, "default.mixed has no backprop: use parameter-shift or spsa"),
    ("lightning.qubit", "adjoint", 100, "adjoint needs exact expectation values; with shots = 100 lightning.qubit has "
     "parameter-shift or spsa"),
    ("default.qubit", "backprop", 10, "backprop needs exact expectation values; with shots = 10 default.qubit has"),
    ("qhybrid.statevector", "parameter_shift", None, "did you mean 'parameter-shift'? (allowed: adjoint, backprop"),
    ("qhybrid.statevector", "finite-diff", None, "unknown diff_method 'finite-diff'; "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "diff_method", "shots", "message"), REFUSALS)
def test_refusals_name_what_is_possible(name: str, diff_method: str, shots: int | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        QuantumLayer("angle_4q", name, diff_method=diff_method, shots=shots)
    assert message in str(caught.value)


def test_without_a_need_for_gradients_nothing_is_shifted() -> None:
    device, circuit = load_device("qhybrid.statevector"), load_circuit("angle_4q")
    angles = torch.zeros(5, 8, dtype=torch.float64)
    columns = np.ones(8, dtype=bool)
    expectation_values(device, device.prepare(circuit), angles, diff_method="parameter-shift", columns=columns)
    with torch.no_grad():
        angles.requires_grad_()
        expectation_values(device, device.prepare(circuit), angles, diff_method="parameter-shift", columns=columns)
    assert device.tracker.circuits == 10
