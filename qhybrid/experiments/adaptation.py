"""Adapt a trained run to a noisy device without training it: refit the last layer, or rescale expectation values."""

import time
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from qhybrid.errors import InputError
from qhybrid.experiments.adaptation_fits import FITTED_ON, Fit, Method, check_method, fit_head, fit_rescale
from qhybrid.experiments.comparison import Comparison, compare
from qhybrid.experiments.device_choice import DeviceOptions, describe_device, warn_of_lost_signal
from qhybrid.experiments.evaluation import open_head
from qhybrid.experiments.heads import QuantumHead
from qhybrid.experiments.measurement import Evaluation, evaluation_name, layer_name, measure
from qhybrid.experiments.run_folder import Features, Run
from qhybrid.experiments.split_predictions import (
    Predictions,
    exact_expectation_values,
    is_exact,
    predict_split,
    softmax,
)
from qhybrid.storage import write_bytes, write_json


@dataclass(frozen=True)
class Adaptation:
    """A run on a noisy device before and after its adaptation."""

    name: str
    """Tells method, device, noise, shots and seed; names the files."""
    method: Method
    fit: Fit
    n_training: int
    """Training samples that it was fitted on."""
    noisy: Evaluation
    """As it is, compared with the exact reference."""
    adapted: Evaluation
    """With the fit, compared with the same reference."""
    gain: Comparison
    """Adapted against noisy, on the same expectation values."""

    def to_dict(self) -> dict[str, Any]:
        """What `adaptations/<name>.json` holds."""
        return {
            "name": self.name,
            "run": self.adapted.run.path.as_posix(),
            "method": self.method,
            "fitted_on": {"splits": list(FITTED_ON[self.method]), "training_samples": self.n_training},
            "fit": self.fit.numbers,
            "device": self.adapted.device,
            "seed": self.adapted.seed,
            "split": self.adapted.split,
            "results": {"noisy": self.noisy.name, "adapted": self.adapted.name},
            "metrics": {
                metric: {
                    "exact": self._reference.reference[metric],
                    "noisy": self.noisy.metrics[metric],
                    "adapted": value,
                    "adapted_minus_noisy": [self.gain.differences[metric], *self.gain.intervals[metric]],
                    "adapted_minus_exact": [self._reference.differences[metric], *self._reference.intervals[metric]],
                }
                for metric, value in self.adapted.metrics.items()
            },
        }

    @property
    def _reference(self) -> Comparison:
        assert self.adapted.reference is not None
        return self.adapted.reference


def adapt(
    run: Run,
    *,
    method: str = "head",
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    console: Console | None = None,
    **options: Unpack[DeviceOptions],
) -> Adaptation:
    """Adapt a run to a noisy device, and evaluate it there before and after.

    `head` fits the last linear layer anew to the labels of the training split, and takes the strength of its
    regularisation from the validation split. `rescale` fits an affine map of each expectation value, from noisy to
    exact, to the features of the training split without their labels. Neither sees the split that is evaluated, and
    neither takes a gradient of the circuit: one batch of training samples on the device is all that they cost.

    Args:
        run: A complete run with a quantum head.
        method: `head` or `rescale`.
        split: What is evaluated.
        limit: Fit on this many training samples, drawn class by class; None: on all.
        seed: Of the shots, of that draw and of the bootstrap.
        console: Where warnings go; None: standard error.
        **options: The device (see `DeviceOptions` and `choose_device`).

    Returns:
        The adaptation. `adaptations/<name>.json` and `.safetensors` (`weight` and `bias` of the last layer on what it
        receives from noisy expectation values; `factor` and `offset` of these where it receives something else,
        as with `attention` or `fusion`) are written, and results and predictions of both evaluations as by `evaluate`.

    Raises:
        InputError: As in `evaluate`; or the run has a classical head, the device is exact and without noise, or the
            split is one that the method fits on.
    """
    chosen = check_method(method, split)
    if not run.spec.model.is_quantum:
        raise InputError(f"run {str(run.path)!r} has {run.spec.model.without_quantum_layer}: nothing to adapt")
    stored, training = run.features(split), training_samples(run, limit, seed)
    started = time.perf_counter()
    head = open_head(run, options, repeats=1, seed=seed)
    assert isinstance(head, QuantumHead)
    if is_exact(head.layer):
        raise InputError(
            f"{head.layer.device.name} is exact and without noise here: there is nothing to adapt to; give --noise or "
            "--shots"
        )
    prepared = {"prepare": time.perf_counter() - started}
    warn_of_lost_signal(head.layer, console or Console(stderr=True))

    predictions, timings = predict_split(head, stored, repeats=1)
    name = layer_name(head.layer)
    noise, device = head.layer.noise, describe_device(head.layer)
    noisy = measure(
        run, evaluation_name(name, split=split, seed=seed), predictions, split=split, seed=seed,
        timings=prepared | timings, device=device, noise=noise,
    )  # fmt: skip
    started = time.perf_counter()
    fit = fit_on_device(chosen, run, head, training)
    timings |= {"fit": time.perf_counter() - started}
    n_training = len(training.labels)
    name = f"{chosen}-{name}{'' if limit is None else f'-limit{n_training}'}-seed{seed}"
    after = fitted_predictions(fit, head, stored, predictions)
    adapted = measure(
        run, f"{split}-adapted-{name}", after, split=split, seed=seed,
        timings=prepared | timings, device=describe_device(head.layer), noise=noise,
    )  # fmt: skip
    gain = compare(stored.labels, after.outcome, predictions.outcome, seed=seed)
    adaptation = Adaptation(name, chosen, fit, n_training, noisy, adapted, gain)
    _write(run, adaptation)
    return adaptation


