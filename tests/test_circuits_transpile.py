"""ISA circuits: equal to the ideal circuit, only of gates that the machine has, all bases on one layout."""

import math
from itertools import pairwise

import numpy as np
import pytest
from dense_simulation import circuit_of, expectations, random_rows
from layouts import chain, laid_out, values
from numpy.typing import NDArray
from qiskit.circuit import Delay, Measure, Parameter
from qiskit.circuit.library import CZGate, RZGate, SXGate, XGate
from qiskit.transpiler import InstructionProperties, Target

from qhybrid import catalog
from qhybrid.circuits.light_cone import without_unseen_gates
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile import IsaCircuit, isa_circuits
from qhybrid.errors import InputError
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.reference import random_circuit

MACHINES = ("ibm_brisbane", "ibm_torino", "ibm_fez", "fake:FakeAlmadenV2", "fake:FakeFractional")
SMALL = [name for name in catalog.entries("circuits") if load_circuit(name).n_qubits <= 6]


def rebuilt(isa: IsaCircuit, row: NDArray[np.float64]) -> list[tuple[object, ...]]:
    found = []
    for op in isa.operations:
        angles = [p.constant + sum(f * row[slot] for slot, f in p.terms) for p in op.params]
        found.append((op.name, tuple(isa.qubits[q] for q in op.qubits), angles, op.seconds))
    return found


def assert_legal(isa: IsaCircuit, machine: str) -> None:
    model = load_noise_model(machine)
    pairs = 0
    for each in isa.isa.data:
        on = tuple(isa.isa.find_bit(q).index for q in each.qubits)
        assert not set(on) & set(model.faulty_qubits)
        if each.name == "measure":
            assert np.isfinite(model.readout[on[0]]).all()
        elif each.name != "delay":
            assert (each.name, on) in model.gates
        if len(on) == 2:
            pairs += 1
            assert tuple(sorted(on)) not in model.faulty_edges
            assert not each.params
    assert pairs == isa.report.gates2q


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", SMALL)
def test_isa_circuits_of_the_catalog_have_the_ideal_values(name: str, machine: str) -> None:
    circuit = load_circuit(name).expanded()
    rows = random_rows(circuit, 2, seed=1)
    isas = laid_out(circuit, machine)
    for isa in isas:
        assert_legal(isa, machine)
    np.testing.assert_allclose(values(isas, rows), expectations(circuit, rows), atol=1e-10)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
@pytest.mark.parametrize("machine", MACHINES)
def test_isa_circuits_of_random_circuits_have_the_ideal_values(machine: str, seed: int) -> None:
    circuit = random_circuit(np.random.default_rng(seed), n_qubits=2 + seed % 4, n_gates=14)
    rows = random_rows(circuit, 2, seed)
    isas = laid_out(circuit, machine, schedule=bool(seed % 2), optimization_level=1 + seed % 3)
    for isa in isas:
        assert_legal(isa, machine)
        assert isa.layout == isas[0].layout
        assert set(isa.qubits) >= set(isas[0].layout.values())
        assert any(op.name == "delay" for op in isa.operations) <= bool(seed % 2)
    np.testing.assert_allclose(values(isas, rows), expectations(circuit, rows), atol=1e-10)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_plain_operations_are_the_bound_circuit(machine: str) -> None:
    circuit = random_circuit(np.random.default_rng(5), n_qubits=4, n_gates=20)
    rows = random_rows(circuit, 2, seed=0)
    for isa in laid_out(circuit, machine):
        for row, bound in zip(rows, isa.bound(rows), strict=True):
            found = rebuilt(isa, row)
            there = [each for each in bound.data if each.name != "measure"]
            assert len(found) == len(there)
            for (name, on, angles, seconds), each in zip(found, there, strict=True):
                assert (name, on) == (each.name, tuple(bound.find_bit(q).index for q in each.qubits))
                if name == "delay":
                    assert seconds == pytest.approx(
                        each.operation.duration * (isa.dt if each.operation.unit == "dt" else 1)
                    )
                else:
                    np.testing.assert_allclose(angles, [float(p) for p in each.params], atol=1e-12)


def test_wires_without_gates_are_measured_where_they_are() -> None:
    circuit = circuit_of([("ry", (0,)), ("cx", (0, 3)), ("rx", (3,))], ["Z0 Z3", "X1", "Z2", "Y3"], 5)
    rows = random_rows(circuit, 3, seed=2)
    for machine in MACHINES:
        isas = laid_out(circuit, machine)
        np.testing.assert_allclose(values(isas, rows), expectations(circuit, rows), atol=1e-10)
        assert sorted(isas[0].layout) == [0, 1, 2, 3]  # wire 4 does nothing
        assert isas[0].report.gates2q == 1


@pytest.mark.parametrize("machine", ["ibm_brisbane", "ibm_torino"])
def test_a_line_is_laid_over_the_best_line_of_the_machine(machine: str) -> None:
    """Gate and readout errors of every line of four, found by walking the machine's edges."""
    model = load_noise_model(machine)
    error: dict[tuple[int, int], float] = {}
    for (_, on), calibration in model.gates.items():
        if len(on) == 2:
            error[on] = error[on[::-1]] = calibration.error
    lines = [(a, b) for a, b in error]
    for _ in range(2):
        lines = [(*line, c) for line in lines for a, c in error if a == line[-1] and c not in line]
    read = 1 - model.readout.mean(axis=1)
    scores = [math.prod((1 - error[a, b]) ** 2 for a, b in pairwise(line)) * read[list(line)].prod() for line in lines]
    report = laid_out(load_circuit("angle_4q"), machine, schedule=False)[0].report
    assert report.gates2q == 6
    assert 0.985 * max(scores) < report.survival < max(scores)


