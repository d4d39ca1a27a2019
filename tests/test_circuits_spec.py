"""Circuit files: the shipped ones, what blocks become, and errors of one line."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qhybrid import catalog
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer

HEAD = 'qubits = 2\nobservables = ["Z0"]\n'
ENCODE = '[[blocks]]\nencode = "angle"\n'
SHIPPED = (
    "angle_4q", "hqcnn_4q", "iqp_4q", "reupload_4q", "sda_qec", "sda_qec_4q", "sda_qec_8q", "strongly_entangling_4q",
)  # fmt: skip


def circuit_of(*blocks: dict[str, Any], qubits: int = 4) -> Circuit:
    return load_circuit({"qubits": qubits, "observables": ["Z0"], "blocks": [{"encode": "angle"}, *blocks]})


@pytest.mark.parametrize(
    ("name", "features", "weights", "gates", "two_qubit_gates"),
    [
        ("angle_4q", 4, 8, 14, 6),
        ("hqcnn_4q", 4, 18, 4 + 4 + 3 + 7 + 10 + 4 + 10, 6 + 12),
        ("iqp_4q", 4, 8, 2 * (4 + 4 + 6) + 14, 2 * 6 + 6),
        ("reupload_4q", 4, 36, 60, 12),
        ("sda_qec", 256, 8, 14, 6),
        ("sda_qec_4q", 16, 8, 14, 6),
        ("sda_qec_8q", 256, 16, 30, 14),
        ("strongly_entangling_4q", 4, 24, 36, 8),
    ],
)
def test_shipped_circuits_have_the_published_sizes(
    name: str, features: int, weights: int, gates: int, two_qubit_gates: int
) -> None:
    circuit = load_circuit(name)
    assert (circuit.n_features, circuit.n_weights) == (features, weights)
    assert (len(circuit.gates), circuit.n_two_qubit_gates) == (gates, two_qubit_gates)
    assert [str(word) for word in circuit.observables] == ["Z0", "Z1", "Z2", "Z3"]
    assert circuit.description
    assert circuit.source


def test_every_file_in_the_catalog_is_one_of_those() -> None:
    assert tuple(catalog.entries("circuits")) == SHIPPED


def test_sda_qec_with_its_head_has_the_18_parameters_of_the_paper() -> None:
    model = torch.nn.Sequential(QuantumLayer("sda_qec", "qhybrid.statevector"), torch.nn.Linear(4, 2))
    assert sum(parameter.numel() for parameter in model.parameters()) == 18


def test_neighbouring_rotations_about_one_axis_are_one_gate() -> None:
    circuit = circuit_of({"rotate": "YYZ"}, {"rotate": "ZX"}, qubits=1)
    assert [gate.name for gate in circuit.gates] == ["ry", "rz", "rx"]
    np.testing.assert_array_equal(circuit.encoding_map, [[1, 0, 0]])
    np.testing.assert_array_equal(circuit.weight_map, [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_rotations_with_a_gate_between_them_stay_apart() -> None:
    circuit = circuit_of({"rotate": "Y"}, {"entangle": "chain"}, {"rotate": "Y"}, qubits=2)
    assert [(gate.name, gate.slot) for gate in circuit.gates] == [
        ("ry", 0), ("ry", 1), ("cx", None), ("ry", 2), ("ry", 3)]  # fmt: skip


def test_two_qubit_rotations_merge_only_on_the_same_wires() -> None:
    circuit = circuit_of({"entangle": "chain", "gate": "rzz"}, {"entangle": "chain", "gate": "rzz"}, qubits=2)
    assert [gate.name for gate in circuit.gates] == ["ry", "ry", "rzz"]
    circuit = circuit_of({"entangle": "chain", "gate": "rzz"}, {"entangle": "chain", "gate": "rzz"}, qubits=3)
    assert [gate.wires for gate in circuit.gates[3:]] == [(0, 1), (1, 2), (0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("block", "pairs"),
    [
        ({"entangle": "chain"}, [(0, 1), (1, 2), (2, 3)]),
        ({"entangle": "ring"}, [(0, 1), (1, 2), (2, 3), (3, 0)]),
        ({"entangle": "ring", "range": 2}, [(0, 2), (1, 3), (2, 0), (3, 1)]),
        ({"entangle": "all"}, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
        ({"entangle": "chain", "wires": [3, 0, 2]}, [(3, 0), (0, 2)]),
        ({"entangle": "ring", "wires": [2, 1]}, [(2, 1)]),
        ({"entangle": "all", "wires": [2]}, []),
    ],
)
def test_patterns_join_these_pairs(block: dict[str, Any], pairs: list[tuple[int, int]]) -> None:
    circuit = circuit_of(block)
    assert [gate.wires for gate in circuit.gates if gate.name == "cx"] == pairs


@pytest.mark.parametrize(
    ("text", "value"),
    [("pi", math.pi), ("-pi", -math.pi), ("2pi", 2 * math.pi), ("2*pi", 2 * math.pi), ("pi/2", math.pi / 2),
     ("3 * pi / 4", 0.75 * math.pi), ("-0.5*pi", -math.pi / 2), (1.5, 1.5), (2, 2.0)],
)  # fmt: skip
def test_angles_are_numbers_or_multiples_of_pi(text: Any, value: float) -> None:
    circuit = load_circuit(
        {"qubits": 1, "observables": ["Z0"], "blocks": [{"encode": "angle", "scale": text, "first": 1}]}
    )
    angles = circuit.parameters(torch.tensor([[7.0, 1.0]]), torch.zeros(0))
    np.testing.assert_allclose(angles, [[value]], rtol=1e-6)
    assert circuit.n_features == 2


REPEAT = "[[blocks]]\nrepeat = 2\nblocks = [{ repeat = 2, blocks = [%s] }]\n"
ERRORS = [
    ("qbits = 2\n" + HEAD + ENCODE, "unknown key 'qbits'; did you mean 'qubits'?"),
    (HEAD + ENCODE + "sclae = 1\n", "'blocks.0': encode block: unknown key 'sclae'; did you mean 'scale'?"),
    (HEAD + ENCODE + REPEAT % '{ rotate = "Y", wire = [0] }', "rotate block: unknown key 'wire'; did you mean 'wires'"),
    (HEAD + ENCODE + REPEAT % '{ entangle = "chain", gat = "cx" }', "unknown key 'gat'; did you mean 'gate'?"),
    (HEAD + ENCODE + '[[blocks]]\nrotat = "Y"\n', "'blocks.1': a block needs exactly one of the keys encode, rotate"),
    (HEAD + ENCODE + 'rotate = "Y"\n', "'blocks.0': a block needs exactly one of the keys encode, rotate"),
    (HEAD + 'blocks = ["encode"]\n', "'blocks.0': a block is a table such as { rotate = 'Y' }, not 'encode'"),
    ('qubits = "two"\nobservables = ["Z0"]\n' + ENCODE, "key 'qubits' is 'two': input should be a valid integer"),
    ('qubits = 30\nobservables = ["Z0"]\n' + ENCODE, "key 'qubits' is 30: input should be less than or equal to 24"),
    ('qubits = 2\nobservables = "Z0"\n' + ENCODE, "key 'observables' is 'Z0'"),
    (ENCODE, "key 'qubits': field required"),
    (HEAD + ENCODE + "wires = [0, 2]\n", "wire 2 is outside the circuit (0 to 1)"),
    (HEAD + ENCODE + "wires = [-1]\n", "key 'wires.0' is -1"),
    (HEAD + ENCODE + REPEAT % '{ rotate = "Y", wires = [5] }', "wire 5 is outside the circuit (0 to 1)"),
    (HEAD + ENCODE + "wires = [1, 1]\n", "wires [1, 1] name a qubit twice"),
    ('qubits = 2\nobservables = ["Q0"]\n' + ENCODE, "observable 'Q0': 'Q0' is not X, Y or Z and a qubit number"),
    ('qubits = 2\nobservables = ["Z2"]\n' + ENCODE, "observable 'Z2': qubit 2 is outside the circuit (0 to 1)"),
    ('qubits = 2\nobservables = ["Z0 X0"]\n' + ENCODE, "observable 'Z0 X0' names qubit 0 twice"),
    ('qubits = 2\nobservables = [""]\n' + ENCODE, "observable '' is empty"),
    (HEAD + ENCODE + '[[blocks]]\nencode = "amplitude"\n', "it must be the first block, and only once"),
    (HEAD + '[[blocks]]\nencode = "amplitude"\nfeatures = 5\n', "5 features do not fit in the 2^2 amplitudes"),
    (HEAD + '[[blocks]]\nencode = "amplitude"\naxis = "X"\n', "encode = 'amplitude' has no key 'axis'"),
    (HEAD + '[[blocks]]\nencode = "amplitud"\n', "should be 'angle', 'amplitude' or 'iqp'"),
    (HEAD + ENCODE + 'squash = "relu"\n', "key 'squash' is 'relu': input should be 'none', 'tanh'"),
    (HEAD + ENCODE + 'scale = "2pie"\n', "key 'scale' is '2pie'"),
    (HEAD + ENCODE + "scale = nan\n", "key 'scale' is nan: input should be a finite number"),
    (HEAD + ENCODE + '[[blocks]]\nentangle = "circle"\n', "should be 'chain', 'ring' or 'all'"),
    (HEAD + ENCODE + '[[blocks]]\nentangle = "ring"\ngate = "rzx"\n', "unknown two-qubit gate 'rzx'; did you mean"),
    (HEAD + ENCODE + '[[blocks]]\nentangle = "chain"\nrange = 2\n', "range is only for entangle = 'ring'"),
    (HEAD + ENCODE + '[[blocks]]\nentangle = "ring"\nrange = 2\n', "joins qubits to themselves"),
    (HEAD + ENCODE + '[[blocks]]\nrotate = "YQ"\n', "key 'rotate' is 'YQ'"),
    (HEAD + '[[blocks]]\nrotate = "Y"\n', "the circuit encodes no feature; add an encode block"),
    (HEAD + ENCODE + REPEAT.replace("2", "1000") % '{ rotate = "Y" }', "more than 100000 weights"),
    (HEAD + "[[blocks\n", "not valid TOML: Expected ']]'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_a_wrong_file_is_one_line_that_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_circuit(str(file))
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_binary_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match=r"mine\.toml: cannot be read as text"):
        load_circuit(str(file))


def test_missing_circuits_suggest_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^unknown circuit 'angel_4q'; did you mean 'angle_4q'\? \(allowed: angle_4q,"
    ):
        load_circuit("angel_4q")
    (tmp_path / "angle.toml").touch()
    with pytest.raises(InputError, match=r"angel\.toml' does not exist; did you mean 'angle\.toml'"):
        load_circuit(tmp_path / "angel.toml")


def test_the_users_folder_hides_a_shipped_circuit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "circuits").mkdir()
    (tmp_path / "circuits" / "angle_4q.toml").write_text(HEAD + ENCODE)
    monkeypatch.chdir(tmp_path)
    assert load_circuit("angle_4q").n_qubits == 2
    assert load_circuit("sda_qec").n_qubits == 8


def test_a_circuit_loads_as_itself() -> None:
    circuit = load_circuit("angle_4q")
    assert load_circuit(circuit) is circuit
