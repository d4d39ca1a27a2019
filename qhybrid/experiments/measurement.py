"""What an evaluation is: predictions of one split, their metrics, and what they were made with."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.devices.base import MachineDevice
from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS, CONFIDENCE, Comparison, compare
from qhybrid.experiments.device_choice import mitigation_label
from qhybrid.experiments.environment import command_line, git_commit, package_versions
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.split_predictions import Predictions
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.model import NoiseModel
from qhybrid.statistics import (
    Interval,
    bootstrap_intervals,
    classification_metrics,
    confusion_matrix,
    wilson_intervals,
)
from qhybrid.storage import write_arrays, write_json


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one split of a run on one device."""

    name: str
    """Tells device, noise, shots, repeats, split and seed; names the files."""
    run: Run
    split: str
    device: dict[str, Any]
    """name, diff_method, shots, noise, ISA reports and tracker counts; empty for a classical head."""
    noise: NoiseModel | None
    """The noise that was simulated."""
    seed: int
    predictions: Predictions
    metrics: dict[str, float]
    wilson: dict[str, Interval]
    bootstrap: dict[str, Interval]
    repeats: list[dict[str, float]]
    """Metrics of each repeat alone; empty for a single one."""
    reference: Comparison | None
    """Against exact expectation values without noise; None where the device gives just these."""
    confusion: NDArray[np.int64]
    """Counts, true class by predicted class, (C, C)."""
    timings: dict[str, float]
    """Seconds: `prepare` the head and its circuit, `run` it on the device, run the `reference`."""
    baseline: dict[str, Any] | None = None
    """What stands in the place of the run's own head: its `name`, and what its fit found; None: that head itself."""
    adapted_at_test: dict[str, Any] | None = None
    """How the CNN was adapted to the images that are tested, and what that changed; None: it is as it was trained."""

    @property
    def seconds(self) -> float:
        """Time on the device."""
        return self.timings["run"]

    def interval(self, metric: str) -> tuple[Interval, str]:
        """The interval to show: Wilson's for a proportion, the bootstrap's otherwise; and its kind."""
        if metric in self.wilson:
            return self.wilson[metric], "Wilson"
        return self.bootstrap[metric], "bootstrap"

    def spread(self, metric: str) -> tuple[float, float]:
        """Mean and standard deviation of a metric over the repeats."""
        values = [each[metric] for each in self.repeats]
        return float(np.mean(values)), float(np.std(values, ddof=1))

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
                    **(dict(zip(("mean", "std"), self.spread(metric), strict=True)) if self.repeats else {}),
                }
                for metric, value in self.metrics.items()
            },
            "repeats": max(1, len(self.repeats)),
            "reference": None if self.reference is None else self.reference.to_dict(),
            "confidence": CONFIDENCE,
            "bootstrap_draws": BOOTSTRAP_DRAWS,
            "confusion_matrix": self.confusion.tolist(),
            "device": self.device,
            "seconds": round(self.seconds, 4),
            "timings": {what: round(seconds, 4) for what, seconds in self.timings.items()},
            "seed": self.seed,
            "head": self.run.spec.model.head if self.baseline is None else self.baseline["name"],
            "circuit": self.run.spec.model.circuit if self.baseline is None else None,
            **({} if self.baseline is None else {"baseline": self.baseline}),
            **({} if self.adapted_at_test is None else {"adapted_at_test": self.adapted_at_test}),
            "data": {key: self.run.data[key] for key in ("source", "fingerprint")},
            "versions": package_versions(),
            "git": git_commit(),
            "command": command_line(),
        }

    def write(self) -> None:
        """Write `predictions/<name>.npz` and `results/<name>.json` into the run."""
        arrays = {name: array for name, array in vars(self.predictions).items() if array is not None}
        write_arrays(self.run.path / "predictions" / f"{self.name}.npz", arrays)
        write_json(self.run.path / "results" / f"{self.name}.json", self.to_dict())


def measure(
    run: Run,
    name: str,
    predictions: Predictions,
    *,
    split: str,
    seed: int,
    timings: dict[str, float],
    device: dict[str, Any],
    noise: NoiseModel | None,
) -> Evaluation:
    """Compute the metrics of predictions.

    Args:
        run: What was evaluated.
        name: Of the evaluation and its files.
        predictions: Of a split.
        split: Its name.
        seed: Of the bootstrap.
        timings: Seconds by what they were spent on.
        device: What made the expectation values.
        noise: That it simulated.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    confusion = confusion_matrix(labels, probabilities)
    repeated = predictions.repeated_probabilities
    reference = predictions.reference
    return Evaluation(
        name=name,
        run=run,
        split=split,
        device=device,
        noise=noise,
        seed=seed,
        predictions=predictions,
        metrics=classification_metrics(labels, probabilities),
        wilson=wilson_intervals(confusion, CONFIDENCE),
        bootstrap=bootstrap_intervals(labels, probabilities, n=BOOTSTRAP_DRAWS, seed=seed, confidence=CONFIDENCE),
        repeats=[classification_metrics(labels, each) for each in (() if repeated is None else repeated)],
        reference=None if reference is None else compare(labels, predictions.outcome, reference, seed=seed),
        confusion=confusion,
        timings=timings,
    )


def evaluation_name(on: str, *, split: str, limit: int | None = None, repeats: int = 1, seed: int) -> str:
    """Name an evaluation by what it depends on, such as `test-qiskit.aer-ibm_torino_x0.5-1024shots-seed0`.

    Args:
        on: From `device_name`, or `classical`.
        split: As in `evaluate`, and so on.
        limit: As in `evaluate`.
        repeats: As in `evaluate`.
        seed: As in `evaluate`.
    """
    part = [f"limit{limit}"] if limit is not None else []
    return "-".join([split, *part, on, *([f"{repeats}repeats"] if repeats > 1 else []), f"seed{seed}"])


def device_name(device: str, machine: str | None, shots: int | None, mitigation: str | None = None) -> str:
    """Device, noise or machine, shots and mitigation in a form for file names."""
    parts = [device, machine or "", "analytic" if shots is None else f"{shots}shots", mitigation or ""]
    return "-".join(_in_a_name(part) for part in parts if part)


def _in_a_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("._")


def layer_name(layer: QuantumLayer) -> str:
    """`device_name` of a quantum layer."""
    device = layer.device
    machine = device.machine if isinstance(device, MachineDevice) else None
    where = layer.noise.label if layer.noise else machine
    return device_name(device.name, where, layer.shots, mitigation_label(layer))
