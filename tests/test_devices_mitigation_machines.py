"""Mitigation round `qiskit.remote` against the loopback QPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from loopback import MACHINE, NOISE, emulated, in_haste
from mitigated_devices import batch, device, exact

from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.mitigation import MitigatedJobs, mitigated
from qhybrid.devices.spec import load_device
from qhybrid.emulator.running import RunningEmulator


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with emulated(backends=[MACHINE], seed=7, plan="premium", state=tmp_path_factory.mktemp("emulator")) as running:
        yield running


def test_hardware_takes_one_job_for_all_factors_and_one_for_the_readout(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_haste(monkeypatch, tmp_path / "data")
    circuit = load_circuit("angle_4q")
    rows = batch(circuit, 4)
    opened = load_device(
        "qiskit.remote", backend=MACHINE, layout_seeds=2, options={"timeout": 30.0}, mitigation="readout,zne"
    )
    assert isinstance(opened, MitigatedJobs)
    opened.run_name, opened.purpose = "a run", "a purpose"
    program = opened.prepare(circuit)
    before = emulator.counters()
    found = opened.run(program, rows, shots=2000)
    after = emulator.counters()
    assert after["accepted"] - before["accepted"] == 2
    assert after["circuits"] - before["circuits"] == 3 * 4 + 2
    simulated = mitigated(device(NOISE), "readout,zne")
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
