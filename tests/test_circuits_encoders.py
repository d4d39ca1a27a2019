"""Encoders: what they prepare, and gradients that are finite everywhere."""

import math

import numpy as np
import pennylane as qml
import pytest
import torch
from dense_simulation import circuit_of, expectations, final_state
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.encoders import (
    SQUASHINGS,
    AmplitudeEncoder,
    AngleEncoder,
    IQPEncoder,
    multiplexer_angles,
)
from qhybrid.circuits.spec import load_circuit

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)
NO_WEIGHTS = torch.zeros(0, dtype=torch.float64)
FINITE = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-3 else 0.0)
NUMBERS = [0.0, 1.0, -1.0, 1e-200, -1e-200, 1e200, -1e200, 5e-324, 1e300]


def vectors(size: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(float, size, elements=FINITE)


def encoded_circuit(n_qubits: int, wires: tuple[int, ...] | None = None) -> Circuit:
    wires = tuple(range(n_qubits)) if wires is None else wires
    return circuit_of([], ["Z0"], n_qubits, amplitude_wires=wires)


def prepared(circuit: Circuit, features: np.ndarray) -> np.ndarray:
    """The state that a circuit's gates prepare from features, by dense matrices."""
    expanded = circuit.expanded()
    assert expanded.n_amplitudes == 0
    angles = expanded.parameters(torch.tensor(features)[None], NO_WEIGHTS)
    return final_state(expanded, angles.numpy()[0])


@PROPERTY
@given(data=st.data(), n=st.integers(1, 4))
def test_the_multiplexer_tree_prepares_the_signed_vector(data: st.DataObject, n: int) -> None:
    x = data.draw(vectors(2**n))
    norm = np.linalg.norm(x)
    expected = x / norm if norm else np.eye(2**n)[0]
    np.testing.assert_allclose(prepared(encoded_circuit(n), x), expected, atol=1e-12)


def test_it_prepares_256_amplitudes() -> None:
    x = np.random.default_rng(0).normal(size=256)
    np.testing.assert_allclose(prepared(encoded_circuit(8), x), x / np.linalg.norm(x), atol=1e-12)


@pytest.mark.parametrize("wires", [(2, 0), (1,), (2, 1, 0)])
def test_it_prepares_on_scrambled_wires(wires: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(size=2 ** len(wires))
    circuit = encoded_circuit(3, wires)
    row = circuit.parameters(torch.tensor(x)[None], NO_WEIGHTS).numpy()[0]
    np.testing.assert_allclose(prepared(circuit, x), final_state(circuit, row), atol=1e-12)


@pytest.mark.parametrize("hot", range(8))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_hot_vectors_are_basis_states_with_qubit_0_the_most_significant(hot: int, sign: float) -> None:
    circuit = circuit_of([], ["Z0", "Z1", "Z2"], 3, amplitude_wires=(0, 1, 2))
    state = prepared(circuit, sign * np.eye(8)[hot])
    np.testing.assert_allclose(state, sign * np.eye(8)[hot], atol=1e-12)
    bits = [int(bit) for bit in f"{hot:03b}"]
    row = circuit.parameters(torch.tensor(sign * np.eye(8)[hot])[None], NO_WEIGHTS).numpy()
    np.testing.assert_allclose(expectations(circuit, row)[0], [1 - 2 * bit for bit in bits], atol=1e-12)


def test_amplitudes_equal_pennylane_amplitude_embedding() -> None:
    x = np.random.default_rng(2).normal(size=8)

    @qml.qnode(qml.device("default.qubit", wires=3))
    def state() -> object:
        qml.AmplitudeEmbedding(x, wires=range(3), normalize=True)
        return qml.state()

    np.testing.assert_allclose(AmplitudeEncoder(0, 8, 3)(torch.tensor(x)[None])[0], np.asarray(state()), atol=1e-14)


@pytest.mark.parametrize("padding", [0.0, 0.3, -2.0])
def test_missing_features_are_padded_before_normalisation(padding: float) -> None:
    x = np.array([9.0, 3.0, -4.0, 1.0, 9.0])
    whole = np.array([3.0, -4.0, 1.0, *[padding] * 5])
    amplitudes = AmplitudeEncoder(1, 3, 3, padding)(torch.tensor(x)[None]).numpy()[0]
    np.testing.assert_allclose(amplitudes, whole / np.linalg.norm(whole), atol=1e-15)


@pytest.mark.parametrize("shape", [(0, 4), (3, 4)])
def test_zero_vectors_become_the_ground_state_without_gradient(shape: tuple[int, int]) -> None:
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    amplitudes = AmplitudeEncoder(0, 4, 2)(x)
    (amplitudes * torch.arange(4.0)).sum().backward()
    assert amplitudes.tolist() == [[1.0, 0.0, 0.0, 0.0]] * shape[0]
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1.0, 1e200, 1e300])
def test_amplitudes_do_not_depend_on_the_size_of_the_vector(size: float) -> None:
    x = torch.tensor([[3.0, -4.0, 0.0, 12.0]], dtype=torch.float64)
    torch.testing.assert_close(AmplitudeEncoder(0, 4, 2)(x * size), x / 13.0, atol=1e-15, rtol=0)


