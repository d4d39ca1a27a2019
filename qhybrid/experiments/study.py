"""A study: every arm of an experiment trained with every seed, compared over seeds and samples.

Its folder `studies/<name>/<hash>/` holds `study.toml`, `progress.json`, an ordinary run folder for each arm and seed
under `runs/`, and at the end `study.json`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.augmentation_quality import study_augmentation
from qhybrid.experiments.environment import command_line, git_commit, package_versions
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.pretraining import pretrained_root
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import claim
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml
from qhybrid.experiments.study_arms import Arm, resolve_arms, study_hash, study_of
from qhybrid.experiments.study_devices import conditions_of, device_results
from qhybrid.experiments.study_pretraining import pretrain_first
from qhybrid.experiments.study_results import study_results
from qhybrid.experiments.study_runs import ArmTask, Trained, finished, train_arm
from qhybrid.experiments.study_tuning import best, by_arm, candidates_of, settings_in_words, tuning_results
from qhybrid.experiments.study_verdict import device_verdict
from qhybrid.experiments.training import check
from qhybrid.storage import read_json, write_json, write_text

ROOT = Path("studies")


@dataclass(frozen=True)
class Study:
    """A study that has been done."""

    path: Path
    """Its folder."""
    results: dict[str, Any]
    """What `study.json` holds; see `study_results.study_results`."""


def run_study(
    spec: ExperimentSpec,
    *,
    out: Path = ROOT,
    retry: bool = False,
    executor: Executor | None = None,
    console: Console | None = None,
) -> Study:
    """Train every arm with every seed, and test the differences.

    What is complete is not trained again, and what was interrupted goes on at its last epoch: the same call again goes
    on after whatever ended it. More seeds and more arms of the same experiment go on in the same folder.

    Args:
        spec: With a `[study]` table.
        out: Folder of all studies; this one is `<out>/<name>/<hash>/`.
        retry: Go on with trainings that failed.
        executor: Where trainings run, each on one thread; None: here. The results do not depend on it.
        console: Where progress and warnings go; None: standard error.

    Returns:
        The study; `study.json` is written.

    Raises:
        InputError: A setting of an arm is wrong, the images have changed since a training, or another process trains
            this study.
        Interrupted: By the user.
    """
    console = console or Console(stderr=True)
    study, arms = study_of(spec), resolve_arms(spec)
    candidates = candidates_of(spec, arms)
    conditions_of(study)
    executor = executor or Executor()
    folder = out / spec.name / study_hash(spec)

    def task(arm: Arm, seed: int) -> ArmTask:
        return ArmTask(
            arm.name,
            arm.with_seed(seed),
            str(folder / "runs"),
            baselines=tuple(study.baselines) if arm.name == study.reference_name else (),
            retry=retry,
            pretrained=str(pretrained_root(out, spec.name)),
        )

    tuning = [task(arm, study.seeds[0]) for each in candidates.values() for arm in each] if study.tuning else []
    tasks = [] if tuning else [task(arm, seed) for seed in study.seeds for arm in arms]
    there = [finished(each) for each in [*tuning, *tasks]]
    _check(arms, [each for each, found in zip([*tuning, *tasks], there, strict=True) if found is None], console)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make a study folder under {str(out)!r} ({error.strerror})") from None
    with claim(Run(folder, spec)):
        write_text(folder / "study.toml", experiment_toml(spec))
        total = len(tuning) + len(arms) * (len(study.seeds) - 1) if tuning else len(tasks)
        _say(console, f"{len(arms)} arms x {len(study.seeds)} seeds in {folder}" + _there(there, total))
        progress = _Progress(folder, total, executor, console)
        trained: dict[str, list[Trained]] = {arm.name: [] for arm in arms}
        tried = by_arm(progress.train(tuning))
        if tuning:
            picked = {name: best(several) for name, several in tried.items()}
            arms = [candidates[arm.name][picked[arm.name]] for arm in arms]
            trained = {name: [tried[name][number]] for name, number in picked.items()}
            for arm in arms:
                if not trained[arm.name][0].message:
                    _say(console, f"{arm.name}: {settings_in_words(arm.tuning)} has the lowest validation loss")
            tasks = [task(arm, seed) for seed in study.seeds[1:] for arm in arms]
        for name, several in by_arm(progress.train(tasks)).items():
            trained[name] += several
        devices = device_results(study, trained, executor, console)
        results = study_results(spec, arms, trained, folder)
        results |= {
            "devices": devices,
            "augmentation": study_augmentation(trained[study.reference_name], folder, console, arms=trained),
            "verdict": [*results["verdict"], *device_verdict(devices)],
            "tuning": tuning_results(candidates, tried, arms, study.seeds[0]) if tuning else None,
            "versions": package_versions(),
            "git": git_commit(),
            "command": command_line(),
        }
        write_json(folder / "study.json", results)
        progress.set_state("complete")
    return Study(folder, results)


class _Progress:
    """Trains, tells what is done, and keeps it in `progress.json`."""

    def __init__(self, folder: Path, total: int, executor: Executor, console: Console) -> None:
        self.folder, self.total, self.executor, self.console = folder, total, executor, console
        self.done = 0
        self.set_state("running")

    def train(self, tasks: Sequence[ArmTask]) -> list[Trained]:
        """What became of each task, in their order; what is complete is not trained again."""
        found = {number: there for number, task in enumerate(tasks) if (there := finished(task))}
        todo = [number for number in range(len(tasks)) if number not in found]
        self.done += len(found)
        try:
            pretrain_first([tasks[number] for number in todo], self.executor, self.console)
            for position, trained in self.executor.run(train_arm, [tasks[number] for number in todo]):
                found[todo[position]] = trained
                self.done += 1
                _say(self.console, f"[{self.done}/{self.total}] {_line(trained)}")
                self.set_state("running")
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted(f"interrupted; the same command goes on with {str(self.folder)!r}") from None
        return [found[number] for number in range(len(tasks))]

    def set_state(self, state: str) -> None:
        write_json(self.folder / "progress.json", {"state": state, "done": self.done, "total": self.total})


def open_study(path: Path | str) -> Study:
    """Open the folder of a study that is complete.

    Raises:
        InputError: It is none, or it is incomplete.
    """
    folder = Path(path).expanduser()
    if not (folder / "study.toml").is_file() or not (folder / "progress.json").is_file():
        raise InputError(f"{str(folder)!r} is not a study; it has no study.toml and progress.json")
    if read_json(folder / "progress.json").get("state") != "complete":
        raise InputError(
            f"study {str(folder)!r} is incomplete; go on with `qhybrid study {folder / 'study.toml'}` "
            f"--out {folder.parent.parent}"
        )
    return Study(folder, read_json(folder / "study.json"))


def _check(arms: Sequence[Arm], todo: Sequence[ArmTask], console: Console) -> None:
    """Look at each arm that will be trained before any is; the first speaks of the images for all."""
    waiting = {task.arm for task in todo}
    fingerprints = set()
    for number, arm in enumerate(each for each in arms if each.name in waiting):
        try:
            fingerprints.add(check(arm.spec, console=console if number == 0 else Console(quiet=True)))
        except InputError as error:
            raise InputError(f"arm {arm.name!r}: {error}") from None
    if len(fingerprints) > 1:
        raise InputError("the images changed while the arms of the study were looked at")


def _line(trained: Trained) -> str:
    """What is said of a training that is done."""
    if trained.message:
        return f"{trained.arm}, seed {trained.seed}: failed ({trained.message})"
    metrics = {name: each["value"] for name, each in trained.result()["metrics"].items()}
    seconds = Run(Path(str(trained.path)), ExperimentSpec()).training_log()["seconds"]
    took = f"{len(seconds)} epoch{'s' if len(seconds) > 1 else ''}, {np.sum(seconds):.0f} s"
    return f"{trained.arm}, seed {trained.seed}: accuracy {metrics['accuracy']:.3f}, AUC {metrics['auc']:.3f} ({took})"


def _there(there: Sequence[Trained | None], total: int) -> str:
    done = [trained for trained in there if trained is not None]
    failed = sum(bool(trained.message) for trained in done)
    if not done:
        return ""
    again = f", {failed} of them failed (--retry goes on with them)" if failed else ""
    return f"; {len(done)} of {total} trainings were there already{again}"


def _say(console: Console, line: str) -> None:
    console.print(escape(line), highlight=False, soft_wrap=True)
