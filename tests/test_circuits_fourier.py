"""Fourier transforms, Hadamards, phases and fixed angles in circuit files; the circuit of HQCNN."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from qiskit import QuantumCircuit, qasm3
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import Operator

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.controls import without_entanglement
from qhybrid.circuits.diagram import lay_out
from qhybrid.circuits.draw import draw_text
from qhybrid.circuits.light_cone import without_unseen_gates
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile import isa_circuits
from qhybrid.conformance_checks import CHECKS
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError
from qhybrid.gradients import rows_per_sample
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.spec import load_noise_model


def circuit_of(*blocks: dict[str, Any], qubits: int = 3) -> Circuit:
    words = [f"Z{wire}" for wire in range(qubits)]
    return load_circuit({"qubits": qubits, "observables": words, "blocks": [{"encode": "angle"}, *blocks]})


def unitary(circuit: Circuit, weights: NDArray[np.float64] | None = None) -> NDArray[np.complex128]:
    """By Qiskit, at features of zero, qubit 0 the most significant bit."""
    angles = circuit.offset if weights is None else circuit.offset + weights @ circuit.weight_map
    theirs = QuantumCircuit(circuit.n_qubits)
    for gate in circuit.gates:
        getattr(theirs, gate.name)(*([] if gate.slot is None else [angles[gate.slot]]), *gate.wires)
    return np.asarray(Operator(theirs.reverse_bits()).data)


def dft(n: int) -> NDArray[np.complex128]:
    index = np.arange(2**n)
    return np.exp(2j * np.pi * np.outer(index, index) / 2**n) / 2 ** (n / 2)


def reordered(matrix: NDArray[np.complex128], order: tuple[int, ...]) -> NDArray[np.complex128]:
    """A matrix whose wire i is `order[i]` of the circuit."""
    n = len(order)
    axes = [int(place) for place in np.argsort(order)]
    tensor = matrix.reshape((2,) * (2 * n)).transpose([*axes, *(n + axis for axis in axes)])
    return tensor.reshape(2**n, 2**n)


@settings(deadline=None, max_examples=20)
@given(order=st.integers(1, 5).flatmap(lambda n: st.permutations(range(n))))
def test_a_qft_is_the_fourier_matrix_of_the_wires_in_their_order(order: list[int]) -> None:
    wires, n = tuple(order), len(order)
    forward = unitary(circuit_of({"qft": "forward", "wires": list(wires)}, qubits=n))
    np.testing.assert_allclose(forward, reordered(dft(n), wires), atol=1e-12)
    inverse = unitary(circuit_of({"qft": "inverse", "wires": list(wires)}, qubits=n))
    np.testing.assert_allclose(inverse, forward.conj().T, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_without_swaps_the_result_is_in_reverse_order_and_the_inverse_takes_it_so(n: int) -> None:
    forward = unitary(circuit_of({"qft": "forward", "swaps": False}, qubits=n))
    reverse = [int(f"{index:0{n}b}"[::-1], 2) for index in range(2**n)]
    np.testing.assert_allclose(forward, dft(n)[reverse], atol=1e-12)
    inverse = unitary(circuit_of({"qft": "inverse", "swaps": False}, qubits=n))
    np.testing.assert_allclose(inverse @ forward, np.eye(2**n), atol=1e-12)


@pytest.mark.parametrize("swaps", [True, False])
def test_phases_between_a_transform_and_its_inverse_move_basis_states_on(swaps: bool) -> None:
    n = 3
    blocks = [{"qft": "forward", "swaps": swaps}, {"rotate": "P"}, {"qft": "inverse", "swaps": swaps}]
    circuit = circuit_of(*blocks, qubits=n)
    assert [gate.name for gate in circuit.gates].count("p") == circuit.n_weights == n
    bits = 2.0 ** np.arange(n)[:: -1 if swaps else 1]  # what each wire counts in k
    shifted = unitary(circuit, 2 * np.pi * 5 * bits / 2**n)
    np.testing.assert_allclose(shifted, np.roll(np.eye(2**n), 5, axis=0), atol=1e-12)


def test_fixed_angles_and_layers_of_fixed_gates() -> None:
    circuit = circuit_of({"apply": "H"}, {"entangle": "ring", "gate": "cphase", "angle": "-pi/4"}, {"apply": "sdg"})
    names = [gate.name for gate in circuit.gates]
    assert names == ["ry"] * 3 + ["h"] * 3 + ["cp"] * 3 + ["sdg"] * 3
    assert circuit.n_weights == 0
    assert list(circuit.constants.values()) == [-np.pi / 4] * 3
    joined = circuit_of(
        *[{"entangle": "chain", "gate": "cp", "angle": 0.25}, {"entangle": "chain", "gate": "cp"}], qubits=2
    )
    assert [gate.name for gate in joined.gates] == ["ry", "ry", "cp"]
    assert (joined.n_weights, joined.offset[-1], joined.constants) == (1, 0.25, {})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"apply": "hh"}, "unknown one-qubit gate 'hh'; did you mean 'h'?"),
        ({"apply": "cx"}, "unknown one-qubit gate 'cx'"),
        ({"apply": "ry"}, "unknown one-qubit gate 'ry'"),
        ({"qft": "backward"}, "key 'qft' is 'backward': input should be 'forward' or 'inverse'"),
        ({"qft": "forward", "swap": False}, "qft block: unknown key 'swap'; did you mean 'swaps'?"),
        ({"entangle": "chain", "angle": 1.0}, "gate 'cx' takes no angle (allowed with an angle: rxx, ryy, rzz, cp"),
        ({"entangle": "chain", "gate": "cp", "angle": "2pie"}, "key 'angle' is '2pie'"),
        ({"entangle": "chain", "gate": "cp", "angle": float("inf")}, "key 'angle' is inf"),
        ({"qftt": "forward"}, "exactly one of the keys encode, rotate, entangle, apply, qft, repeat; did you mean"),
    ],
)
def test_a_wrong_block_is_one_line(block: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        circuit_of(block)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_circuit_of_hqcnn_reads_as_it_is_described() -> None:
    circuit = load_circuit("hqcnn_4q")
    text = draw_text(circuit, 200)
    assert text.splitlines()[0].startswith("q0: ──H──RY(π/2·tanh x0 + θ0)────●────RY(θ7)─")
    assert text.count("P(") == len([gate for gate in circuit.gates if gate.name in ("p", "cp")])
    assert {"P(π/2)", "P(-π/8)", "P(θ14)", "P(θ17)"} <= set(text.replace("─", " ").split())
    roles = [gate.role for column in lay_out(circuit, 30).columns for gate in column if gate.angle]
    assert (roles.count("fixed"), roles.count("both"), roles.count("trainable")) == (12, 4, 14)


def test_every_weight_of_hqcnn_is_seen_and_gradients_are_those_of_finite_differences() -> None:
    circuit = load_circuit("hqcnn_4q")
    assert len(without_unseen_gates(circuit).gates) == len(circuit.gates)
    layer = QuantumLayer(circuit, "qhybrid.statevector", seed=1).double()
    features = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobians = {}
    for method in ("backprop", "parameter-shift"):
        other = layer.with_device("qhybrid.statevector", diff_method=method)
        rows = []
        for observable in range(4):
            layer.weights.grad = None
            other(features)[:, observable].sum().backward()
            assert layer.weights.grad is not None
            rows.append(layer.weights.grad.clone())
        jacobians[method] = torch.stack(rows)
    step, columns = 1e-5, []
    for index in range(circuit.n_weights):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                moved = layer.weights.clone()
                moved[index] += sign * step
                rows_of = circuit.parameters(features, moved)
                ends.append(layer.device.run(layer.program, rows_of, shots=None, seed=None).values.sum(dim=0))
        columns.append((ends[0] - ends[1]) / (2 * step))
    torch.testing.assert_close(jacobians["backprop"], torch.stack(columns, dim=1), atol=1e-8, rtol=0)
    torch.testing.assert_close(jacobians["parameter-shift"], jacobians["backprop"], atol=1e-12, rtol=0)
    assert bool((jacobians["backprop"].abs().max(dim=0).values > 1e-3).all())
    trained = circuit.columns_that_depend_on(features=True, weights=True)
    assert rows_per_sample(layer.program, trained, "parameter-shift") == 1 + 2 * int(trained.sum())  # no constant


def test_its_control_without_entanglement_has_as_many_weights() -> None:
    control = without_entanglement(load_circuit("hqcnn_4q"))
    assert (control.n_two_qubit_gates, control.n_weights) == (0, 18)


def test_a_circuit_that_qiskit_wrote_as_openqasm_reads_back(tmp_path: Path) -> None:
    circuit = load_circuit("hqcnn_4q")
    x, theta = ParameterVector("x", 4), ParameterVector("theta", 18)
    theirs = QuantumCircuit(4)
    for gate in circuit.gates:
        if gate.slot is None:
            getattr(theirs, gate.name)(*gate.wires)
            continue
        angle = float(circuit.offset[gate.slot])
        for names, column in ((x, circuit.encoding_map), (theta, circuit.weight_map)):
            angle = sum((float(column[i, gate.slot]) * names[i] for i in np.flatnonzero(column[:, gate.slot])), angle)
        getattr(theirs, gate.name)(angle, *gate.wires)
    path = tmp_path / "hqcnn.qasm"
    path.write_text(qasm3.dumps(theirs))
    read = load_circuit(str(path))
    assert (read.n_features, read.n_weights, len(read.gates)) == (4, 18, len(circuit.gates))
    assert sorted(read.constants.values()) == pytest.approx(sorted(circuit.constants.values()))
    ours = QuantumLayer(circuit, "qhybrid.statevector", seed=2).double()
    features = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    again = QuantumLayer(read, "qhybrid.statevector", seed=2).double()
    torch.testing.assert_close(again(np.pi / 2 * torch.tanh(features)), ours(features))


def test_a_machine_gets_constant_angles_filled_in_and_layouts_are_kept_apart_by_them() -> None:
    def small(angle: float) -> Circuit:
        return circuit_of(
            {"apply": "h"}, {"entangle": "chain", "gate": "cp", "angle": angle}, {"rotate": "Y"}, qubits=2
        )

    target = load_noise_model("ibm_fez").target()
    gates = {}
    for angle in (np.pi, 0.3):
        (isa,) = isa_circuits(small(angle), target, schedule=False, layout_seeds=1)
        assert {int(parameter.index) for parameter in isa.isa.parameters} <= {0, 1, 3, 4}
        gates[angle] = isa.report.gates2q
    assert gates == {np.pi: 1, 0.3: 2}  # a CZ, and a phase that takes two


@pytest.mark.parametrize("check", ["values", "gradients"])
@pytest.mark.parametrize("name", ["qhybrid.density", "qiskit.aer"])
def test_a_noisy_transform_is_that_of_its_machine_circuit(name: str, check: str) -> None:
    device = load_device(name, noise=load_noise_model("ibm_fez"), layout_seeds=1)
    circuit = circuit_of({"qft": "forward"}, {"rotate": "P"}, {"qft": "inverse"}, qubits=2)
    assert CHECKS[check](device, [circuit])
