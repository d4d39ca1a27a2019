"""Device `qiskit.remote` with the unmodified client against the loopback QPU."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import MACHINE, NOISE, emulated, in_haste

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices import runtime_program
from qhybrid.devices.base import Program
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime import RuntimeDevice
from qhybrid.devices.runtime_client import Client, state_of
from qhybrid.devices.runtime_jobs import StillRunning, collect
from qhybrid.devices.runtime_program import ReadoutCalibration
from qhybrid.devices.runtime_results import counts
from qhybrid.devices.spec import load_device
from qhybrid.emulator.running import RunningEmulator
from qhybrid.errors import QHybridError
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.spec import load_noise_model

TOKEN = "MARKEDtokenMARKEDtokenMARKEDtoken0123456789"
SIGMAS = 5.0


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    state = tmp_path_factory.mktemp("emulator")
    with emulated(backends=[MACHINE], seed=7, api_key=TOKEN, plan="premium", state=state) as running:
        yield running


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    in_haste(monkeypatch, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def device(emulator: RunningEmulator) -> RuntimeDevice:
    return RuntimeDevice(backend=MACHINE, layout_seeds=2, timeout=8.0)


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    return load_circuit("angle_4q")


@pytest.fixture
def program(device: RuntimeDevice, circuit: Circuit) -> Program:
    return device.prepare(circuit)


def angles(circuit: Circuit, n: int = 6, seed: int = 3) -> torch.Tensor:
    return 3 * torch.rand(n, circuit.n_angles, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check(device: RuntimeDevice, program: Program, rows: torch.Tensor, found: object) -> None:
    """Equal to Aer with the same noise, on the layout that was sent."""
    exact = load_device("qiskit.aer", noise=load_noise_model(NOISE), layout_seeds=2)
    values = exact.run(exact.prepare(program.circuit), rows, shots=None, seed=None).values
    assert float(((found.values - values) / found.stderr).abs().max()) < SIGMAS  # type: ignore[attr-defined]


def test_values_equal_aer_with_the_same_noise_in_one_job(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    before = emulator.counters()
    rows = angles(program.circuit, 24)
    found = device.run(program, rows, shots=1000)
    after = emulator.counters()
    assert found.values.shape == found.stderr.shape == (24, 4)
    check(device, program, rows, found)
    assert after["accepted"] - before["accepted"] == after["posted"] - before["posted"] == 1
    assert after["circuits"] - before["circuits"] == 24
    spent = device.tracker.to_dict()
    assert {key: spent[key] for key in ("batches", "circuits", "shots", "transpilations", "jobs")} == {
        "batches": 1, "circuits": 24, "shots": 24000, "transpilations": 1, "jobs": 1,
    }  # fmt: skip
    (row,) = device.ledger.find()
    assert row.state == "collected"
    assert row.usage == spent["qpu_seconds"] > 0
    assert row.calibration_at_submit == row.calibration_at_collect is not None


def test_counts_give_the_same_values(device: RuntimeDevice, program: Program) -> None:
    rows = angles(program.circuit, 3)
    found = device.run(program, rows, shots=200)
    (row,) = device.ledger.find()
    raw = (device.ledger.files(row.tag) / "result.json").read_text()
    ((basis, table),) = counts(raw, row.layout)
    assert (table.sum(axis=1) == 200).all()
    values = table @ basis.signs(program.circuit.observables, basis.wires) / 200
    torch.testing.assert_close(torch.from_numpy(values), found.values)


@pytest.mark.parametrize("primitive", ["sampler", "estimator"])
def test_observables_in_several_bases_are_measured_in_one_job(
    emulator: RunningEmulator, tmp_path: Path, primitive: str
) -> None:
    text = (Path(__file__).parents[1] / "circuits" / "angle_4q.toml").read_text()
    start = text.index("observables")
    end = text.index("\n", start)
    path = tmp_path / "bases.toml"
    path.write_text(text[:start] + 'observables = ["X0 Y1", "Z0", "Z2 Z3", "Y1"]' + text[end:])
    circuit = load_circuit(str(path))
    device = RuntimeDevice(backend=MACHINE, primitive=primitive, layout_seeds=2, timeout=8.0)
    program = device.prepare(circuit)
    rows = angles(circuit, 5)
    found = device.run(program, rows, shots=2000)
    assert device.tracker.jobs == 1
    assert found.values.shape == (5, 4)
    check(device, program, rows, found)


def test_a_layer_learns_through_it_one_job_a_step(emulator: RunningEmulator, circuit: Circuit) -> None:
    device = RuntimeDevice(backend=MACHINE, layout_seeds=2, timeout=8.0)
    layer = QuantumLayer(circuit, device, shots=100, diff_method="parameter-shift")
    layer(torch.rand(2, circuit.n_features)).sum().backward()
    assert layer.weights.grad is not None
    assert device.tracker.jobs <= 2
    assert device.tracker.transpilations == 1


def test_a_batch_over_the_limits_becomes_the_fewest_jobs(
    device: RuntimeDevice, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_program, "MAX_EXECUTIONS", 1000)
    rows = angles(program.circuit, 7)
    found = device.run(program, rows, shots=300)
    assert [row.circuits for row in device.ledger.find()] == [3, 3, 1]
    assert device.tracker.jobs == 3
    assert device.tracker.circuits == 7
    check(device, program, rows, found)


@given(n_rows=st.integers(0, 60), shots=st.integers(1, 400), own=st.integers(0, 500), limit=st.integers(1000, 9000))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_job_but_the_last_is_full_the_first_with_the_readout_in_it(
    program: Program, n_rows: int, shots: int, own: int, limit: int
) -> None:
    readout = ReadoutCalibration(program.compiled, own) if own else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime_program, "MAX_EXECUTIONS", limit)
        lengths = program.compiled.jobs_of(n_rows, shots, readout)
    assert sum(lengths) == n_rows
    for index, length in enumerate(lengths):
        taken = own if index == 0 else 0
        assert length >= 1
        assert taken + length * shots <= limit
        assert index == len(lengths) - 1 or taken + (length + 1) * shots > limit


COLLECT = """
import json, sys
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime_jobs import collect
ledger = Ledger()
found = collect(ledger.by_tag(sys.argv[1]), ledger, timeout=30)
print(json.dumps(found.values.tolist()))
"""


def test_another_process_collects_after_the_server_was_restarted(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    rows = angles(program.circuit, 4)
    job = device.submit(program, rows, shots=1000, run="runs/a", purpose="evaluation")
    emulator.restart()
    process = subprocess.run([sys.executable, "-c", COLLECT, job.tags[0]], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    torch.testing.assert_close(torch.tensor(json.loads(process.stdout), dtype=torch.float64), job.result().values)


def test_resume_takes_up_the_job_that_is_there(device: RuntimeDevice, program: Program) -> None:
    rows = angles(program.circuit, 2)
    asked = {"shots": 50, "run": "runs/a", "purpose": "gradient step 3"}
    first = device.submit(program, rows, **asked)  # type: ignore[arg-type]
    again = device.submit(program, rows, **asked, resume=True)  # type: ignore[arg-type]
    assert again.tags == first.tags
    torch.testing.assert_close(again.result().values, first.result().values)
    other = device.submit(program, rows + 0.1, **asked, resume=True)  # type: ignore[arg-type]
    assert other.tags != first.tags
    other.result(timeout=8)


def test_waiting_ends_and_the_job_goes_on(device: RuntimeDevice, program: Program, emulator: RunningEmulator) -> None:
    emulator.set_faults(queue_seconds=1.0)
    job = device.submit(program, angles(program.circuit, 1), shots=10)
    with pytest.raises(StillRunning, match=rf"is queued on {MACHINE}; .*`qhybrid jobs collect {job.tags[0]}`"):
        job.result(timeout=0)
    seen: list[str] = []
    job.result(timeout=8, progress=lambda waiting: seen.append(waiting.rows[0].state))
    emulator.set_faults(queue_seconds=0.0)
    assert seen[0] == "queued"
    assert seen[-1] == "collected"


def test_cancel(device: RuntimeDevice, program: Program, emulator: RunningEmulator) -> None:
    emulator.set_faults(queue_seconds=5.0)
    job = device.submit(program, angles(program.circuit, 1), shots=10)
    (row,) = job.cancel()
    emulator.set_faults(queue_seconds=0.0)
    assert row.state == "cancelled"
    with pytest.raises(QHybridError, match="was cancelled"):
        job.result()


def test_cancel_what_a_dead_process_may_have_sent(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    emulator.set_faults(queue_seconds=5.0)
    job = device.submit(program, angles(program.circuit, 1), shots=10)
    (row,) = job.rows
    dead = replace(row, state="submitting", owner=None, job_id=None)
    device.ledger.forget(row.tag)
    device.ledger.add([dead], {})
    (row,) = job.cancel()
    emulator.set_faults(queue_seconds=0.0)
    assert row.state == "cancelled"
    assert [state_of(each) for each in device.client.find(row.tag)] == ["cancelled"]


def test_run_takes_up_what_it_sent_before_it_died(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    rows = angles(program.circuit, 2)
    device.run_name, device.purpose = "runs/a", "gradient step 1"
    before = emulator.counters()["accepted"]
    first = device.run(program, rows, shots=50)
    again = RuntimeDevice(backend=MACHINE, layout_seeds=2, timeout=8.0)
    again.run_name, again.purpose = "runs/a", "gradient step 1"
    torch.testing.assert_close(again.run(program, rows, shots=50).values, first.values)
    assert emulator.counters()["accepted"] - before == 1
    assert again.tracker.jobs == 0


def test_a_new_calibration_is_noted(device: RuntimeDevice, program: Program, emulator: RunningEmulator) -> None:
    job = device.submit(program, angles(program.circuit, 1), shots=10)
    emulator.set_faults(calibration_date="2026-01-02T03:04:05+00:00")
    job.result(timeout=8)
    emulator.set_faults(calibration_date=None)
    (row,) = job.rows
    assert row.calibration_at_submit != row.calibration_at_collect
    assert "2026-01-02" in str(row.calibration_at_collect)


@pytest.mark.slow  # test_cli_hardware.py looks through the same files
def test_the_token_is_in_no_file_and_no_error(
    device: RuntimeDevice,
    program: Program,
    emulator: RunningEmulator,
    own_data: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert os.environ["QISKIT_IBM_TOKEN"] == TOKEN
    device.run(program, angles(program.circuit, 1), shots=10)
    emulator.set_faults(errors=2, errors_on="poll", rate_limit=1)
    device.run(program, angles(program.circuit, 1), shots=10)
    process = subprocess.run(
        [sys.executable, "-c", COLLECT, device.ledger.find()[0].tag], capture_output=True, check=False
    )
    out = capfd.readouterr()
    said = process.stdout + process.stderr + (out.out + out.err + " ".join(device.client.notes)).encode()
    files = [path for path in own_data.rglob("*") if path.is_file()]
    assert len(files) >= 6
    for content in (said, *(path.read_bytes() for path in files)):
        assert TOKEN.encode() not in content


def test_collect_needs_the_row_only(device: RuntimeDevice, program: Program) -> None:
    rows = angles(program.circuit, 2)
    job = device.submit(program, rows, shots=20)
    ledger = Ledger()
    found = collect(ledger.by_tag(job.tags[0]), ledger, client=Client(), timeout=8)
    torch.testing.assert_close(found.values, job.result().values)
