"""Every fault between a job and its result, twenty rounds each with random timing: one job runs, its result comes."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback import MACHINE, emulated
from runtime_rounds import Round, Stand, rounds

from qhybrid.devices import jobs
from qhybrid.devices.runtime_jobs import Job, collect
from qhybrid.emulator.faults import PLACES
from qhybrid.errors import QHybridError


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with emulated(backends=[MACHINE], seed=7) as emulator:
        yield Stand.of(emulator)


@pytest.fixture
def here(stand: Stand, seed: int, tmp_path: Path) -> Iterator[Round]:
    with stand.round(seed, tmp_path / "data") as new:
        yield new


@rounds()
def test_the_reply_to_a_submission_is_lost(here: Round, seed: int) -> None:
    """Also a gateway's 502 or 504 in its place, and several lost in a row."""
    draw = here.draw
    here.emulator.set_faults(
        drop_submit=1,
        drop_submits=draw.randint(1, 3),
        drop_status=draw.choice([0, 0, 500, 502, 504]),
        slow_submit=draw.uniform(0, 0.2),
        queue_seconds=draw.uniform(0, 0.4),
    )
    job = here.submit()
    assert job.rows[0].attempts == 2
    here.finish(job)
    assert here.ran()["posted"] == here.ran()["replies_dropped"] == 1


@rounds()
def test_a_burst_of_server_errors(here: Round, seed: int) -> None:
    """One to twenty in a row, at any moment."""
    draw = here.draw
    burst = {
        "errors": seed + 1,
        "errors_on": PLACES[(seed + 1) % len(PLACES)],
        "error_status": draw.choice([500, 502, 503, 504]),
    }
    here.emulator.set_faults(queue_seconds=draw.uniform(0, 0.3), **burst)
    if draw.random() < 0.3:
        here.emulator.set_faults(errors=0)
        here.later(0.5, here.emulator.set_faults, **burst)
    here.finish(here.submit())


@rounds()
def test_too_many_requests(here: Round, seed: int) -> None:
    draw = here.draw
    limit = {
        "rate_limit": draw.randint(1, 6),
        "rate_limit_on": PLACES[(seed + 1) % len(PLACES)],
        "retry_after": draw.choice([None, None, 0.0, 1.0]),
    }
    here.emulator.set_faults(queue_seconds=draw.uniform(0, 0.3))
    here.later(draw.choice([0.0, 0.4]), here.emulator.set_faults, **limit)
    here.finish(here.submit())


@rounds()
def test_connections_are_refused(here: Round, seed: int) -> None:
    """While the job is sent, and again while it is waited for."""
    here.away(here.draw.uniform(0.1, 0.8))
    job = here.submit()
    here.wait()
    here.emulator.set_faults(queue_seconds=here.draw.uniform(0, 0.5))
    here.away(here.draw.uniform(0.1, 0.8))
    here.finish(job, restarted=True)


@pytest.mark.slow
def test_connections_are_refused_for_a_minute(stand: Stand, tmp_path: Path) -> None:
    with stand.round(0, tmp_path / "data") as here:
        for seconds in (60.0, 60.0):
            here.away(seconds)
            started = time.monotonic()
            if seconds and not here.ledger.find():
                job = here.submit()
            else:
                here.finish(job, restarted=True)
            assert time.monotonic() - started >= 60
            here.wait()


@rounds()
def test_connections_are_closed_without_an_answer(here: Round, seed: int) -> None:
    draw = here.draw
    here.emulator.set_faults(close_connections=draw.randint(1, 4), close_on=PLACES[(seed + 2) % len(PLACES)])
    here.finish(here.submit())


@rounds(quick=0)
def test_the_token_expires(here: Round, seed: int) -> None:
    """That of the round before has, so that the job is refused at first; a new one does while it is waited for."""
    seconds = here.draw.uniform(0.8, 2.0)
    here.emulator.set_faults(token_seconds=seconds, queue_seconds=seconds + here.draw.uniform(0.2, 1.0))
    time.sleep(seconds)
    here.finish(here.submit())
    done = here.ran()
    assert min(done["unauthorized"], done["tokens"]) >= 2


@rounds()
def test_the_result_comes_cut_short(here: Round, seed: int) -> None:
    draw = here.draw
    kind = draw.choice(["truncate_results", "truncate_silently"])
    here.emulator.set_faults(**{kind: draw.randint(1, 3)}, slow_results=draw.uniform(0, 0.1))
    here.finish(here.submit())
    assert here.ran()["truncated"] >= 1


@rounds()
def test_the_server_is_restarted(here: Round, seed: int) -> None:
    """At any moment: while the job is sent, waits, runs, and while its result is fetched."""
    draw = here.draw
    here.emulator.set_faults(
        slow_submit=draw.uniform(0, 0.3),
        queue_seconds=draw.uniform(0, 0.3),
        run_seconds=draw.uniform(0, 0.3),
        slow_results=draw.uniform(0, 0.3),
    )
    here.later(1.2, here.emulator.restart)
    here.finish(here.submit(), restarted=True)


@rounds(quick=0)
def test_several_faults_at_once(here: Round, seed: int) -> None:
    draw = here.draw
    here.emulator.set_faults(
        drop_submit=draw.choice([0, 1, 2]),
        errors=draw.randint(1, 20),
        errors_on=draw.choice(PLACES),
        rate_limit=draw.randint(0, 3),
        truncate_silently=draw.randint(0, 2),
        slow_submit=draw.uniform(0, 0.3),
        queue_seconds=draw.uniform(0, 0.5),
    )
    here.later(2.0, here.emulator.restart)
    here.finish(here.submit(), restarted=True)


