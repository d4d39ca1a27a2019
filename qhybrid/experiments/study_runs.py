"""One arm of a study with one seed: trained once, gone on with where it was interrupted, evaluated."""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from qhybrid import catalog
from qhybrid.errors import InputError, Interrupted, QHybridError
from qhybrid.experiments.baselines import evaluate_baseline
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import can_go_on, claim, open_run
from qhybrid.experiments.spec import ExperimentSpec
from qhybrid.experiments.study_arms import differences
from qhybrid.experiments.study_spec import Baseline
from qhybrid.experiments.training import resume, train
from qhybrid.storage import read_arrays, read_json, write_json

SPLIT = "test"


@dataclass(frozen=True)
class ArmTask:
    """One training of a study, with all that another process needs to do it."""

    arm: str
    spec: ExperimentSpec
    """With its seed."""
    folder: str
    """Of all runs of the study."""
    baselines: tuple[Baseline, ...] = ()
    """What is fitted to its features as well."""
    retry: bool = False
    """Go on with a training that failed."""
    pretrained: str = "pretrained"
    """Of the pretrained CNNs of the study."""

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.spec.train.seed

    def run(self) -> Run | None:
        """Its run, complete or not; None: it has not begun.

        One of the same settings and the same circuit counts, whatever the names of arm and study.
        """
        found = []
        for status in sorted(Path(self.folder).glob(f"*-seed{self.seed}/*/status.json")):
            try:
                run = open_run(status.parent, incomplete=True)
                if not differences([run.spec, self.spec]) and self._same_circuit(run):
                    found.append((run.state == "complete", run.path.name, run))
            except QHybridError:
                continue  # killed before it was written, or damaged: it is trained anew
        return max(found, key=lambda each: each[:2])[2] if found else None

    def _same_circuit(self, run: Run) -> bool:
        if self.spec.model.head == "linear" or not (run.path / "circuits").is_dir():
            return True
        here = catalog.find("circuits", self.spec.model.circuit)
        return Path(run.circuit).read_bytes() == here.read_bytes()


@dataclass(frozen=True)
class Trained:
    """What became of a task."""

    arm: str
    seed: int
    path: str | None
    """Its run; None: it failed before there was one."""
    message: str
    """Why it failed; empty where it did not."""
    evaluations: dict[str, str]
    """`head`, and baselines that were asked for: names of the evaluations on the test split."""

    @property
    def state(self) -> str:
        """`complete` or `failed`."""
        return "failed" if self.message else "complete"

    def predictions(self, which: str = "head") -> dict[str, NDArray[Any]]:
        """labels (N,), probabilities (N, C) and ids (N,) of an evaluation."""
        assert self.path is not None
        path = Path(self.path) / "predictions" / f"{self.evaluations[which]}.npz"
        return read_arrays(path, ("labels", "probabilities", "ids"))

    def result(self, which: str = "head") -> dict[str, Any]:
        """The JSON of an evaluation."""
        assert self.path is not None
        return read_json(Path(self.path) / "results" / f"{self.evaluations[which]}.json")


def finished(task: ArmTask) -> Trained | None:
    """What became of a task earlier; None: there is something to do."""
    run = task.run()
    if run is None:
        return None
    message = str(run.status.get("message", ""))
    if run.state == "failed" and message != "interrupted" and not task.retry:
        return Trained(task.arm, task.seed, str(run.path), message, {})
    if run.state != "complete" or not (run.path / "arm.json").is_file():
        return None
    found = Trained(task.arm, task.seed, str(run.path), "", read_json(run.path / "arm.json")["evaluations"])
    try:
        for which in ("head", *task.baselines):
            found.predictions(which)
            found.result(which)
    except (InputError, KeyError):
        return None  # evaluated again
    return found


def train_arm(task: ArmTask) -> Trained:
    """Train an arm with a seed, or go on with it, and evaluate it on the test split.

    Args:
        task: What to train; what is there already is not trained again.

    Returns:
        Where it is. A training that fails is an answer as well, so that others go on.

    Raises:
        InputError: The settings are wrong, or the images have changed since it began.
        Interrupted: By the user.
    """
    found = finished(task)
    if found is not None:
        return found
    quiet = Console(file=io.StringIO())
    try:
        run = _complete(task, quiet)
        evaluations = {"head": evaluate(run, split=SPLIT, console=quiet).name}
        for name in task.baselines:
            evaluations[name] = evaluate_baseline(run, name, split=SPLIT).name
    except (InputError, Interrupted):
        raise
    except Exception as error:  # a network that diverged, no more memory, a device that is gone
        began = task.run()
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Trained(task.arm, task.seed, None if began is None else str(began.path), message, {})
    write_json(run.path / "arm.json", {"arm": task.arm, "seed": task.seed, "evaluations": evaluations})
    # Three times the size of the network each, and of no use any more: a study has dozens.
    shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
    return Trained(task.arm, task.seed, str(run.path), "", evaluations)


def _complete(task: ArmTask, console: Console) -> Run:
    """The complete run of a task."""
    run = task.run()
    if run is not None and run.state != "complete" and not can_go_on(run):
        with claim(run):
            shutil.rmtree(run.path)  # killed before it had anything to go on with
        run = None
    if run is None:
        return train(task.spec, out=Path(task.folder), pretrained=Path(task.pretrained), console=console)
    return resume(run.path, console=console)


def epochs_of(run: Run) -> dict[str, Any]:
    """How long a run was trained: epochs, the best of them, seconds."""
    log = run.training_log()
    return {
        "epochs": len(log["epoch"]),
        "best_epoch": int(np.argmin(log["validation_loss"])) + 1,
        "seconds": round(float(log["seconds"].sum()), 2) if "seconds" in log else None,
    }
