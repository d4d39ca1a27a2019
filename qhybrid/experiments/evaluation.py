"""A trained run on a device: expectation values -> logits -> metrics, from stored features."""

import re
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from qhybrid.errors import InputError
from qhybrid.experiments.environment import command_line, git_commit, package_versions
from qhybrid.experiments.heads import ClassifierHead
from qhybrid.experiments.prediction import predict_logits
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.experiments.storage import write_arrays, write_json
from qhybrid.statistics import (
    Interval,
    bootstrap_intervals,
    classification_metrics,
    confusion_matrix,
    wilson_intervals,
)

BOOTSTRAP_DRAWS = 2000
CONFIDENCE = 0.95
METRIC_NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "f1_binary": "F1, binary",
    "f1_macro": "F1, macro",
    "auc": "AUC",
}


@dataclass(frozen=True)
class Predictions:
    """What a head made of the features of one split; what `predictions/<name>.npz` holds."""

    ids: NDArray[np.str_]
    """(N,)"""
    labels: NDArray[np.int64]
    """(N,)"""
    logits: NDArray[np.float64]
    """(N, C)"""
    probabilities: NDArray[np.float64]
    """(N, C)"""
    expectation_values: NDArray[np.float64]
    """(N, M); M is 0 for a classical head."""
    stderr: NDArray[np.float64]
    """(N, M), standard errors of the expectation values; zero where they are exact."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one split of a run on one device."""

    name: str
    """Tells device, shots, split and seed; names the files."""
    run: Run
    split: str
    device: dict[str, Any]
    """name, diff_method, shots, noise and tracker counts; empty for a classical head."""
    seed: int
    predictions: Predictions
    metrics: dict[str, float]
    wilson: dict[str, Interval]
    bootstrap: dict[str, Interval]
    confusion: NDArray[np.int64]
    """Counts, true class by predicted class, (C, C)."""
    seconds: float
    """Time on the device."""

    def interval(self, metric: str) -> tuple[Interval, str]:
        """The interval to show: Wilson's for a proportion, the bootstrap's otherwise; and its kind."""
        if metric in self.wilson:
            return self.wilson[metric], "Wilson"
        return self.bootstrap[metric], "bootstrap"

    def to_dict(self) -> dict[str, Any]:
        """What `results/<name>.json` holds."""
        return {
            "name": self.name,
            "run": self.run.path.as_posix(),
            "experiment": self.run.spec.name,
            "split": self.split,
            "n_samples": len(self.predictions.labels),
            "class_names": list(self.run.class_names),
            "metrics": {
                metric: {
                    "value": value,
                    "bootstrap": list(self.bootstrap[metric]),
                    "wilson": list(self.wilson[metric]) if metric in self.wilson else None,
                }
                for metric, value in self.metrics.items()
            },
            "confidence": CONFIDENCE,
            "bootstrap_draws": BOOTSTRAP_DRAWS,
            "confusion_matrix": self.confusion.tolist(),
            "device": self.device,
            "seconds": round(self.seconds, 4),
            "seed": self.seed,
            "head": self.run.spec.model.head,
            "circuit": self.run.spec.model.circuit,
            "data": {key: self.run.data[key] for key in ("source", "fingerprint")},
            "versions": package_versions(),
            "git": git_commit(),
            "command": command_line(),
        }


