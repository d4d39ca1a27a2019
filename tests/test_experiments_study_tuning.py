"""Tuning in a study: every arm tries the same settings with one seed and keeps the best on validation."""

import csv
from pathlib import Path
from typing import Any

import pytest
from command_line import runner
from tiny_study import TINY, heard, quiet, tiny

from qhybrid.errors import InputError
from qhybrid.experiments import study_runs
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.spec import load_experiment
from qhybrid.experiments.study import Study, open_study, run_study
from qhybrid.experiments.study_arms import study_hash
from qhybrid.experiments.study_tuning import tuning_in_words
from qhybrid.experiments.training_module import Diverged, TrainingModule

RATES = (1e-3, 1e-1)
TUNED = f"{TINY}\n[study.tuning]\ntrain.learning_rate = [{RATES[0]}, {RATES[1]}]\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    run_study(load_experiment(str(tiny(folder, TUNED))), out=folder / "studies", console=quiet())
    return folder


def again(place: Path, **settings: Any) -> tuple[Study, str]:
    console = quiet()
    found = run_study(load_experiment(str(place / "tiny.toml")), out=place / "studies", console=console, **settings)
    return found, heard(console)


def lowest_loss(study: Study, head: str, rate: float, seed: int) -> float:
    """As the log of the run with these settings has it."""
    for file in study.path.glob("runs/*/*/metrics.csv"):
        spec = open_run(file.parent).spec
        if (spec.model.head, spec.train.learning_rate, spec.train.seed) == (head, rate, seed):
            with file.open() as rows:
                return min(float(row["validation_loss"]) for row in csv.DictReader(rows))
    raise AssertionError(f"no run with {head}, {rate}, seed {seed}")


def test_each_arm_keeps_what_has_the_lowest_validation_loss(place: Path) -> None:
    study, _ = again(place)
    tuning = study.results["tuning"]
    assert tuning["seed"] == 0
    for arm, head in (("quantum", "quantum"), ("linear head", "linear")):
        losses = [lowest_loss(study, head, rate, 0) for rate in RATES]
        assert [each["validation_loss"] for each in tuning["tried"][arm]] == losses
        kept = RATES[losses.index(min(losses))]
        assert tuning["chosen"][arm] == {"train.learning_rate": kept}
        described = next(each for each in study.results["arms"] if each["name"] == arm)
        runs = [open_run(study.path / run["run"]) for run in described["runs"]]
        assert [(run.spec.train.seed, run.spec.train.learning_rate) for run in runs] == [(0, kept), (1, kept)]
    assert len(list(study.path.glob("runs/*/*/status.json"))) == 2 * 2 + 2
    assert study.results["unequal_budget"] == []
    assert study.results["comparisons"][0]["changed"] == ["model.head"]


def test_what_was_tuned_is_not_trained_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(study_runs, "train", never)
    study, said = again(place)
    assert "4 of 6 trainings were there already" in said
    assert "linear head: train.learning_rate = " in said
    assert open_study(study.path).results["tuning"] == study.results["tuning"]


def test_tuning_goes_on_in_the_folder_of_the_study_without_it(tmp_path: Path) -> None:
    plain, tuned = (load_experiment(str(tiny(tmp_path, text))) for text in (TINY, TUNED))
    assert study_hash(plain) == study_hash(tuned)


def test_a_candidate_that_fails_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = TrainingModule.training_step

    def diverges(self: TrainingModule, *args: Any) -> Any:
        if self.spec.learning_rate == RATES[0]:
            raise Diverged("the loss is not a number")
        return step(self, *args)

    monkeypatch.setattr(TrainingModule, "training_step", diverges)
    tiny(tmp_path, TUNED.replace("seeds = [0, 1]", "seeds = [0]").replace('baselines = ["logistic"]', ""))
    study, _ = again(tmp_path)
    assert study.results["tuning"]["chosen"]["quantum"] == {"train.learning_rate": RATES[1]}
    assert study.results["tuning"]["tried"]["quantum"][0]["validation_loss"] is None


def test_the_command_says_how_the_arms_were_tuned(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study, _ = again(place)
    (sentence,) = tuning_in_words(study.results)
    answer = runner(monkeypatch, capfd, place)("study", "tiny.toml", "--executor", "serial")
    assert "it tried 2 settings (train.learning_rate = 0.001; train.learning_rate = 0.1) with seed 0" in sentence
    assert " ".join(sentence.split()) in " ".join(answer.stdout.split())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("train.learning_rate = [1e-3]", "study.tuning.train.learning_rate must be a list of two values at least"),
        ("train.learning_rat = [1e-3, 1e-2]", "did you mean 'learning_rate'"),
        ("train.learning_rate = [1e-3, -1.0]", "greater than 0"),
        ("train.seed = [1, 2]", "study.tuning.train.seed cannot be tuned"),
        ("data.image_size = [32, 64]", "study.tuning.data.image_size cannot be tuned"),
        ('model.head = ["linear", "mlp"]', "arm 'linear head': the arm sets model.head itself"),
        ('model.circuit = ["angle_4q", "angel_4q"]', "did you mean 'angle_4q'"),
    ],
)
def test_a_wrong_tuning_is_one_line(table: str, message: str, tmp_path: Path) -> None:
    path = tiny(tmp_path, f"{TINY}\n[study.tuning]\n{table}\n")
    with pytest.raises(InputError) as caught:
        run_study(load_experiment(str(path)), out=tmp_path / "studies", console=quiet())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "studies").exists()
