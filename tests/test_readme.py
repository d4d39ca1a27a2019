"""Every command and every piece of Python in the README runs.

Commands run in order in one folder, in small: trainings and studies by `--quick`. Most run in the tests' process,
which saves their imports. Of `make` it is checked what it would do.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import Answer, runner

from qhybrid.cli import app
from qhybrid.emulator.running import running_emulator

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line[2:]
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
LONG = (
    "qhybrid bench",
    "qhybrid bench --experiments all",
    "qhybrid bench --noise ibm_brisbane",
    "qhybrid emulator --backend ibm_fez -- qhybrid eval --device fez --seed 1",
    "qhybrid emulator --backend ibm_fez -- qhybrid train --device fez --diff-method spsa --shots 100",
    "qhybrid doctor --device lightning.qubit",
    "qhybrid doctor --device qhybrid.density --noise ibm_brisbane",
    "qhybrid estimate --noise ibm_torino",
)
ACCOUNTS = "qiskit_ibm_runtime.accounts.management._DEFAULT_ACCOUNT_CONFIG_JSON_FILE"
"""What the client found below HOME when it was imported."""
FEW = ["--set", "data.angiography.train=[12,8]"] + [
    part for split in ("validation", "test") for part in ("--set", f"data.angiography.{split}=[4,4]")
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README presupposes: some of MedMNIST's file, a folder of images, a circuit of one's own."""
    folder = tmp_path_factory.mktemp("readme")
    if SHARED.is_dir():
        shutil.copytree(SHARED / "stenosis", folder / "stenosis")
        with np.load(SHARED / "pneumoniamnist.npz", allow_pickle=False) as file:
            few = {name: array[:: len(array) // 40] for name, array in file.items()}
        np.savez(folder / "pneumoniamnist.npz", **few)
    (folder / "circuits").mkdir()
    (block,) = re.findall(r"```toml\n# circuits/mine.toml\n(.*?)```", README, re.DOTALL)
    (folder / "circuits" / "mine.toml").write_text(block)
    (folder / "devices").mkdir()
    (block,) = re.findall(r"```toml\n# devices/fez.toml\n(.*?)```", README, re.DOTALL)
    (folder / "devices" / "fez.toml").write_text(block)
    return folder


@pytest.fixture(scope="module")
def account(workplace: Path) -> Iterator[tuple[dict[str, str], str]]:
    """The loopback QPU in place of IBM, and an account saved as the README says; what the client finds both by."""
    (block,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    with running_emulator(backends=["ibm_fez"], state=workplace / "emulator") as running:
        named = running.environment
        own = {name: value for name, value in named.items() if not name.startswith("QISKIT_IBM")}
        home = workplace / "home"
        block = block.replace("YOUR API KEY", named["QISKIT_IBM_TOKEN"])
        block = block.replace("YOUR INSTANCE", named["QISKIT_IBM_INSTANCE"])
        subprocess.run([sys.executable, "-c", block], env=os.environ | own | {"HOME": str(home)}, check=True)
        yield own, str(home / ".qiskit" / "qiskit-ibm.json")


def trained_by(words: list[str]) -> dict[str, str]:
    """Each word that stands for the folder of a run -> the experiment whose run it is."""
    run = {"predict": "stenosis", "generate": "latent_diffusion"}.get(words[1], "quickstart")
    if "--generator" in words:
        run = "pneumonia"
    found = {"RUN": run, "GENERATOR": "latent_diffusion"}
    return {word: experiment for word, experiment in found.items() if word in words}


def needs_shared_data(command: str) -> bool:
    return "pneumoniamnist" in command or "stenosis" in command


def in_a_process(words: list[str], workplace: Path) -> Answer:
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    shown = subprocess.run(
        [str(programs / words[0]), *words[1:]],
        cwd=workplace, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PATH": path},
    )  # fmt: skip
    return Answer(shown.returncode, shown.stdout, shown.stderr)


def is_slow(command: str) -> bool:
    """Long ones, and studies: test_experiments_quick.py runs the --quick of most, on other images."""
    return command in LONG or shlex.split(command)[1] == "study"


@pytest.mark.filterwarnings("ignore:The RuntimeOptions class is deprecated")  # the client's own
@pytest.mark.parametrize(
    "command", [pytest.param(each, marks=pytest.mark.slow) if is_slow(each) else each for each in COMMANDS]
)
def test_every_command_of_the_readme_runs(
    command: str,
    workplace: Path,
    account: tuple[dict[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if needs_shared_data(command) and not SHARED.is_dir():
        pytest.skip(
            "needs ../shared/data: PneumoniaMNIST of MedMNIST, and the stenosis patches of Ovalle-Magallanes et al."
        )
    words = shlex.split(command)
    if words[0] == "make":
        planned = subprocess.run(["make", "-n", words[1]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert {"demo": "qhybrid train --device lightning.qubit", "test": "-m pytest"}[words[1]] in planned
        return
    for word, experiment in trained_by(words).items():
        words[words.index(word)] = str(sorted((workplace / "runs" / f"{experiment}-quick").iterdir())[-1])
    on_machine = ("--backend" in words and words[1] != "emulator") or words[1] == "jobs"
    if words[1] == "submit":
        words += ["--yes"]
    elif words[1] == "study":
        words += ["--quick", "--executor", "serial"]
    elif "train" in words or words[1] == "pretrain":
        words += ["--quick"]
    elif words[1:3] == ["data", "preview"]:
        words += FEW
    elif words[1] == "compare":
        words += ["--repeats", "2", "--layout-seeds", "2", "--executor", "serial"]
    elif words[1] == "generate":
        words += ["--count", "2", "--steps", "2"]
    elif words[1:3] == ["data", "quality"]:
        words += ["--draws", "2", "--limit", "4"]
    elif words[1:3] == ["bench", "--experiments"]:
        words[3:] = ["hqcnn", "--repeats", "1"]
    elif words[1] == "bench":
        words += ["--circuits", "angle_4q", "--repeats", "1"]
        words += ["--evaluation-size", "4", "--batch-size", "1"] if "--noise" in words else []
    monkeypatch.setenv("QHYBRID_DATA", str(workplace / "data"))
    if on_machine:
        environment, file = account
        monkeypatch.setattr(ACCOUNTS, file)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
    shown = (
        in_a_process(words, workplace)
        if words[1] in ("emulator", "bench")
        else runner(monkeypatch, capfd, workplace)(*words[1:])
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout
    assert "Warning" not in shown.stderr


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "shots=3072" in shown.stdout


def test_files_that_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_commands_beside_the_results_are_understood() -> None:
    """They take hours, and most are those of the README with other values: their options are parsed."""
    from typer.main import get_command

    text = (ROOT / "experiments" / "RESULTS.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ qhybrid (.*)$", text, re.MULTILINE)
    assert len(commands) > 3
    group = get_command(app)
    for line in commands:
        name, *words = shlex.split(line)
        group.commands[name].make_context(name, words)  # type: ignore[attr-defined]


def test_the_qasm_of_the_circuit_guide_loads(tmp_path: Path) -> None:
    from qhybrid.circuits.spec import load_circuit

    (block,) = re.findall(
        r"```qasm\n(.*?)```", (ROOT / "circuits" / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "mine.qasm").write_text(block)
    circuit = load_circuit(str(tmp_path / "mine.qasm"))
    assert (circuit.n_features, circuit.n_weights, circuit.n_observables) == (2, 1, 2)
    (example,) = re.findall(
        r"```toml\n(.*?)```", (ROOT / "circuits" / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "mine.toml").write_text(example)
    assert load_circuit(str(tmp_path / "mine.toml")).n_weights == 8
