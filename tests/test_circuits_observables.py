"""Pauli words against dense matrices, and the bases that measure them."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.circuits.gates import FIXED, PAULIS
from qhybrid.circuits.observables import PauliWord, measurement_bases
from qhybrid.devices.sampling import basis_rotation
from qhybrid.errors import InputError

PROPERTY = settings(deadline=None, derandomize=True, max_examples=100)
N = 4


@st.composite
def pauli_words(draw: st.DrawFn, n_qubits: int = N) -> PauliWord:
    wires = draw(st.sets(st.integers(0, n_qubits - 1), max_size=n_qubits))
    return PauliWord(tuple((wire, draw(st.sampled_from("XYZ"))) for wire in sorted(wires)))


def dense(word: PauliWord, n_qubits: int = N) -> np.ndarray:
    """The matrix, qubit 0 the first factor of the Kronecker product."""
    factors = dict(word.factors)
    return reduce(np.kron, [PAULIS[factors.get(wire, "I")] for wire in range(n_qubits)])


@PROPERTY
@given(word=pauli_words())
def test_flips_and_phases_are_the_entries_of_the_matrix(word: PauliWord) -> None:
    index = np.arange(2**N)
    matrix = np.zeros((2**N, 2**N), dtype=complex)
    matrix[index, index ^ word.flips(N)] = word.phases(N)
    np.testing.assert_array_equal(matrix, dense(word))


@PROPERTY
@given(words=st.lists(pauli_words(), min_size=1, max_size=8))
def test_bases_cover_every_word_once_and_commute_qubit_by_qubit(words: list[PauliWord]) -> None:
    bases = measurement_bases(words)
    assert sorted(member for basis in bases for member in basis.members) == list(range(len(words)))
    for basis in bases:
        paulis = dict(basis.paulis)
        assert all(paulis[wire] == pauli for member in basis.members for wire, pauli in words[member].factors)
        matrices = [dense(words[member]) for member in basis.members]
        for left in matrices:
            for right in matrices:
                np.testing.assert_array_equal(left @ right, right @ left)


@PROPERTY
@given(words=st.lists(pauli_words(3), min_size=1, max_size=5))
def test_each_basis_turns_its_words_into_signs_of_outcomes(words: list[PauliWord]) -> None:
    for basis in measurement_bases(words):
        rotation = np.eye(8, dtype=complex)
        for name, wire in basis_rotation(basis):
            gate = [np.eye(2)] * 3
            gate[wire] = FIXED[name]
            rotation = reduce(np.kron, gate) @ rotation
        signs = basis.signs(words, range(3))
        assert signs.shape == (8, len(basis.members))
        for column, member in zip(signs.T, basis.members, strict=True):
            rotated = rotation @ dense(words[member], 3) @ rotation.conj().T
            np.testing.assert_allclose(rotated, np.diag(column), atol=1e-14)


def test_words_in_z_need_a_single_basis() -> None:
    words = [PauliWord.parse(text, 4) for text in ("Z0", "Z1 Z3", "Z2", "Z0 Z1 Z2 Z3")]
    (basis,) = measurement_bases(words)
    assert basis.members == (0, 1, 2, 3)


def test_clashing_words_are_measured_apart() -> None:
    words = [PauliWord.parse(text, 2) for text in ("Z0", "X0", "Z0 Z1", "X1")]
    assert [basis.members for basis in measurement_bases(words)] == [(0, 2), (1, 3)]


@PROPERTY
@given(word=pauli_words().filter(lambda word: word.factors))
def test_words_are_read_as_they_are_written(word: PauliWord) -> None:
    assert PauliWord.parse(str(word), N) == word


def test_the_order_of_factors_does_not_matter() -> None:
    assert PauliWord.parse("  X3 Z0 ", 4) == PauliWord.parse("Z0 X3", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Q0", "'Q0' is not X, Y or Z and a qubit number"),
        ("Z", "'Z' is not X, Y or Z and a qubit number"),
        ("z0", "'z0' is not X, Y or Z"),
        ("Z0Z1", "'Z0Z1' is not X, Y or Z"),
        ("Z4", "qubit 4 is outside the circuit (0 to 3)"),
        ("Z1 X1", "names qubit 1 twice"),
        (" ", "is empty"),
    ],
)
def test_wrong_words_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        PauliWord.parse(text, 4)
    assert message in str(caught.value)
    assert repr(text) in str(caught.value)
