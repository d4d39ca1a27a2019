"""Studies: arms with the same images and seeds, trained once, gone on with, compared."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import runner
from tiny_study import TINY, heard, quiet, study_spec, tiny

from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.runs import list_runs
from qhybrid.experiments.spec import load_experiment, override
from qhybrid.experiments.study import open_study, run_study
from qhybrid.experiments.study_arms import Pair, pairs, resolve_arms, study_hash
from qhybrid.experiments.study_spec import StudySpec
from qhybrid.experiments.training import train
from qhybrid.experiments.training_module import Diverged, TrainingModule
from qhybrid.statistics import classification_metrics
from qhybrid.storage import read_arrays


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study that is done."""
    folder = tmp_path_factory.mktemp("study")
    run_study(load_experiment(str(tiny(folder))), out=folder / "studies", console=quiet())
    return folder


@pytest.fixture
def copied(place: Path, tmp_path: Path) -> Path:
    shutil.copytree(place / "studies", tmp_path / "studies")
    return tmp_path / "studies"


def test_arms_lay_their_settings_over_the_experiment(tmp_path: Path) -> None:
    spec = load_experiment(str(tiny(tmp_path)))
    quantum, linear = resolve_arms(spec)
    assert (quantum.spec.model.head, linear.spec.model.head) == ("quantum", "linear")
    assert linear.changes == {"model.head": "linear"}
    assert linear.with_seed(3).train.seed == 3
    assert linear.with_seed(3).name == "linear-head-seed3"
    assert linear.with_seed(3).study is None
    assert study_hash(spec) == study_hash(override(spec, {"study.seeds": [0, 1, 2], "study.margin": 0.1}))
    assert study_hash(spec) != study_hash(override(spec, {"train.epochs": 2}))


def test_a_grid_has_every_combination_and_compares_one_thing_at_a_time() -> None:
    grid = {"augment": {"kind": ["diffusion", "none"]}, "model": {"head": ["quantum", "linear", "mlp"]}}
    spec = study_spec(grid=grid, reference="diffusion, quantum")
    arms = resolve_arms(spec)
    assert [arm.name for arm in arms] == [
        "diffusion, quantum", "diffusion, linear", "diffusion, mlp", "none, quantum", "none, linear", "none, mlp",
    ]  # fmt: skip
    assert (arms[4].spec.augment.kind, arms[4].spec.model.head) == ("none", "linear")
    assert spec.study is not None
    assert pairs(spec.study) == [
        Pair("diffusion, linear", "diffusion, quantum"),
        Pair("diffusion, mlp", "diffusion, quantum"),
        Pair("none, quantum", "diffusion, quantum"),
        Pair("none, linear", "diffusion, linear"),
        Pair("none, linear", "none, quantum"),
        Pair("none, mlp", "diffusion, mlp"),
        Pair("none, mlp", "none, quantum"),
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("name = 'linear head'\nmodel.haed = 'mlp'", r"study 'tiny', arm .*'model.haed'; did you mean 'head'"),
        ("name = 'b'\nmodel.head = 'liner'", r"arm 'b': key 'model.head' is 'liner'"),
        ("name = 'b'\ndata.image_size = 48", r"arm 'b': data.image_size differs; all arms have the same images"),
        ("name = 'b'\ndata.source = 'angiography'", r"arm 'b': data.source differs"),
        ("name = 'b'\nmodle.head = 'mlp'", r"unknown key 'study.arms.1.modle'; did you mean 'model'"),
        ("name = 'b'", r"arm 'b': has the same settings as arm 'quantum'"),
        ("name = 'Quantum!'\nmodel.head = 'mlp'", r"arms 'quantum' and 'Quantum!' need names that differ"),
        ("name = 'b'\nmodel.circuit = 'angel_4q'", r"unknown circuit 'angel_4q'; did you mean 'angle_4q'"),
        ("model.head = 'mlp'", r"'study.arms.1.name': field required"),
        ("name = 'b'\nmodel.head = 'mlp'\n[study.grid]\nmodel.head = ['mlp']", r"either \[\[study.arms\]\] or"),
    ],
)  # fmt: skip
def test_a_wrong_study_is_one_line(wrong: str, message: str, tmp_path: Path) -> None:
    text = TINY[: TINY.index('name = "linear head"')] + wrong
    with pytest.raises(InputError, match=message) as error:
        load_experiment(str(tiny(tmp_path, text)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": [{"name": "a"}], "reference": "b"}, "no arm is called 'b'; allowed: a"),
        ({"arms": [{"name": "a"}], "seeds": [1, 1]}, "a seed is listed twice"),
        ({"arms": [{"name": "??"}]}, "has no letter and no digit"),
        ({"grid": {"model": {"head": ["mlp"]}}}, "study.grid.model.head must be a list of two values"),
        ({"arms": [{"name": "a"}], "margin": 0}, "margin"),
    ],
)
def test_a_wrong_table_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudySpec.model_validate(settings)


