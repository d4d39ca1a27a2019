"""Sessions and batches of `qiskit.remote`: opened once and closed whatever happens; while open, they are billed."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback import MACHINE, emulated, in_haste

from qhybrid.circuits.spec import load_circuit
from qhybrid.devices import runtime, runtime_jobs
from qhybrid.devices.base import Program
from qhybrid.devices.runtime import RuntimeDevice
from qhybrid.devices.runtime_errors import Unreachable
from qhybrid.emulator.faults import Faults
from qhybrid.emulator.running import RunningEmulator
from qhybrid.errors import QHybridError
from qhybrid.storage import read_json

MODES = pytest.mark.parametrize("mode", ["session", pytest.param("batch", marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    state = tmp_path_factory.mktemp("emulator")
    with emulated(backends=[MACHINE], seed=7, plan="premium", state=state) as running:
        yield running


@pytest.fixture
def emulator(shared: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    """Without the sessions of other tests."""
    in_haste(monkeypatch, tmp_path / "data")
    yield shared
    shared.set_faults(**asdict(Faults()))
    for path in (shared.state / "sessions").glob("*.json"):
        path.unlink()


def machine(mode: str) -> tuple[RuntimeDevice, Program, torch.Tensor]:
    """A device as a process begins with it, a program and its angles."""
    device = RuntimeDevice(backend=MACHINE, mode=mode, layout_seeds=2, timeout=8.0)
    program = device.prepare(load_circuit("angle_4q"))
    return device, program, torch.full((1, program.circuit.n_angles), 0.7, dtype=torch.float64)


def taking_jobs(emulator: RunningEmulator) -> list[bool]:
    """Of every session that the test has opened, whether it is open."""
    return [read_json(path)["accepting_jobs"] for path in (emulator.state / "sessions").glob("*.json")]


@MODES
def test_one_is_opened_for_all_jobs_and_another_where_it_has_ended(emulator: RunningEmulator, mode: str) -> None:
    device, program, angles = machine(mode)
    for ended in (False, False, True):
        if ended:
            device.client.close(device.client.backend(MACHINE), mode, str(device.ledger.find()[0].session_id))
        device.run(program, angles, shots=10)
    third, second, first = (row.session_id for row in device.ledger.find())
    assert first == second != third
    assert None not in (first, third)
    device.close()
    assert taking_jobs(emulator) == [False, False]


@MODES
def test_an_interruption_right_after_a_job_was_sent_leaves_none_open(
    emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    device, program, angles = machine(mode)

    def interrupted(*arguments: Any) -> None:
        runtime_jobs.send(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(runtime, "send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        device.submit(program, angles, shots=10)
    assert taking_jobs(emulator) == [True]
    device.close()
    assert taking_jobs(emulator) == [False]


@MODES
def test_whoever_takes_up_the_job_of_a_dead_process_closes_what_it_left_open(
    emulator: RunningEmulator, mode: str
) -> None:
    dead, program, angles = machine(mode)
    dead.submit(program, angles, shots=10, run="run", purpose="evaluation")
    device, program, angles = machine(mode)
    device.submit(program, angles, shots=10, run="run", purpose="evaluation", resume=True)
    assert taking_jobs(emulator) == [True]
    device.submit(program, angles, shots=10, run="run", purpose="another")
    device.close()
    assert taking_jobs(emulator) == [False]


@pytest.mark.parametrize(("status", "error"), [(400, QHybridError), (503, Unreachable)])
def test_a_job_that_cannot_be_sent_leaves_none_open(
    emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, status: int, error: type[QHybridError]
) -> None:
    monkeypatch.setitem(runtime_jobs.send.__kwdefaults__, "patience", 0.0)
    device, program, angles = machine("session")
    emulator.set_faults(errors=50, errors_on="submit", error_status=status)
    with pytest.raises(error):
        device.submit(program, angles, shots=10)
    assert taking_jobs(emulator) == [False]
    device.close()
