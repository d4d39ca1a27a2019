"""Circuits without entanglement, and circuits as quadratic forms, against the dense simulation."""

import numpy as np
import pytest
import torch
from dense_simulation import circuits, expectations, final_state
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid import catalog
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.controls import ON_TARGET, without_entanglement
from qhybrid.circuits.encoders import AmplitudeEncoder
from qhybrid.circuits.gates import FIXED, ROTATIONS, n_wires
from qhybrid.circuits.quadratic_form import quadratic_forms, seen_amplitude_wires
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError

AMPLITUDE = [name for name in catalog.entries("circuits") if load_circuit(name).amplitudes]


def _rows(circuit: Circuit, batch: int = 3, seed: int = 0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, circuit.n_features, generator=generator, dtype=torch.float64)
    weights = 6 * torch.rand(circuit.n_weights, generator=generator, dtype=torch.float64)
    return circuit.parameters(features, weights).numpy()


@pytest.mark.parametrize("name", catalog.entries("circuits"))
def test_the_control_keeps_features_weights_and_observables_and_has_no_gate_between_qubits(name: str) -> None:
    circuit = load_circuit(name)
    control = without_entanglement(circuit)
    assert control.n_two_qubit_gates == 0
    assert control.name == f"{name}-separable"
    for what in ("n_qubits", "n_features", "n_weights", "observables", "encoders", "amplitudes", "amplitude_wires"):
        assert getattr(control, what) == getattr(circuit, what), what
    assert (control.weight_map != 0).any(axis=1).all()  # every weight still turns something
    np.testing.assert_allclose(control.weight_map.sum(), circuit.weight_map.sum())
    np.testing.assert_allclose(control.encoding_map.sum(axis=1), circuit.encoding_map.sum(axis=1))


