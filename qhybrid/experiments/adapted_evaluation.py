"""Evaluate a run that was adapted to the images of the split, on any device, beside the run as it is."""

import time
from dataclasses import replace
from typing import Unpack

from rich.console import Console

from qhybrid.data.centres_spec import TestTimeSpec
from qhybrid.errors import InputError
from qhybrid.experiments.comparison import compare
from qhybrid.experiments.device_choice import DeviceOptions, describe_device, warn_of_lost_signal
from qhybrid.experiments.evaluation import open_head
from qhybrid.experiments.heads import ClassifierHead
from qhybrid.experiments.measurement import Evaluation, evaluation_name, layer_name, measure
from qhybrid.experiments.run_folder import Features, Run
from qhybrid.experiments.split_predictions import predict_split, samples_of
from qhybrid.experiments.tent import Adapted, adapt_to_images


def evaluate_adapted(
    run: Run,
    spec: TestTimeSpec,
    *,
    split: str = "test",
    limit: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    adapted: Adapted | None = None,
    console: Console | None = None,
    **options: Unpack[DeviceOptions],
) -> Evaluation:
    """Adapt a run to the images of a split (see `tent`), and evaluate it on a device.

    The adaptation is to all images of the split, whatever the limit, and the same for all devices. Its predictions are
    compared with those of the run as it is, on the same device with the same seed of the shots.

    Args:
        run: A complete run whose CNN has batch normalisation, with any head.
        spec: How it is adapted.
        split: As in `evaluate`, and so on.
        limit: As in `evaluate`.
        repeats: As in `evaluate`.
        seed: As in `evaluate`; also of the batches of the adaptation.
        adapted: The same adaptation, if it is there already; None: it is done here.
        console: Where warnings go; None: standard error.
        **options: The device.

    Returns:
        The evaluation, with a name of its own; its `adapted_at_test` says what was adapted and what differs.

    Raises:
        InputError: As in `evaluate` and `adapt_to_images`; or the device is a machine.
    """
    plain = samples_of(run, split, limit, seed=seed)
    started = time.perf_counter()

    def opened() -> ClassifierHead:
        return open_head(run, options, repeats=repeats, seed=seed)  # of its own, so that shots begin anew

    head = opened()
    if head.layer is not None:
        if head.layer.device.capabilities.asynchronous:
            raise InputError(f"{head.layer.device.name} is a machine: a run is adapted at test on simulators only")
        warn_of_lost_signal(head.layer, console or Console(stderr=True))
    prepared = time.perf_counter() - started
    if adapted is None:
        adapted = adapt_to_images(run, spec, split=split, seed=seed)
    fitted = time.perf_counter() - started - prepared
    stored = _limited(adapted.features, limit, seed)
    predictions, timings = predict_split(head, stored, repeats=repeats)
    before, _ = predict_split(opened(), plain, repeats=repeats)
    on = "classical" if head.layer is None else layer_name(head.layer)
    evaluation = measure(
        run,
        evaluation_name(f"{adapted.label}-{on}", split=split, limit=limit, repeats=repeats, seed=seed),
        predictions,
        split=split,
        seed=seed,
        timings={"prepare": prepared, "adapt": fitted} | timings,
        device={} if head.layer is None else describe_device(head.layer),
        noise=None if head.layer is None else head.layer.noise,
    )
    gain = compare(plain.labels, predictions.outcome, before.outcome, seed=seed)
    said = adapted.to_dict() | {"against_the_run_as_it_is": gain.to_dict()}
    evaluation = replace(evaluation, adapted_at_test=said)
    evaluation.write()
    return evaluation


def _limited(features: Features, limit: int | None, seed: int) -> Features:
    return features if limit is None else features.drawn(limit, seed=seed)
