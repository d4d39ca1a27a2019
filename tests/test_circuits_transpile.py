"""ISA circuits: equal to the ideal circuit, only of gates that the machine has, all bases on one layout, cached."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from dense_simulation import circuit_of, expectations, random_rows
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector
from qiskit.transpiler import Target

from qhybrid import catalog
from qhybrid.circuits import transpile_cache
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile import IsaCircuit, isa_circuits
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.reference import random_circuit

MACHINES = ("ibm_brisbane", "ibm_torino", "ibm_fez", "fake:FakeAlmadenV2", "fake:FakeFractional")
SMALL = [name for name in catalog.entries("circuits") if load_circuit(name).n_qubits <= 6]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "cache"))
    transpile_cache.forget()


@lru_cache
def target_of(machine: str) -> Target:
    return load_noise_model(machine).target()


def laid_out(circuit: Circuit, machine: str, **options: object) -> tuple[IsaCircuit, ...]:
    options = {"schedule": True, "layout_seeds": 1, "cache": False, "machine": machine, **options}
    return isa_circuits(circuit, target_of(machine), **options)  # type: ignore[arg-type]


def values(isas: tuple[IsaCircuit, ...], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expectation values of the bound circuits by Qiskit's state vectors, (B, M)."""
    circuit = isas[0].circuit
    result = np.full((len(rows), circuit.n_observables), np.nan)
    for isa in isas:
        for b, bound in enumerate(isa.bound(rows)):
            state = Statevector(without_machine(isa, bound))
            for member in isa.basis.members:
                qubits = [isa.measured[wire] for wire, _ in circuit.observables[member].factors]
                p = state.probabilities(qubits)
                result[b, member] = sum(v * (-1) ** bin(i).count("1") for i, v in enumerate(p))
    return result


def without_machine(isa: IsaCircuit, bound: QuantumCircuit) -> QuantumCircuit:
    """The gates on the qubits in use; measurements must come last, and read what `measured` says."""
    small, done, read = QuantumCircuit(len(isa.qubits)), set(), {}
    for each in bound.data:
        on = [isa.qubits.index(bound.find_bit(q).index) for q in each.qubits]
        assert not done & set(on) or each.name == "delay"
        if each.name == "measure":
            done.update(on)
            read[bound.find_bit(each.clbits[0]).index] = on[0]
        elif each.name != "delay":
            small.append(each.operation, on)
    assert [read[bit] for bit in range(len(read))] == list(isa.measured.values())
    return small


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


@pytest.mark.parametrize("seed", range(6))
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
