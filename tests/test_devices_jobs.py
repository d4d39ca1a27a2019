"""The ledger of hardware jobs: durable, shared, never sending twice."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_rows import row

from qhybrid.devices import jobs
from qhybrid.devices.job_row import OPEN, TRANSITIONS
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime_jobs import job_of
from qhybrid.errors import InputError, QHybridError


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "data")


def test_a_row_comes_back_as_it_was_written(ledger: Ledger) -> None:
    written = row(run="runs/a", purpose="evaluation", estimate=3.5)
    ledger.add([written], {written.tag: {"angles.npz": b"angles"}})
    assert ledger.by_tag(written.tag) == written
    assert (ledger.files(written.tag) / "angles.npz").read_bytes() == b"angles"
    assert ledger.by_tag(written.tag[:14]) == written  # what a person types
    assert Ledger(ledger.folder).find() == [written]


def test_the_folder_is_moved_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QHYBRID_DATA", str(tmp_path / "elsewhere"))
    written = row()
    Ledger().add([written], {})
    assert (tmp_path / "elsewhere" / "jobs.sqlite3").is_file()


def test_find_filters(ledger: Ledger) -> None:
    rows = [row(run="a", purpose="evaluation"), row(run="a", purpose="gradient step 1"), row(run="b", backend="ibm_x")]
    ledger.add(rows, {})
    ledger.set_state(rows[0].tag, "cancelled")
    assert {each.tag for each in ledger.find(run="a")} == {rows[0].tag, rows[1].tag}
    assert [each.tag for each in ledger.find(backend="ibm_x")] == [rows[2].tag]
    assert {each.tag for each in ledger.find(states=OPEN)} == {rows[1].tag, rows[2].tag}
    assert ledger.find(run="a", purpose="nothing") == []


def test_forget_deletes_the_row_and_its_files(ledger: Ledger) -> None:
    written = row()
    ledger.add([written], {written.tag: {"circuits.qpy": b"x"}})
    ledger.forget(written.tag)
    assert not ledger.files(written.tag).exists()
    with pytest.raises(InputError, match="unknown job 'qhybrid-"):
        ledger.by_tag(written.tag)


def test_nothing_is_written_of_a_batch_that_fails_in_the_middle(ledger: Ledger) -> None:
    first = row()
    with pytest.raises(QHybridError, match="UNIQUE"):
        ledger.add([first, first], {first.tag: {"a": b"x"}})
    assert ledger.find() == []
    assert not ledger.files(first.tag).exists()


@given(steps=st.lists(st.sampled_from(sorted(TRANSITIONS)), max_size=8))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_states_follow_each_other_as_allowed_whatever_is_asked(ledger: Ledger, steps: list[str]) -> None:
    written = row()
    ledger.add([written], {})
    state = "prepared"
    for step in steps:
        if step in TRANSITIONS[state]:
            state = step
        assert ledger.set_state(written.tag, step).state == state


def test_a_column_or_state_that_is_none_is_an_error(ledger: Ledger) -> None:
    written = row()
    ledger.add([written], {})
    with pytest.raises(ValueError, match="no such state"):
        ledger.set_state(written.tag, "flying")
    with pytest.raises(ValueError, match="token"):
        ledger.set_state(written.tag, "queued", token="secret")


def test_a_job_that_was_never_sent_is_cancelled_in_one_step(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed at it leaves the job as it was, and no other one sends it; the service is not asked."""
    written, sent = row(), row(state="submitting")
    ledger.add([written, sent], {})
    seen = []
    transaction = Ledger._transaction

    @contextmanager
    def watched(self: Ledger) -> Iterator[sqlite3.Connection]:
        with transaction(self) as database:
            yield database
        with sqlite3.connect(self.path) as database:
            seen.append(database.execute("SELECT state FROM jobs WHERE tag = ?", (written.tag,)).fetchone()[0])
        database.close()

    monkeypatch.setattr(Ledger, "_transaction", watched)
    (cancelled,) = job_of(written, ledger).cancel()
    assert (cancelled.state, cancelled.error) == ("cancelled", "cancelled here")
    assert list(dict.fromkeys(seen)) == ["prepared", "cancelled"]
    assert ledger.claim(written.tag) is None
    assert not ledger.withdraw(sent.tag)
    assert ledger.by_tag(sent.tag).state == "submitting"


CLAIM = """
import sys, time
from pathlib import Path
from qhybrid.devices.jobs import Ledger
ledger = Ledger(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(sum(ledger.claim(tag) is not None for tag in sys.argv[2:]), flush=True)
sys.stdin.readline()
"""


def claimer(ledger: Ledger, *tags: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(ledger.folder), *tags],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_of_several_processes_exactly_one_claims_each_job(ledger: Ledger) -> None:
    rows = [row() for _ in range(8)]
    ledger.add(rows, {})
    processes = [claimer(ledger, *[each.tag for each in rows]) for _ in range(4)]
    for process in processes:
        go(process)
    assert sum(answer(process) for process in processes) == len(rows)
    for process in processes:
        process.communicate("\n")
    assert {each.attempts for each in ledger.find()} == {1}


def test_a_ledger_that_is_made_by_several_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from qhybrid.devices.job_row import JobRow;"
        "from qhybrid.devices.jobs import Ledger;"
        "Ledger(Path(sys.argv[1])).add([JobRow('b', 'c', {}, {}, 'd', 1, 1) for _ in range(5)], {})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "new")]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(Ledger(tmp_path / "new").find()) == 20