def evaluate(
    run: Run,
    *,
    device: str | None = None,
    diff_method: str | None = None,
    shots: int | None = None,
    noise: str | None = None,
    split: str = "test",
    seed: int = 0,
) -> Evaluation:
    """Evaluate a run on a device and keep predictions and results in its folder.

    Args:
        run: A complete run.
        device: Name or path of the device; None: that of the training, with its shots and noise unless others
            are given.
        diff_method: Of a device that is about to be trained through; evaluation takes no gradient.
        shots: Shots per circuit; None: analytic, if a device is named.
        noise: Name or path of a noise model.
        split: `train`, `validation` or `test`.
        seed: Of the shots and of the bootstrap.

    Returns:
        The evaluation; `predictions/<name>.npz` and `results/<name>.json` are written.

    Raises:
        InputError: The run is damaged, the device is wrong, or it is given for a head without a quantum layer.
    """
    stored = run.features(split)
    choice = _choose(run, device=device, diff_method=diff_method, shots=shots, noise=noise)
    head = run.load_head(choice, seed=seed)
    started = time.perf_counter()
    logits, values, stderr = predict_logits(head, torch.from_numpy(stored.features))
    seconds = time.perf_counter() - started
    probabilities = torch.softmax(logits, dim=1).numpy()
    predictions = Predictions(stored.ids, stored.labels, logits.numpy(), probabilities, values.numpy(), stderr.numpy())
    confusion = confusion_matrix(stored.labels, probabilities)
    evaluation = Evaluation(
        name=evaluation_name(head, noise=choice.noise, split=split, seed=seed),
        run=run,
        split=split,
        device=_device_report(head, choice),
        seed=seed,
        predictions=predictions,
        metrics=classification_metrics(stored.labels, probabilities),
        wilson=wilson_intervals(confusion, CONFIDENCE),
        bootstrap=bootstrap_intervals(
            stored.labels, probabilities, n=BOOTSTRAP_DRAWS, seed=seed, confidence=CONFIDENCE
        ),
        confusion=confusion,
        seconds=seconds,
    )
    write_arrays(run.path / "predictions" / f"{evaluation.name}.npz", asdict(predictions))
    write_json(run.path / "results" / f"{evaluation.name}.json", evaluation.to_dict())
    return evaluation


def metrics_table(evaluation: Evaluation) -> Table:
    """The metrics as `value [low, high]`, for a terminal."""
    on = evaluation.device.get("name", f"{evaluation.run.spec.model.head} head")
    shots = evaluation.device.get("shots")
    how = f", {shots} shots" if shots else ""
    n_samples = len(evaluation.predictions.labels)
    table = Table(title=f"{evaluation.run.spec.name}: {evaluation.split} split (n = {n_samples}) on {on}{how}")
    table.add_column("metric")
    table.add_column("value [95 % interval]", justify="right")
    table.add_column("interval")
    for metric, value in evaluation.metrics.items():
        (low, high), kind = evaluation.interval(metric)
        table.add_row(METRIC_NAMES[metric], f"{value:.3f} [{low:.3f}, {high:.3f}]", kind)
    return table


def evaluation_name(head: ClassifierHead, *, noise: str | None, split: str, seed: int) -> str:
    """Name an evaluation by what it depends on, such as `test-lightning.qubit-1024shots-seed0`."""
    if head.layer is None:
        return f"{split}-classical-seed{seed}"
    layer = head.layer
    parts = [
        split,
        layer.device.name,
        *([noise] if noise else []),
        "analytic" if layer.shots is None else f"{layer.shots}shots",
        f"seed{seed}",
    ]
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part).strip("._") for part in parts)


def _choose(
    run: Run, *, device: str | None, diff_method: str | None, shots: int | None, noise: str | None
) -> DeviceChoice:
    if run.spec.model.head in ("linear", "mlp"):
        if device or shots or noise:
            raise InputError(
                f"run {str(run.path)!r} has a {run.spec.model.head} head without a quantum layer: "
                "device, shots and noise do not apply"
            )
        return run.spec.device
    given = {"diff_method": diff_method, "shots": shots, "noise": noise}
    kept = run.spec.device if device is None else DeviceChoice(name=device)
    return kept.model_copy(update={key: value for key, value in given.items() if value is not None})


def _device_report(head: ClassifierHead, choice: DeviceChoice) -> dict[str, Any]:
    if head.layer is None:
        return {}
    layer = head.layer
    return {
        "name": layer.device.name,
        "diff_method": layer.diff_method,
        "shots": layer.shots,
        "noise": choice.noise,
        "tracker": layer.device.tracker.to_dict(),
    }
