"""No file written and nothing printed holds a credential, whatever goes wrong on the way."""

import json
import logging
import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from loopback import MACHINE, emulated
from qiskit_ibm_runtime import QiskitRuntimeService
from runtime_rounds import SHOTS, Stand, angles

from qhybrid.devices import jobs, runtime_jobs
from qhybrid.devices.runtime import RuntimeDevice
from qhybrid.devices.runtime_jobs import collect
from qhybrid.emulator.accounts import INSTANCE, Account
from qhybrid.errors import QHybridError

TOKEN = "MARKEDtokenMARKEDtokenMARKEDtoken0123456789"
WRONG = "WRONGtokenWRONGtokenWRONGtokenWRONGtoken0123"
BEARERS: set[str] = set()
"""What the emulator issued."""


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    issue = Account.token

    def issued(account: Account, api_key: str) -> dict[str, Any] | None:
        answer = issue(account, api_key)
        BEARERS.add(answer["access_token"] if answer else TOKEN)
        return answer

    with (
        pytest.MonkeyPatch.context() as patch,
        emulated(backends=[MACHINE], seed=7, api_key=TOKEN) as emulator,
    ):
        patch.setattr(Account, "token", issued)
        yield Stand.of(emulator)


@pytest.fixture(params=["environment", "account file"])
def account(request: pytest.FixtureRequest, tmp_path: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the client finds the token."""
    if request.param == "account file":
        for name in [name for name in os.environ if name.startswith("QISKIT_IBM")]:
            monkeypatch.delenv(name)
        file = tmp_path / "home" / "qiskit-ibm.json"
        save(file)
        monkeypatch.setattr("qiskit_ibm_runtime.accounts.management._DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(file))
    stand.device.client._service = None  # opened anew, with this account
    stand.device.client._backends.clear()
    return str(request.param)


def save(file: Path) -> None:
    file.parent.mkdir(parents=True)
    QiskitRuntimeService.save_account(
        token=TOKEN, instance=INSTANCE, channel="ibm_quantum_platform", url="https://cloud.ibm.com", filename=str(file)
    )


def errors_of(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], Any]]:  # noqa: PLR0915
    """Name -> something that fails, or succeeds after a failure."""
    emulator, device, program = stand.emulator, stand.device, stand.program

    def fresh(**options: Any) -> RuntimeDevice:
        return RuntimeDevice(backend=options.pop("backend", MACHINE), layout_seeds=2, **options)

    def run(**faults: Any) -> None:
        emulator.set_faults(**faults)
        device.submit(program, angles(), shots=SHOTS, run="runs/a").result(timeout=9)

    def refused(action: Callable[[], Any]) -> None:
        emulator.stop()
        try:
            action()
        finally:
            emulator.restart()

    def damaged(name: str) -> None:
        job = device.submit(program, angles(), shots=SHOTS)
        job.result(timeout=9)
        (device.ledger.files(job.tags[0]) / name).write_text("{")
        job.result(timeout=9)

    def unsent_and_damaged() -> None:
        with suppress(QHybridError):
            refused(run)
        row = device.ledger.find(states=["submitting"])[0]
        (device.ledger.files(row.tag) / "circuits.qpy").write_text("{")
        try:
            collect(row, device.ledger, client=device.client, timeout=0)
        finally:
            for row in device.ledger.find(states=["submitting"]):
                device.ledger.forget(row.tag)

    def still_running() -> None:
        emulator.set_faults(queue_seconds=5.0)
        device.submit(program, angles(), shots=SHOTS).result(timeout=0)

    def lost() -> None:
        emulator.set_faults(queue_seconds=5.0)
        job = device.submit(program, angles(), shots=SHOTS)
        job.cancel()
        device.ledger.set_state(job.tags[0], "queued")
        job.result(timeout=0)

    def locked() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "LOCK_SECONDS", 0.05)
            other = sqlite3.connect(device.ledger.path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            try:
                run()
            finally:
                other.close()

    def full() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("qhybrid.storage.open", lambda *_, **__: open("/dev/full", "wb"), raising=False)  # noqa: SIM115
            run()

    def wrong(name: str, value: str) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("QISKIT_IBM_TOKEN", TOKEN)
            patch.setenv(name, value)
            fresh().prepare(program.circuit)

    return {
        "nothing": run,
        "reply lost": lambda: run(drop_submit=1),
        "5xx on submit": lambda: run(errors=2, errors_on="submit", error_status=500),
        "5xx on poll": lambda: run(errors=2, errors_on="poll"),
        "429": lambda: run(rate_limit=2, rate_limit_on="submit"),
        "connection closed": lambda: run(close_connections=2, close_on="poll"),
        "cut short": lambda: run(truncate_silently=1),
        "failed": lambda: run(fail_jobs=1),
        "cancelled": lambda: run(cancel_jobs=1),
        "token expired": lambda: run(token_seconds=0.6),
        "still running": still_running,
        "refused at submit": lambda: refused(run),
        "refused at prepare": lambda: refused(lambda: fresh().prepare(program.circuit)),
        "result damaged": lambda: damaged("result.json"),
        "circuit damaged": unsent_and_damaged,
        "lost": lost,
        "ledger locked": locked,
        "disk full": full,
        "no such backend": lambda: fresh(backend="ibm_fes").prepare(program.circuit),
        "no such instance": lambda: fresh(instance="mine").prepare(program.circuit),
        "too many shots": lambda: device.submit(program, angles(), shots=10**7),
        "wrong key": lambda: wrong("QISKIT_IBM_TOKEN", WRONG),
        "wrong channel": lambda: wrong("QISKIT_IBM_CHANNEL", "local"),
        "unknown option": lambda: RuntimeDevice(backend=MACHINE, options={"token": TOKEN}),
    }


FAIL = (
    "failed", "cancelled", "still running", "refused at submit", "refused at prepare", "circuit damaged", "lost",
    "ledger locked", "disk full", "no such backend", "no such instance", "too many shots", "wrong key", "unknown option"
)  # fmt: skip


@pytest.mark.slow
def test_no_error_path_shows_or_keeps_a_credential(
    stand: Stand,
    account: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    caplog.set_level(logging.DEBUG)
    monkeypatch.setitem(runtime_jobs.send.__kwdefaults__, "patience", 0.2)
    said: dict[str, list[str]] = {}
    with stand.round(0, tmp_path / "data"):
        for name, action in errors_of(stand, monkeypatch).items():
            said[name] = []
            try:
                action()
            except QHybridError as error:
                said[name] = [traceback.format_exc(), *chain(error)]
            finally:
                stand.emulator.set_faults(queue_seconds=0.0, token_seconds=None, errors=0, rate_limit=0)
        for row in stand.device.ledger.find():
            said[row.tag] = [repr(row), repr(stand.device), repr(stand.device.client), repr(stand.device._job([row]))]
        said["notes"] = stand.device.client.notes
    assert [name for name in FAIL if not said[name]] == []
    assert [name for name in FAIL if "\n" in said[name][1]] == []
    out = capfd.readouterr()
    texts = {
        **{name: "\n".join(each) for name, each in said.items()},
        "out": out.out,
        "err": out.err,
        "log": caplog.text,
    }
    folders = (tmp_path / "data", tmp_path / "cwd", stand.emulator.state)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert len(BEARERS) > 3
    for secret in (TOKEN, WRONG, *BEARERS):
        assert [name for name, text in texts.items() if secret in text] == []
        assert [path for path in files if secret.encode() in path.read_bytes()] == []


def chain(error: BaseException | None) -> list[str]:
    """An error and those behind it, as a log may show them."""
    found = []
    while error is not None:
        found += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return found


UNCAUGHT = """
from loopback import MACHINE
from runtime_rounds import SHOTS, angles
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.runtime import RuntimeDevice
device = RuntimeDevice(backend=MACHINE, layout_seeds=2)
print(device, device.client)
device.submit(device.prepare(load_circuit("angle_4q")), angles(), shots=SHOTS).result()
"""


@pytest.mark.slow
def test_a_process_with_a_saved_account_shows_no_credential_when_it_dies(stand: Stand, tmp_path: Path) -> None:
    save(tmp_path / "home" / ".qiskit" / "qiskit-ibm.json")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QISKIT_IBM")}
    here = {
        "HOME": str(tmp_path / "home"),
        "QHYBRID_DATA": str(tmp_path / "data"),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    stand.emulator.set_faults(fail_jobs=1)
    died = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], env=kept | here, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "QHybridError: job" in died.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "home/.qiskit" not in str(path)]
    assert any(path.name == "jobs.sqlite3" for path in files)
    for secret in (TOKEN, *BEARERS):
        assert secret not in died.stdout + died.stderr
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert (
        TOKEN
        in json.loads((tmp_path / "home" / ".qiskit" / "qiskit-ibm.json").read_text())["default-ibm-quantum-platform"][
            "token"
        ]
    )
