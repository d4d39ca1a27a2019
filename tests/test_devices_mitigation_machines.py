"""Mitigation round `qiskit.remote` against the loopback QPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command_line import runner
from loopback import emulated, in_haste
from mitigated_devices import batch, device, exact
from small_run import small_run

from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.mitigation import MitigatedJobs, mitigated
from qhybrid.devices.spec import load_device
from qhybrid.emulator.running import RunningEmulator


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with emulated(backends=["ibm_fez"], seed=7, plan="premium", state=tmp_path_factory.mktemp("emulator")) as running:
        yield running


def test_hardware_takes_one_job_for_all_factors_and_one_for_the_readout(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_haste(monkeypatch, tmp_path / "data")
    circuit = load_circuit("angle_4q")
    rows = batch(circuit, 4)
    opened = load_device(
        "qiskit.remote", backend="ibm_fez", layout_seeds=2, options={"timeout": 30.0}, mitigation="readout,zne"
    )
    assert isinstance(opened, MitigatedJobs)
    opened.run_name, opened.purpose = "a run", "a purpose"
    program = opened.prepare(circuit)
    before = emulator.counters()
    found = opened.run(program, rows, shots=2000)
    after = emulator.counters()
    assert after["accepted"] - before["accepted"] == 2
    assert after["circuits"] - before["circuits"] == 3 * 4 + 2
    simulated = mitigated(device("ibm_fez"), "readout,zne")
    assert float(((found.values - exact(simulated, circuit, rows)) / found.stderr).abs().max()) < 5
    again = opened.run(program, rows, shots=2000)  # a job of the same angles is taken up, the calibration kept
    assert torch.equal(again.values, found.values)
    opened.run(program, rows[:1], shots=100)
    assert emulator.counters()["accepted"] - after["accepted"] == 1
    assert {row.circuit for row in opened.device.ledger.find()} == {
        "angle_4q (readout:inverse, zne:linear 1 3 5)",
        f"readout of {' '.join(map(str, program.compiled.known.place))}",
    }
    opened.close()


def test_what_mitigation_cannot_do_on_machines_is_refused_in_one_line(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    in_haste(monkeypatch, tmp_path / "data")
    run, command = small_run(tmp_path / "runs"), runner(monkeypatch, capfd, tmp_path)
    file = tmp_path / "mine.toml"
    file.write_text('driver = "runtime"\nshots = 100\n[options]\nlayout_seeds = 2\nmitigation = {zne = {}}\n')
    machine = ("--device", str(file), "--backend", "ibm_fez")
    for arguments, message in (
        (("submit", str(run.path), *machine), "`qhybrid eval` sends that and waits"),
        (("estimate", "angle_4q", *machine), "mitigation takes 3 times as many shots"),
    ):
        answer = command(*arguments)
        assert answer.returncode == 2
        assert "mitigates errors (zne:linear 1 3 5)" in " ".join(answer.stderr.split())
        assert message in " ".join(answer.stderr.split())
    assert not Ledger().find()
