"""The command line as a stranger types it: what it prints, what it leaves behind.

Training, help and kills are real processes; most other commands run `main()` in this one, which saves their imports.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, runner
from PIL import Image

QHYBRID = str(Path(sys.executable).parent / "qhybrid")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return runner(monkeypatch, capfd)


SMALL = [
    "--epochs", "1", "--image-size", "32",
    "--set", "data.angiography.train=[12,8]",
    "--set", "data.angiography.validation=[4,4]",
    "--set", "data.angiography.test=[6,6]",
]  # fmt: skip


def qhybrid(*arguments: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run([QHYBRID, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small complete run."""
    folder = tmp_path_factory.mktemp("workplace")
    trained = qhybrid("train", "quickstart", *SMALL, cwd=folder)
    assert trained.returncode == 0, trained.stderr
    assert "accuracy" in trained.stdout
    assert "results  runs/quickstart/" in trained.stdout
    return folder


def width(picture: Path) -> int:
    with Image.open(picture) as image:
        return image.width


def only_run(workplace: Path) -> Path:
    (run,) = (workplace / "runs" / "quickstart").iterdir()
    return run


def test_help_names_every_command(tmp_path: Path) -> None:
    shown = qhybrid("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for command in (
        "train",
        "eval",
        "predict",
        "ls",
        "show",
        "validate",
        "data",
        "doctor",
        "bench",
        "noise",
        "estimate",
        "adapt",
    ):
        assert command in shown.stdout


def test_the_device_is_exchangeable(workplace: Path, command: Command) -> None:
    tables = {}
    for device in ("lightning.qubit", "qhybrid.statevector", "default.qubit"):
        shown = command("eval", "--device", device, "--json", cwd=workplace)
        assert shown.returncode == 0, shown.stderr
        result = json.loads(shown.stdout)
        assert result["device"]["name"] == device
        assert result["device"]["tracker"]["jobs"] == 1
        tables[device] = np.load(only_run(workplace) / "predictions" / f"{result['name']}.npz", allow_pickle=False)
    reference = tables["lightning.qubit"]["probabilities"]
    for table in tables.values():
        assert np.abs(table["probabilities"] - reference).max() < 1e-5


def test_shots_are_repeated_by_a_seed(workplace: Path, command: Command) -> None:
    shown = [
        json.loads(
            command(
                "eval", "--device", "qhybrid.statevector", "--shots", "100", "--seed", seed, "--json", cwd=workplace
            ).stdout
        )
        for seed in ("3", "3", "4")
    ]
    names = [result["name"] for result in shown]
    assert names[0] == names[1] != names[2]
    folder = only_run(workplace) / "predictions"
    tables = [np.load(folder / f"{name}.npz", allow_pickle=False)["expectation_values"] for name in names]
    assert not np.array_equal(tables[0], tables[2])
    assert shown[0]["device"]["tracker"]["shots"] == 12 * 100
    assert shown[0]["metrics"] == shown[1]["metrics"]


def test_predict_classifies_image_files(workplace: Path, command: Command) -> None:
    image = workplace / "patch.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)).save(image)
    run = str(only_run(workplace))
    (answer,) = json.loads(command("predict", run, "patch.png", "--json", cwd=workplace).stdout)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["class"] in answer["probabilities"]
    shown = command("predict", run, "patch.png", "--device", "qhybrid.statevector", "--shots", "50", cwd=workplace)
    assert "patch.png" in shown.stdout


@pytest.mark.parametrize("what", ["devices", "circuits", "noise-models", "experiments", "runs"])
def test_ls_prints_a_table_and_json(what: str, workplace: Path, command: Command) -> None:
    assert command("ls", what, cwd=workplace).returncode == 0
    rows = json.loads(command("ls", what, "--json", cwd=workplace).stdout)
    assert isinstance(rows, list)
    wanted = {"devices": "lightning.qubit", "circuits": "sda_qec", "experiments": "quickstart", "runs": "complete"}
    if what in wanted:
        assert any(wanted[what] in row.values() for row in rows)


