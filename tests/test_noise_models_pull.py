"""A pulled calibration is the snapshot it came from; nothing half written, nothing secret said.

The service itself is reached over a loopback server elsewhere; here the client's own configuration and properties
objects are written, and its errors are real ones.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from qiskit_ibm_runtime.fake_provider import FakeBrisbane, FakeNairobiV2

from qhybrid import catalog
from qhybrid.errors import InputError
from qhybrid.noise_models.pull import pull_snapshot, without_secrets, write_snapshot
from qhybrid.noise_models.spec import load_noise_model

TOKEN = "a-token-that-nobody-has-0123456789abcdef"


@pytest.fixture(scope="module")
def nairobi() -> tuple[Any, Any]:
    backend = FakeNairobiV2()
    return backend.configuration(), backend.properties()


def qhybrid(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line without any account but the given one, and without a way out to the network."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QISKIT_IBM")}
    closed = {"HOME": str(cwd), "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [str(Path(sys.executable).parent / "qhybrid"), *arguments],
        cwd=cwd, env=clean | closed | environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_pulled_folder_is_the_packaged_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBrisbane()
    folder = write_snapshot(backend.configuration(), backend.properties(), tmp_path / "noise_models")
    assert folder.name == "fake_brisbane_2025-02-26"
    assert sorted(path.name for path in folder.iterdir()) == ["conf_fake_brisbane.json", "props_fake_brisbane.json"]
    monkeypatch.chdir(tmp_path)
    assert catalog.find("noise_models", "fake_brisbane_2025-02-26") == folder
    pulled, packaged = load_noise_model("fake_brisbane_2025-02-26"), load_noise_model("fake:FakeBrisbane")
    assert pulled.fingerprint == packaged.fingerprint
    assert pulled.name == "fake_brisbane_2025-02-26"
    assert pulled.date == packaged.date
    assert pulled.remarks == packaged.remarks
    assert pulled.coordinates == packaged.coordinates


def test_a_folder_that_is_there_stays_unless_forced(tmp_path: Path, nairobi: tuple[Any, Any]) -> None:
    folder = write_snapshot(*nairobi, tmp_path)
    kept = folder / "kept"
    kept.touch()
    with pytest.raises(InputError, match="is there already; --force replaces it"):
        write_snapshot(*nairobi, tmp_path)
    assert kept.exists()
    assert write_snapshot(*nairobi, tmp_path, replace=True) == folder
    assert not kept.exists()
    assert list(tmp_path.iterdir()) == [folder]
    at = write_snapshot(*nairobi, tmp_path, to_the_minute=True)
    assert at.name == "fake_nairobi_2024-05-27T1845"


def test_nothing_half_written_stays(tmp_path: Path, nairobi: tuple[Any, Any]) -> None:
    class Unwritable:
        backend_name = "ibm_x"

        def to_dict(self) -> dict[str, Any]:
            return {"what": object()}

    with pytest.raises(TypeError, match="object is not JSON"):
        write_snapshot(Unwritable(), nairobi[1], tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_snapshot(*nairobi, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_times_and_complex_numbers_become_json(tmp_path: Path, nairobi: tuple[Any, Any]) -> None:
    class WithComplex:
        backend_name = "../ibm nairobi"

        def to_dict(self) -> dict[str, Any]:
            return nairobi[0].to_dict() | {"u_channel_lo": [1 + 2j]}

    folder = write_snapshot(WithComplex(), nairobi[1], tmp_path)
    assert folder.parent == tmp_path
    (path,) = folder.glob("conf_*.json")
    assert json.loads(path.read_text())["u_channel_lo"] == [[1.0, 2.0]]
    (path,) = folder.glob("props_*.json")
    assert json.loads(path.read_text())["last_update_date"] == "2024-05-27T15:45:40-03:00"


def test_without_an_account_it_says_how_to_get_one(tmp_path: Path) -> None:
    shown = qhybrid("noise", "pull", "ibm_fez", cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: no IBM account: save one with QiskitRuntimeService.save_account")
    assert not (tmp_path / "noise_models").exists()


def test_an_account_that_does_not_work_is_one_line_without_the_token(tmp_path: Path) -> None:
    shown = qhybrid("noise", "pull", "ibm_fez", cwd=tmp_path, QISKIT_IBM_TOKEN=TOKEN)
    assert shown.returncode == 1
    assert shown.stderr.splitlines()[-1].startswith("error: IBM cannot be reached, or refuses the account: ")
    assert "Traceback" not in shown.stderr
    assert TOKEN not in shown.stderr + shown.stdout
    assert not (tmp_path / "noise_models").exists()


@pytest.mark.parametrize("date", ["tomorrow", "2025-13-01", "2025-02-30", ""])
def test_a_date_that_is_none_is_refused_before_anything_is_asked(date: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="allowed are YYYY-MM-DD and YYYY-MM-DDTHH:MM"):
        pull_snapshot("ibm_fez", tmp_path, date=date)


@pytest.mark.parametrize(
    "message",
    [
        f"401 for {TOKEN}",
        "instance crn:v1:bluemix:public:quantum-computing:us-east:a/3d7b:8df:: refused",
        "Authorization: Bearer eyJhbGciOi.eyJzdWIiOiIx.SflKxw",
        "HTTPSConnection https://iam.example.org/identity/token?apikey=abc failed",
    ],
)
def test_error_texts_hold_no_secret(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", "3d7b")
    shown = without_secrets(message)
    assert "***" in shown
    for secret in (TOKEN, "3d7b", "eyJ", "SflKxw", "abc"):
        assert secret not in shown
