"""One cell of a comparison: a run under one condition, measured against exact values without noise, and kept."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.devices.spec import device_spec
from qhybrid.errors import InputError
from qhybrid.experiments.adaptation import fit_on_device, fitted_predictions, training_samples
from qhybrid.experiments.adaptation_fits import FITTED_ON, Fit, check_method
from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS, CONFIDENCE
from qhybrid.experiments.device_choice import describe_device
from qhybrid.experiments.environment import package_versions
from qhybrid.experiments.grid import Cell
from qhybrid.experiments.heads import QuantumHead
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.split_predictions import Predictions, predict_split, samples_of
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.statistics import (
    Equivalence,
    accuracy_equivalence_of_counts,
    bootstrap_distributions,
    bootstrap_equivalence,
    brier_score,
    classification_metrics,
    delong_equivalence,
    expected_calibration_error,
    mcnemar_test,
    paired_distributions,
    signal_retention,
)
from qhybrid.statistics.equivalence import Claim
from qhybrid.storage import read_json, write_arrays, write_json

FORMAT = 2
"""Of a cell's files and of what is computed from predictions; another one computes all cells anew."""


@dataclass(frozen=True)
class CellTask:
    """What is to be computed.

    Args:
        run: Folder of a complete run.
        cell: The condition.
        split: `train`, `validation` or `test`.
        limit: Only so many samples; None: all.
        seed: Of the shots, of that draw and of the bootstrap.
        margin: Loss of a metric that would matter, for the tests of non-inferiority.
    """

    run: str
    cell: Cell
    split: str
    limit: int | None
    seed: int
    margin: float

    @cached_property
    def key(self) -> str:
        """Hash of everything that the cell depends on: the run's weights and features, the device file, the noise."""
        run, cell = Path(self.run), self.cell
        depends = [
            FORMAT,
            run_digest(run, (self.split,)),
            *condition_digest(cell),
            [self.split, self.limit, self.seed, self.margin],
            [BOOTSTRAP_DRAWS, CONFIDENCE],
            *([] if cell.adapt is None else [[_digest(run / f"features/{name}.npz") for name in self.fitted_on]]),
        ]
        return hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:24]

    @property
    def fitted_on(self) -> tuple[str, ...]:
        """The splits that the adaptation looks at."""
        return () if self.cell.adapt is None else FITTED_ON[check_method(self.cell.adapt, self.split)]

    @property
    def file(self) -> Path:
        """Where its result is kept."""
        return Path(self.run) / "comparison" / "cells" / f"{self.key}.json"

    def compute(self) -> str:
        """Compute it, unless it is there (see `compute_cell`)."""
        return compute_cell(self)


def prepare_head(task: CellTask) -> None:
    """Open the device of a cell with its circuit, which leaves the layout on the machine on disk."""
    open_run(task.run).load_head(task.cell.choice, seed=task.seed)


def compute_cell(task: CellTask) -> str:
    """Compute a cell, unless it is there; returns the path of its file.

    Beside `<key>.json` stands `<key>.npz` with the predictions of every repeat.
    """
    file = task.file
    if not file.exists():
        run = open_run(task.run)
        started = time.perf_counter()
        head = run.load_head(task.cell.choice, seed=task.seed)
        if head.layer is None:
            raise InputError(f"run {task.run!r} has a {run.spec.model.head} head: no device runs it")
        stored = samples_of(run, task.split, task.limit, seed=task.seed)
        prepared = time.perf_counter() - started
        predictions, seconds = predict_split(head, stored, repeats=task.cell.repeats)
        device = describe_device(head.layer)
        adapted: dict[str, Any] = {}
        if task.cell.adapt is not None:
            assert isinstance(head, QuantumHead)
            fit, adapted["adaptation"] = _adapt(task, run, head)
            predictions = fitted_predictions(fit, head, stored, predictions)
        drawn, probabilities = _repeats(predictions)
        measured = _measure(task, run, predictions, drawn, probabilities)
        cost = {key: device["tracker"].get(key, 0) for key in ("circuits", "shots", "jobs", "transpilations")}
        arrays = {name: array for name, array in vars(predictions).items() if array is not None}
        write_arrays(file.with_suffix(".npz"), arrays | {"repeated_probabilities": probabilities})
        write_json(
            file,
            {
                "key": task.key,
                "cell": task.cell.to_dict(),
                "split": task.split,
                "limit": task.limit,
                "seed": task.seed,
                "margin": task.margin,
                "n_samples": len(stored.labels),
                **measured,
                **adapted,
                "cost": cost | {"seconds": round(seconds["run"], 4), "prepare_seconds": round(prepared, 4)},
                "device": device,
                "versions": package_versions(),
            },
        )
    return str(file)


def read_cell(task: CellTask) -> dict[str, Any]:
    """What `compute_cell` wrote, and where the run is now: it may have been moved since."""
    return read_json(task.file) | {"run": Path(task.run).resolve().as_posix()}


