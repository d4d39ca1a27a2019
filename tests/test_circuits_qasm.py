"""OpenQASM 3 files: what they may say, the values Qiskit gives them, and errors of one line, nothing printed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_qasm3_import import parse

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.statevector import StatevectorDevice
from qhybrid.errors import InputError

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
FILES = {
    "scalars": """
        // observables: Z0, X1 Y2, Z0 Z2
        input float[64] x0; input float[64] x1; input float[64] theta0;
        qubit[3] q;
        ry(x0) q[0]; rx(x1) q[1]; h q[2]; cx q[0], q[2]; rz(theta0) q[2]; crx(x1) q[2], q[1]; sdg q[0]; sx q[1];
        """,
    "underscored names": """
        // observables: Y0, X0 Z1
        input angle _x_0_; input angle[32] x_1; input float _theta_0_; input float theta_1;
        qubit a; qubit b;
        rx(_x_0_) a; ry(x_1) b; cy a, b; p(_theta_0_) b; cp(theta_1) a, b; swap a, b; h a; t b;
        """,
    "custom gates": """
        // observables: Z0, Z1, X0 X1
        input float[64] x0; input float[64] theta0; input float[64] theta1;
        gate layer(a, b) p, q { ry(a) p; U(a, b, -a) q; cx p, q; }
        gate twice(a) p, q { layer(a, 2 * a) p, q; layer(-a / 2, 0.3) q, p; }
        qubit[2] q;
        rx(x0) q[0]; twice(theta0) q[0], q[1]; ctrl @ rz(theta1) q[1], q[0]; inv @ t q[0]; gphase(0.7);
        """,
    "U gates, factors and offsets": """
        // observables: X0, Y0, Z0, Y0 Y1
        input float[64] x0; input float[64] x1; input float[64] theta0;
        qubit[2] q;
        U(x0 + pi / 3, 2 * x1 - theta0, -x0 / 4 + 1) q[0]; cu(0.5, x1, 0.2, 0.1) q[0], q[1];
        ry(-(theta0 + 3 * x0) / 2 + pi) q[1]; ccx q[0], q[1], q[2];
        barrier q; bit[3] c; c = measure q;
        """.replace("qubit[2]", "qubit[3]"),
}
ARRAYS = """// Two features, three weights
// observables: Z0, X1
input array[float[64], 2] x; input array[float[64], 3] theta;
qubit[2] q;
ry(x[0]) q[0]; rx(x[1] + theta[0]) q[1]; cz q[0], q[1]; rz(2 * theta[2]) q[0]; h q[0]; ry(theta[1]) q[1];
"""


def read(folder: Path, text: str, name: str = "mine") -> Circuit:
    file = folder / f"{name}.qasm"
    file.write_text(text)
    return load_circuit(str(file))


def values(circuit: Circuit, features: list[float], weights: list[float]) -> np.ndarray:
    """Expectation values on qhybrid.statevector."""
    device = StatevectorDevice()
    rows = circuit.parameters(torch.tensor([features], dtype=torch.float64), torch.tensor(weights, dtype=torch.float64))
    return device.run(device.prepare(circuit), rows).values.numpy()[0]


def qiskit_values(qasm: str, inputs: dict[str, float], words: list[str]) -> list[float]:
    """What Qiskit makes of the same text."""
    circuit: QuantumCircuit = parse(qasm).remove_final_measurements(inplace=False)
    state = Statevector(circuit.assign_parameters({name: inputs[name] for name in map(str, circuit.parameters)}))
    n = circuit.num_qubits
    factors = [re.findall(r"([XYZ])(\d+)", word) for word in words]
    sparse = [("".join(letter for letter, _ in each), [int(wire) for _, wire in each], 1.0) for each in factors]
    return [float(state.expectation_value(SparsePauliOp.from_sparse_list([each], n)).real) for each in sparse]


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_qiskit(tmp_path: Path, text: str, seed: int) -> None:
    circuit = read(tmp_path, HEAD + text)
    rng = np.random.default_rng(seed)
    features, weights = rng.uniform(-4, 4, circuit.n_features), rng.uniform(-4, 4, circuit.n_weights)
    names = set(re.findall(r"input \S+ (\w+);", text))
    assert len(names) == circuit.n_features + circuit.n_weights
    inputs = {name: (weights if "theta" in name else features)[int(re.findall(r"\d+", name)[0])] for name in names}
    words = [str(word) for word in circuit.observables]
    expected = qiskit_values(HEAD + text, inputs, words)
    np.testing.assert_allclose(values(circuit, list(features), list(weights)), expected, atol=1e-12)


def test_input_arrays_are_the_same_circuit_as_scalars(tmp_path: Path) -> None:
    text = re.sub(r"\b(x|theta)\[(\d)\]", r"\1\2", ARRAYS)
    declared = [f"input float[64] {name};" for name in ("x0", "x1", "theta0", "theta1", "theta2")]
    text = re.sub(r"input array.*\n", " ".join(declared) + "\n", text)
    circuit = read(tmp_path, HEAD + ARRAYS)
    assert (circuit.n_features, circuit.n_weights) == (2, 3)
    inputs = {"x0": 0.3, "x1": -1.2, "theta0": 2.0, "theta1": 0.4, "theta2": -0.7}
    expected = qiskit_values(HEAD + text, inputs, ["Z0", "X1"])
    np.testing.assert_allclose(values(circuit, [0.3, -1.2], [2.0, 0.4, -0.7]), expected, atol=1e-12)


def test_comments_give_observables_and_description(tmp_path: Path) -> None:
    circuit = read(tmp_path, HEAD + ARRAYS, name="two_layers")
    assert [str(word) for word in circuit.observables] == ["Z0", "X1"]
    assert circuit.name == "two_layers"
    assert circuit.description == "Two features, three weights"


def test_without_a_comment_every_qubit_is_measured_in_z(tmp_path: Path) -> None:
    circuit = read(tmp_path, HEAD + "input float x0; qubit[3] q; ry(x0) q[1];")
    assert [str(word) for word in circuit.observables] == ["Z0", "Z1", "Z2"]
    np.testing.assert_allclose(values(circuit, [0.4], []), [1, np.cos(0.4), 1], atol=1e-15)


def test_qubit_0_is_the_first_one_declared(tmp_path: Path) -> None:
    circuit = read(tmp_path, HEAD + "input float x0; qubit first; qubit[2] later; x first; ry(x0) later[1];")
    np.testing.assert_allclose(values(circuit, [0.4], []), [-1, 1, np.cos(0.4)], atol=1e-15)


def test_the_users_circuits_folder_may_hold_qasm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "circuits").mkdir()
    read(tmp_path / "circuits", HEAD + "input float x0; qubit q; ry(x0) q;", name="tiny")
    monkeypatch.chdir(tmp_path)
    assert load_circuit("tiny").n_qubits == 1


START = HEAD + "input float[64] x0; qubit[2] q; "
WRONG = {
    "": "is empty",
    START + "ry(x0 q[0];": "not valid OpenQASM 3: line 3, column 38: no viable alternative at input 'ry(x0q'",
    "\x01garbage § €": "not valid OpenQASM 3: line 1, column 0: token recognition error at: '?'",
    START + "ry(x0) q[0]": "not valid OpenQASM 3: syntax error (a bracket, semicolon",
    START + "foo(x0) q[0];": "line 3, column 32: gate 'foo' is not defined",
    START + "ry(x0 + y) q[0];": "line 3, column 35",
    START + "ry(x0) q[5];": "index out of range",
    START + "ry(x0) q[0]; cx q[0], q[0];": "duplicate qubit arguments",
    START + "ry(x0 * x0) q[0];": "angle x0*x0 is not an affine function of the inputs",
    START + "ry(1 / x0) q[0];": "angle 1/x0 is not an affine function of the inputs",
    START + "ry(x0) q[0]; rz(1 / 0) q[0];": "integer division or modulo by zero",
    START + "ry(x0) q[0]; reset q[0];": "'reset' has no place in a circuit of gates and final measurements",
    START + "bit c; ry(x0) q[0]; c = measure q[0]; h q[0];": "gate 'h' follows the measurement of a qubit",
    START + "bit c; c = measure q[0]; if (c) { ry(x0) q[1]; }": "'if_else' has no place",
    START + "for int i in [0:1] { ry(x0) q[i]; }": "a loop has no place",
    START + "box { ry(x0) q[0]; }": "'box' has no place",
    HEAD + "input int x0; qubit q; ry(x0) q;": "only 'float' and 'angle' inputs are supported",
    HEAD + "input float speed; qubit q; ry(speed) q;": "input 'speed' is neither a feature (x0, x[0]) nor a weight",
    HEAD + "input float x0; input float x_0; qubit q; ry(x0) q; rz(x_0) q;": "are both x0",
    HEAD + "input float x0; input float x2; qubit q; ry(x0) q; rz(x2) q;": "input x1 is missing or unused",
    HEAD + "input float x99999999999; qubit q; ry(x99999999999) q;": "its number must be below 4096",
    HEAD + "input float theta0; qubit q; ry(theta0) q;": "the circuit encodes no feature",
    HEAD + "input array[float, 2] x; qubit q; ry(x[2]) q;": "index of input 'x' must be a whole number from 0 to 1",
    HEAD + "input array[float, 2] x; qubit q; ry(x[-1]) q;": "index of input 'x' must be a whole number from 0 to 1",
    HEAD + "input array[float, 2, 2] x; qubit q; ry(x[0, 0]) q;": "must have one dimension of constant size",
    HEAD + "input array[float, 1000000000] x; qubit q; ry(x[0]) q;": "has 1000000000 elements (at most 4096)",
    HEAD + "input float x0;": "no qubit is declared",
    HEAD + "input float x0; qubit[2000000] q; ry(x0) q[0];": "2000000 qubits are declared (at most 24)",
    "// observables: Z0, Q1\n" + START + "ry(x0) q[0];": "observable 'Q1': 'Q1' is not X, Y or Z and a qubit number",
    "// observables: Z7\n" + START + "ry(x0) q[0];": "observable 'Z7': qubit 7 is outside the circuit (0 to 1)",
    'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\nrx(0.1) q[0];': "non-stdgates imports",
}


@pytest.mark.parametrize("text", WRONG, ids=[message[:45] for message in WRONG.values()])
def test_a_wrong_file_is_one_line_naming_it_and_nothing_is_printed(
    tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "mine.qasm"))
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_not_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "mine.qasm").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"mine\.qasm: cannot be read as text"):
        load_circuit(tmp_path / "mine.qasm")


def test_a_good_file_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    read(tmp_path, HEAD + ARRAYS)
    assert capfd.readouterr() == ("", "")
