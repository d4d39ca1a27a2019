"""Four centres, or three, on the tiny images of `tiny_training`."""

from pathlib import Path
from typing import Any

import numpy as np
from tiny_training import experiment

from qhybrid.experiments.spec import ExperimentSpec

CENTRES: list[dict[str, Any]] = [
    {"name": "A", "brightness": 0.2},
    {"name": "B", "noise": 0.1, "blur": 5.0},
    {"name": "C", "contrast": -0.5},
]


def write_images(path: Path, counts: tuple[int, int, int] = (12, 12, 12)) -> Path:
    """A MedMNIST file of tiny images, darker or brighter by class."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 120, size=(count, 28, 28)) + 60 * labels[:, None, None]
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)
    return path


def across_centres(images: Path, domains: dict[str, Any] | None = None, **settings: Any) -> ExperimentSpec:
    """A training of seconds with centre B held out, adversarial and consistent unless `domains` says otherwise."""
    table = {"centres": CENTRES, "held_out": "B", "adversarial": 0.5, "consistency": 1.0} | (domains or {})
    usual = {
        "domains": table,
        "model__backbone": "cnn5",
        "device__name": "qhybrid.statevector",
        "device__diff_method": "best",
        "device__shots": "none",
    }
    return experiment(images, **(usual | settings))