def test_on_four_qubits_each_output_is_a_cosine_of_its_own_feature() -> None:
    control = without_entanglement(load_circuit("angle_4q"))
    features, weights = torch.randn(5, 4, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    values = expectations(control, control.parameters(features, weights).numpy())
    expected = torch.cos(np.pi * torch.tanh(features) + weights[:4] + weights[4:])
    np.testing.assert_allclose(values, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["reupload_4q", "iqp_4q", "strongly_entangling_4q"])
def test_the_state_of_the_control_is_a_product(name: str) -> None:
    control = without_entanglement(load_circuit(name))
    for row in _rows(control):
        state = final_state(control, row)
        for wire in range(control.n_qubits):
            matrix = np.moveaxis(state.reshape((2,) * control.n_qubits), wire, 0).reshape(2, -1)
            assert np.linalg.svd(matrix, compute_uv=False)[1] < 1e-10


@settings(max_examples=60, deadline=None)
@given(circuit=circuits(), seed=st.integers(0, 1000))
def test_every_gate_becomes_itself_or_the_rotation_of_its_target(circuit: Circuit, seed: int) -> None:
    if circuit.n_two_qubit_gates == 0:
        with pytest.raises(InputError, match="no gate between two qubits"):
            without_entanglement(circuit)
        return
    control = without_entanglement(circuit)
    # The circuit itself, with the two-qubit unitaries replaced one by one.
    kept = []
    for gate in circuit.gates:
        if n_wires(gate.name) == 1:
            kept.append(gate)
        elif gate.slot is not None:
            kept.append(type(gate)(ON_TARGET[gate.name], gate.wires[-1:], gate.slot))
    by_hand = Circuit(**{key: value for key, value in vars(circuit).items() if key in INIT} | {"gates": tuple(kept)})
    rows, theirs = _rows(control, seed=seed), _rows(by_hand, seed=seed)
    np.testing.assert_allclose(expectations(control, rows), expectations(by_hand, theirs), atol=1e-10)


INIT = [name for name in Circuit.__dataclass_fields__ if not name.startswith("_")]


def test_every_rotation_on_two_wires_has_one_on_its_target() -> None:
    assert set(ON_TARGET) == {name for name in ROTATIONS if n_wires(name) == 2}
    assert all(n_wires(name) == 1 for name in ON_TARGET.values())
    assert set(ON_TARGET.values()) <= {*ROTATIONS, *FIXED}


def test_a_circuit_whose_state_is_prepared_by_gates_is_refused() -> None:
    with pytest.raises(InputError, match=r"'sda_qec_4q' is expanded"):
        without_entanglement(load_circuit("sda_qec_4q").expanded())


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("name", AMPLITUDE)
def test_amplitude_circuits_are_quadratic_forms(name: str, separable: bool) -> None:
    circuit = without_entanglement(load_circuit(name)) if separable else load_circuit(name)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(6, circuit.n_features, generator=generator, dtype=torch.float64)
    features[0] = 0  # is defined as |0...0>
    weights = 6 * torch.rand(circuit.n_weights, generator=generator, dtype=torch.float64)
    forms = quadratic_forms(circuit, weights.numpy())
    assert forms.shape == (circuit.n_observables, circuit.n_amplitudes, circuit.n_amplitudes)
    np.testing.assert_array_equal(forms, forms.transpose(0, 2, 1))
    vectors = circuit.amplitudes(features).numpy()
    device = load_device("qhybrid.statevector")
    exact = device.run(device.prepare(circuit), circuit.parameters(features, weights)).values.numpy()
    np.testing.assert_allclose(np.einsum("bi,mij,bj->bm", vectors, forms, vectors), exact, atol=1e-10, rtol=0)


def test_sda_qec_is_the_quadratic_form_of_sixteen_by_sixteen_matrices() -> None:
    # ../shared/reference/sda_qec.md: m_i = tr(M_i G G^T) with G = f.reshape(16, 16), qubits 4 to 7 traced out.
    circuit = load_circuit("sda_qec")
    forms = quadratic_forms(circuit, np.linspace(0, 3, 8)).reshape(4, 16, 16, 16, 16)
    small = forms[:, :, 0, :, 0]
    np.testing.assert_allclose(forms, np.einsum("mij,kl->mikjl", small, np.eye(16)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(small), [[-1] * 8 + [1] * 8] * 4, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(circuit=circuits(max_qubits=3), seed=st.integers(0, 1000))
def test_random_circuits_with_fixed_angles_are_quadratic_forms_of_what_they_see(circuit: Circuit, seed: int) -> None:
    if not circuit.amplitudes:
        with pytest.raises(InputError, match="is no quadratic form"):
            quadratic_forms(circuit, np.zeros(circuit.n_weights))
        return
    # The features behind the amplitudes become weights.
    fixed = Circuit(
        **{key: value for key, value in vars(circuit).items() if key in INIT}
        | {
            "encoders": (),
            "n_features": circuit.n_amplitudes,
            "encoding_map": np.zeros((0, circuit.n_angles)),
            "weight_map": np.eye(circuit.n_angles),
            "offset": np.zeros(circuit.n_angles),
        }
    )
    rng = np.random.default_rng(seed)
    weights, vector = rng.uniform(-3, 3, fixed.n_angles), rng.normal(size=fixed.n_amplitudes)
    vector /= np.linalg.norm(vector)
    forms = quadratic_forms(fixed, weights)
    expected = expectations(fixed, np.concatenate([vector, weights])[None])[0]
    np.testing.assert_allclose(vector @ forms @ vector, expected, atol=1e-10)
    # On wires that nothing sees the matrices are the identity.
    k = len(fixed.amplitude_wires)
    seen = seen_amplitude_wires(fixed)
    unseen = [place for place, wire in enumerate(fixed.amplitude_wires) if wire not in seen]
    tensor = forms.reshape((-1,) + (2,) * (2 * k))
    for place in unseen:
        axes = (1 + place, 1 + k + place)
        traced = np.trace(tensor, axis1=axes[0], axis2=axes[1]) / 2
        again = np.moveaxis(np.multiply.outer(traced, np.eye(2)), (-2, -1), axes)
        np.testing.assert_allclose(tensor, again, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "seen"), [("sda_qec", (0, 1, 2, 3)), ("sda_qec_4q", (0, 1, 2, 3)), ("sda_qec_8q", (0, 1, 2, 3, 4))]
)
def test_the_wires_that_a_circuit_sees(name: str, seen: tuple[int, ...]) -> None:
    assert seen_amplitude_wires(load_circuit(name)) == seen


def test_padding_is_part_of_the_vector() -> None:
    spec = {
        "qubits": 2,
        "observables": ["Z0", "X0 X1"],
        "blocks": [{"encode": "amplitude", "features": 3, "padding": 0.5}, {"rotate": "Y"}, {"entangle": "chain"}],
    }
    circuit = load_circuit(spec)
    assert isinstance(circuit.amplitudes, AmplitudeEncoder)
    features, weights = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), torch.tensor([0.3, 1.1]).double()
    vector = np.array([1, -2, 0.5, 0.5]) / np.sqrt(5.5)
    expected = expectations(circuit, circuit.parameters(features, weights).numpy())[0]
    np.testing.assert_allclose(vector @ quadratic_forms(circuit, weights.numpy()) @ vector, expected, atol=1e-12)


def test_what_is_no_quadratic_form_is_refused_with_the_names_of_those_that_are() -> None:
    with pytest.raises(InputError, match=r"'angle_4q' is no quadratic form .*: sda_qec, sda_qec_4q, sda_qec_8q$"):
        quadratic_forms(load_circuit("angle_4q"), np.zeros(8))
    reads_again = {
        "qubits": 2,
        "observables": ["Z0"],
        "blocks": [{"encode": "amplitude"}, {"encode": "angle"}, {"rotate": "Y"}],
    }
    with pytest.raises(InputError, match="no feature after it"):
        quadratic_forms(load_circuit(reads_again), np.zeros(2))
    with pytest.raises(InputError, match=r"weights of shape \(3,\): circuit 'sda_qec' has 8"):
        quadratic_forms(load_circuit("sda_qec"), np.zeros(3))
    large = {"qubits": 13, "observables": ["Z0"], "blocks": [{"encode": "amplitude"}]}
    with pytest.raises(InputError, match="has 13 qubits; matrices are computed for at most 12"):
        quadratic_forms(load_circuit(large), np.zeros(0))
