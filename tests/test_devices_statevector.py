"""qhybrid.statevector against dense matrices: values, gradients, shapes, chunks."""

import numpy as np
import pytest
import torch
from dense_simulation import GATES, circuit_of, circuits, expectations, gradient, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.gates import FIXED, ROTATIONS, n_wires
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices import statevector
from qhybrid.devices.statevector import StatevectorDevice
from qhybrid.devices.statevector_schedule import DIAGONAL_WIRES
from qhybrid.errors import InputError

settings.register_profile("statevector", deadline=None, derandomize=True)
PROPERTY = settings(settings.get_profile("statevector"), max_examples=60)


def values_and_gradient(circuit: Circuit, rows: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    device = StatevectorDevice()
    angles = torch.tensor(rows, requires_grad=True)
    values = device.run(device.prepare(circuit), angles).values
    values.backward(torch.tensor(cotangent))
    assert angles.grad is not None
    return values.detach().numpy(), angles.grad.numpy()


def assert_like_dense(circuit: Circuit, seed: int, batch: int = 2) -> None:
    rows = random_rows(circuit, batch, seed)
    cotangent = np.random.default_rng(seed + 1).normal(size=(batch, circuit.n_observables))
    values, slopes = values_and_gradient(circuit, rows, cotangent)
    np.testing.assert_allclose(values, expectations(circuit, rows), atol=1e-12)
    passed = circuit.columns_that_depend_on(features=True, weights=True)  # constant angles are no parameters
    np.testing.assert_allclose(slopes[:, passed], gradient(circuit, rows, cotangent)[:, passed], atol=1e-9)


@PROPERTY
@given(circuit=circuits(), seed=st.integers(0, 2**31))
def test_random_circuits_equal_dense_matrices(circuit: Circuit, seed: int) -> None:
    assert_like_dense(circuit, seed)


@pytest.mark.parametrize("name", GATES)
def test_every_gate_acts_on_its_wires_in_their_order(name: str) -> None:
    spread = [("ry", (wire,)) for wire in range(3)] + [("rx", (wire,)) for wire in range(3)]
    wires = (2, 0) if n_wires(name) == 2 else (1,)
    words = ["X0 Y1 Z2", "Y0 Y1 Y2", "Z0", "X2", "Y1"]
    assert_like_dense(circuit_of([*spread, (name, wires), *spread], words, 3), seed=len(name))


@PROPERTY
@given(circuit=circuits(max_qubits=3, max_gates=6), seed=st.integers(0, 2**31))
def test_torch_gradcheck_agrees(circuit: Circuit, seed: int) -> None:
    device = StatevectorDevice()
    program = device.prepare(circuit)
    rows = torch.tensor(random_rows(circuit, 2, seed))
    moving = torch.tensor(np.flatnonzero(circuit.columns_that_depend_on(features=True, weights=True)))

    def values(parameters: torch.Tensor) -> torch.Tensor:
        return device.run(program, rows.index_copy(1, moving, parameters)).values

    assert torch.autograd.gradcheck(values, rows[:, moving].requires_grad_(), atol=1e-7)


@pytest.mark.parametrize("n", [9, 10])
def test_long_diagonals_split_and_stay_exact(n: int) -> None:
    assert n > DIAGONAL_WIRES
    layer = [("h", (wire,)) for wire in range(n)]
    layer += [("rzz", (wire, (wire + 3) % n)) for wire in range(n)] + [("cp", (n - 1, 0)), ("rz", (4,)), ("t", (2,))]
    circuit = circuit_of([*layer, ("rxx", (0, n - 1)), ("swap", (1, 7)), *layer[: n + 4]], ["Y0 X8", "Z3", "X1 X2"], n)
    rows = random_rows(circuit, 1, seed=n)
    cotangent = np.array([[1.0, -0.5, 0.25]])
    values, slopes = values_and_gradient(circuit, rows, cotangent)
    np.testing.assert_allclose(values, expectations(circuit, rows), atol=1e-12)
    some = np.linspace(0, rows.shape[1] - 1, 4, dtype=int)
    for column in some:
        moved = np.repeat(rows, 2, axis=0)
        moved[:, column] += [np.pi / 2, -np.pi / 2]  # all gates here follow the two-term shift rule
        plus, minus = expectations(circuit, moved)
        np.testing.assert_allclose(slopes[0, column], (plus - minus) / 2 @ cotangent[0], atol=1e-12)


@pytest.mark.parametrize("wires", [(2,), (3, 1), (2, 0, 3), (3, 2, 1, 0)])
def test_amplitudes_stand_on_their_wires_the_first_most_significant(wires: tuple[int, ...]) -> None:
    gates = [("ry", (0,)), ("cx", (0, 2)), ("rz", (3,)), ("crx", (3, 1)), ("h", (1,))]
    circuit = circuit_of(gates, ["Z0", "X1 Z2", "Y3 X1"], 4, amplitude_wires=wires)
    assert_like_dense(circuit, seed=len(wires), batch=3)


@pytest.mark.parametrize("name", ["angle_4q", "sda_qec_4q", "iqp_4q"])
def test_single_precision_in_single_precision_out(name: str) -> None:
    circuit = load_circuit(name)
    device = StatevectorDevice()
    program = device.prepare(circuit)
    rows = torch.tensor(random_rows(circuit, 5, seed=3))
    single = rows.float().requires_grad_()
    values = device.run(program, single).values
    values.sum().backward()
    double = rows.clone().requires_grad_()
    device.run(program, double).values.sum().backward()
    assert values.dtype == torch.float32
    assert single.grad is not None
    assert double.grad is not None
    np.testing.assert_allclose(values.detach(), expectations(circuit, rows.numpy()), atol=2e-6)
    np.testing.assert_allclose(single.grad, double.grad, atol=5e-6)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("shots", [None, 10])
@pytest.mark.parametrize("name", ["angle_4q", "sda_qec_4q"])
def test_batches_of_none_and_one(name: str, batch: int, shots: int | None) -> None:
    circuit = load_circuit(name)
    device = StatevectorDevice()
    angles = torch.tensor(random_rows(circuit, batch, seed=0), requires_grad=shots is None)
    estimates = device.run(device.prepare(circuit), angles, shots=shots, seed=1)
    assert estimates.values.shape == estimates.stderr.shape == (batch, 4)
    assert estimates.values.abs().le(1 + 1e-12).all()
    if shots is None:
        estimates.values.sum().backward()
        assert angles.grad is not None
        assert angles.grad.shape == angles.shape


@pytest.mark.parametrize("shots", [None, 200])
def test_large_batches_run_in_chunks_of_the_same_result(monkeypatch: pytest.MonkeyPatch, shots: int | None) -> None:
    circuit = load_circuit({"qubits": 3, "observables": ["Z0", "X1", "Y2"], "blocks": [
        {"encode": "angle"}, {"rotate": "ZY"}, {"entangle": "ring"}]})  # fmt: skip
    device = StatevectorDevice()
    program = device.prepare(circuit)
    rows = torch.tensor(random_rows(circuit, 7, seed=5))
    whole = device.run(program, rows, shots=shots, seed=9)
    sizes = []
    states = program.compiled[0].states
    monkeypatch.setattr(program.compiled[0], "states", lambda part: (sizes.append(len(part)), states(part))[1])
    monkeypatch.setattr(statevector, "MAX_BATCH_ELEMENTS", 2 * 2**3)
    pieces = device.run(program, rows, shots=shots, seed=9)
    assert sizes == [2, 2, 2, 1]
    torch.testing.assert_close(pieces.values, whole.values, atol=1e-14, rtol=0)
    torch.testing.assert_close(pieces.stderr, whole.stderr, atol=1e-14, rtol=0)


def test_the_number_of_torch_threads_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    circuit = load_circuit("angle_4q")
    values_and_gradient(circuit, random_rows(circuit, 2, seed=0), np.ones((2, 4)))
    assert torch.get_num_threads() == before


def test_a_circuit_of_real_gates_stays_real() -> None:
    device = StatevectorDevice()
    real = device.prepare(load_circuit("sda_qec")).compiled[0]
    assert real.states(torch.ones(1, 264, dtype=torch.float64))[0][-1].dtype == torch.float64
    assert not device.prepare(load_circuit("iqp_4q")).compiled[0].is_real


def test_too_many_qubits_are_refused_with_both_numbers() -> None:
    circuit = load_circuit("angle_4q")
    with pytest.raises(InputError, match=r"'angle_4q' has 4 qubits; mine takes at most 3"):
        StatevectorDevice("mine", max_qubits=3).prepare(circuit)


def test_the_tracker_counts_circuits_and_shots_for_every_basis() -> None:
    circuit = load_circuit({"qubits": 2, "observables": ["Z0", "X1", "X0"], "blocks": [{"encode": "angle"}]})
    device = StatevectorDevice()
    program = device.prepare(circuit)
    device.run(program, torch.zeros(5, 2, dtype=torch.float64))
    device.run(program, torch.zeros(5, 2, dtype=torch.float64), shots=10, seed=0)
    assert device.tracker.to_dict() == {
        "batches": 2, "circuits": 5 + 5 * 2, "shots": 100, "transpilations": 1, "jobs": 2}  # fmt: skip


def test_gates_of_the_language_are_unitary_and_rotations_hermitian() -> None:
    for matrix in FIXED.values():
        np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(len(matrix)), atol=1e-15)
    for rotation in ROTATIONS.values():
        np.testing.assert_array_equal(rotation.generator, rotation.generator.conj().T)
