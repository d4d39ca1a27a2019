"""A complete run without a CNN to train: made-up features, a head that separates their classes, all files in place."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from qhybrid.experiments.adaptation_fits import fit_head
from qhybrid.experiments.heads import QuantumHead, build_head
from qhybrid.experiments.model import save_weights
from qhybrid.experiments.runs import Features, Run, create_run
from qhybrid.experiments.spec import DeviceChoice, ExperimentSpec, override
from qhybrid.storage import write_json, write_text

COUNTS = {"train": 90, "validation": 40, "test": 60}


def small_run(folder: Path, *, n_classes: int = 2, seed: int = 3, **settings: Any) -> Run:
    """Write a run with four features a sample under `folder`.

    Args:
        folder: Of all runs.
        n_classes: Number of classes.
        seed: Of the features.
        settings: Keys of the experiment, dots written as two underscores.
    """
    tiny = {"model.feature_dim": 4, "device.name": "qhybrid.statevector", "augment.kind": "none"}
    given = {key.replace("__", "."): value for key, value in settings.items()}
    run = create_run(override(ExperimentSpec(name="small"), tiny | given), folder)
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, 4))
    stored = {}
    for split, count in COUNTS.items():
        labels = np.arange(count) % n_classes
        features = (centres[labels] + 0.4 * rng.normal(size=(count, 4))).astype(np.float32)
        ids = np.array([f"{split}/{number}" for number in range(count)])
        stored[split] = Features(features, labels, ids)
        run.write_features(split, stored[split])
    class_names = [f"class {number}" for number in range(n_classes)]
    write_json(run.path / "data.json", {"source": "made up", "fingerprint": "none", "class_names": class_names})
    write_text(
        run.path / "metrics.csv", "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy\n1,1,1,1,1\n"
    )
    model = run.spec.model
    choice = DeviceChoice(name="qhybrid.statevector")
    head = build_head(model, n_classes=n_classes, circuit=model.circuit, device=choice)
    if isinstance(head, QuantumHead):
        with torch.no_grad():
            values = {
                split: head.received(head.layer(head.quantum_features(features)), features).double().numpy()
                for split, features in ((split, torch.from_numpy(each.features)) for split, each in stored.items())
            }
            labels, held_out = stored["train"].labels, stored["validation"].labels
            fit = fit_head(values["train"], labels, values["validation"], held_out, class_weights=np.ones(n_classes))
            head.classifier.weight.copy_(torch.from_numpy(fit.weight))
            head.classifier.bias.copy_(torch.from_numpy(fit.bias))
    save_weights(nn.ModuleDict({"head": head}), run.path / "model.safetensors", best_epoch=1)
    run.set_state("complete")
    return run


def copied(run: Run, path: Path) -> Run:
    """A copy of a run under `path`, for a test that changes it."""
    shutil.copytree(run.path, path)
    return Run(path, run.spec)