def _repeats(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expectation values (R, N, M) and probabilities (R, N, C) of every repeat, also where there is one."""
    values, probabilities = predictions.repeated_expectation_values, predictions.repeated_probabilities
    if values is None or probabilities is None:
        return predictions.expectation_values[None], predictions.probabilities[None]
    return values, probabilities


def _adapt(task: CellTask, run: Run, head: QuantumHead) -> tuple[Fit, dict[str, Any]]:
    """Fit under the condition, once for all repeats: on one draw of the shots of its own, after those of the split."""
    method = check_method(str(task.cell.adapt), task.split)
    training = training_samples(run, None, task.seed)
    before, started = head.layer.device.tracker.to_dict(), time.perf_counter()
    fit = fit_on_device(method, run, head, training)
    spent = {name: count - before.get(name, 0) for name, count in head.layer.device.tracker.to_dict().items()}
    return fit, {
        "method": method,
        "splits": list(task.fitted_on),
        "samples": sum(len(run.features(split).labels) for split in task.fitted_on),
        "circuits": spent["circuits"],
        "shots": spent["shots"],
        "seconds": round(time.perf_counter() - started, 4),
        "fit": fit.numbers,
    }


def _measure(
    task: CellTask,
    run: Run,
    predictions: Predictions,
    drawn: NDArray[np.float64],
    probabilities: NDArray[np.float64],
) -> dict[str, Any]:
    """Metrics of single repeats, averaged, with intervals over samples and repeats; and what they lose.

    Args:
        task: For seed and margin.
        run: Whose predictions these are.
        predictions: With the exact reference, unless they are exact themselves.
        drawn: Expectation values of each repeat, (R, N, M).
        probabilities: What the head makes of them, (R, N, C).
    """
    labels = predictions.labels
    exact, ideal = predictions.reference_probabilities, predictions.reference_expectation_values
    if exact is None or ideal is None:  # the cell is the reference
        exact, ideal = predictions.probabilities, predictions.expectation_values
    repeated = probabilities if len(probabilities) > 1 else probabilities[0]
    asked: Any = {"n": BOOTSTRAP_DRAWS, "seed": task.seed}
    found = bootstrap_distributions(labels, repeated, **asked)
    lost = paired_distributions(labels, repeated, exact, **asked)
    single = [classification_metrics(labels, each) for each in probabilities]
    reference = classification_metrics(labels, exact)
    flips = (probabilities.argmax(axis=2) != exact.argmax(axis=1)).sum(axis=1)
    retained = signal_retention(drawn.mean(axis=0), ideal)
    tested = mcnemar_test(labels, predictions.probabilities, exact)
    right, exactly_right = probabilities.argmax(axis=2) == labels, exact.argmax(axis=1) == labels
    won = float((right & ~exactly_right).sum() / len(right))
    given_up = float((~right & exactly_right).sum() / len(right))
    middle = int(np.argsort([each["auc"] for each in single])[len(single) // 2])

    def claims(metric: str, claim: Claim) -> list[Equivalence]:
        """The bootstrap knows nothing of errors that did not occur, so the tests of accuracy and AUC must agree."""
        tests = [bootstrap_equivalence(lost[metric], task.margin, claim=claim)]
        if metric == "accuracy":
            tests.append(accuracy_equivalence_of_counts(won, given_up, len(labels), task.margin, claim=claim))
        elif metric == "auc":
            tests.append(delong_equivalence(labels, probabilities[middle], exact, task.margin, claim=claim))
        return tests

    return {
        "metrics": {
            name: {
                "value": distribution.estimate,
                "interval": list(distribution.interval(CONFIDENCE)),
                "std": float(np.std([each[name] for each in single], ddof=1)) if len(single) > 1 else None,
                "exact": reference[name],
                "difference": lost[name].estimate,
                "difference_interval": list(lost[name].interval(CONFIDENCE)),
                "p": lost[name].p_value(),
                "non_inferior": all(test.shown for test in claims(name, "non-inferior")),
                "equivalent": all(test.shown for test in claims(name, "equivalent")),
            }
            for name, distribution in found.items()
        },
        "mcnemar": {"of_mean_expectation_values": tested.p_value},
        "flipped": {"mean": float(flips.mean()), "std": float(flips.std(ddof=1)) if len(flips) > 1 else None},
        "calibration": {
            name: {
                "value": float(np.mean([score(labels, each) for each in probabilities])),
                "exact": float(score(labels, exact)),
            }
            for name, score in (("ece", expected_calibration_error), ("brier", brier_score))
        },
        "signal": {
            "slope": _finite(retained.slope),
            "slope_stderr": _finite(retained.slope_stderr),
            "rmse": _finite(np.sqrt(((drawn - ideal) ** 2).mean(axis=(0, 1)))),
            "rmse_of_mean": _finite(retained.rmse),
        },
        "class_names": list(run.class_names),
    }


def _finite(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def run_digest(run: Path, splits: Sequence[str]) -> list[str]:
    """Hashes of what a result of a run depends on: its weights, its settings, the features of splits."""
    features = [f"features/{split}.npz" for split in splits]
    return [_digest(run / name) for name in ("model.safetensors", *features, "config.toml")]


def condition_digest(cell: Cell) -> list[Any]:
    """What tells a condition from others: its settings, the device's file, the rates of the noise."""
    noise = noise_fingerprint(cell.noise, cell.noise_scale, cell.noise_parts)
    return [cell.to_dict(), _device_file(cell.device), noise]


def _digest(path: Path) -> str:
    try:
        return _digest_of(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


@cache
def _digest_of(path: Path, changed: int) -> str:
    del changed  # tells one state of the file from the next
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def noise_fingerprint(noise: str | None, scale: float, parts: tuple[str, ...] | None) -> str | None:
    """Hash of the rates of a noise model, scaled, of the parts that are on; None without one."""
    if noise is None:
        return None
    model = _noise_model(noise).scaled(scale)
    return str((model if parts is None else model.with_parts(list(parts))).provenance()["fingerprint"])


@cache
def _noise_model(name: str) -> NoiseModel:
    return load_noise_model(name)


@cache
def _device_file(name: str) -> str:
    spec, _ = device_spec(name)
    return spec.model_dump_json()
