"""Baselines that take no training of a network: logistic regression, kernels, and the twin of a circuit."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import torch

from qhybrid.errors import InputError, did_you_mean
from qhybrid.experiments.adaptation import class_weights, training_samples
from qhybrid.experiments.adaptation_fits import fit_head
from qhybrid.experiments.dequantisation import evaluate_quadratic_form
from qhybrid.experiments.device_choice import DeviceOptions
from qhybrid.experiments.heads_classical import LinearHead
from qhybrid.experiments.kernel_baselines import evaluate_quantum_kernel, evaluate_rbf_kernel
from qhybrid.experiments.measurement import Evaluation, evaluation_name, measure
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.split_predictions import predict_split

LOGISTIC = "logistic regression"
FITTED_ON = ("train", "validation")
SIMULATED = ("device", "shots", "noise", "noise_scale", "noise_parts", "layout_seeds")
BASELINES: dict[str, tuple[tuple[str, ...], str]] = {
    "logistic": ((), "runs on no quantum device"),
    "quadratic-form": (("limit",), "runs on no quantum device"),
    "quantum-kernel": ((*SIMULATED, "limit"), "is measured once and as it is, on simulators"),
    "rbf-kernel": (("limit",), "runs on no quantum device"),
}
"""Each with the options that it takes, and why it takes no other."""


def check_baseline(name: str, options: Mapping[str, Any]) -> None:
    """Look at what is asked beside a baseline.

    Args:
        name: Of the baseline; a kernel may name its circuit, as in `quantum-kernel:iqp_4q`.
        options: Everything else that can be asked of an evaluation; None where it is not.

    Raises:
        InputError: There is no such baseline, or it does not take one of the options.
    """
    kind, colon, circuit = name.partition(":")
    if kind not in BASELINES:
        raise InputError(f"--baseline: unknown baseline {kind!r}; {did_you_mean(kind, BASELINES)}")
    if colon and (not circuit or not kind.endswith("-kernel")):
        raise InputError(f"--baseline {name}: only a kernel names a circuit, as in quantum-kernel:iqp_4q")
    taken, reason = BASELINES[kind]
    for option, value in options.items():
        if value is not None and option not in taken:
            why = "evaluates the whole split" if option == "limit" else reason
            raise InputError(f"--baseline {name} {why}: it takes no --{option.replace('_', '-')}")


def evaluate_baseline(
    run: Run,
    name: str,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    **options: Unpack[DeviceOptions],
) -> Evaluation:
    """Evaluate what stands in the place of a run's own head.

    Args:
        run: A complete run.
        name: `logistic`, `quadratic-form`, `quantum-kernel` or `rbf-kernel`, these two with another circuit than the
            run's as in `quantum-kernel:iqp_4q`.
        split: What is evaluated.
        limit: Only this many samples, drawn class by class; None: all. Not for `logistic`.
        seed: Of that draw, of shots and of the bootstrap.
        **options: The device, for `quantum-kernel` only.

    Raises:
        InputError: As in `check_baseline`, and in what evaluates the baseline.
    """
    check_baseline(name, {**options, "limit": limit})
    kind, _, named = name.partition(":")
    circuit = named or None
    if kind == "logistic":
        return logistic_regression(run, split=split, seed=seed)
    if kind == "quantum-kernel":
        return evaluate_quantum_kernel(run, circuit, split=split, limit=limit, seed=seed, **options)
    if kind == "rbf-kernel":
        return evaluate_rbf_kernel(run, circuit, split=split, limit=limit, seed=seed)
    return evaluate_quadratic_form(run, split=split, limit=limit, seed=seed)


def logistic_regression(run: Run, *, split: str = "test", seed: int = 0) -> Evaluation:
    """Fit logistic regression to the features that a run's head receives, and evaluate it.

    It tells what the CNN has done alone: the features were trained together with the run's own head. It is fitted to
    the labels of the training split, each feature standardised and each class weighted as in the training. The strength
    of its L2 penalty is that with the lowest cross entropy on the validation split (see `fit_head`).

    Args:
        run: A complete run with any head.
        split: What is evaluated; not what is fitted on.
        seed: Of the bootstrap.

    Returns:
        The evaluation, its `baseline` saying what was fitted; `predictions/<name>.npz` and `results/<name>.json` are
        written, with a name such as `test-logistic-seed0`.

    Raises:
        InputError: The run is damaged, a class has no training sample, or the split is one that is fitted on.
    """
    if split in FITTED_ON:
        raise InputError(f"{LOGISTIC} is fitted on {split!r}: evaluate it on another split, such as test")
    stored, training, validation = run.features(split), training_samples(run, None, seed), run.features("validation")
    started = time.perf_counter()
    fit = fit_head(
        training.features.astype(np.float64),
        training.labels,
        validation.features.astype(np.float64),
        validation.labels,
        class_weights=class_weights(run),
    )
    fitted = time.perf_counter() - started
    assert fit.weight is not None
    n_classes, width = fit.weight.shape
    head = LinearHead(width, n_classes).eval()
    with torch.no_grad():
        head.classifier.weight.copy_(torch.from_numpy(fit.weight))
        head.classifier.bias.copy_(torch.from_numpy(fit.bias))
    predictions, timings = predict_split(head, stored, repeats=1)
    evaluation = measure(
        run,
        evaluation_name("logistic", split=split, seed=seed),
        predictions,
        split=split,
        seed=seed,
        timings={"fit": fitted} | timings,
        device={},
        noise=None,
    )
    n_fitted = {"training_samples": len(training.labels), "parameters": (width + 1) * (n_classes - (n_classes == 2))}
    evaluation = replace(
        evaluation, baseline={"name": LOGISTIC, "fitted_on": list(FITTED_ON), **n_fitted, **fit.numbers}
    )
    evaluation.write()
    return evaluation
