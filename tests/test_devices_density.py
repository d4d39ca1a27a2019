"""Device qhybrid.density against Aer with the full noise model of the machine, and against ideal dense matrices."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from aer_devices import rotated
from dense_simulation import circuit_of, circuits, expectations, random_rows
from full_noise import MACHINES, SMALL, independent_values
from hypothesis import given, settings

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import measurement_bases
from qhybrid.circuits.spec import load_circuit
from qhybrid.conformance import conformance_circuits, run_conformance
from qhybrid.devices.aer import AerDevice
from qhybrid.devices.base import Program
from qhybrid.devices.density import DensityDevice
from qhybrid.devices.density_sectors import SectorProgram
from qhybrid.devices.density_sweep import SweepProgram
from qhybrid.errors import InputError
from qhybrid.noise_models.model import PARTS
from qhybrid.noise_models.spec import load_noise_model


@functools.cache
def device(machine: str | None = "ibm_brisbane", **options: Any) -> DensityDevice:
    noise = None if machine is None else load_noise_model(machine)
    return DensityDevice("qhybrid.density", noise=noise, layout_seeds=2, **options)


@functools.cache
def prepared(opened: DensityDevice | AerDevice, circuit: Circuit) -> Program:
    return opened.prepare(circuit)


def values(opened: DensityDevice | AerDevice, circuit: Circuit, rows: np.ndarray) -> np.ndarray:
    """Exact expectation values (B, M)."""
    return opened.run(prepared(opened, circuit), torch.from_numpy(rows), shots=None, seed=None).values.numpy()


@functools.cache
def long() -> Circuit:
    """Five qubits, so that no dense program takes it, observables in three bases."""
    gates = [("ry", (wire,)) for wire in range(5)]
    gates += [(name, (wire, wire + 1)) for wire in range(4) for name in ("cx", "rzz", "crx")]
    return circuit_of(gates, ["Z0 Z4", "X1", "Y2 Y3", "Z3"], 5)


def check_against_full_model(machine: str, circuit: Circuit, batch: int) -> None:
    circuit = circuit.expanded()
    opened = device(machine)
    program = prepared(opened, circuit)
    rows = random_rows(circuit, batch, seed=3)
    wanted = independent_values(machine, opened.isa_circuits(program), rows)
    exact = opened.run(program, torch.from_numpy(rows))
    assert np.abs(exact.values.numpy() - wanted).max() < 1e-7
    assert not exact.stderr.any()
    assert np.abs(wanted - expectations(circuit, rows)).max() > 0.01  # and it is noisy
    sampled = opened.run(program, torch.from_numpy(rows), shots=4000, seed=8)
    assert (np.abs(sampled.values.numpy() - wanted) < 5 * sampled.stderr.numpy()).all()


@pytest.mark.parametrize(
    ("machine", "circuit"),
    [
        ("ibm_brisbane", "angle_4q"),
        pytest.param("ibm_torino", "rotated", marks=pytest.mark.slow),
        pytest.param("ibm_brisbane", "long", marks=pytest.mark.slow),
    ],
)
def test_values_are_those_of_the_full_uncut_noise_model(machine: str, circuit: str) -> None:
    own = {"rotated": rotated, "long": long}
    check_against_full_model(machine, own[circuit]() if circuit in own else load_circuit(circuit), batch=1)


@pytest.mark.parametrize("circuit", ["iqp_4q", "long"])
def test_longer_circuits_equal_aer(circuit: str) -> None:
    made = long() if circuit == "long" else load_circuit(circuit)
    noise, rows = load_noise_model("ibm_fez"), random_rows(made, 2, seed=9)
    ours, theirs = (values(kind(noise=noise, layout_seeds=2), made, rows) for kind in (DensityDevice, AerDevice))
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("circuit", SMALL)
def test_values_are_those_of_the_full_uncut_noise_model_on_every_small_circuit(machine: str, circuit: str) -> None:
    check_against_full_model(machine, load_circuit(circuit), batch=2)


@pytest.mark.slow
def test_eight_qubits_are_those_of_the_full_uncut_noise_model() -> None:
    check_against_full_model("ibm_brisbane", load_circuit("sda_qec"), batch=1)


@pytest.mark.parametrize("parts", [*[(part,) for part in PARTS], PARTS])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_parts_and_scales_equal_aer(parts: tuple[str, ...], scale: float) -> None:
    noise = load_noise_model("ibm_torino").with_parts(parts).scaled(scale)
    rows = random_rows(rotated(), 2, seed=4)
    ours, theirs = (values(kind(noise=noise, layout_seeds=2), rotated(), rows) for kind in (DensityDevice, AerDevice))
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    assert np.abs(ours - expectations(rotated(), rows)).max() > 1e-5


@pytest.mark.parametrize("machine", ["fake:FakeAlmadenV2", "fake:FakeFractionalBackend"])
def test_gates_of_other_machines_equal_aer(machine: str) -> None:
    noise = load_noise_model(machine)
    rows = random_rows(rotated(), 3, seed=5)
    ours, theirs = (values(kind(noise=noise, layout_seeds=2), rotated(), rows) for kind in (DensityDevice, AerDevice))
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


@settings(max_examples=80, deadline=None)
@given(circuit=circuits(max_qubits=4))
def test_ideal_circuits_equal_dense_matrices(circuit: Circuit) -> None:
    circuit = circuit.expanded()
    rows = random_rows(circuit, 3, seed=1)
    np.testing.assert_allclose(values(device(None), circuit, rows), expectations(circuit, rows), atol=1e-11)


def test_circuits_that_are_too_large_are_an_error_that_names_aer() -> None:
    wide = circuit_of([("ry", (wire,)) for wire in range(11)], ["Z0"], 11)
    with pytest.raises(InputError, match=r"uses 11 qubits; qhybrid\.density takes at most 10: qiskit\.aer"):
        device().prepare(wide)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtype": "complex32"}, "did you mean 'complex"), ({"memory_gb": 0.0}, "numbers above 0")],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DensityDevice(**options)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("circuit", ["angle_4q", "iqp_4q"])
def test_every_two_qubit_gate_with_a_calibrated_error_has_its_noise(machine: str, circuit: str) -> None:
    opened = device(machine)
    program = opened.prepare(load_circuit(circuit))
    (isa,), (noisy,) = opened.isa_circuits(program), program.compiled.noisy_gates
    calibrated = 0
    for operation in isa.operations:
        physical = tuple(isa.qubits[place] for place in operation.qubits)
        found = opened.noise.gates.get((operation.name, physical)) if opened.noise else None
        calibrated += len(physical) == 2 and found is not None and found.error > 0
    assert noisy[isa.report.two_qubit_gate] == calibrated == isa.report.gates2q > 0
    assert noisy["sx"] == sum(operation.name == "sx" for operation in isa.operations)
    assert noisy["rz"] == 0


def test_a_rescaled_program_is_that_of_the_scaled_model() -> None:
    opened, circuit = device(), load_circuit("angle_4q")
    program, rows = opened.prepare(circuit), torch.from_numpy(random_rows(circuit, 3, seed=1))
    transpiled = opened.tracker.transpilations
    assert opened.noise is not None
    for factor in (0.0, 0.5, 2.0):
        rescaled = opened.rescaled(program, factor)
        fresh = DensityDevice(noise=opened.noise.scaled(factor), layout_seeds=2)
        expected = fresh.run(fresh.prepare(circuit), rows).values
        torch.testing.assert_close(opened.run(rescaled, rows).values, expected, atol=1e-13, rtol=0)
        assert opened.rescaled(rescaled, factor) is rescaled
    assert opened.tracker.transpilations == transpiled
    ideal = opened.run(opened.rescaled(program, 0.0), rows).values.numpy()
    np.testing.assert_allclose(ideal, expectations(circuit, rows.numpy()), atol=1e-12)
    for factor in np.linspace(0.1, 0.9, 40):
        opened.rescaled(program, float(factor))
    assert len(program.compiled.rescaled) == 20
    with pytest.raises(InputError, match="noise scale -1"):
        opened.rescaled(program, -1)
    with pytest.raises(InputError, match="no noise model"):
        device(None).rescaled(device(None).prepare(circuit), 0.5)


def test_shots_are_seeded_and_independent_between_rows() -> None:
    circuit = rotated()
    opened = device("ibm_torino")
    program, rows = opened.prepare(circuit), torch.from_numpy(random_rows(circuit, 1, seed=1)).expand(2000, -1)
    exact = opened.run(program, rows[:1]).values
    first, again, other = (opened.run(program, rows, shots=200, seed=seed).values for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    sigma = torch.sqrt((1 - exact**2) / 200)
    assert ((first.mean(0) - exact).abs() < 5 * sigma / np.sqrt(2000)).all()
    torch.testing.assert_close(first.std(0), sigma[0], rtol=0.1, atol=0)


def test_outcome_probabilities_give_back_the_exact_values() -> None:
    circuit = long()
    for opened in (device(), device(None)):
        program, rows = opened.prepare(circuit), torch.from_numpy(random_rows(circuit, 3, seed=1))
        exact = opened.run(program, rows).values.numpy()
        bases = measurement_bases(circuit.observables)
        for basis, table in zip(bases, program.compiled.probabilities(rows), strict=True):
            np.testing.assert_allclose(table.sum(1), 1, atol=1e-13)
            assert table.min() > -1e-13
            means = table.numpy() @ basis.signs(circuit.observables, basis.wires)
            np.testing.assert_allclose(means, exact[:, list(basis.members)], atol=1e-12)


def test_both_engines_are_in_use() -> None:
    kinds = {}
    for name in ("angle_4q", "iqp_4q"):
        program = device().prepare(load_circuit(name))
        device().run(program, torch.zeros(1, program.circuit.n_angles, dtype=torch.float64))
        kinds[name] = type(program.compiled._engines["exact"][0])
    assert kinds == {"angle_4q": SectorProgram, "iqp_4q": SweepProgram}


def test_empty_batches_and_the_tracker() -> None:
    opened = DensityDevice(noise=load_noise_model("ibm_torino"), layout_seeds=2)
    program = opened.prepare(rotated())
    empty = opened.run(program, torch.zeros(0, rotated().n_angles, dtype=torch.float64))
    assert tuple(empty.values.shape) == (0, 4)
    opened.run(program, torch.zeros(3, rotated().n_angles, dtype=torch.float64), shots=10)
    spent = opened.tracker
    assert (spent.batches, spent.transpilations, spent.circuits, spent.shots) == (2, 1, 6, 60)


def test_it_passes_the_conformance_suite() -> None:
    opened = device(None)
    small = [circuit for circuit in conformance_circuits(opened) if circuit.n_qubits <= 4 and circuit.n_columns <= 32]
    assert len(small) > 4
    problems = [check for check in run_conformance(opened, small) if not check.passed]
    assert not problems