def test_train_refuses_a_study_and_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'tiny' has several arms: `qhybrid study tiny`"):
        train(load_experiment(str(tiny(tmp_path))), out=tmp_path / "runs", console=quiet())
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match=r"no \[study\] table; train it with `qhybrid train quickstart`"):
        run_study(load_experiment("quickstart"), out=tmp_path / "studies", console=quiet())


def test_a_study_keeps_every_run_and_all_that_is_compared(place: Path) -> None:
    (folder,) = (place / "studies" / "tiny").iterdir()
    results = open_study(folder).results
    assert json.loads((folder / "progress.json").read_text()) == {"state": "complete", "done": 4, "total": 4}
    runs = list_runs(folder)
    assert sorted((run.spec.model.head, run.spec.train.seed) for run in runs) == [
        ("linear", 0), ("linear", 1), ("quantum", 0), ("quantum", 1),
    ]  # fmt: skip
    assert {run.state for run in runs} == {"complete"}
    quantum, linear, logistic = results["arms"]
    assert logistic["name"] == "logistic on quantum features"
    assert [each["arm"] for each in results["comparisons"]] == ["linear head", logistic["name"]]
    assert quantum["parameters"]["total"] > linear["parameters"]["total"] > logistic["parameters"]["head"] == 5
    assert quantum["training_images"] == {
        "real": {"class 0": 4, "class 1": 4},
        "synthetic": {"class 0": 0, "class 1": 0},
    }
    assert results["settings_that_differ"] == {"model.head": {"quantum": "quantum", "linear head": "linear"}}
    assert results["comparisons"][0]["changed"] == ["model.head"]
    assert results["budget"]["train.epochs"] == 1
    assert results["unequal_budget"] == []
    assert results["data"]["fingerprint"] == runs[0].data["fingerprint"]
    for arm in (quantum, linear):
        for number, row in enumerate(arm["runs"]):
            assert row["evaluation"].startswith("test-classical" if arm is linear else "test-qhybrid.statevector")
            stored = folder / row["run"] / "predictions" / f"{row['evaluation']}.npz"
            arrays = read_arrays(stored, ("labels", "probabilities"))
            metrics = classification_metrics(arrays["labels"], arrays["probabilities"])
            assert row["metrics"] == pytest.approx(metrics)
            assert arm["metrics"]["auc"]["values"][number] == pytest.approx(metrics["auc"])
            assert row["epochs"] == row["best_epoch"] == 1
    assert results["verdict"]
    assert "at least 4 are needed to compare synthetic images" in results["augmentation"]["not_measured"]


