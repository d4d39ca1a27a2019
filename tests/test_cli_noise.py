"""Noise models on the command line: listed, shown, drawn, validated; and every example of their guide."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command, runner

from qhybrid import catalog
from qhybrid.noise_models.snapshot_files import find_packaged
from qhybrid.noise_models.spec import load_noise_model

GUIDE = Path(__file__).parents[1] / "noise_models" / "README.md"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capfd, tmp_path)


@pytest.fixture
def pulled(tmp_path: Path) -> Path:
    """A folder such as `qhybrid noise pull` leaves."""
    source = find_packaged("FakeLima")
    folder = tmp_path / "noise_models" / "ibmq_lima_2021-03-15"
    folder.mkdir(parents=True)
    for path in (source, source.with_name("props_lima.json")):
        (folder / path.name).write_text(path.read_text())
    return folder


@pytest.mark.parametrize("verb", [["noise", "show"], ["show"]])
def test_show_prints_date_medians_faults_and_the_best_case(verb: list[str], command: Command) -> None:
    shown = command(*verb, "ibm_fez")
    assert shown.returncode == 0
    assert re.search(r"calibrated     2025-02-26T\S+ \(\d+ days ago\)", shown.stdout)
    assert re.search(r"two-qubit gate error +0.00382 +0.00276 +0.00946", shown.stdout)
    assert "faulty edges   27-28, 31-32, 32-33, 68-69, 80-81, 106-107, 139-155" in shown.stdout
    assert "note: T2 clipped to 2 T1 on qubit 87" in shown.stdout
    assert "note: simulated noise is a best case" in shown.stdout


def test_show_as_json_and_as_picture(command: Command, tmp_path: Path) -> None:
    shown = command("noise", "show", "thermal", "--json", "--png", "map.png")
    values = json.loads(shown.stdout)
    assert values["quantities"]["T1 [us]"] == {"median": 150.0, "low": 150.0, "high": 150.0}
    assert (values["date"], values["qubits"], values["edges"]) == (None, 16, 24)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert command("show", "fake:FakeLima", "--png", "nowhere/map.png").stderr.startswith(
        "error: cannot write 'nowhere"
    )


def test_a_pulled_folder_is_listed_shown_and_validated(pulled: Path, command: Command) -> None:
    rows = {row["noise model"]: row for row in json.loads(command("ls", "noise-models", "--json").stdout)}
    assert set(rows) == {*catalog.entries("noise_models")}
    lima = rows["ibmq_lima_2021-03-15"]
    assert (lima["date"], lima["qubits"], lima["2q gate"]) == ("2021-03-15", 5, "cx")
    assert rows["ibm_brisbane"]["2q error"] == "0.0077"
    relative = f"./{pulled.relative_to(Path.cwd())}"
    for name in ("ibmq_lima_2021-03-15", relative, f"{relative}/conf_lima.json"):
        assert json.loads(command("show", name, "--json").stdout)["two_qubit_gate"] == "cx"
    checked = command("validate", relative, f"{relative}/props_lima.json")
    assert checked.returncode == 0
    assert checked.stdout.count("ok ") == 2


def test_every_shipped_noise_model_validates(command: Command) -> None:
    paths = [str(path) for path in catalog.entries("noise_models").values()]
    checked = command("validate", *paths)
    assert checked.returncode == 0
    assert checked.stdout.count("(noise_models)") == len(paths) >= 11


BAD = {
    "noise show ibm_brisbaen": "unknown noise model 'ibm_brisbaen'; did you mean 'ibm_brisbane'?",
    "noise show fake:FakeBrisban": "no packaged snapshot 'FakeBrisban'; did you mean 'FakeBrisbane'?",
    "noise show FakeBrisbane": "did you mean 'fake:FakeBrisbane'?",
    "noise show ./nowhere": "noise model file './nowhere' does not exist",
    "show nowhere.json": "noise model file 'nowhere.json' does not exist",
    "show ./": "is no description: one of a calibration snapshot holds conf_*.json",
    "validate broken.toml": "broken.toml: key 'depolarizing.gates1q' is -1",
    "validate neither.toml": "neither a circuit (qubits), a noise model (snapshot or coupling), a device",
    "noise show broken.toml": "broken.toml: key 'depolarizing.gates1q' is -1",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(line: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text(
        'kind = "parametric"\ncoupling = "line"\nqubits = 2\n[depolarizing]\ngates1q = -1\n'
    )
    (tmp_path / "neither.toml").write_text("a = 1\n")
    answer = command(*line.split())
    assert answer.returncode == 2
    assert BAD[line] in answer.stderr
    assert answer.stderr.count("\n") <= 1


def test_the_tables_of_the_guide_load(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        path = tmp_path / f"mine{number}.toml"
        path.write_text(block)
        assert load_noise_model(str(path)).n_qubits == (127, 27)[number]
        bare = re.sub(r"(?m)^# (\w+ = \S+?)( .*)?$", r"\1", block)  # the keys that are commented out
        keys = set(re.findall(r"(?m)^(\w+) =", bare))
        assert keys >= ({"asymmetric_readout", "assumed_gates2q_error"} if number == 0 else {"columns", "confusion"})


def test_the_python_of_the_guide_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    check = "import torch; print(layer(torch.zeros(2, 4)).shape)"
    shown = subprocess.run(
        [sys.executable, "-c", f"{block}\n{check}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shown.stdout.strip() == "torch.Size([2, 4])", shown.stderr


def test_the_picture_of_the_guide_is_small() -> None:
    for target in re.findall(r"!\[.*?\]\((.*?)\)", GUIDE.read_text(encoding="utf-8")):
        assert 10_000 < (GUIDE.parent / target).stat().st_size < 200_000
