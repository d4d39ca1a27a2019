"""A training in seconds, here or on a machine, and processes that do it until they die at a state of a job."""

import csv
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loopback import MACHINE
from rich.console import Console

from qhybrid.devices import runtime_jobs
from qhybrid.devices.job_row import JobRow
from qhybrid.devices.jobs import Ledger
from qhybrid.experiments.checkpoints import read_checkpoint
from qhybrid.experiments.runs import Run, can_go_on, list_runs, open_run
from qhybrid.experiments.spec import ExperimentSpec, override
from qhybrid.experiments.training import resume, train

N_TRAINING, N_VALIDATION = 10, 70
BATCH, STEPS = 4, 3
"""An epoch has steps of 4, 4 and 2 images; those of the validation come in two batches."""
EPOCHS = 2
PURPOSES = [
    purpose
    for epoch in range(1, EPOCHS + 1)
    for purpose in (
        *(f"training epoch {epoch} step {step}" for step in range(1, STEPS + 1)),
        f"validation epoch {epoch}",
    )
]
"""The jobs of a whole training, in order."""


def write_images(path: Path, n_training: int = N_TRAINING, n_validation: int = N_VALIDATION) -> Path:
    """A MedMNIST file of tiny images, darker or brighter by class."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", n_training), ("val", n_validation), ("test", 4)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 120, size=(count, 28, 28)) + 60 * labels[:, None, None]
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)
    return path


def experiment(images: Path, **settings: Any) -> ExperimentSpec:
    tiny = {
        "data.source": f"medmnist:{images}",
        "data.image_size": 32,
        "data.transforms": ["flip"],
        "augment.kind": "none",
        "model.feature_dim": 4,
        "device.diff_method": "spsa",
        "device.shots": 50,
        "train.epochs": EPOCHS,
        "train.batch_size": BATCH,
        "train.learning_rate": 1e-3,
        "train.schedule": "cosine",
    }
    return override(
        ExperimentSpec(name="tiny"), tiny | {key.replace("__", "."): value for key, value in settings.items()}
    )


def quiet() -> Console:
    return Console(file=io.StringIO())


def metrics(run: Run) -> list[dict[str, str]]:
    """`metrics.csv`, but for the seconds."""
    with (run.path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def same_end(run: Run, other: Run) -> None:
    """The best model, the state after the last epoch and the metrics are equal to the last bit."""
    assert (run.path / "model.safetensors").read_bytes() == (other.path / "model.safetensors").read_bytes()
    states = [read_checkpoint(each.last_checkpoint)["state_dict"] for each in (run, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert metrics(run) == metrics(other)


def quick(put: Callable[[Any, str, Any], None]) -> None:
    """Wait less between two questions to the service."""
    for name, value in {"LOOKUPS": (0.0, 0.1, 0.2), "RETRY": (0.05, 0.2), "POLL": (0.05, 0.3)}.items():
        put(runtime_jobs, name, value)


def on_machine(images: Path, **settings: Any) -> ExperimentSpec:
    machine = {"device__name": "qiskit.remote", "device__backend": MACHINE, "device__layout_seeds": 2}
    return experiment(images, **(machine | settings))


def work(environment: dict[str, str], images: Path, out: Path, dies: tuple[str, int] | None) -> None:
    """What a process of its own does: train, or go on; it dies when the n-th of its jobs has reached a state."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    quick(setattr)
    if dies is not None:
        die(*dies)
    if any(can_go_on(run) for run in list_runs(out)):
        resume(open_run(root=out, incomplete=True).path, console=quiet())
    else:
        train(on_machine(images, train__epochs=1), out=out, console=quiet())


def die(state: str, place: int) -> None:
    """Kill this process as soon as the ledger has its n-th job in a state."""
    reached: set[str] = set()

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Ledger, first: Any, *args: Any, **options: Any) -> Any:
            answer = method(self, first, *args, **options)
            rows = [answer] if isinstance(answer, JobRow) else first if isinstance(first, list) else []
            reached.update(row.tag for row in rows if row.state == state)
            if len(reached) >= place:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    for name in ("add", "claim", "set_state"):
        setattr(Ledger, name, watched(getattr(Ledger, name)))