def test_routing_beats_a_plain_transpile() -> None:
    circuit = load_circuit("reupload_4q")
    plain = laid_out(circuit, "ibm_torino")[0].report
    assert plain.gates2q <= 17  # the CZ before the readout are not seen, one swap a layer
    assert laid_out(circuit, "ibm_torino", layout_seeds=3)[0].report.survival >= plain.survival


def test_gates_that_no_observable_sees_are_dropped() -> None:
    seen = circuit_of([("ry", (0,)), ("cx", (0, 1))], ["Z1"], 3)
    tail = circuit_of([("ry", (0,)), ("cx", (0, 1)), ("cz", (1, 2)), ("rz", (1,)), ("ry", (2,))], ["Z1"], 3)
    assert without_unseen_gates(tail).gates == seen.gates
    x_measured = circuit_of([("ry", (0,)), ("cz", (0, 1)), ("rx", (1,))], ["Z0", "X1"], 2)
    assert [gate.name for gate in without_unseen_gates(x_measured).gates] == ["ry", "cz"]


def machine_of(edges: list[tuple[int, int]], n_qubits: int = 5) -> Target:
    target = Target(num_qubits=n_qubits, dt=1e-9)
    for gate in (RZGate(Parameter("t")), SXGate(), XGate(), Measure()):
        target.add_instruction(gate, {(q,): InstructionProperties(1e-8, 1e-3) for q in range(n_qubits)})
    if edges:
        target.add_instruction(CZGate(), {edge: InstructionProperties(1e-7, 1e-2) for edge in edges})
    target.add_instruction(Delay(Parameter("t")), {(q,): None for q in range(n_qubits)})
    return target


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(0, 1), (2, 3), (3, 4)], "'random' needs 4 connected qubits; the largest connected group of toy has 3"),
        ([], "'random' needs two-qubit gates; toy has none that can be used"),
    ],
)
def test_circuits_that_do_not_fit_are_one_line(edges: list[tuple[int, int]], message: str) -> None:
    circuit = circuit_of([("ry", (0,)), ("cx", (0, 1)), ("cx", (0, 2)), ("cx", (0, 3))], ["X0 X3", "X1 X2"], 4)
    with pytest.raises(InputError) as error:
        isa_circuits(circuit, machine_of(edges), schedule=True, machine="toy")
    assert str(error.value) == f"circuit {message}"


def test_a_circuit_larger_than_the_machine_says_how_large_it_is() -> None:
    with pytest.raises(InputError, match="'sda_qec' has 8 qubits; toy has 5"):
        isa_circuits(load_circuit("sda_qec").expanded(), machine_of([(0, 1)]), schedule=True, machine="toy")
    with pytest.raises(InputError, match="layout seeds 0: at least 1"):
        isa_circuits(chain(), machine_of([(0, 1)]), schedule=True, layout_seeds=0)


def test_circuits_without_two_qubit_gates_need_no_edges() -> None:
    circuit = circuit_of([("ry", (0,)), ("rx", (2,))], ["Z0", "Y2", "Z1"], 3)
    rows = random_rows(circuit, 2, seed=0)
    isas = isa_circuits(circuit, machine_of([]), schedule=True)
    np.testing.assert_allclose(values(isas, rows), expectations(circuit, rows), atol=1e-10)


def test_separate_parts_of_a_circuit_may_lie_apart() -> None:
    circuit = circuit_of([("ry", (0,)), ("cx", (0, 1)), ("ry", (2,)), ("cx", (2, 3))], ["Z1", "Z3"], 4)
    rows = random_rows(circuit, 2, seed=0)
    isas = isa_circuits(circuit, machine_of([(0, 1), (3, 4)]), schedule=True)
    np.testing.assert_allclose(values(isas, rows), expectations(circuit, rows), atol=1e-10)


def test_survival_counts_every_gate_wait_and_readout() -> None:
    (isa,) = laid_out(load_circuit("angle_4q"), "ibm_brisbane", schedule=True)
    model = load_noise_model("ibm_brisbane")
    survival, pulsed = 1.0, set()
    for op in isa.operations:
        on = tuple(isa.qubits[q] for q in op.qubits)
        if op.name != "delay":
            survival *= 1 - model.gates[op.name, on].error
            pulsed |= set(on) if op.name != "rz" else set()
        elif on[0] in pulsed:
            a, b = op.seconds / model.t1[on[0]], op.seconds / model.t2[on[0]]
            survival *= (3 + 2 * math.exp(-b) + math.exp(-a)) / 6
    for place in isa.measured.values():
        survival *= 1 - model.readout[isa.qubits[place]].mean()
    assert isa.report.survival == pytest.approx(survival, rel=1e-9)
    assert isa.report.n_qubits == len(isa.qubits) == 4