EXTREME = {
    "zero": [0.0] * 4,
    "one-hot": [0.0, 0.0, 1.0, 0.0],
    "negative one-hot": [0.0, -1.0, 0.0, 0.0],
    "last": [0.0, 0.0, 0.0, -1.0],
    "tiny": [1e-200, -1e-200, 0.0, 1e-200],
    "one tiny": [1.0, 1e-200, -1e-200, 0.0],
    "huge": [1e200, 1e200, -1e200, 0.0],
    "huge and tiny": [1e200, 1e-200, 1.0, 0.0],
    "equal": [1.0, 1.0, 1.0, 1.0],
}
ENCODERS = {
    "amplitude": AmplitudeEncoder(0, 4, 2),
    "padded amplitude": AmplitudeEncoder(0, 3, 2, 0.5),
    **{f"angle {squash}": AngleEncoder(0, 4, math.pi, squash) for squash in SQUASHINGS},
    **{f"iqp {squash}": IQPEncoder(0, 4, ((0, 1), (2, 3)), 2.0, squash) for squash in SQUASHINGS if squash != "none"},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("values", EXTREME.values(), ids=EXTREME)
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_values_and_gradients_are_finite_everywhere(
    encoder: AngleEncoder, values: list[float], dtype: torch.dtype
) -> None:
    limit = torch.finfo(dtype).max / 10
    x = torch.tensor([values], dtype=torch.float64).clamp(-limit, limit).to(dtype).requires_grad_()
    encoded = encoder(x)
    encoded.backward(torch.linspace(-1, 2, encoded.shape[1], dtype=dtype)[None])
    assert encoded.dtype == dtype
    assert torch.isfinite(encoded).all()
    assert x.grad is not None
    # The slope of a direction is 1 / |x|: of a vector of size 1e-200 it is 1e200, which float64 holds.
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("values", EXTREME.values(), ids=EXTREME)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_multiplexer_gradients_are_finite_everywhere(values: list[float], dtype: torch.dtype) -> None:
    x = torch.tensor([values], dtype=torch.float64).clamp(-1e38, 1e38).to(dtype).requires_grad_()
    angles = multiplexer_angles(AmplitudeEncoder(0, 4, 2)(x))
    angles.sum().backward()
    assert torch.isfinite(angles).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@PROPERTY
@given(x=arrays(float, 4, elements=st.sampled_from(NUMBERS)))
def test_mixtures_of_tiny_and_huge_values_stay_finite(x: np.ndarray) -> None:
    features = torch.tensor(x[None], requires_grad=True)
    circuit = encoded_circuit(2).expanded()
    angles = circuit.parameters(features, NO_WEIGHTS)
    angles.sum().backward()
    assert torch.isfinite(angles).all()
    assert features.grad is not None
    assert not torch.isnan(features.grad).any()


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_gradients_are_those_of_the_encoding(encoder: AngleEncoder) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(encoder, x)


def test_gradients_through_the_multiplexer_tree_are_those_of_the_angles() -> None:
    x = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: multiplexer_angles(AmplitudeEncoder(0, 8, 3)(rows)), x)


def test_iqp_multiplies_scaled_and_squashed_features() -> None:
    x = torch.tensor([[9.0, 0.5, -1.0, 2.0]], dtype=torch.float64)
    encoder = IQPEncoder(1, 3, ((0, 2), (1, 2)), scale=3.0, squash="arctan")
    s = [3.0 * math.atan(value) for value in (0.5, -1.0, 2.0)]
    np.testing.assert_allclose(encoder(x)[0], [*s, s[0] * s[2], s[1] * s[2]], atol=1e-15)
    assert encoder.n_angles == 5


def test_expansion_leaves_other_circuits_alone_and_happens_once() -> None:
    plain = load_circuit("angle_4q")
    assert plain.expanded() is plain
    expanded = load_circuit("sda_qec_4q").expanded()
    assert expanded.expanded() is expanded
    assert (expanded.n_angles, expanded.n_weights, expanded.n_two_qubit_gates) == (15 + 8, 8, 14 + 6)
