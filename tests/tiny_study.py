"""A study of seconds, and how its tests hear what it says."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from tiny_training import write_images

from qhybrid.experiments.spec import ExperimentSpec

TINY = """
[data]
source = "medmnist:IMAGES"
image_size = 32

[augment]
kind = "none"

[model]
backbone = "mobilenet_v2"
feature_dim = 4

[device]
name = "qhybrid.statevector"

[train]
epochs = 1
batch_size = 4
learning_rate = 1e-3

[study]
seeds = [0, 1]
baselines = ["logistic"]

[[study.arms]]
name = "quantum"

[[study.arms]]
name = "linear head"
model.head = "linear"
"""


def tiny(folder: Path, text: str = TINY) -> Path:
    images = write_images(folder / "images.npz", n_training=8, n_validation=8)
    path = folder / "tiny.toml"
    path.write_text(text.replace("IMAGES", str(images)), encoding="utf-8")
    return path


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def heard(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def study_spec(**settings: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate({"name": "some", "study": settings})
