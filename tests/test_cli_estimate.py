"""`qhybrid estimate` as a stranger types it."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qhybrid import catalog
from qhybrid.cli import main
from qhybrid.experiments.runs import create_run
from qhybrid.experiments.spec import load_experiment
from qhybrid.noise_models.model import BEST_CASE

Command = Callable[..., tuple[int, str, str]]
CIRCUIT = 'qubits = 6\nobservables = ["Z0", "X1"]\n[[blocks]]\nencode = "angle"\n[[blocks]]\nentangle = "chain"\n'


@pytest.fixture
def estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `qhybrid estimate` in an empty folder with an empty cache: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["qhybrid", "estimate", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return (int(left.value.code or 0), *capfd.readouterr())

    return run


def test_one_circuit_is_a_row_and_a_sentence(estimate: Command) -> None:
    code, out, err = estimate("angle_4q", "--noise", "ibm_torino")
    assert (code, err) == (0, "")
    assert "ibm_torino: 133 qubits, calibrated 2025-02-26" in out
    assert "angle_4q on ibm_torino: 6 CZ, success probability 93 %: expectation values keep most of their signal" in out
    assert BEST_CASE in out


def test_json_says_what_a_program_needs(estimate: Command) -> None:
    code, out, _ = estimate("angle_4q", "--noise", "ibm_torino", "--layout-seeds", "2", "--json")
    answer = json.loads(out)
    (row,) = answer["circuits"]
    assert code == 0
    assert (row["circuit"], row["gates2q"], row["two_qubit_gate"], row["level"]) == ("angle_4q", 6, "cz", "survives")
    assert 0.9 < row["survival"] < 0.95
    assert answer["layout_seeds"] == 2
    assert answer["noise"]["date"].startswith("2025-02-26")
    assert BEST_CASE in answer["noise"]["remarks"]


def test_the_catalog_has_a_row_for_every_circuit(estimate: Command, tmp_path: Path) -> None:
    (tmp_path / "circuits").mkdir()
    (tmp_path / "circuits" / "wide.toml").write_text(CIRCUIT)
    (tmp_path / "circuits" / "broken.toml").write_text("qubits = 0\n")
    code, out, err = estimate("--noise", "fake:FakeAthens", "--layout-seeds", "1", "--json")
    rows = {row["circuit"]: row for row in json.loads(out)["circuits"]}
    assert (code, err) == (0, "")
    assert set(rows) == set(catalog.entries("circuits"))
    assert rows["wide"]["verdict"] == "circuit 'wide' has 6 qubits; ibmq_athens has 5"
    assert rows["wide"]["level"] == rows["broken"]["level"] == "error"
    assert "broken.toml" in rows["broken"]["verdict"]
    assert rows["angle_4q"]["n_qubits"] == 4


def test_a_run_is_estimated_by_its_own_copy_of_the_circuit(estimate: Command, tmp_path: Path) -> None:
    run = create_run(load_experiment("quickstart"), tmp_path / "runs")
    (run.path / "circuits").mkdir()
    shutil.copy(catalog.find("circuits", "strongly_entangling_4q"), run.path / "circuits")
    code, out, _ = estimate(str(run.path), "--noise", "ibm_torino", "--layout-seeds", "1")
    assert code == 0
    assert "strongly_entangling_4q on ibm_torino:" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["angle_4q"], "give the machine: --noise NAME"),
        (["angel_4q", "--noise", "ibm_torino"], "unknown circuit 'angel_4q'; did you mean 'angle_4q'?"),
        (["angle_4q", "--noise", "ibm_turino"], "did you mean 'ibm_torino'?"),
        (["sda_qec", "--noise", "fake:FakeAthens"], "circuit 'sda_qec' has 8 qubits; ibmq_athens has 5"),
        (["angle_4q", "--noise", "ibm_torino", "--layout-seeds", "0"], "layout seeds 0: at least 1 is needed"),
        ([".", "--noise", "ibm_torino"], "'.' is not a run"),
        (["./none.toml", "--noise", "ibm_torino"], "circuit file './none.toml' does not exist"),
    ],
)
def test_bad_input_is_one_line(estimate: Command, arguments: list[str], message: str) -> None:
    code, out, err = estimate(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