def test_a_claim_is_taken_over_when_its_process_is_dead(ledger: Ledger) -> None:
    written = row()
    ledger.add([written], {})
    process = claimer(ledger, written.tag)
    go(process)
    assert answer(process) == 1
    assert ledger.claim(written.tag) is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    taken = ledger.claim(written.tag)
    assert taken is not None
    assert (taken.state, taken.attempts) == ("submitting", 2)
    assert str(os.getpid()) in (taken.owner or "")


def test_a_sender_that_is_dead_but_not_yet_buried_is_dead(ledger: Ledger) -> None:
    """As in a container whose first process does not wait for its children: killed ones stay, as zombies."""
    written = row()
    ledger.add([written], {})
    process = claimer(ledger, written.tag)
    go(process)
    assert answer(process) == 1
    process.send_signal(signal.SIGKILL)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert ledger.claim(written.tag) is not None
    process.communicate()


def test_a_process_claims_again_what_it_released_and_nothing_else(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the ledger could not be written at that moment."""
    written = row()
    ledger.add([written], {})
    monkeypatch.setattr(jobs, "LOCK_SECONDS", 0.1)
    for attempt in (1, 2):
        claimed = ledger.claim(written.tag)
        assert claimed is not None
        assert claimed == ledger.by_tag(written.tag)
        assert claimed.attempts == attempt
        assert ledger.claim(written.tag) is None
        other = sqlite3.connect(ledger.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(QHybridError, match="locked"):
            ledger.release(written.tag)
        other.close()
        assert ledger.by_tag(written.tag).owner == claimed.owner
    assert ledger.claim(written.tag) is not None
    ledger.release(written.tag)
    assert ledger.by_tag(written.tag).owner is None


def test_a_claim_of_another_host_is_left_alone(ledger: Ledger) -> None:
    written = row(state="submitting", owner="elsewhere 1 2.0")
    ledger.add([written], {})
    assert ledger.claim(written.tag) is None


def test_a_process_id_that_was_given_to_another_process_is_not_the_owner(ledger: Ledger) -> None:
    import socket

    started = psutil.Process().create_time() - 3600
    written = row(state="submitting", owner=f"{socket.gethostname()} {os.getpid()} {started:.2f}")
    ledger.add([written], {})
    assert ledger.claim(written.tag) is not None


def test_a_job_that_was_sent_cannot_be_claimed(ledger: Ledger) -> None:
    for state in ("queued", "running", "done", "failed", "cancelled", "collected"):
        written = row(state=state)
        ledger.add([written], {})
        assert ledger.claim(written.tag) is None


@pytest.mark.parametrize("seed", range(3))
def test_a_process_that_is_killed_leaves_whole_rows_only(ledger: Ledger, seed: int) -> None:
    code = (
        "import sys; from pathlib import Path; from qhybrid.devices.job_row import JobRow;"
        "from qhybrid.devices.jobs import Ledger; ledger = Ledger(Path(sys.argv[1])); print('ready', flush=True)\n"
        "while True:\n"
        "    rows = [JobRow('b', 'c', {}, {}, 'd', 1, 1, batch='x', part=part, parts=3) for part in range(3)]\n"
        "    ledger.add(rows, {each.tag: {'angles.npz': b'x' * 10000} for each in rows})\n"
        "    ledger.claim(rows[0].tag)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(ledger.folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05 + 0.037 * seed)
    process.kill()
    process.communicate()
    rows = ledger.find()
    assert len(rows) % 3 == 0
    for each in rows:
        assert (ledger.files(each.tag) / "angles.npz").stat().st_size == 10000
        assert each.state in ("prepared", "submitting")


def test_a_locked_ledger_is_one_line_and_changes_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    written = row()
    ledger.add([written], {})
    monkeypatch.setattr(jobs, "LOCK_SECONDS", 0.1)
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(QHybridError, match="another process has kept it locked") as caught:
        ledger.set_state(written.tag, "submitting")
    assert "\n" not in str(caught.value)
    other.execute("ROLLBACK")
    other.close()
    assert ledger.by_tag(written.tag) == written


def test_a_ledger_that_is_locked_for_a_while_is_waited_for(ledger: Ledger) -> None:
    written = row()
    ledger.add([written], {})
    code = (
        "import sqlite3, sys, time; d = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "d.execute('BEGIN IMMEDIATE'); print('locked', flush=True); time.sleep(0.5); d.execute('ROLLBACK')"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(ledger.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert ledger.claim(written.tag) is not None


def test_a_damaged_ledger_is_one_line(ledger: Ledger) -> None:
    ledger.folder.mkdir(parents=True)
    ledger.path.write_bytes(b"this is no database, but it is long enough to be looked at" * 100)
    with pytest.raises(QHybridError, match=r"jobs\.sqlite3: damaged"):
        ledger.find()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the disk is real: the temporary file is a device that is always full."""
    path = tmp_path / "result.json"
    jobs.write(path, b"old")
    monkeypatch.setattr("qhybrid.storage.open", lambda *_, **__: Path("/dev/full").open("wb"), raising=False)  # noqa: SIM115
    with pytest.raises(QHybridError, match="No space left on device"):
        jobs.write(path, b"new" * 1000)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(QHybridError, match="Not a directory"):
        Ledger(tmp_path / "file" / "data").add([row()], {})


def test_settings_are_kept_as_json(ledger: Ledger) -> None:
    written = row(settings={"options": {"twirling": {"enable_gates": True}}, "layout_seeds": 4})
    ledger.add([written], {})
    with sqlite3.connect(ledger.path) as database:
        (text,) = database.execute("SELECT settings FROM jobs").fetchone()
    database.close()
    assert json.loads(text) == written.settings
