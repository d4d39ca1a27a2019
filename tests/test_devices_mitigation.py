"""Mitigation round devices: pure readout noise undone, zero-noise extrapolation, honest standard errors, its cost."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_simulation import circuit_of, circuits, expectations, random_rows
from full_noise import SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitigated_devices import BRISBANE, batch, circuit_named, device, exact, rmse, several_bases

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile_folding import folded
from qhybrid.devices.base import NoisyDevice
from qhybrid.devices.density import DensityDevice
from qhybrid.devices.mitigation import MitigatedDevice, mitigated, parse_mitigation
from qhybrid.devices.mitigation_zne import coefficients, extrapolate
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.spec import load_noise_model


@pytest.mark.parametrize(
    ("machine", "name"),
    [(BRISBANE, "angle_4q"), (BRISBANE, "several bases"), ("ibm_torino", "sda_qec_4q")]
    + [pytest.param(machine, name, marks=pytest.mark.slow) for machine in (BRISBANE, "ibm_torino") for name in SMALL],
)
def test_readout_mitigation_undoes_pure_readout_noise(machine: str, name: str) -> None:
    opened, circuit = device(machine, ("readout",)), circuit_named(name)
    angles = batch(circuit, 4)
    ideal = torch.from_numpy(expectations(circuit, angles.numpy()))
    assert (exact(opened, circuit, angles) - ideal).abs().max() > 5e-3
    for how in ({"readout": "inverse"}, {"readout": "mthree"}, {"readout": "inverse", "calibration": "model"}):
        torch.testing.assert_close(exact(mitigated(opened, how), circuit, angles), ideal, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["qiskit.aer", pytest.param("default.mixed", marks=pytest.mark.slow)])
def test_other_simulators_mitigate_like_density(name: str) -> None:
    circuit = several_bases()
    angles = batch(circuit, 3)
    for how in ("readout", "readout,zne:exponential"):
        ours, theirs = (exact(mitigated(each, how), circuit, angles) for each in (device(), device(name=name)))
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)


def test_devices_without_a_machine_are_calibrated_through_their_own_circuits() -> None:
    circuit = circuit_named("several bases")
    angles = batch(circuit, 3)
    for name in ("default.qubit", "qhybrid.statevector"):
        opened = load_device(name, mitigation="readout")
        torch.testing.assert_close(
            exact(opened, circuit, angles), torch.from_numpy(expectations(circuit, angles.numpy())), atol=1e-10, rtol=0
        )
    layer = QuantumLayer("angle_4q", load_device("lightning.qubit", mitigation="readout"), shots=100)
    assert layer.diff_method == "parameter-shift"  # adjoint differentiates the circuit, not what is made of it
    assert layer(torch.zeros(2, 4)).shape == (2, 4)


def test_calibration_circuits_give_the_matrices_of_the_model() -> None:
    opened = device(parts=("readout",))
    program = mitigated(opened, "readout").prepare(load_circuit("angle_4q"))
    calibration, _ = program.compiled.construct(torch.zeros(1, program.circuit.n_angles), None)
    result = opened.run(calibration.program, calibration.angles, shots=None, seed=None)
    found = program.compiled.calibrated(result)
    (isa,) = program.compiled.isa
    assert sorted(found.place) == sorted(isa.qubits[place] for place in isa.measured.values())
    for qubit in found.place:
        assert opened.noise is not None
        np.testing.assert_allclose(found.matrix(qubit), opened.noise.readout_matrix(qubit), atol=1e-12)
    assert not found.variances.any()


@pytest.mark.parametrize("name", ["angle_4q", "sda_qec_4q"])
def test_zne_lowers_the_error_of_expectation_values(name: str) -> None:
    opened, circuit = device(), circuit_named(name)
    angles = batch(circuit, 64)
    ideal = torch.from_numpy(expectations(circuit, angles.numpy()))
    before = rmse(exact(opened, circuit, angles), ideal)
    for extrapolation, folding in (("linear", "local"), ("richardson", "local"), ("exponential", "global")):
        zne = {"extrapolation": extrapolation, "folding": folding}
        alone = rmse(exact(mitigated(opened, {"zne": zne}), circuit, angles), ideal)
        both = rmse(exact(mitigated(opened, {"zne": zne, "readout": "inverse"}), circuit, angles), ideal)
        assert alone < 0.8 * before
        assert both < 0.8 * before


def promised() -> list[tuple[str, list[int], list[bool]]]:
    """The table of devices/README.md: mitigation, its six errors in thousandths, and which are called worse."""
    text = (Path(__file__).parents[1] / "devices" / "README.md").read_text(encoding="utf-8")
    rows = []
    for line in text.splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and re.match(r"none|`", name):
            found = [int(re.sub(r"\D", "", cell)) for cell in cells]
            rows.append((name.split(" ")[0].strip("`"), found, ["worse" in cell for cell in cells]))
    return rows


@pytest.mark.slow
def test_the_readme_says_what_mitigation_recovers_and_where_it_makes_things_worse() -> None:
    opened = load_device("qhybrid.density", noise=load_noise_model(BRISBANE))
    columns: dict[str, list[float]] = {name: [] for name, _, _ in promised()}
    for circuit in (circuit_named("angle_4q"), circuit_named("sda_qec_4q")):
        angles = torch.cat([batch(circuit, 64, seed) for seed in range(8)])
        ideal = torch.from_numpy(expectations(circuit, angles.numpy()))
        for name, column in columns.items():
            tried = mitigated(opened, name)
            program = tried.prepare(circuit)
            for shots in (None, 8192, 1024):
                column.append(1000 * rmse(tried.run(program, angles, shots=shots, seed=1).values, ideal))
    assert len(columns) == 8
    for name, errors, worse in promised():
        np.testing.assert_allclose(columns[name], errors, atol=0.6, rtol=0.02)
        assert worse == [mine > 1.05 * none for mine, none in zip(columns[name], columns["none"], strict=True)]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(circuit=circuits(max_qubits=3), factor=st.sampled_from([3, 5]), folding=st.sampled_from(["local", "global"]))
def test_folding_keeps_what_a_circuit_does(circuit: Circuit, factor: int, folding: str) -> None:
    circuit = circuit.expanded()
    opened = DensityDevice(noise=load_noise_model(BRISBANE).with_parts([]), layout_seeds=1)
    rows = random_rows(circuit, 2, seed=1)
    isa = opened.isa_circuits(opened.prepare(circuit))
    program = opened.program_of(tuple(folded(each, factor, folding) for each in isa))
    values = opened.run(program, torch.from_numpy(rows)).values.numpy()
    np.testing.assert_allclose(values, expectations(circuit, rows), atol=1e-10)


@pytest.mark.parametrize("machine", [BRISBANE, "ibm_torino"])
def test_folding_multiplies_gates_and_schedules_them_anew(machine: str) -> None:
    opened = device(machine)
    (isa,) = opened.isa_circuits(opened.prepare(load_circuit("angle_4q")))
    assert folded(isa, 1, "local") is isa
    three, whole = folded(isa, 3, "local"), folded(isa, 3, "global")
    assert three.report.gates2q == whole.report.gates2q == 3 * isa.report.gates2q
    assert three.report.gates1q == isa.report.gates1q
    assert whole.report.gates1q == 3 * isa.report.gates1q
    assert three.qubits == isa.qubits
    assert three.measured == isa.measured

    def seconds(name: str, each: Any) -> float:
        return sum(one.seconds for one in each.operations if one.name == name)

    assert isa.report.seconds < three.report.seconds < whole.report.seconds < 3 * isa.report.seconds
    assert seconds("delay", three) > 1.5 * seconds("delay", isa) > 0
    names = {(one.name, one.qubits) for one in isa.operations if len(one.qubits) == 2}
    assert {(one.name, one.qubits) for one in three.operations if len(one.qubits) == 2} == names


def test_extrapolations_recover_the_functions_they_are_made_for() -> None:
    factors = (1, 3, 5)
    x = torch.tensor(factors, dtype=torch.float64)[:, None, None]
    none = torch.zeros(3, 1, 2, dtype=torch.float64)
    slope = torch.tensor([[-0.1, 0.2]], dtype=torch.float64)
    np.testing.assert_allclose(coefficients("linear", factors), [13 / 12, 4 / 12, -5 / 12])
    np.testing.assert_allclose(coefficients("richardson", factors), [15 / 8, -10 / 8, 3 / 8])
    line, parabola, decay = 0.4 + slope * x, 0.4 + slope * x + 0.01 * x**2, 0.4 * torch.exp(-slope.abs() * x)
    for name, values in (("linear", line), ("richardson", parabola), ("exponential", decay), ("exponential", -decay)):
        found = extrapolate(name, factors, values, none)
        torch.testing.assert_close(found.values.abs(), torch.full((1, 2), 0.4, dtype=torch.float64))
        assert not found.failed.any()


def test_where_no_exponential_fits_the_line_stands_and_is_counted() -> None:
    values = torch.tensor([[0.5, 0.02, 0.3], [0.3, -0.01, 0.2], [0.2, -0.03, 0.15]], dtype=torch.float64)[:, None, :]
    variances = torch.tensor([1e-4, 1e-4, 1e-2], dtype=torch.float64).expand(3, 1, 3)
    found = extrapolate("exponential", (1, 3, 5), values, variances)
    assert found.failed.tolist() == [[False, True, True]]
    line = extrapolate("linear", (1, 3, 5), values, variances)
    torch.testing.assert_close(found.values[0, 1:], line.values[0, 1:])
    steep = torch.tensor([0.9, 0.3, 0.1], dtype=torch.float64)[:, None, None]
    assert extrapolate("exponential", (1, 3, 5), steep, torch.full_like(steep, 1e-6)).failed.all()  # 1.56 at 0
    opened = mitigated(device(), "zne:exponential")
    assert isinstance(opened, MitigatedDevice)
    program = opened.prepare(load_circuit("angle_4q"))
    assert opened.remark(program) is None
    opened.run(program, batch(program.circuit, 64), shots=64, seed=1)
    assert "did not fit" in str(opened.remark(program))
    assert "of 256 values" in str(opened.remark(program))


SPREADS = [
    {"readout": "inverse", "calibration": "model"},
    {"readout": "mthree", "calibration": "model"},
    {"zne": {"extrapolation": "linear"}},
    {"zne": {"extrapolation": "richardson", "factors": [1, 3]}},
    {"zne": {"extrapolation": "exponential"}},
    {"readout": "inverse", "calibration": "model", "zne": {"folding": "global"}},
]


@pytest.mark.parametrize("how", SPREADS, ids=lambda how: parse_mitigation(how).label)
def test_standard_errors_are_the_spread_of_repeated_runs(how: dict[str, Any]) -> None:
    circuit = several_bases()
    opened = mitigated(device(parts=("readout", "gates2q")), how)
    program = opened.prepare(circuit)
    n_rows = 400 if how.get("readout") == "mthree" else 3000
    rows = torch.tensor([[0.4, 0.5, 0.6, 0.3, 0.8]], dtype=torch.float64).expand(n_rows, -1)
    found = opened.run(program, rows, shots=1000, seed=5)
    torch.testing.assert_close(found.values.std(0), found.stderr.pow(2).mean(0).sqrt(), rtol=0.1, atol=0)
    wanted = opened.run(program, rows[:1], shots=None, seed=None).values[0]
    off = (found.values.mean(0) - wanted).abs()
    assert (off < 5 * found.stderr.mean(0) / np.sqrt(n_rows) + 2e-3).all()  # the logarithm has a bias of second order


@pytest.mark.parametrize("zne", [{"extrapolation": "linear"}, pytest.param(None, marks=pytest.mark.slow)])
def test_standard_errors_hold_that_of_the_calibration(zne: dict[str, Any] | None) -> None:
    circuit = circuit_of([("ry", (0,)), ("cx", (0, 1))], ["Z0", "Z0 Z1", "X0 X1"], 2)
    how = {"readout": "inverse", "calibration_shots": 3000, "zne": zne}
    opened = mitigated(device(parts=("readout",)), how)
    program = opened.prepare(circuit)
    rows = torch.tensor([[0.3]], dtype=torch.float64)
    found = [opened.run(program, rows, shots=10**6, seed=seed) for seed in range(300)]
    spread = torch.cat([each.values for each in found]).std(0)
    torch.testing.assert_close(spread, torch.cat([each.stderr for each in found]).mean(0), rtol=0.1, atol=0)
    assert spread.max() > 3 / 10**3  # three times what a million shots alone leave


def test_a_seed_decides_everything_that_comes_out() -> None:
    opened, circuit = mitigated(device(), "readout:mthree,zne"), load_circuit("angle_4q")
    program, angles = opened.prepare(circuit), batch(circuit, 3)
    first, again, other = (opened.run(program, angles, shots=200, seed=seed).values for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    fresh = opened.run(opened.prepare(circuit), angles, shots=200, seed=1)
    assert torch.equal(first, fresh.values)
    assert opened.run(program, angles[:0], shots=200, seed=1).values.shape == (0, 4)


def test_backprop_and_parameter_shift_go_through_mitigation() -> None:
    opened = mitigated(device(), "readout,zne:richardson")
    features = torch.randn(2, 4, generator=torch.Generator().manual_seed(4)).double()
    gradients = []
    for method in ("backprop", "parameter-shift"):
        layer = QuantumLayer("angle_4q", opened, diff_method=method).double()
        layer(features).square().sum().backward()
        gradients.append(layer.weights.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-9, rtol=0)


def test_an_exponential_extrapolation_is_differentiated_by_backprop_and_by_no_shift_rule() -> None:
    layer = QuantumLayer("angle_4q", mitigated(device(), "zne:exponential")).double()
    features = torch.randn(2, 4, generator=torch.Generator().manual_seed(4)).double()
    layer(features).square().sum().backward()
    assert layer.weights.grad is not None
    with torch.no_grad():
        for index in range(layer.circuit.n_weights):
            sums = []
            for step in (1e-5, -2e-5):
                layer.weights[index] += step
                sums.append(layer(features).square().sum())
            layer.weights[index] += 1e-5
            assert float(sums[0] - sums[1]) / 2e-5 == pytest.approx(float(layer.weights.grad[index]), abs=1e-7)
    with pytest.raises(InputError, match="no parameter-shift: use backprop or spsa"):
        QuantumLayer("angle_4q", mitigated(device(), "zne:exponential"), diff_method="parameter-shift")


def test_scaled_noise_is_mitigated_like_that_of_the_scaled_model() -> None:
    circuit = load_circuit("angle_4q")
    angles = batch(circuit, 3)
    noise = load_noise_model(BRISBANE)
    for calibration in ("circuits", "model"):
        how = {"readout": "inverse", "calibration": calibration, "zne": {}}
        opened = mitigated(device(), how)
        assert isinstance(opened, NoisyDevice)
        program = opened.rescaled(opened.prepare(circuit), 0.5)
        fresh = mitigated(DensityDevice(noise=noise.scaled(0.5), layout_seeds=2), how)
        values = opened.run(program, angles, shots=None, seed=None).values
        torch.testing.assert_close(values, exact(fresh, circuit, angles), atol=1e-10, rtol=0)


def test_costs_are_stated_and_are_those_of_the_tracker() -> None:
    opened = mitigated(DensityDevice(noise=load_noise_model(BRISBANE), layout_seeds=2), "readout,zne")
    assert isinstance(opened, MitigatedDevice)
    program = opened.prepare(several_bases())
    cost = opened.cost(program, 10, 1000)
    assert (cost.circuits, cost.shots, cost.unmitigated) == (3 * 3 * 10 + 2, 90_000 + 20_000, 30_000)
    assert cost.factor == pytest.approx(11 / 3)
    opened.run(program, batch(program.circuit, 10), shots=1000, seed=1)
    spent = opened.tracker.to_dict()
    assert (spent["circuits"], spent["shots"], spent["jobs"]) == (cost.circuits, cost.shots, 2)
    assert opened.cost(program, 10, None).shots == 0


def test_a_layer_takes_a_mitigated_device_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'driver = "density"\n[options]\nlayout_seeds = 2\n'
        'mitigation = {readout = "mthree", zne = {factors = [1, 3], extrapolation = "richardson"}}\n'
    )
    layer = QuantumLayer("angle_4q", str(path), noise=BRISBANE)
    assert isinstance(layer.device, MitigatedDevice)
    assert layer.device.mitigation.label == "readout:mthree, zne:richardson 1 3"
    plain = QuantumLayer("angle_4q", device())
    assert len(layer.isa_circuits(torch.zeros(1, 4))) == 1
    features = torch.rand(4, 4)
    ideal = QuantumLayer("angle_4q", "default.qubit")(features)
    assert rmse(layer(features), ideal) < 0.5 * rmse(plain(features), ideal)
    assert not isinstance(load_device(str(path), mitigation="none"), MitigatedDevice)