@rounds()
def test_a_job_that_failed_on_the_machine_is_not_sent_again(here: Round, seed: int) -> None:
    """But asked for anew, it is a new job."""
    device, program, draw = here.stand.device, here.stand.program, here.draw
    fault, state, word = draw.choice(
        [("fail_jobs", "failed", "failed: Internal error"), ("cancel_jobs", "cancelled", "was cancelled: Cancelled by")]
    )
    here.emulator.set_faults(**{fault: 1}, queue_seconds=draw.uniform(0, 0.3), run_seconds=draw.uniform(0, 0.3))
    asked = {"run": "runs/a", "purpose": "evaluation", "resume": True}
    job = here.submit(**asked)
    (row,) = job.rows
    for again in (job.result, lambda: collect(row, here.ledger, client=device.client)):
        with pytest.raises(QHybridError, match=rf"^job \w+ on {MACHINE} {word}[^\n]*$"):
            again()
    (row,) = job.rows
    done = here.ran()
    assert (row.state, done["accepted"], done[state], device.ledger.find()) == (state, 1, 1, [row])
    assert "completed" not in done
    here.before = here.emulator.counters()
    here.finish(here.submit(**asked))
    assert here.submit(**asked).result().values.shape == (2, program.circuit.n_observables)
    assert here.ran()["posted"] == 1


@rounds()
def test_the_machine_is_calibrated_anew(here: Round, seed: int) -> None:
    draw = here.draw
    date = f"2026-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}T03:04:05+00:00"
    here.emulator.set_faults(queue_seconds=draw.uniform(0, 0.3))
    job = here.submit()
    before = job.rows[0].calibration_at_submit
    here.emulator.set_faults(calibration_date=date)
    here.finish(job)
    (row,) = job.rows
    assert row.calibration_at_submit == before
    assert before is not None
    assert before[:10] != row.calibration_at_collect[:10] == date[:10]  # type: ignore[index]


LOCK = (
    "import sqlite3, sys, time; database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30);"
    "database.execute('BEGIN IMMEDIATE'); time.sleep(float(sys.argv[2])); database.execute('ROLLBACK')"
)


def locked(here: Round, seconds: float) -> None:
    """Another process takes the ledger for so long, at a random moment."""
    here.ledger.find()
    here.later(0.6, lambda: subprocess.run([sys.executable, "-c", LOCK, here.ledger.path, str(seconds)], check=True))


@rounds()
def test_another_process_locks_the_ledger(here: Round, seed: int) -> None:
    here.emulator.set_faults(slow_submit=here.draw.uniform(0, 0.4), queue_seconds=here.draw.uniform(0, 0.4))
    locked(here, here.draw.uniform(0.1, 1.0 if seed == 0 else 5.0))
    here.finish(here.submit())


def until_it_works(here: Round, then: Callable[[], None] = lambda: None) -> tuple[Job, set[str]]:
    """Do what a person does who reads the error: wait, and try again.

    Args:
        here: The round, in which a job was sent or not.
        then: What else to do at an error.

    Returns:
        The job, collected, and what was read.
    """
    said = set()
    while True:
        try:
            rows = here.ledger.find()
            job = here.stand.device._job(rows) if rows else here.submit()
            job.result(timeout=20)
            return job, said
        except QHybridError as error:
            said.add(str(error))
            time.sleep(0.05)
            then()


@rounds()
def test_another_process_keeps_the_ledger_too_long(here: Round, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line, in this process or the next the job goes on, found by its tag where it was sent."""
    monkeypatch.setattr(jobs, "LOCK_SECONDS", 0.05)
    here.emulator.set_faults(slow_submit=here.draw.uniform(0, 0.6), queue_seconds=here.draw.uniform(0, 0.4))
    locked(here, here.draw.uniform(0.5, 1.5))
    job, said = until_it_works(here)
    here.finish(job)
    assert said <= {f"job ledger {here.ledger.path}: another process has kept it locked for 0 s; try again"}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path_factory.mktemp("disk")
    if (
        os.name != "posix"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@rounds(quick=2)
def test_the_disk_is_full(stand: Stand, seed: int, disk: Path) -> None:
    """At any write of circuits, angles, ledger and result: a few pages of the disk are left, in every round others."""
    with stand.round(seed, disk / f"data{seed}") as here:
        other: sqlite3.Connection | None = None
        draw, filler = here.draw, disk / "filler"
        here.emulator.set_faults(queue_seconds=draw.uniform(0, 0.2))
        if seed % 2:
            here.submit()
        if seed % 4 > 1:  # another process that reads keeps SQLite's own files where they are, and so writes possible
            here.ledger.find()
            other = sqlite3.connect(here.ledger.path)
            other.execute("SELECT * FROM jobs").fetchall()
        space = os.statvfs(disk)
        filler.write_bytes(bytes(space.f_bavail * space.f_frsize - 4096 * draw.randint(0, 12)))
        there_again = time.monotonic() + draw.uniform(0, 0.5)
        job, said = until_it_works(
            here, lambda: filler.unlink(missing_ok=True) if time.monotonic() > there_again else None
        )
        here.finish(job)
        filler.unlink(missing_ok=True)
        if other is not None:
            other.close()
    for each in said:
        assert re.fullmatch(r".*(the disk is full; nothing was changed|No space left on device)", each)
