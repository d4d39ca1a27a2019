"""What goes wrong on purpose, and what survives it."""

import errno
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.x509 import load_pem_x509_certificate
from loopback import emulated
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import (
    IBMBackend,
    IBMRuntimeError,
    QiskitRuntimeService,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
    SamplerV2,
)
from qiskit_ibm_runtime.exceptions import IBMNotAuthorizedError

from qhybrid.emulator.faults import Faults, FaultState, with_faults
from qhybrid.emulator.running import RunningEmulator, running_emulator
from qhybrid.emulator.simulation import check_params
from qhybrid.errors import InputError, QHybridError

pytestmark = pytest.mark.filterwarnings("ignore:The RuntimeOptions class is deprecated")  # the client's own
MACHINE = "ibmq_manila"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    with emulated(backends=["FakeManila"], state=tmp_path / "state") as running:
        yield running


@pytest.fixture
def backend(emulator: RunningEmulator) -> IBMBackend:
    return QiskitRuntimeService().backend(MACHINE)


def submit(backend: IBMBackend, tag: str = "tag") -> Any:
    circuit = QuantumCircuit(5, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    return SamplerV2(backend, options={"environment": {"job_tags": [tag]}}).run([(circuit, None, 100)])


def test_jobs_outlive_the_server(emulator: RunningEmulator, backend: IBMBackend) -> None:
    done = submit(backend)
    done.result()
    emulator.set_faults(queue_seconds=30)
    waiting = submit(backend, "waiting")
    emulator.stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get("https://quantum.cloud.ibm.com/api/v1/backends", timeout=5)
    emulator.set_faults(queue_seconds=0)
    emulator.restart()
    service = QiskitRuntimeService()
    (found,) = service.jobs(job_tags=["waiting"])
    assert found.job_id() == waiting.job_id()
    assert found.result(timeout=20)[0].data.c.num_shots == 100
    assert service.job(done.job_id()).result()[0].data.c.get_counts() == done.result()[0].data.c.get_counts()
    counters = emulator.counters()
    assert counters["accepted"] == counters["started"] == counters["completed"] == 2


def test_a_job_that_was_running_starts_again_and_ends_once(emulator: RunningEmulator, backend: IBMBackend) -> None:
    emulator.set_faults(run_seconds=30)
    job = submit(backend)
    while job.status() != "RUNNING":
        time.sleep(0.02)
    emulator.stop()
    emulator.set_faults(run_seconds=0)
    emulator.restart()
    assert QiskitRuntimeService().job(job.job_id()).result(timeout=20)
    counters = emulator.counters()
    assert (counters["started"], counters["completed"]) == (2, 1)


def test_a_job_that_arrives_while_the_server_stops_is_not_forgotten(
    emulator: RunningEmulator, backend: IBMBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken before the server is gone, or not at all; the client, which got no reply, posts again."""
    arrived = threading.Event()

    def slow(*given: Any) -> str | None:
        arrived.set()
        time.sleep(0.5)
        return check_params(*given)

    monkeypatch.setattr("qhybrid.emulator.requested_jobs.check_params", slow)
    thread = threading.Thread(target=submit, args=(backend, "arriving"))
    thread.start()
    arrived.wait(10)
    emulator.restart()
    thread.join()
    found = QiskitRuntimeService().jobs(job_tags=["arriving"])
    assert len(found) == emulator.counters()["accepted"] == 2
    assert all(job.result(timeout=20) for job in found)


def test_a_reply_that_is_late_or_lost_at_a_gateway(emulator: RunningEmulator, backend: IBMBackend) -> None:
    emulator.set_faults(slow_submit=0.5)
    start = time.monotonic()
    submit(backend)
    assert time.monotonic() - start >= 0.5
    emulator.set_faults(slow_submit=0.0, drop_submit=1, drop_status=504)
    submit(backend, "gateway")  # the client posts again
    assert len(QiskitRuntimeService().jobs(job_tags=["gateway"])) == 2
    assert emulator.counters()["replies_dropped"] == 1


def test_a_lost_reply_makes_the_client_post_again(emulator: RunningEmulator, backend: IBMBackend) -> None:
    """And so two jobs run, which their tag finds."""
    emulator.set_faults(drop_submit=2)
    submit(backend, "first")
    job = submit(backend, "second")
    counters = emulator.counters()
    assert (counters["posted"], counters["accepted"], counters["replies_dropped"]) == (3, 3, 1)
    found = QiskitRuntimeService().jobs(job_tags=["second"])
    assert len(found) == 2
    assert found[0].job_id() == job.job_id()
    assert found[1].result(timeout=20)


def test_errors_in_a_row_and_too_many_requests(emulator: RunningEmulator, backend: IBMBackend) -> None:
    emulator.set_faults(errors=1, errors_on="submit")
    job = submit(backend)  # the client asks again by itself
    assert emulator.counters()["errors_5xx"] == 1
    assert emulator.counters()["accepted"] == 1
    emulator.set_faults(rate_limit=1, rate_limit_on="poll")
    with pytest.raises(Exception, match="429"):
        job.status()
    assert job.status() in ("QUEUED", "RUNNING", "DONE")
    emulator.set_faults(rate_limit=1, rate_limit_on="all", retry_after=0)
    job.metrics()  # with the header, the client waits and asks again; but not on submit
    emulator.set_faults(rate_limit=1, rate_limit_on="submit")
    with pytest.raises(IBMRuntimeError, match="1202"):
        submit(backend)
    assert emulator.counters()["rate_limited"] == 3
    assert emulator.counters()["accepted"] == 1


def test_results_that_come_late_or_cut(emulator: RunningEmulator, backend: IBMBackend) -> None:
    job = submit(backend)
    job.wait_for_final_state()
    emulator.set_faults(truncate_silently=1)
    assert isinstance(job.result(), str)  # half a JSON text, which the client hands on as it is
    emulator.set_faults(truncate_results=10)
    with pytest.raises(Exception, match=r"IncompleteRead|Connection broken|closed"):
        job.result()
    emulator.set_faults(truncate_results=0, slow_results=0.5)
    start = time.monotonic()
    assert job.result()[0].data.c.num_shots == 100
    assert time.monotonic() - start >= 0.5


def test_jobs_fail_and_are_cancelled_on_the_machine(emulator: RunningEmulator, backend: IBMBackend) -> None:
    emulator.set_faults(fail_jobs=1)
    with pytest.raises(RuntimeJobFailureError, match="Internal error"):
        submit(backend).result()
    emulator.set_faults(cancel_jobs=1)
    with pytest.raises(RuntimeInvalidStateError, match="cancelled"):
        submit(backend).result()
    assert submit(backend).result()[0].data.c.num_shots == 100
    counters = emulator.counters()
    assert (counters["failed"], counters["cancelled"], counters["completed"]) == (1, 1, 1)


def test_a_token_expires(emulator: RunningEmulator, backend: IBMBackend) -> None:
    emulator.set_faults(token_seconds=0)
    with pytest.raises(IBMNotAuthorizedError, match="401"):
        backend.status()
    emulator.set_faults(token_seconds=None)
    assert backend.status().operational


def test_a_calibration_changes(emulator: RunningEmulator, backend: IBMBackend) -> None:
    before = backend.properties().last_update_date
    emulator.set_faults(calibration_date="2026-03-01T12:00:00+00:00")
    after = backend.properties(refresh=True).last_update_date
    assert (after.year, after.month) == (2026, 3)
    assert backend.properties(datetime=after.replace(month=2)).last_update_date == before


def test_a_full_disk_is_an_error_and_not_the_end(
    emulator: RunningEmulator, backend: IBMBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("qhybrid.emulator.jobs.write_text", full)
        with pytest.raises(IBMRuntimeError, match="cannot use its folder"):
            submit(backend)
    assert submit(backend).result()[0].data.c.num_shots == 100


def test_only_ibms_hosts_are_reached(emulator: RunningEmulator, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        requests.get("https://example.com", timeout=5)
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        requests.get("https://iam.cloud.ibm.com.example.com", timeout=5)
    answer = requests.get("http://example.com", proxies={"http": os.environ["HTTPS_PROXY"]}, timeout=5)
    assert answer.status_code == 403
    assert "refused to connect to example.com" in capfd.readouterr().err
    assert emulator.counters()["refused_hosts"] == 3
    assert requests.get("https://quantum.cloud.ibm.com/api/v1/jobs", timeout=5).status_code == 401


def test_keys_are_private_and_one_server_has_a_folder(emulator: RunningEmulator) -> None:
    for path in emulator.state.iterdir():
        if path.is_file() and b"PRIVATE" in path.read_bytes():
            assert path.stat().st_mode & 0o777 == 0o600
    assert (emulator.state / "tokens.key").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in Path(emulator.environment["REQUESTS_CA_BUNDLE"]).read_bytes()
    authority = load_pem_x509_certificate((emulator.state / "ca.pem").read_bytes())
    assert authority.not_valid_after_utc < datetime.now(UTC) + timedelta(days=3)
    with (
        pytest.raises(QHybridError, match="another emulator uses"),
        running_emulator(backends=["FakeManila"], state=emulator.state),
    ):
        pass


def test_counters_and_faults_over_plain_http(emulator: RunningEmulator) -> None:
    address = f"http://127.0.0.1:{emulator.port}/emulator"
    with urllib.request.urlopen(f"{address}/counters", timeout=5) as answer:
        assert json.load(answer) == emulator.counters()
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=5)
    body = json.dumps({"errors": 2})
    for headers, status in (({}, 415), ({"Content-Type": "application/json"}, 200)):
        connection.request("POST", "/emulator/faults", body, headers)
        answer = connection.getresponse()
        content = json.load(answer)
        assert answer.status == status
    assert content["errors"] == 2
    connection.request("POST", "/emulator/faults", '{"eror": 2}', {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 400
    assert "did you mean 'errors'" in json.load(answer)["error"]
    connection.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"errors": -1}, "0 or more"),
        ({"errors": "x"}, "a whole number"),
        ({"errors_on": "sumbit"}, "did you mean 'submit'"),
        ({"slow_results": None}, "seconds"),
        ({"calibration_date": "soon"}, "ISO 8601"),
    ],
)
def test_faults_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_faults(Faults(), changes)


def test_every_fault_happens_as_often_as_asked() -> None:
    state = FaultState(Faults(errors=100, errors_on="poll", drop_submit=3))
    taken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(state.take("errors", ("poll",)) for _ in range(50)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(taken), len(taken)) == (100, 200)
    assert not state.take("errors", ("submit",))
    assert [state.take_drop() for _ in range(5)] == [False, False, True, False, False]


LISTING = """
from qiskit_ibm_runtime import QiskitRuntimeService
print([each.name for each in QiskitRuntimeService().backends()])
raise SystemExit(7)
"""


def qhybrid(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    code = "from qhybrid.cli import main; main()"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code, "emulator", *arguments], stdout=pipe, stderr=pipe, text=True, **options
    )


def test_one_command_runs_under_it_and_gives_its_exit_code(tmp_path: Path) -> None:
    with qhybrid(
        "--backend", "FakeManila,ibm_fez", "--state", str(tmp_path), "--", sys.executable, "-c", LISTING
    ) as run:
        out, err = run.communicate(timeout=60)
    assert out == "['ibmq_manila', 'ibm_fez']\n"
    assert run.returncode == 7
    port = int(err.split("port ")[1].split()[0])
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/emulator/counters", timeout=5)


def test_it_prints_what_to_paste_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    with qhybrid("--backend", "FakeManila", "--state", str(tmp_path)) as run:
        assert run.stdout is not None
        lines = []
        while "Ctrl-C" not in (lines[-1] if lines else ""):
            lines.append(run.stdout.readline())
        exports = dict(
            line.removeprefix("export ").strip().split("=", 1) for line in lines if line.startswith("export ")
        )
        assert exports["REQUESTS_CA_BUNDLE"] == str(tmp_path / "ca.pem")
        with urllib.request.urlopen(f"{exports['HTTPS_PROXY']}/emulator/counters", timeout=5) as answer:
            assert json.load(answer)["posted"] == 0
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=20)
    assert run.returncode == 0
    assert err == f"qhybrid emulator: stopped; its jobs stay in {tmp_path}\n"
