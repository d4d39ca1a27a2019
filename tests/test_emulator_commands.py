"""Commands that ask IBM for a machine's calibration, against the loopback QPU."""

import json
from pathlib import Path

import pytest
from command_line import runner
from loopback import emulated

from qhybrid.noise_models.spec import load_noise_model

pytestmark = pytest.mark.filterwarnings("ignore:The RuntimeOptions class is deprecated")  # the client's own


def test_a_live_calibration_is_pulled_and_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = runner(monkeypatch, capfd, tmp_path)
    with emulated(backends=["ibm_torino"], state=tmp_path / "state") as running:
        pulled = command("noise", "pull", "ibm_torino")
        live = command("estimate", "angle_4q", "--backend", "ibm_torino", "--layout-seeds", "2", "--json")
        unknown = command("estimate", "angle_4q", "--backend", "ibm_turino")
    assert (pulled.returncode, live.returncode, unknown.returncode) == (0, 0, 2), pulled.stderr + live.stderr
    (folder,) = (tmp_path / "noise_models").iterdir()
    packaged = load_noise_model("fake:FakeTorino")
    assert load_noise_model(str(folder)).machine_fingerprint == packaged.machine_fingerprint
    (row,) = json.loads(live.stdout)["circuits"]
    assert row["verdict"].startswith("angle_4q on ibm_torino: 6 CZ, success probability")
    assert "did you mean 'ibm_torino'" in unknown.stderr
    assert running.environment["QISKIT_IBM_TOKEN"] not in pulled.stdout + live.stdout + unknown.stderr
    again = command("estimate", "angle_4q", "--backend", "ibm_torino", "--noise", "ibm_torino")
    assert "give the machine" in again.stderr
