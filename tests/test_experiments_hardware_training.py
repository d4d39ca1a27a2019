"""Training on a device that sends jobs: one a step and one a validation, and none again, whatever interrupts it."""

import csv
import io
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from qhybrid.devices.base import Estimates
from qhybrid.devices.statevector import StatevectorDevice
from qhybrid.errors import Interrupted
from qhybrid.experiments.checkpoints import read_checkpoint
from qhybrid.experiments.runs import Run, open_run
from qhybrid.experiments.spec import ExperimentSpec, override
from qhybrid.experiments.training import resume, train

N_IMAGES, BATCH = 10, 4
STEPS = 3
"""Of an epoch: 4, 4 and 2 images."""
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
SOME = ("training epoch 1 step 1", "training epoch 2 step 2", "validation epoch 2")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MedMNIST file of tiny images; those of the validation come in two batches."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", N_IMAGES), ("val", 70), ("test", 4)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 120, size=(count, 28, 28)) + 60 * labels[:, None, None]
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels[:, None]}
    path = tmp_path_factory.mktemp("images") / "images.npz"
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


def local_jobs(patch: pytest.MonkeyPatch) -> list[str]:
    """Make the local simulator a device that sends jobs; gives what was run, and for what."""
    ran: list[str] = []
    run = StatevectorDevice.run

    def named(self: Any, *args: Any, **options: Any) -> Estimates:
        ran.append(self.purpose)
        if self.purpose == self.stop_at:
            type(self).stop_at = None
            raise KeyboardInterrupt
        return run(self, *args, **options)

    for name, value in {
        "run_name": "",
        "purpose": "",
        "close": lambda self: ran.append("close"),
        "stop_at": "",
    }.items():
        patch.setattr(StatevectorDevice, name, value, raising=False)
    patch.setattr(StatevectorDevice, "run", named)
    return ran


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        ran = local_jobs(patch)
        spec = experiment(images, device__name="qhybrid.statevector")
        run = train(spec, out=tmp_path_factory.mktemp("whole"), console=quiet())
    assert ran == [*PURPOSES, "close"]
    return run


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    yield local_jobs(monkeypatch)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it after an interrupt


@pytest.mark.parametrize(
    "stop_at",
    [each if each in SOME else pytest.param(each, marks=pytest.mark.slow) for each in PURPOSES],
)
def test_a_training_interrupted_in_any_step_and_resumed_equals_one_that_was_not(
    images: Path, whole: Run, tmp_path: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch, stop_at: str
) -> None:
    spec = experiment(images, device__name="qhybrid.statevector")
    monkeypatch.setattr(StatevectorDevice, "stop_at", stop_at)
    with pytest.raises(Interrupted, match=r"interrupted; jobs that were sent stay; go on with `qhybrid train --resume"):
        train(spec, out=tmp_path, console=quiet())
    resumed = resume(open_run(root=tmp_path, incomplete=True).path, console=quiet())
    place = PURPOSES.index(stop_at)
    # The last step of an epoch comes once more where its validation is cut; no other does.
    again = place - 1 if stop_at.startswith("validation") else place
    assert sent == [*PURPOSES[: place + 1], "close", *PURPOSES[again:], "close"]
    same_end(resumed, whole)
