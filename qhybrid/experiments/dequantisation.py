"""The classical twin of a trained run: its circuit as a quadratic form, which predicts the same without any device."""

import time
from itertools import pairwise

import torch

from qhybrid.circuits.quadratic_form import quadratic_forms
from qhybrid.devices.base import Estimates
from qhybrid.errors import InputError
from qhybrid.experiments.heads import QuantumHead
from qhybrid.experiments.measurement import Evaluation, evaluation_name, measure
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.experiments.split_predictions import (
    REFERENCE_DEVICE,
    exact_expectation_values,
    predictions_from,
    samples_of,
)


@torch.no_grad()
def evaluate_quadratic_form(run: Run, *, split: str = "test", limit: int | None = None, seed: int = 0) -> Evaluation:
    """Evaluate a run with the quadratic form that its circuit is, and compare it with the exact circuit.

    The trained weights give a matrix for each observable (see `quadratic_forms`), once; a sample then costs one product
    of its feature vector with each, on nothing but a CPU. The comparison says how far predictions and expectation
    values are from those of `qhybrid.statevector`: no more than rounding.

    Args:
        run: A complete run with a quantum head whose circuit begins with amplitude encoding.
        split: `train`, `validation` or `test`.
        limit: Only this many samples, drawn class by class; None: all.
        seed: Of that draw and of the bootstrap.

    Returns:
        The evaluation, with the exact circuit as its `reference`; `predictions/<name>.npz` and `results/<name>.json`
        are written, with a name such as `test-quadratic_form-seed0`.

    Raises:
        InputError: The run is damaged, has a classical head, or its circuit is no quadratic form of the features.
    """
    if not run.spec.model.is_quantum:
        raise InputError(f"run {str(run.path)!r} has {run.spec.model.without_quantum_layer}: nothing to dequantise")
    stored = samples_of(run, split, limit, seed=seed)
    clock = [time.perf_counter()]
    head = run.load_head(DeviceChoice(name=REFERENCE_DEVICE), seed=seed)
    assert isinstance(head, QuantumHead)
    circuit = head.layer.circuit
    forms = torch.from_numpy(quadratic_forms(circuit, head.layer.weights.double().numpy()))
    assert circuit.amplitudes is not None
    clock.append(time.perf_counter())
    inputs = head.quantum_features(torch.from_numpy(stored.features))
    vectors = circuit.amplitudes(inputs.double())
    values = torch.einsum("bi,mij,bj->bm", vectors, forms, vectors).to(inputs.dtype)
    clock.append(time.perf_counter())
    reference = exact_expectation_values(head.layer, inputs)
    clock.append(time.perf_counter())
    seconds = [end - start for start, end in pairwise(clock)]
    evaluation = measure(
        run,
        evaluation_name("quadratic_form", split=split, limit=limit, seed=seed),
        predictions_from(head, stored, Estimates.exact(values[None]), reference),
        split=split,
        seed=seed,
        timings=dict(zip(("prepare", "run", "reference"), seconds, strict=True)),
        device={"name": "quadratic form", "shots": None, "noise": None},
        noise=None,
    )
    evaluation.write()
    return evaluation