def test_what_is_there_is_not_trained_again_and_more_seeds_go_on(
    place: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    spec = load_experiment(str(place / "tiny.toml"))
    before = open_study(copied / "tiny" / study_hash(spec)).results
    console = quiet()
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", never)
        again = run_study(spec, out=copied, console=console)
    assert "4 of 4 trainings were there already" in heard(console)
    assert again.results["comparisons"] == before["comparisons"]
    assert again.results["arms"] == before["arms"]
    console = quiet()
    more = run_study(override(spec, {"study.seeds": [1, 5]}), out=copied, console=console)
    assert "2 of 4 trainings were there already" in heard(console)
    assert more.path == again.path
    assert [row["seed"] for row in more.results["arms"][0]["runs"]] == [1, 5]


def test_a_training_that_fails_is_told_and_can_be_tried_again(
    place: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_experiment(str(place / "tiny.toml"))
    (broken,) = copied.glob("tiny/*/runs/linear-head-seed1/*")
    shutil.rmtree(broken)
    step = TrainingModule.training_step

    def diverges(self: TrainingModule, *args: Any) -> Any:
        if self.spec.seed == 1:
            raise Diverged("the loss is not finite")
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", diverges)
        results = run_study(spec, out=copied, console=quiet()).results
    quantum, linear, _ = results["arms"]
    assert (quantum["n_seeds"], linear["n_seeds"]) == (2, 1)
    assert linear["runs"][1]["message"] == "Diverged: the loss is not finite"
    assert linear["metrics"]["auc"]["std"] is None
    assert results["comparisons"][0]["seeds"] == [0]
    assert any(
        "1 of 2 trainings of 'linear head' failed and are in no mean (seed 1: Diverged" in line
        for line in results["verdict"]
    )
    console = quiet()
    assert run_study(spec, out=copied, console=console).results["arms"][1]["n_seeds"] == 1
    assert "1 of them failed (--retry goes on with them)" in heard(console)
    assert run_study(spec, out=copied, retry=True, console=quiet()).results["arms"][1]["n_seeds"] == 2


def test_a_study_that_is_interrupted_goes_on(place: Path, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where torch makes another error of Ctrl-C, as it does while it writes a checkpoint."""
    spec = load_experiment(str(place / "tiny.toml"))
    (missing,) = copied.glob("tiny/*/runs/linear-head-seed0/*")
    shutil.rmtree(missing)

    def stopped(*_: Any) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("unexpected pos 64 vs 32")  # noqa: B904

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stopped)
        with pytest.raises(Interrupted, match=r"interrupted; the same command goes on with '.*tiny"):
            run_study(spec, out=copied, console=quiet())
    with pytest.raises(InputError, match="is incomplete"):
        open_study(copied / "tiny" / study_hash(spec))
    results = run_study(spec, out=copied, console=quiet()).results
    assert [arm["n_seeds"] for arm in results["arms"]] == [2, 2, 2]


def test_changed_images_are_refused(place: Path, copied: Path) -> None:
    spec = load_experiment(str(place / "tiny.toml"))
    (data,) = copied.glob("tiny/*/runs/quantum-seed1/*/data.json")
    data.write_text(data.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(InputError, match=r"changed between the trainings of the study.*another --out"):
        run_study(spec, out=copied, console=quiet())


def test_an_incomplete_study_says_how_to_go_on(copied: Path) -> None:
    (folder,) = (copied / "tiny").iterdir()
    (folder / "progress.json").write_text('{"state": "running", "done": 1, "total": 4}')
    with pytest.raises(InputError, match=r"is incomplete; go on with `qhybrid study .*study.toml` --out"):
        open_study(folder)
    with pytest.raises(InputError, match="is not a study"):
        open_study(copied)


def same_results(path: Path, other: Path) -> None:
    """The weights are equal to the last bit, and so is all that was found."""
    weights = sorted(path.glob("runs/*/*/model.safetensors"))
    assert len(weights) == len(list(other.glob("runs/*/*/model.safetensors"))) == 4
    for file in weights:
        (same,) = other.glob(f"runs/{file.parent.parent.name}/*/model.safetensors")
        assert same.read_bytes() == file.read_bytes()
    found, expected = open_study(path).results, open_study(other).results
    assert (found["comparisons"], found["verdict"]) == (expected["comparisons"], expected["verdict"])


def kill_when(there: str, out: Path, *command: str) -> None:
    """Start a study in a process of its own and kill it with SIGKILL as soon as a file is there."""
    program = [str(Path(sys.executable).with_name("qhybrid")), "study", *command, "--out", str(out)]
    with subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while not list(out.glob(there)):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_the_same(place: Path, tmp_path: Path) -> None:
    """Killed once one training has ended and another has begun."""
    file, out = str(place / "tiny.toml"), tmp_path / "studies"
    kill_when("tiny/*/runs/linear*seed0/*/data.json", out, file, "--executor", "serial")
    (first,) = out.glob("tiny/*/runs/quantum-seed0/*/model.safetensors")
    stamp = first.stat().st_mtime_ns
    spec = load_experiment(file)
    ended = run_study(spec, out=out, console=quiet())
    assert first.stat().st_mtime_ns == stamp
    assert len(list_runs(ended.path)) == 4
    same_results(ended.path, place / "studies" / "tiny" / study_hash(spec))


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(4))
def test_processes_of_a_killed_study_end_and_it_goes_on_at_once(moment: int, place: Path, tmp_path: Path) -> None:
    file, out = str(place / "tiny.toml"), tmp_path / "studies"
    there = ("progress.json", "runs/*/*/status.json", "runs/*/*/data.json", "runs/*/*/model.safetensors")[moment]
    kill_when(f"tiny/*/{there}", out, file, "--executor", "processes", "--workers", "2")
    spec = load_experiment(file)
    time.sleep(0.3)  # a new process takes longer than that to begin
    kind = ("processes", "dask")[moment % 2]
    ended = run_study(spec, out=out, executor=Executor(kind, 2), console=quiet())
    same_results(ended.path, place / "studies" / "tiny" / study_hash(spec))


def test_the_command_prints_tables_and_verdict(
    place: Path, copied: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = runner(monkeypatch, capfd, copied.parent)
    shown = command("study", str(place / "tiny.toml"))
    assert shown.returncode == 0, shown.stderr
    for part in ("linear head", "logistic on", "Every arm: epochs 1", "Arms differ in: model.head", "Parity"):
        assert part in shown.stdout
    assert "4 of 4 trainings were there already" in shown.stderr
    as_json = command("study", str(place / "tiny.toml"), "--json")
    assert json.loads(as_json.stdout)["reference"] == "quantum"
    for arguments, message in (
        (["--seeds", "0,x"], "--seeds: 'x' is none"),
        (["--set", "study.margin=2"], "key 'study.margin' is 2"),
        (["--set", "model.hed=mlp"], "unknown key 'model.hed'; did you mean 'head'"),
        (["--executor", "slurm"], "slurm"),
        (["--data", "medmnist:nowhere.npz"], "nowhere.npz"),
    ):
        refused = command("study", str(place / "tiny.toml"), *arguments)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert message in refused.stderr
    refused = command("study", "quickstart")
    assert refused.returncode == 2
    assert "no [study] table" in refused.stderr
    assert os.listdir(copied) == ["tiny"]
