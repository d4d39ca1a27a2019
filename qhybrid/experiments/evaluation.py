"""Evaluate a trained run on a device: expectation values -> logits -> metrics, from stored features."""

import time
from typing import Unpack

from rich.console import Console

from qhybrid.errors import InputError
from qhybrid.experiments.device_choice import DeviceOptions, choose_device, describe_device, warn_of_lost_signal
from qhybrid.experiments.heads import ClassifierHead
from qhybrid.experiments.heads_generated import GeneratedMLPHead
from qhybrid.experiments.measurement import Evaluation, evaluation_name, layer_name, measure
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.split_predictions import predict_split, samples_of

MAX_REPEATS = 10_000


def evaluate(
    run: Run,
    *,
    split: str = "test",
    limit: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    console: Console | None = None,
    **options: Unpack[DeviceOptions],
) -> Evaluation:
    """Evaluate a run on a device and keep predictions and results in its folder.

    The device gets all samples of the split in one batch, `repeats` times with shots of their own. The prediction of a
    sample is made from the mean of its expectation values over the repeats, as from repeats * shots shots, whose
    standard error is the root of the summed squares over the number of repeats. What a single draw of shots gives, and
    how much it varies, is told by the metrics of each repeat alone.

    Unless the device is exact and without noise itself, all is compared with the run's reference: the same head on the
    same features with exact expectation values of `qhybrid.statevector`.

    A `vqc-mlp` head predicts from the weights that it has kept, without a device; with one that is asked for, from
    weights that are made there.

    On a machine all repeats are one job, which is waited for (see `hardware`).

    Args:
        run: A complete run.
        split: `train`, `validation` or `test`.
        limit: Only this many samples, drawn class by class; None: all.
        repeats: Independent draws of shots.
        seed: Of the shots, of that draw and of the bootstrap.
        console: Where warnings go; None: standard error.
        **options: The device (see `DeviceOptions` and `choose_device`).

    Returns:
        The evaluation; `predictions/<name>.npz` and `results/<name>.json` are written.

    Raises:
        InputError: The run is damaged; the device, its shots or its noise are wrong, or given for a head without a
            quantum layer; or several repeats are asked of exact values.
    """
    console = console or Console(stderr=True)
    stored = samples_of(run, split, limit, seed=seed)
    started = time.perf_counter()
    head = open_head(run, options, repeats=repeats, seed=seed)
    prepared = time.perf_counter() - started
    if head.layer is not None:
        warn_of_lost_signal(head.layer, console)
        if head.layer.device.capabilities.asynchronous:
            from qhybrid.experiments.hardware import Submission, is_machine

            if is_machine(head.layer.device):
                return Submission.of(run, head, split=split, limit=limit, repeats=repeats, seed=seed).evaluate(console)
    predictions, timings = predict_split(head, stored, repeats=repeats)
    on = "classical" if head.layer is None else layer_name(head.layer)
    evaluation = measure(
        run,
        evaluation_name(on, split=split, limit=limit, repeats=repeats, seed=seed),
        predictions,
        split=split,
        seed=seed,
        timings={"prepare": prepared} | timings,
        device={} if head.layer is None else describe_device(head.layer),
        noise=None if head.layer is None else head.layer.noise,
    )
    evaluation.write()
    return evaluation


def open_head(run: Run, options: DeviceOptions, *, repeats: int, seed: int) -> ClassifierHead:
    """The trained head of a run on a device.

    Raises:
        InputError: As in `evaluate`.
    """
    if not 1 <= repeats <= MAX_REPEATS:
        raise InputError(f"repeats = {repeats}: allowed are whole numbers from 1 to {MAX_REPEATS}")
    if repeats > 1 and not run.spec.model.has_circuit:
        raise InputError(f"run {str(run.path)!r} has {run.spec.model.without_quantum_layer}: nothing to repeat")
    choice = choose_device(run, options)
    head = run.load_head(choice, seed=seed)
    if isinstance(head, GeneratedMLPHead) and all(value is None for value in options.values()):
        if repeats > 1:
            raise InputError(
                f"repeats = {repeats}: a {run.spec.model.head} head predicts from the weights that it has kept; give a "
                "device and shots to make them anew"
            )
        head = head.without_device()
    if repeats > 1 and head.layer is not None and head.layer.shots is None:
        raise InputError(f"repeats = {repeats}: exact expectation values do not vary; give shots, such as 1024")
    return head
