"""Training on a device that sends jobs: one a step and one a validation, and none again, whatever interrupts it."""

import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from loopback import MACHINE, emulated
from tiny_training import (
    N_VALIDATION,
    PURPOSES,
    STEPS,
    experiment,
    on_machine,
    quick,
    quiet,
    same_end,
    work,
    write_images,
)

from qhybrid.devices.base import Estimates
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.statevector import StatevectorDevice
from qhybrid.emulator.running import RunningEmulator
from qhybrid.errors import InputError, Interrupted, QHybridError
from qhybrid.experiments.runs import Run, open_run
from qhybrid.experiments.training import resume, train
from qhybrid.storage import read_json

SOME = ("training epoch 2 step 2", "validation epoch 2")


@pytest.fixture(scope="module", autouse=True)
def processes() -> Any:
    """Processes that have imported everything when they start; the one that they are forked from begins with it now."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qhybrid.experiments.training", "qhybrid.devices.runtime"])
    forkserver.ensure_running()
    return context


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images.npz")


def local_jobs(patch: pytest.MonkeyPatch) -> list[str]:
    """Make the local simulator a device that sends jobs; gives what was run, and for what."""
    ran: list[str] = []
    run = StatevectorDevice.run

    def named(self: Any, *args: Any, **options: Any) -> Estimates:
        ran.append(self.purpose)
        if self.purpose == self.stop_at:
            type(self).stop_at = None
            raise KeyboardInterrupt
        return run(self, *args, **options)

    for name, value in {
        "run_name": "",
        "purpose": "",
        "close": lambda self: ran.append("close"),
        "stop_at": "",
    }.items():
        patch.setattr(StatevectorDevice, name, value, raising=False)
    patch.setattr(StatevectorDevice, "run", named)
    return ran


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        ran = local_jobs(patch)
        spec = experiment(images, device__name="qhybrid.statevector")
        run = train(spec, out=tmp_path_factory.mktemp("whole"), console=quiet())
    assert ran == [*PURPOSES, "close"]
    return run


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    yield local_jobs(monkeypatch)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it after an interrupt


@pytest.mark.parametrize(
    "stop_at",
    [each if each in SOME else pytest.param(each, marks=pytest.mark.slow) for each in PURPOSES],
)
def test_a_training_interrupted_in_any_step_and_resumed_equals_one_that_was_not(
    images: Path, whole: Run, tmp_path: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch, stop_at: str
) -> None:
    spec = experiment(images, device__name="qhybrid.statevector")
    monkeypatch.setattr(StatevectorDevice, "stop_at", stop_at)
    with pytest.raises(Interrupted, match=r"interrupted; jobs that were sent stay; go on with `qhybrid train --resume"):
        train(spec, out=tmp_path, console=quiet())
    resumed = resume(open_run(root=tmp_path, incomplete=True).path, console=quiet())
    place = PURPOSES.index(stop_at)
    # The last step of an epoch comes once more where its validation is cut; no other does.
    again = place - 1 if stop_at.startswith("validation") else place
    assert sent == [*PURPOSES[: place + 1], "close", *PURPOSES[again:], "close"]
    same_end(resumed, whole)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    state = tmp_path_factory.mktemp("emulator")
    with emulated(backends=[MACHINE], seed=7, plan="premium", state=state) as running:
        yield running


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QHYBRID_DATA", str(tmp_path / "data"))
    quick(monkeypatch.setattr)


def ran(emulator: RunningEmulator, before: dict[str, int]) -> dict[str, int]:
    return {name: emulator.counters()[name] - before[name] for name in ("accepted", "started", "completed")}


def check_jobs(emulator: RunningEmulator, before: dict[str, int], run: Run, *, circuits_a_image: int = 3) -> None:
    """Every job of one epoch is in the ledger once, and ran once; spsa runs three circuits for an image."""
    rows = sorted(Ledger().find(), key=lambda row: row.created)
    assert [row.purpose for row in rows] == PURPOSES[: STEPS + 1]
    assert [row.circuits for row in rows] == [*(circuits_a_image * n_images for n_images in (4, 4, 2)), N_VALIDATION]
    assert {row.run for row in rows} == {str(run.path)}
    assert {row.state for row in rows} == {"collected"}
    assert ran(emulator, before) == dict.fromkeys(("accepted", "started", "completed"), len(rows))


Death = tuple[str, int] | tuple[int, float]
"""At a state of the n-th job that has it; or after so many rows of the ledger and seconds."""


def killed(processes: Any, emulator: RunningEmulator, images: Path, out: Path, deaths: list[Death]) -> None:
    """Train, killed again and again, and go on each time in a new process until the end."""
    before = emulator.counters()
    for death in [*deaths, None]:
        at_state = death if death is not None and isinstance(death[0], str) else None
        process = processes.Process(target=work, args=(dict(os.environ), images, out, at_state))
        process.start()
        if death is not None and at_state is None:
            while process.is_alive() and len(Ledger().find()) < int(death[0]):
                time.sleep(0.02)
            process.join(death[1])
            process.kill()
        process.join()
        assert process.exitcode in ((-signal.SIGKILL,) if at_state else (0,) if death is None else (0, -signal.SIGKILL))
    run = open_run(root=out)
    check_jobs(emulator, before, run)
    # All over again with the results that the ledger has: what a training without interruption makes of them.
    copy = out.parent / "copy"
    shutil.copytree(run.path, copy)
    for path in (run.path / "checkpoints", run.path / "features"):
        shutil.rmtree(path)
    (run.path / "metrics.csv").unlink()
    (run.path / "model.safetensors").unlink()
    run.set_state("running")
    process = processes.Process(target=work, args=(dict(os.environ), images, out, None))
    process.start()
    process.join()
    assert process.exitcode == 0
    check_jobs(emulator, before, run)
    same_end(run, open_run(copy))


@pytest.mark.parametrize(
    "deaths",
    [
        [("queued", 1), ("done", 2)],
        *(
            pytest.param([(state, 1), (state, 2), (state, 1)], marks=pytest.mark.slow)
            for state in ("prepared", "submitting", "queued", "running", "done", "collected")
        ),
    ],
    ids=str,
)
def test_a_process_killed_at_a_state_of_a_job_loses_and_doubles_nothing(
    processes: Any, emulator: RunningEmulator, images: Path, tmp_path: Path, deaths: list[Death]
) -> None:
    emulator.set_faults(run_seconds=0.5 if "running" in str(deaths) else 0.0)
    killed(processes, emulator, images, tmp_path / "runs", deaths)
    emulator.set_faults(run_seconds=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_process_killed_at_any_moment_loses_and_doubles_nothing(
    processes: Any, emulator: RunningEmulator, images: Path, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    emulator.set_faults(queue_seconds=draw.uniform(0.0, 0.5))
    places = sorted(draw.randint(0, STEPS + 1) for _ in range(4))
    killed(processes, emulator, images, tmp_path / "runs", [(place, draw.uniform(0.0, 1.5)) for place in places])
    emulator.set_faults(queue_seconds=0.0)


def device_file(folder: Path, *, timeout: float) -> Path:
    """A device that keeps a session and waits no longer than this."""
    path = folder / "machine.toml"
    path.write_text(f'driver = "runtime"\n[options]\nmode = "session"\ntimeout = {timeout}\n', encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_training_that_stops_waiting_or_is_stopped_says_how_to_go_on(
    emulator: RunningEmulator, images: Path, tmp_path: Path
) -> None:
    def sessions() -> list[bool]:
        files = sorted((emulator.state / "sessions").glob("*.json"), key=lambda path: path.stat().st_ctime)
        return [read_json(path)["accepting_jobs"] for path in files]

    before = emulator.counters()
    device = device_file(tmp_path, timeout=0.5)
    spec = on_machine(images, device__name=str(device), device__diff_method="parameter-shift", train__epochs=1)
    emulator.set_faults(queue_seconds=1.2)
    with pytest.raises(
        QHybridError, match=rf"^after . s job .* {MACHINE}; .*; the training can go on with `qhybrid train"
    ) as said:
        train(spec, out=tmp_path / "runs", console=quiet())
    run = open_run(root=tmp_path / "runs", incomplete=True)
    assert str(said.value).endswith(f"the training can go on with `qhybrid train --resume {run.path}`")
    assert "\n" not in str(said.value)
    assert sessions() == [False]
    device_file(tmp_path, timeout=30)

    def stop() -> None:
        while [row.state for row in Ledger().find()] != ["queued", "collected"]:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Interrupted, match="interrupted; jobs that were sent stay; go on with `qhybrid train --resume"):
        resume(run.path, console=quiet())
    stopper.join()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it after an interrupt
    emulator.set_faults(queue_seconds=0.0)
    resume(run.path, console=quiet())
    check_jobs(emulator, before, run, circuits_a_image=1 + 2 * 8)  # eight angles
    assert sessions() == [False] * 3


def test_a_machine_without_shots_is_refused_before_a_run_is_made(
    emulator: RunningEmulator, images: Path, tmp_path: Path
) -> None:
    device = device_file(tmp_path, timeout=1)
    spec = on_machine(images, device__name=str(device), device__shots="none")
    with pytest.raises(
        InputError, match="has no exact expectation values; give shots, for example shots = 1024"
    ) as said:
        train(spec, out=tmp_path / "runs", console=quiet())
    assert "\n" not in str(said.value)
    assert not (tmp_path / "runs").exists()