def training_samples(run: Run, limit: int | None, seed: int) -> Features:
    """The training features, or some of them, that a last layer is fitted on.

    Args:
        run: A complete run.
        limit: Only this many samples, drawn class by class; None: all.
        seed: Of the draw.

    Raises:
        InputError: The limit is too small, or a class has no sample.
    """
    training = run.features("train")
    n_classes = len(run.class_names)
    if limit is not None:
        if limit < n_classes:
            raise InputError(f"limit = {limit}: at least {n_classes} training samples are needed, one for each class")
        training = training.drawn(limit, seed=seed)
    for label, class_name in enumerate(run.class_names):
        if not (training.labels == label).any():
            hint = "" if limit is None else "; take a larger limit"
            raise InputError(f"there is no training sample of class {class_name!r} to fit on{hint}")
    return training


@torch.no_grad()
def fit_on_device(method: Method, run: Run, head: QuantumHead, training: Features) -> Fit:
    """Run the features that a method is fitted on, on the device in one batch, and fit.

    Args:
        method: `head` or `rescale`.
        run: A complete run, whose validation split `head` also takes.
        head: The run's head on the device.
        training: From `training_samples`.
    """
    validation = run.features("validation") if method == "head" else None
    parts = [training, *([validation] if validation else [])]
    features = torch.from_numpy(np.concatenate([part.features for part in parts]))
    inputs = head.quantum_features(features)
    estimated = head.layer.estimate(inputs).values.double()
    values = estimated.numpy()
    if validation is not None:
        n_training, received = len(training.labels), head.received(estimated, features).numpy()
        return fit_head(
            received[:n_training],
            training.labels,
            received[n_training:],
            validation.labels,
            class_weights=class_weights(run),
        )
    exact = exact_expectation_values(head.layer, inputs).double().numpy()
    if not head.reads_values:
        return fit_rescale(values, exact, None, None)
    weight, bias = (parameter.detach().double().numpy() for parameter in (head.classifier.weight, head.classifier.bias))
    return fit_rescale(values, exact, weight, bias)


def class_weights(run: Run) -> NDArray[np.float64]:
    """What a training sample of each class counted in the training, synthetic samples of its class included."""
    from qhybrid.data.augment import synthetic_count

    counts = np.bincount(run.features("train").labels, minlength=len(run.class_names))
    spec = run.spec.augment
    if spec.kind == "none":
        return np.ones(len(counts))
    return np.array([1 + synthetic_count(counts.max(), count, spec.rho) / max(1, count) for count in counts.tolist()])


@torch.no_grad()
def fitted_predictions(fit: Fit, head: QuantumHead, stored: Features, predictions: Predictions) -> Predictions:
    """The predictions with the fit in place of the run's own last layer.

    Args:
        fit: From `fit_on_device`.
        head: The run's head.
        stored: The features of the samples.
        predictions: Of them, by the head as it is.
    """
    features = torch.from_numpy(stored.features)

    def logits_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        if fit.weight is None:
            rescaled = torch.from_numpy(fit.rescaled(values)).to(torch.get_default_dtype())
            return np.asarray(head.logits(rescaled, features).double())
        return fit.logits(head.received(torch.from_numpy(values), features).numpy())

    logits = logits_of(predictions.expectation_values)
    repeated = predictions.repeated_expectation_values
    probabilities = None if repeated is None else [softmax(torch.from_numpy(logits_of(each))) for each in repeated]
    return replace(
        predictions,
        logits=logits,
        probabilities=softmax(torch.from_numpy(logits)),
        expectation_values=fit.rescaled(predictions.expectation_values),
        stderr=predictions.stderr if fit.factor is None else predictions.stderr * np.abs(fit.factor),
        repeated_expectation_values=None if repeated is None else fit.rescaled(repeated),
        repeated_probabilities=None if probabilities is None else np.stack(probabilities),
    )


def _write(run: Run, adaptation: Adaptation) -> None:
    from safetensors.numpy import save

    folder = run.path / "adaptations"
    fit = adaptation.fit
    layer = {"weight": fit.weight, "bias": fit.bias}
    if fit.weight is None:
        layer = {"factor": fit.factor, "offset": fit.offset}  # no last layer does the same
    # safetensors writes the memory as it lies, and scikit-learn's matrices lie in columns.
    content = save({name: np.ascontiguousarray(array, dtype=np.float32) for name, array in layer.items()})
    adaptation.noisy.write()
    adaptation.adapted.write()
    write_bytes(folder / f"{adaptation.name}.safetensors", content)
    write_json(folder / f"{adaptation.name}.json", adaptation.to_dict())
