"""Channels and turns: equal to Qiskit's gates, noise behind every gate, rewriting changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import Operator

from qhybrid.circuits.gates import FIXED, ROTATIONS
from qhybrid.circuits.isa import Affine, IsaOperation
from qhybrid.devices.density_elements import (
    RECIPES,
    UNITARIES,
    Channel,
    Element,
    Turn,
    embedded,
    needed,
    readout_channel,
    simplified,
    turn_matrix,
    written_out,
)
from qhybrid.errors import QHybridError
from qhybrid.noise_models.channels import Matrix, kraus_channel, tensor, unitary_channel
from qhybrid.noise_models.spec import load_noise_model

SEEDS = st.integers(0, 2**32 - 1)


def random_channel(generator: np.random.Generator, n_qubits: int) -> Matrix:
    """Any channel: two Kraus operators cut from a random isometry."""
    size = 2**n_qubits
    matrix = generator.normal(size=(2 * size, size)) + 1j * generator.normal(size=(2 * size, size))
    isometry, _ = np.linalg.qr(matrix)
    return kraus_channel([isometry[:size], isometry[size:]])


def random_elements(
    generator: np.random.Generator, n_qubits: int, n_elements: int, n_angles: int, *, noisy: bool = True
) -> list[Element]:
    """Random channels on one and two qubits between random turns."""
    found: list[Element] = []
    for _ in range(n_elements):
        qubits = tuple(int(q) for q in generator.permutation(n_qubits)[: generator.integers(1, 3)])
        kind = generator.choice(["turn", "constant turn", "channel", "channel"])
        if kind == "channel":
            found.append(Channel(qubits, random_channel(generator, len(qubits)) if noisy else np.eye(4 ** len(qubits))))
        else:
            slots = sorted(
                generator.permutation(n_angles)[: 0 if kind == "constant turn" else generator.integers(1, 3)]
            )
            terms = tuple((int(slot), float(generator.normal())) for slot in slots)
            found.append(Turn(qubits[0], float(generator.normal()), terms))
    return found


def whole_map(elements: list[Element], n_qubits: int, angles: np.ndarray) -> Matrix:
    """The circuit as one dense matrix, element by element."""
    every = tuple(range(n_qubits))
    total = np.eye(4**n_qubits)
    for each in elements:
        if isinstance(each, Turn):
            matrix = turn_matrix(each.constant + sum(factor * angles[slot] for slot, factor in each.terms))
        else:
            matrix = each.matrix
        total = embedded(matrix, each.qubits, every) @ total
    return total


def qiskit_channel(name: str, angles: list[float]) -> Matrix:
    """Pauli transfer matrix of Qiskit's own gate, the first qubit most significant."""
    gate = get_standard_gate_name_mapping()[name].base_class(*angles)
    return unitary_channel(Operator(gate).reverse_qargs().data)


@pytest.mark.parametrize("name", UNITARIES)
def test_fixed_gates_are_qiskits(name: str) -> None:
    np.testing.assert_allclose(unitary_channel(UNITARIES[name]), qiskit_channel(name, []), atol=1e-14)


@pytest.mark.parametrize("name", RECIPES)
def test_gates_with_angles_are_qiskits(name: str) -> None:
    gate = get_standard_gate_name_mapping().get(name)
    if gate is None:
        pytest.skip(f"Qiskit has no standard gate {name}")
    n_params, qubits = len(gate.params), tuple(range(gate.num_qubits))
    angles = np.array([0.7, -1.9, 2.3])[:n_params]
    params = tuple(Affine(0.25, ((slot, 1.0),)) for slot in range(n_params))
    elements, _ = written_out([IsaOperation(name, qubits, params)], None, qubits)
    assert any(isinstance(each, Turn) for each in elements)
    got = whole_map(elements, len(qubits), angles)
    np.testing.assert_allclose(got, qiskit_channel(name, list(angles + 0.25)), atol=1e-13)


def test_every_gate_of_the_circuit_language_is_known() -> None:
    assert set(FIXED) <= set(UNITARIES)
    assert set(ROTATIONS) <= set(RECIPES)


def test_an_unknown_gate_is_an_error_that_says_who_knows_it() -> None:
    with pytest.raises(QHybridError, match=r"'ccx'.*qiskit\.aer"):
        written_out([IsaOperation("ccx", (0, 1, 2))], None, (0, 1, 2))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n_qubits=st.integers(2, 3), n_elements=st.integers(0, 14))
def test_simplifying_changes_nothing_but_the_number_of_elements(seed: int, n_qubits: int, n_elements: int) -> None:
    generator = np.random.default_rng(seed)
    elements = random_elements(generator, n_qubits, n_elements, 2)
    shorter = simplified(elements)
    assert len(shorter) <= len(elements)
    assert all(each.terms for each in shorter if isinstance(each, Turn))
    angles = generator.normal(size=2)
    np.testing.assert_allclose(whole_map(shorter, n_qubits, angles), whole_map(elements, n_qubits, angles), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, measured=st.sets(st.integers(0, 2), min_size=1))
def test_elements_that_are_left_out_cannot_be_seen(seed: int, measured: set[int]) -> None:
    generator = np.random.default_rng(seed)
    elements = random_elements(generator, 3, 6, 2)
    angles = generator.normal(size=2)
    kept = whole_map(needed(elements, measured), 3, angles)
    seen = [
        word for word in range(64) if all(place in measured or (word >> 2 * (2 - place)) & 3 == 0 for place in range(3))
    ]
    np.testing.assert_allclose(kept[seen], whole_map(elements, 3, angles)[seen], atol=1e-12)


def test_a_readout_channel_is_the_confusion_matrix() -> None:
    flip0, flip1 = 0.03, 0.11
    channel = readout_channel(flip0, flip1)
    assert (channel @ [1, 0, 0, 1])[3] == pytest.approx((1 - flip0) - flip0)
    assert (channel @ [1, 0, 0, -1])[3] == pytest.approx(flip1 - (1 - flip1))


def test_the_noise_of_a_gate_stands_behind_the_whole_gate() -> None:
    noise = load_noise_model("ibm_brisbane")
    operations = [
        IsaOperation("sx", (0,)),
        IsaOperation("rz", (0,), (Affine(0.0, ((0, 1.0),)),)),
        IsaOperation("delay", (1,), seconds=1e-6),
    ]
    qubits = (4, 7)
    elements, noisy = written_out(operations, noise, qubits)
    assert noisy == {"sx": 1, "delay": 1}
    gate, waiting = noise.gate_noise("sx", (4,)), noise.idle_noise(7, 1e-6)
    assert gate is not None
    assert waiting is not None
    expected = tensor([turn_matrix(0.4) @ gate.channel @ unitary_channel(UNITARIES["sx"]), waiting.channel])
    np.testing.assert_allclose(whole_map(elements, 2, np.array([0.4])), expected, atol=1e-14)
