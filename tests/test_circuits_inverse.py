"""The circuit of an overlap against dense matrices: its gates, its probability of all zeros, what it leaves out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dense_simulation import circuits, expectations, final_state
from hypothesis import given, settings

from qhybrid import catalog
from qhybrid.circuits.builder import CircuitBuilder
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.encoders import AngleEncoder
from qhybrid.circuits.gates import FIXED
from qhybrid.circuits.inverse import (
    MAX_QUBITS,
    all_zeros_probability,
    encoder_gates,
    inverse_gates,
    overlap_circuit,
)
from qhybrid.circuits.observables import PauliWord
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError

SMALL = [name for name in catalog.entries("circuits") if load_circuit(name).n_qubits <= 4]


def overlaps(circuit: Circuit, samples: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|<phi(y)|phi(x)>|^2 of neighbouring samples: by the overlap circuit, and from their states."""
    rows = circuit.parameters(torch.from_numpy(samples), torch.from_numpy(weights)).numpy()
    states = np.stack([final_state(circuit, row) for row in rows])
    angles = circuit.expanded().parameters(torch.from_numpy(samples), torch.from_numpy(weights))
    overlap = overlap_circuit(circuit)
    pairs = torch.cat([angles, angles.roll(1, dims=0)], dim=1)
    values = expectations(overlap, overlap.parameters(pairs, pairs.new_zeros(0)).numpy())
    found = all_zeros_probability(torch.from_numpy(values)).numpy()
    return found, np.abs(np.einsum("bi,bi->b", states.conj(), np.roll(states, 1, axis=0))) ** 2


@pytest.mark.parametrize("name", SMALL)
def test_all_zeros_are_as_probable_as_the_states_overlap_whatever_the_weights(name: str) -> None:
    circuit, rng = load_circuit(name), np.random.default_rng(1)
    found, wanted = overlaps(circuit, rng.normal(size=(3, circuit.n_features)), rng.normal(size=circuit.n_weights))
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert 1e-6 < wanted.min() < wanted.max() < 1 - 1e-6


@settings(max_examples=25, deadline=None)
@given(circuits())
def test_overlaps_of_any_circuit(circuit: Circuit) -> None:
    rng = np.random.default_rng(0)
    samples, weights = rng.normal(size=(3, circuit.n_features)), rng.normal(size=circuit.n_weights)
    if not encoder_gates(circuit.expanded()):
        return  # it encodes nothing
    found, wanted = overlaps(circuit, samples, weights)
    np.testing.assert_allclose(found, wanted, atol=1e-10)


@pytest.mark.parametrize("name", FIXED)
def test_fixed_gates_have_an_inverse_of_fixed_gates(name: str) -> None:
    product = FIXED[name]
    for other in inverse_gates(name):
        product = FIXED[other] @ product
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-15)


def test_what_follows_the_last_feature_is_left_out_and_rotations_meet_in_one_gate() -> None:
    overlap = overlap_circuit(load_circuit("angle_4q"))
    assert [(gate.name, gate.wires) for gate in overlap.gates] == [("ry", (wire,)) for wire in range(4)]
    assert (overlap.name, overlap.n_weights, overlap.n_features) == ("angle_4q-overlap", 0, 2 * 8)
    assert overlap.n_observables == 15
    assert len(overlap.bases) == 1
    iqp = load_circuit("iqp_4q")
    kept = encoder_gates(iqp)
    assert kept == iqp.gates[: len(kept)]
    assert [gate.name for gate in iqp.gates[len(kept) :]] == [*["ry"] * 4, *["cx"] * 3, *["ry"] * 4, *["cx"] * 3]


def test_qubits_that_no_gate_acts_on_are_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text('qubits = 3\nobservables = ["Z0"]\nblocks = [{ encode = "angle", wires = [1] }]\n')
    assert [str(word) for word in overlap_circuit(load_circuit(str(path))).observables] == ["Z1"]


def test_a_circuit_with_many_qubits_has_no_overlap_circuit(tmp_path: Path) -> None:
    path = tmp_path / "wide.toml"
    path.write_text(f'qubits = {MAX_QUBITS + 1}\nobservables = ["Z0"]\nblocks = [{{ encode = "angle" }}]\n')
    with pytest.raises(
        InputError, match=r"^circuit 'wide' has 9 qubits; overlaps of states are measured on at most 8$"
    ):
        overlap_circuit(load_circuit(str(path)))


def test_probabilities_stay_within_0_and_1() -> None:
    values = torch.tensor([[-1.0, -1.0, -0.5], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    assert all_zeros_probability(values).tolist() == [0.0, 1.0, 0.25]


def test_constant_rotations_stay_constant() -> None:
    builder = CircuitBuilder(1)
    features = builder.encode(AngleEncoder(0, 2))
    builder.rotation("ry", (0,), encoding={features[0]: 1.0})
    builder.rotation("rx", (0,), offset=0.3)
    builder.rotation("ry", (0,), encoding={features[1]: 1.0})
    circuit = builder.circuit("constant", (PauliWord.parse("Z0", 1),))
    overlap = overlap_circuit(circuit)
    constant = ~np.any(overlap.encoding_map, axis=0)
    np.testing.assert_allclose(overlap.offset[constant], [0.3, -0.3])
    found, wanted = overlaps(circuit, np.array([[0.1, 0.7], [1.2, -0.4], [2.0, 0.2]]), np.zeros(0))
    np.testing.assert_allclose(found, wanted, atol=1e-12)
