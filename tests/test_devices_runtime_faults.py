"""What goes wrong on the way to a machine and is rare: no job is lost, and none runs twice."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback import MACHINE, emulated, in_haste

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices import runtime_jobs
from qhybrid.devices.base import Program
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime import RuntimeDevice
from qhybrid.devices.runtime_errors import Unreachable
from qhybrid.devices.runtime_jobs import StillRunning, collect
from qhybrid.emulator.faults import Faults
from qhybrid.emulator.running import RunningEmulator
from qhybrid.errors import QHybridError


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with emulated(backends=[MACHINE], seed=7, state=tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_haste(monkeypatch, tmp_path / "data")


@pytest.fixture(scope="module")
def prepared(emulator: RunningEmulator) -> tuple[RuntimeDevice, Program]:
    device = RuntimeDevice(backend=MACHINE, layout_seeds=2)
    return device, device.prepare(load_circuit("angle_4q"))


@pytest.fixture
def device(prepared: tuple[RuntimeDevice, Program], emulator: RunningEmulator) -> Iterator[RuntimeDevice]:
    """With a ledger of the test's own; the test's faults end with it."""
    prepared[0].ledger = Ledger()
    yield prepared[0]
    emulator.set_faults(**asdict(Faults()))


@pytest.fixture
def program(prepared: tuple[RuntimeDevice, Program]) -> Program:
    return prepared[1]


def angles(circuit: Circuit, n: int = 2) -> torch.Tensor:
    return torch.linspace(0.1, 2.9, n * circuit.n_angles, dtype=torch.float64).reshape(n, -1)


def ran(emulator: RunningEmulator, before: dict[str, int]) -> dict[str, int]:
    """What the server did since, without what is zero."""
    return {key: value - before[key] for key, value in emulator.counters().items() if value != before[key]}


def test_a_job_that_could_not_be_sent_is_sent_when_it_is_collected(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = emulator.counters()
    monkeypatch.setitem(runtime_jobs.send.__kwdefaults__, "patience", 0.0)
    emulator.set_faults(close_connections=1, close_on="submit")
    with pytest.raises(Unreachable, match=r"cannot \w+ the \w+ at IBM now"):
        device.submit(program, angles(program.circuit), shots=100)
    (row,) = device.ledger.find()
    assert (row.state, row.owner) == ("submitting", None)
    collect(row, device.ledger, timeout=9)
    assert ran(emulator, before)["completed"] == 1


def test_a_job_that_the_service_has_forgotten_is_lost_and_not_sent_again(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    emulator.set_faults(queue_seconds=30.0)
    job = device.submit(program, angles(program.circuit), shots=100)
    emulator.set_faults(queue_seconds=0.0)
    (row,) = job.rows
    device.client.cancel(str(row.job_id))
    device.ledger.set_state(row.tag, "queued", job_id="unknown0unknown0")
    before = emulator.counters()
    for _ in range(2):
        with pytest.raises(QHybridError, match=r"is lost|was cancelled"):
            job.result(timeout=5)
    assert "posted" not in ran(emulator, before)


def test_a_lost_job_is_not_sent_again_by_whoever_looked_for_it_and_failed(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    """It may have run before the service forgot it. The look may fail, and its process may be killed at it."""
    emulator.set_faults(queue_seconds=30.0)
    job = device.submit(program, angles(program.circuit), shots=100)
    emulator.set_faults(queue_seconds=0.0)
    (row,) = job.rows
    device.client.cancel(str(row.job_id))
    device.ledger.forget(row.tag)
    dead = replace(row, tag=f"{row.tag}x", state="submitting", owner=None, job_id="unknown0unknown0", attempts=2)
    device.ledger.add([dead], {})
    before = emulator.counters()
    emulator.set_faults(errors=1, errors_on="jobs")
    for _ in range(2):
        with pytest.raises(QHybridError, match=r"is lost"):
            collect(dead, device.ledger, client=device.client, timeout=5)
    assert device.ledger.by_tag(dead.tag).state == "lost"
    assert "posted" not in ran(emulator, before)


def test_a_job_is_cancelled_when_the_service_is_back(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    """What was never sent is cancelled without it."""
    emulator.set_faults(queue_seconds=5.0)
    job = device.submit(program, angles(program.circuit), shots=100)
    (row,) = job.rows
    device.ledger.forget(row.tag)
    new = replace(row, tag="qhybrid-new", state="prepared", owner=None, job_id=None, attempts=0)
    device.ledger.add([new, replace(row, state="submitting", owner=None, job_id=None)], {})
    emulator.set_faults(close_connections=1000)
    (cancelled,) = replace(job, tags=(new.tag,)).cancel()
    with pytest.raises(Unreachable):
        job.cancel()
    emulator.set_faults(close_connections=0)
    (found,) = job.cancel()
    emulator.set_faults(queue_seconds=0.0)
    assert (cancelled.state, found.state, found.job_id) == ("cancelled", "cancelled", row.job_id)


def test_a_job_whose_sender_is_out_of_sight_is_found_by_its_tag(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    """As after a laptop has got another name; what the service does not have is left to that sender."""
    job = device.submit(program, angles(program.circuit), shots=100)
    (row,) = job.rows
    before = emulator.counters()
    device.ledger.forget(row.tag)
    away = replace(row, state="submitting", owner="elsewhere 1 2.0", job_id=None)
    device.ledger.add([away, replace(away, tag="qhybrid-away")], {})
    assert job.result(timeout=9).values.shape == (2, 4)
    with pytest.raises(StillRunning, match="qhybrid-away is submitting"):
        replace(job, tags=("qhybrid-away",)).result(timeout=0)
    assert "posted" not in ran(emulator, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_when_a_result_is_saved_loses_nothing(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = device.submit(program, angles(program.circuit), shots=100)

    def full(path: Path, mode: str, **options: Any) -> Any:
        return Path("/dev/full").open("wb") if path.name.startswith(".result") else open(path, mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr("qhybrid.storage.open", full, raising=False)
        with pytest.raises(QHybridError, match="No space left on device"):
            job.result(timeout=9)
    assert job.rows[0].state == "done"
    before = emulator.counters()
    assert job.result(timeout=9).values.shape == (2, 4)
    assert "posted" not in ran(emulator, before)


def test_a_result_file_that_is_damaged_is_fetched_again(device: RuntimeDevice, program: Program) -> None:
    job = device.submit(program, angles(program.circuit), shots=100)
    found = job.result(timeout=9)
    (device.ledger.files(job.tags[0]) / "result.json").write_text("{")
    torch.testing.assert_close(job.result(timeout=9).values, found.values)


def test_a_second_job_with_the_same_tag_is_cancelled(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    """As where a repeated submission arrived after the service had been asked for its tag."""
    emulator.set_faults(queue_seconds=1.0)
    job = device.submit(program, angles(program.circuit), shots=100)
    (row,) = job.rows
    runtime_jobs._post(device.ledger, device.client, row)
    device.ledger.set_state(row.tag, "queued", attempts=2)
    runtime_jobs._find(device.client, row.tag, (0.0,))
    emulator.set_faults(queue_seconds=0.0)
    states = sorted(each["state"]["status"].lower() for each in device.client.find(row.tag))
    job.cancel()
    assert len(states) == 2
    assert states[0] == "cancelled"
