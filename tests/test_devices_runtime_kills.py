"""Processes that are killed at every step of a job, and several that are at work on one: it runs once, none is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from loopback import MACHINE, emulated
from runtime_child import STEPS
from runtime_rounds import WAIT, Round, Stand, rounds

from qhybrid.devices import runtime_jobs
from qhybrid.devices.runtime_client import Client
from qhybrid.devices.runtime_errors import Unreachable
from qhybrid.devices.runtime_jobs import Job, collect

POSTING = "posting"
"""The service has taken the job and has not answered yet."""


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with emulated(backends=[MACHINE], seed=7) as emulator:
        yield Stand.of(emulator)


@pytest.fixture
def here(stand: Stand, seed: int, tmp_path: Path) -> Iterator[Round]:
    with stand.round(seed, tmp_path / "data") as new:
        yield new


class Child:
    """`runtime_child.py`, with what it says and hears."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("runtime_child.py")
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.hears() == "ready"

    def tell(self, order: str, folder: Path, step: str = "-") -> int:
        """Have an order carried out; returns the process that does it."""
        self.say(f"{order} {step} {folder}")
        return int(self.hears())

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def hears(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def child(stand: Stand) -> Iterator[Child]:
    started = Child()
    yield started
    started.end()


def killed(here: Round, child: Child, order: str, step: str, *, exactly: bool) -> None:
    """Kill a process at a step, or some time after it."""
    posting = step == POSTING
    here.emulator.set_faults(
        queue_seconds=here.draw.uniform(0.1, 0.3),
        run_seconds=here.draw.uniform(0.4, 0.6),
        slow_submit=0.5 if posting else 0.0,
    )
    accepted = here.emulator.counters()["accepted"]
    process = child.tell(order, here.ledger.folder, step)
    if posting:
        while here.emulator.counters()["accepted"] == accepted:
            time.sleep(0.001)
    else:
        assert child.hears() == step
        if not exactly:
            child.say("go on")
    if not exactly:
        time.sleep(here.draw.uniform(0, 0.3))
    with suppress(ProcessLookupError):  # it may have come to its end
        os.kill(process, signal.SIGKILL)
    assert child.hears() == "over"


def survived(here: Round, *, may_be_none: bool = False) -> None:
    """Whatever the killed process left, another one finishes."""
    rows = here.ledger.find()
    if may_be_none and not rows:
        assert "posted" not in here.ran()
        return
    (row,) = rows
    here.finish(Job(here.ledger, Client(), (row.tag,)))


def not_sent(here: Round) -> None:
    """Leave a job in the ledger that could not be sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runtime_jobs.send.__kwdefaults__, "patience", 0.0)
        with pytest.raises(Unreachable):
            here.submit()


KILLS = [*STEPS, POSTING]


@rounds()
def test_a_process_that_submits_is_killed(here: Round, seed: int, child: Child) -> None:
    """Each step twice: at it, and a little later."""
    first = KILLS.index("claimed")  # the ordinary tests see those that are hardest
    step = KILLS[(first + 8 * seed) % len(KILLS)]
    killed(here, child, "submit", step, exactly=seed < len(KILLS))
    survived(here, may_be_none=step == "circuits.qpy")


@rounds(quick=0)
def test_a_process_that_collects_is_killed(here: Round, seed: int, child: Child) -> None:
    """It takes up a job that another one could not send."""
    here.emulator.stop()
    not_sent(here)
    here.emulator.restart()
    steps = KILLS[2:]
    killed(here, child, "collect", steps[(5 + 4 * seed) % len(steps)], exactly=seed < len(steps))
    survived(here)


@rounds(quick=0)
def test_a_process_is_killed_at_any_moment(here: Round, seed: int, child: Child) -> None:
    process = child.tell("submit", here.ledger.folder)
    time.sleep(here.draw.uniform(0, 1.5))
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    assert child.hears() == "over"
    survived(here, may_be_none=True)


@pytest.mark.slow
def test_many_processes_are_killed_one_after_another(stand: Stand, tmp_path: Path, child: Child) -> None:
    """All at the same job, which goes on meanwhile."""
    with stand.round(0, tmp_path / "data") as here:
        killed(here, child, "submit", "written", exactly=True)
        for step in ("claimed", POSTING, "done", "fetched", "result.json"):
            killed(here, child, "collect", step, exactly=True)
        survived(here)


@rounds()
def test_two_processes_collect_one_job(here: Round, seed: int, child: Child) -> None:
    """Also one that could not be sent, which both take up."""
    draw = here.draw
    here.emulator.set_faults(
        queue_seconds=draw.uniform(0, 0.3), run_seconds=draw.uniform(0, 0.3), slow_results=draw.uniform(0, 0.1)
    )
    if seed % 2:
        job = here.submit()
    else:
        here.emulator.set_faults(close_connections=1, close_on="submit")
        not_sent(here)
        job = Job(here.ledger, Client(), (here.ledger.find()[0].tag,))
    child.tell("collect", here.ledger.folder)
    time.sleep(draw.uniform(0, 0.2))
    found = job.result(timeout=WAIT)
    assert child.hears() == "over"
    here.check(job.rows[0], found)


@rounds()
def test_a_process_submits_while_another_collects_everything(here: Round, seed: int, child: Child) -> None:
    """That one may take the row before this one sends it; the reply may be lost on top."""
    draw = here.draw
    here.emulator.set_faults(
        drop_submit=draw.choice([0, 1]),
        slow_submit=draw.choice([0.0, 0.2]),
        queue_seconds=draw.uniform(0, 0.3),
        slow_results=draw.uniform(0, 0.1),
    )
    child.tell("all", here.ledger.folder)
    time.sleep(draw.uniform(0, 0.2))
    job = here.submit()
    found = job.result(timeout=WAIT)
    assert child.hears() == "over"
    here.check(job.rows[0], found)


def test_what_is_collected_is_collected_from_the_disk(stand: Stand, tmp_path: Path) -> None:
    """Without the service, and without an account."""
    with stand.round(0, tmp_path / "data") as here:
        job = here.submit()
        found = job.result(timeout=WAIT)
        stand.emulator.stop()
        (row,) = job.rows
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("QISKIT_IBM")]:
                patch.delenv(name)
            assert collect(row, here.ledger).values.tolist() == found.values.tolist()
        stand.emulator.restart()