def test_show_draws_and_counts_a_circuit(tmp_path: Path, command: Command) -> None:
    shown = command("show", "sda_qec", "--png", "circuit.png", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "256 features" in shown.stdout
    assert "two qubit gates" in shown.stdout
    assert width(tmp_path / "circuit.png") > 500
    counts = json.loads(command("show", "angle_4q", "--json", cwd=tmp_path).stdout)
    assert (counts["angles"], counts["weights"], counts["two_qubit_gates"]) == (8, 8, 6)
    assert "driver" in command("show", "lightning.qubit", cwd=tmp_path).stdout


def test_validate_says_ok_or_what_is_wrong(tmp_path: Path, command: Command) -> None:
    (tmp_path / "good.toml").write_text('qubits = 2\nobservables = ["Z0"]\nblocks = [{ encode = "angle" }]\n')
    (tmp_path / "bad.toml").write_text('qubits = 2\nobservable = ["Z0"]\nblocks = [{ encode = "angle" }]\n')
    fine = command("validate", "good.toml", cwd=tmp_path)
    assert (fine.returncode, fine.stdout.split()) == (0, ["ok", "good.toml", "(circuits)"])
    both = command("validate", "good.toml", "bad.toml", cwd=tmp_path)
    assert both.returncode == 2
    assert "unknown key 'observable'; did you mean 'observables'?" in both.stderr


def test_doctor_reports_versions_devices_and_credentials(tmp_path: Path, command: Command) -> None:
    report = json.loads(command("doctor", "--json", cwd=tmp_path).stdout)
    works = {row["device"]: row["works"] for row in report["devices"]}
    assert works["qhybrid.statevector"]
    assert works["lightning.qubit"]
    assert works["qiskit.remote"]  # whether there is an account for it is a line of its own
    assert report["versions"]["torch"]
    assert report["ibm_credentials"]


def test_doctor_never_prints_a_credential(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "secret-token-1234")
    shown = command("doctor", cwd=tmp_path)
    assert "found in the environment" in shown.stdout
    assert "secret-token-1234" not in shown.stdout + shown.stderr


def test_doctor_runs_the_conformance_suite(tmp_path: Path, command: Command) -> None:
    shown = command("doctor", "--device", "qhybrid.statevector", cwd=tmp_path)
    assert shown.returncode == 0, shown.stdout
    assert shown.stdout.count("pass") >= 8


def test_data_preview_and_audit(workplace: Path, command: Command) -> None:
    small = SMALL[4:]
    for extra in ([], ["--augment"]):
        shown = command("data", "preview", "--image-size", "32", *extra, *small, "--out", "sheet.png", cwd=workplace)
        assert shown.returncode == 0, shown.stderr
        assert width(workplace / "sheet.png") > 300
    report = json.loads(command("data", "audit", "--json", "--out", "audit.json", *small, cwd=workplace).stdout)
    assert report["class_counts"]["train"] == {"negative": 12, "positive": 8}
    assert json.loads((workplace / "audit.json").read_text()) == report
    assert "leaks" in command("data", "audit", *small, cwd=workplace).stdout


def test_audit_shows_images_that_recur_across_splits(tmp_path: Path, command: Command) -> None:
    rng = np.random.default_rng(0)
    recurring = rng.integers(0, 255, (32, 32), dtype=np.uint8)
    for split in ("train", "validation", "test"):
        for label in ("negative", "positive"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"{number}.png")
    Image.fromarray(recurring).save(tmp_path / "images" / "train" / "positive" / "again.png")
    Image.fromarray(recurring).save(tmp_path / "images" / "test" / "negative" / "again.png")
    shown = command("data", "audit", "folder:images", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "train/positive/again.png" in shown.stdout
    assert "test/negative/again.png" in shown.stdout
    assert "1 test image recurs in train (as 1 train image)" in shown.stdout
    report = json.loads(command("data", "audit", "folder:images", "--json", cwd=tmp_path).stdout)
    assert (len(report["leaks"]), len(report["label_conflicts"])) == (1, 1)


BAD_INPUT = [
    (["train", "quickstrat"], "did you mean 'quickstart'?"),
    (["train", "--device", "lightnin.qubit"], "did you mean 'lightning.qubit'?"),
    (["train", "--circuit", "angel_4q"], "did you mean 'angle_4q'?"),
    (["train", "--set", "train.epoch=3"], "unknown key 'train.epoch'; did you mean 'epochs'?"),
    (["train", "--set", "train.epochs=many"], "key 'train.epochs' is 'many'"),
    (["train", "--epochs", "0"], "key 'train.epochs' is 0"),
    (["train", "--data", "medmnist:missing.npz"], "medmnist:missing.npz"),
    (["train", "--data", "folder:missing"], "folder:missing"),
    (["train", "--data", "dicom:missing"], "dicom:missing"),
    (["train", "--data", "medmist:x.npz"], "did you mean 'medmnist"),
    (["train", "--noise", "ibm_brisbane"], "takes no noise model"),
    (["train", "--device", "lightning.qubit", "--diff-method", "backprop"], "has no backprop: use adjoint"),
    (["train", "--resume", "nowhere"], "'nowhere' does not exist"),
    (["eval", "nowhere"], "'nowhere' does not exist"),
    (["eval", "."], "'.' is not a run"),
    (["eval", "--shots", "0"], "shots = 0: allowed are whole numbers from 1"),
    (["eval", "--shots", "1000000000000"], "shots = 1000000000000"),
    (["eval", "--split", "tset"], "did you mean 'test'?"),
    (["eval", "--device", "nothing"], "unknown device 'nothing'"),
    (["show", "angle4q"], "did you mean 'angle_4q'?"),
    (["ls", "thing"], "'thing' is not one of"),
    (["train", "--epoch", "3"], "No such option: --epoch"),
    (["predict"], "Missing argument"),
    (["bench", "--circuits", "angle"], "unknown circuit 'angle'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT, ids=[" ".join(a) for a, _ in BAD_INPUT])
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, workplace: Path, command: Command
) -> None:
    before = sorted(workplace.rglob("*"))
    shown = command(*arguments, cwd=workplace)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert shown.stderr.count("\n") == 1, "one line, no traceback"
    assert shown.stderr.startswith("error: ")
    assert sorted(workplace.rglob("*")) == before, "nothing half written"


def test_damaged_files_are_one_line_and_exit_code_2(workplace: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut short")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    (tmp_path / "cut.qasm").write_text("OPENQASM 3.0;\nqubit[2 q;")
    run = str(only_run(workplace))
    for arguments, name in (
        (["train", "--data", f"medmnist:{tmp_path}/cut.npz"], "cut.npz"),
        (["predict", run, f"{tmp_path}/cut.png"], "cut.png"),
        (["train", "--circuit", f"{tmp_path}/cut.qasm"], "cut.qasm"),
        (["show", f"{tmp_path}/cut.qasm"], "cut.qasm"),
    ):
        shown = command(*arguments, cwd=tmp_path)
        assert (shown.returncode, shown.stderr.count("\n")) == (2, 1), shown.stderr
        assert name in shown.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.3, 1.2])
def test_a_killed_training_is_resumable_or_marked_and_harms_no_other_run(
    moment: float, workplace: Path, command: Command, tmp_path: Path
) -> None:
    def snapshot() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in only_run(workplace).rglob("*") if path.is_file()}

    before = snapshot()
    out = tmp_path / "runs"
    long = [*SMALL[2:], "--epochs", "8", "--out", str(out)]
    process = subprocess.Popen(
        [QHYBRID, "train", *long], cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("quickstart/*/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert snapshot() == before
    (run,) = (out / "quickstart").iterdir()
    refused = command("eval", str(run), cwd=workplace)
    assert refused.returncode == 2
    assert "is incomplete" in refused.stderr
    listed = json.loads(command("ls", "runs", "--runs", str(out), "--json", cwd=workplace).stdout)
    assert [row["state"] for row in listed] == ["running"]
    if "--resume" in refused.stderr:
        resumed = command("train", "--resume", str(run), "--out", str(out), cwd=workplace)
        assert resumed.returncode == 0, resumed.stderr
        assert json.loads((run / "status.json").read_text())["state"] == "complete"
