"""Two baselines on the frozen features of a run: a quantum kernel on any device, and its classical twin."""

import time
from dataclasses import replace
from itertools import pairwise
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.device_choice import NOISY_DEVICE, DeviceOptions, describe_device, warn_of_lost_signal
from qhybrid.experiments.kernel_svm import FITTED_ON, KernelSamples, KernelSVM, rbf_kernel
from qhybrid.experiments.measurement import Evaluation, evaluation_name, layer_name, measure
from qhybrid.experiments.quantum_kernel import FidelityKernel, KernelMatrix
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.split_predictions import REFERENCE_DEVICE, Predictions, is_exact, softmax

Floats = NDArray[np.float64]

SCALES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""What is tried for the factor on the reduced features, for either kernel."""
SAID_FROM = 10_000
"""Circuits from which on their number is told before they are run."""


def evaluate_quantum_kernel(
    run: Run,
    circuit: str | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    console: Console | None = None,
    **options: Unpack[DeviceOptions],
) -> Evaluation:
    """Evaluate a support vector machine with a circuit's fidelity kernel on the features that a run's head receives.

    The features are reduced to as many numbers as the circuit reads (`KernelSamples`, `reduced`). A common factor on
    them is chosen with the exact kernel, the penalty C with that of the device, both by the cross entropy on the
    validation split. Amplitude encoding normalises its features: there is no factor to choose.

    The device runs all pairs of training samples in one call, and in another all pairs of an evaluated or validation
    sample and a training sample. Unless it is exact and without noise, the result is compared with the same fit on
    exact kernels. A prediction's expectation values are its kernel with the training samples: those of the projectors
    on their states.

    Args:
        run: A complete run with any head.
        circuit: Catalog name or path; None: the run's.
        split: What is evaluated; not what is fitted on.
        limit: Only this many samples of it, drawn class by class; None: all.
        seed: Of the draws, of the shots and of the bootstrap.
        console: Where is told how many circuits are run, and of lost signal; None: standard error.
        **options: The simulator: `qhybrid.statevector` where neither device nor noise is given; without `diff_method`,
            `backend` and `mitigation`.

    Returns:
        The evaluation, its `baseline` saying what was fitted; `predictions/<name>.npz` and `results/<name>.json` are
        written, with a name such as `test-quantum_kernel_iqp_4q-qhybrid.statevector-analytic-seed0`.

    Raises:
        InputError: As in `KernelSamples.of` and `FidelityKernel`; or the device is a machine.
    """
    console = console or Console(stderr=True)
    loaded = load_circuit(circuit or run.circuit)
    samples = KernelSamples.of(run, loaded.n_features, split=split, limit=limit, seed=seed)
    clock = [time.perf_counter()]
    kernel, exact = _open(loaded, options, seed), FidelityKernel(loaded, REFERENCE_DEVICE)
    warn_of_lost_signal(kernel.layer, console)
    clock.append(time.perf_counter())
    scale, svm = samples.tuned(lambda left, right: exact.rectangle(left, right).values, _scales(loaded))
    training, evaluated = scale * samples.training, scale * samples.evaluated
    ideal, reference = exact.rectangle(evaluated, training), None
    clock.append(time.perf_counter())
    if kernel.by_states:
        found = ideal
    else:
        if not is_exact(kernel.layer):
            reference = (softmax(torch.from_numpy(svm.logits(ideal.values))), ideal.values)
        n, n_validation = len(training), len(samples.validation)
        circuits = n * (n - 1) // 2 + n * (n_validation + len(evaluated))
        if circuits >= SAID_FROM:
            where = f"{circuits:,} overlap circuits on {kernel.layer.device.name}"
            console.print(f"kernel: {where}", highlight=False, markup=False)
        gram = kernel.gram(training)
        both = kernel.rectangle(np.concatenate([scale * samples.validation, evaluated]), training)
        svm = samples.fit(gram.values, both.values[:n_validation])
        found = KernelMatrix(both.values[n_validation:], both.stderr[n_validation:])
    clock.append(time.perf_counter())
    seconds = [end - start for start, end in pairwise(clock)]
    return _evaluation(
        run,
        samples,
        svm,
        found,
        reference,
        on=f"quantum_kernel_{loaded.name}-{layer_name(kernel.layer)}",
        asked={"split": split, "limit": limit, "seed": seed},
        timings=dict(zip(("prepare", "tuning", "run"), seconds, strict=True)),
        numbers={"name": f"quantum kernel of {loaded.name}, SVM", "scale": scale},
        kernel=kernel,
    )


def evaluate_rbf_kernel(
    run: Run, circuit: str | None = None, *, split: str = "test", limit: int | None = None, seed: int = 0
) -> Evaluation:
    """Evaluate the classical twin of a quantum kernel: the kernel exp(-s^2 |x - y|^2) on the same reduced features.

    Samples, reduction, factors s and penalties that are tried, and how they are chosen are those of
    `evaluate_quantum_kernel`.

    Args:
        run: A complete run with any head.
        circuit: Whose number of features is taken, catalog name or path; None: the run's.
        split: As in `evaluate_quantum_kernel`, and so on.
        limit: As there.
        seed: As there.

    Raises:
        InputError: As in `KernelSamples.of`, or the circuit is wrong.
    """
    loaded = load_circuit(circuit or run.circuit)
    samples = KernelSamples.of(run, loaded.n_features, split=split, limit=limit, seed=seed)
    clock = [time.perf_counter()]
    scale, svm = samples.tuned(rbf_kernel, SCALES)
    clock.append(time.perf_counter())
    rows = rbf_kernel(scale * samples.evaluated, scale * samples.training)
    clock.append(time.perf_counter())
    seconds = [end - start for start, end in pairwise(clock)]
    return _evaluation(
        run,
        samples,
        svm,
        KernelMatrix(rows, np.zeros_like(rows)),
        None,
        on=f"rbf_kernel_{loaded.n_features}features",
        asked={"split": split, "limit": limit, "seed": seed},
        timings=dict(zip(("tuning", "run"), seconds, strict=True)),
        numbers={"name": f"RBF kernel of {loaded.n_features} features, SVM", "scale": scale},
    )


def _evaluation(
    run: Run,
    samples: KernelSamples,
    svm: KernelSVM,
    found: KernelMatrix,
    reference: tuple[Floats, Floats] | None,
    *,
    on: str,
    asked: dict[str, Any],
    timings: dict[str, float],
    numbers: dict[str, Any],
    kernel: FidelityKernel | None = None,
) -> Evaluation:
    stored, logits = samples.stored, svm.logits(found.values)
    predictions = Predictions(
        stored.ids,
        stored.labels,
        logits,
        softmax(torch.from_numpy(logits)),
        found.values,
        found.stderr,
        reference_probabilities=None if reference is None else reference[0],
        reference_expectation_values=None if reference is None else reference[1],
    )
    evaluation = measure(
        run,
        evaluation_name(on, **asked),
        predictions,
        split=asked["split"],
        seed=asked["seed"],
        timings=timings,
        device={} if kernel is None else describe_device(kernel.layer),
        noise=None if kernel is None else kernel.layer.noise,
    )
    told = {
        "fitted_on": list(FITTED_ON),
        "training_samples": len(samples.training),
        "validation_samples": len(samples.validation),
        "class_weights": samples.class_weights.tolist(),
    }
    evaluation = replace(evaluation, baseline=numbers | told | svm.numbers)
    evaluation.write()
    return evaluation


def _open(circuit: Circuit, options: DeviceOptions, seed: int) -> FidelityKernel:
    """The kernel on the simulator that is asked for."""
    asked: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    for key in asked.keys() & {"diff_method", "backend", "mitigation"}:
        raise InputError(f"a quantum kernel takes no {key}: it is measured as it is, on simulators")
    name = asked.pop("device", None) or (REFERENCE_DEVICE if "noise" not in asked else NOISY_DEVICE)
    kernel = FidelityKernel(circuit, name, seed=seed, **asked)
    if kernel.layer.device.capabilities.asynchronous:
        raise InputError(
            f"a kernel takes a circuit for every pair of samples: it is not sent to a machine ({name}); take a "
            "simulator with --noise"
        )
    return kernel


def _scales(circuit: Circuit) -> tuple[float, ...]:
    """What is tried; a state of normalised amplitudes does not depend on a factor."""
    amplitudes = circuit.amplitudes
    normalised = amplitudes is not None and not circuit.encoders
    padded = amplitudes is not None and amplitudes.padding != 0
    return (1.0,) if normalised and not padded else SCALES
