"""What a head makes of the features of a split: expectation values, logits, probabilities."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.devices.base import Estimates
from qhybrid.errors import InputError
from qhybrid.experiments.comparison import Outcome
from qhybrid.experiments.heads import ClassifierHead
from qhybrid.experiments.run_folder import Features, Run
from qhybrid.layer import QuantumLayer

REFERENCE_DEVICE = "qhybrid.statevector"


@dataclass(frozen=True)
class Predictions:
    """What a head made of the features of one split; what `predictions/<name>.npz` holds, but for what is None."""

    ids: NDArray[np.str_]
    """(N,)"""
    labels: NDArray[np.int64]
    """(N,)"""
    logits: NDArray[np.float64]
    """(N, C)"""
    probabilities: NDArray[np.float64]
    """(N, C)"""
    expectation_values: NDArray[np.float64]
    """(N, M); M is 0 for a classical head. The mean over the repeats, where there are several. Of a head whose circuit
    makes weights: those of its H hidden units, (H, M), here and below."""
    stderr: NDArray[np.float64]
    """(N, M), standard errors of the expectation values; zero where they are exact."""
    repeated_expectation_values: NDArray[np.float64] | None = None
    """(R, N, M), those of each repeat; None for a single one."""
    repeated_probabilities: NDArray[np.float64] | None = None
    """(R, N, C), from the expectation values of each repeat alone; None for a single one."""
    reference_probabilities: NDArray[np.float64] | None = None
    """(N, C), from exact expectation values without noise; None where the device gives just these."""
    reference_expectation_values: NDArray[np.float64] | None = None
    """(N, M)"""

    @property
    def outcome(self) -> Outcome:
        """What is compared with other predictions of the same samples."""
        return Outcome(self.probabilities, self.expectation_values)

    @property
    def reference(self) -> Outcome | None:
        """The exact reference without noise; None where the device gives just that."""
        if self.reference_probabilities is None or self.reference_expectation_values is None:
            return None
        return Outcome(self.reference_probabilities, self.reference_expectation_values)


def samples_of(run: Run, split: str, limit: int | None = None, *, seed: int = 0) -> Features:
    """The stored features of a split, or of some of its samples.

    Args:
        run: A complete run.
        split: `train`, `validation` or `test`.
        limit: Only this many samples, drawn class by class; None: all.
        seed: Of the draw.

    Raises:
        InputError: The features are missing or damaged, or the limit is too small for all classes.
    """
    stored = run.features(split)
    if limit is None:
        return stored
    n_classes = len(np.unique(stored.labels))
    if limit < n_classes:
        raise InputError(f"limit = {limit}: at least {n_classes} samples are needed, one for each class")
    return stored.drawn(limit, seed=seed)


@torch.no_grad()
def predict_logits(head: ClassifierHead, features: Tensor) -> Tensor:
    """Send features (N, F) through a head, in one batch: logits (N, C)."""
    if head.layer is None:
        logits: Tensor = head(features)
        return logits
    return head.logits(head.layer.estimate(head.quantum_features(features)).values, features)


@torch.no_grad()
def predict_split(head: ClassifierHead, stored: Features, *, repeats: int) -> tuple[Predictions, dict[str, float]]:
    """Send the features of a split through a head, and through the same head without noise if that can differ.

    Args:
        head: In evaluation mode.
        stored: The features, all sent in one batch.
        repeats: Independent draws of shots.

    Returns:
        The predictions, and the seconds of the `run` and the `reference`.
    """
    features = torch.from_numpy(stored.features)
    clock = [time.perf_counter()]
    if head.layer is None:
        logits = predict_logits(head, features).double()
        nothing = np.zeros((len(features), 0))
        found = Predictions(stored.ids, stored.labels, logits.numpy(), softmax(logits), nothing, nothing)
        return found, {"run": time.perf_counter() - clock[0]}
    inputs = head.quantum_features(features)
    draws = [head.layer.estimate(inputs) for _ in range(repeats)]
    clock.append(time.perf_counter())
    drawn = Estimates(torch.stack([draw.values for draw in draws]), torch.stack([draw.stderr for draw in draws]))
    reference = None if is_exact(head.layer) else exact_expectation_values(head.layer, inputs)
    clock.append(time.perf_counter())
    run_seconds, reference_seconds = np.diff(clock).tolist()
    seconds = {"run": run_seconds} | ({} if reference is None else {"reference": reference_seconds})
    return predictions_from(head, stored, drawn, reference), seconds


@torch.no_grad()
def predictions_from(head: ClassifierHead, stored: Features, drawn: Estimates, reference: Tensor | None) -> Predictions:
    """What a head makes of expectation values, wherever they come from.

    Args:
        head: In evaluation mode.
        stored: The features of the samples.
        drawn: Values and standard errors of each repeat, shape (R, N, M).
        reference: Exact values without noise, shape (N, M); None: `drawn` is just that.
    """
    repeats, values = len(drawn.values), drawn.values
    mean = values.double().mean(dim=0)
    stderr = drawn.stderr.double().square().sum(dim=0).sqrt() / repeats
    features = torch.from_numpy(stored.features)
    logits = head.logits(mean.to(torch.get_default_dtype()), features).double()
    repeated = None
    if repeats > 1:
        repeated = np.stack([softmax(head.logits(each.to(torch.get_default_dtype()), features)) for each in values])
    return Predictions(
        stored.ids,
        stored.labels,
        logits.numpy(),
        softmax(logits),
        mean.numpy(),
        stderr.numpy(),
        repeated_expectation_values=values.double().numpy() if repeats > 1 else None,
        repeated_probabilities=repeated,
        reference_probabilities=None if reference is None else softmax(head.logits(reference, features)),
        reference_expectation_values=None if reference is None else reference.double().numpy(),
    )


@torch.no_grad()
def exact_expectation_values(layer: QuantumLayer, features: Tensor) -> Tensor:
    """What a layer's circuit gives without noise and shots: features (N, F) -> expectation values (N, M)."""
    return layer.with_device(REFERENCE_DEVICE).estimate(features).values


def softmax(logits: Tensor) -> NDArray[np.float64]:
    """Logits (N, C) -> probabilities, in double precision."""
    probabilities: NDArray[np.float64] = torch.softmax(logits.double(), dim=1).numpy()
    return probabilities


def is_exact(layer: QuantumLayer) -> bool:
    """Whether a layer gives exact expectation values without noise."""
    return layer.shots is None and layer.noise is None
