"""Train an experiment into a run folder, and go on with one that was interrupted."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from qhybrid import catalog
from qhybrid.data.centres import centre_counts
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.transforms import training_transforms
from qhybrid.errors import InputError, Interrupted, QHybridError
from qhybrid.experiments.batches import split_loader, training_loader
from qhybrid.experiments.checkpoints import read_checkpoint
from qhybrid.experiments.device_choice import warn_of_lost_signal
from qhybrid.experiments.domain_training import training_images, training_module
from qhybrid.experiments.label_fraction import labelled
from qhybrid.experiments.latent_training import resume_generator, train_generator
from qhybrid.experiments.model import HybridClassifier, build_classifier, parameter_counts, save_weights
from qhybrid.experiments.pretraining import Pretrained, check_pretraining, first_weights, pretrain, pretrained_root
from qhybrid.experiments.ranks import run_ranks, starts_processes, this_rank
from qhybrid.experiments.runs import (
    ROOT,
    Features,
    Run,
    can_go_on,
    claim,
    create_run,
    how_to_go_on,
    is_stop,
    open_run,
    state_kept,
)  # fmt: skip
from qhybrid.experiments.spec import ExperimentSpec
from qhybrid.experiments.synthetic_images import check_synthetic, synthetic_images
from qhybrid.experiments.trainer import check_available, fit
from qhybrid.experiments.training_data import load_data
from qhybrid.experiments.training_jobs import job_device, jobs_of
from qhybrid.experiments.training_module import Diverged
from qhybrid.storage import write_json, write_text


def train(
    spec: ExperimentSpec, *, out: Path = ROOT, pretrained: Path | None = None, console: Console | None = None
) -> Run:
    """Train an experiment.

    All that the user can have got wrong is looked at before the run folder is made. Where srun or torchrun has started
    several processes that train together, the first one makes and completes the run; the others leave (SystemExit) when
    the training has ended.

    Args:
        spec: The experiment.
        out: Folder of all runs; the new one is `<out>/<name>/<time>-<hash>/`.
        pretrained: Folder of the pretrained CNNs, for `model.weights = "pretrained"`; None: `pretrained/<name>` beside
            the folder of all runs.
        console: Where progress and warnings go; None: standard error.

    Returns:
        The complete run: best model, and the features of every split.

    Raises:
        InputError: Data, circuit, device or weights are wrong; or the experiment is a study of several arms.
    """
    console = console or Console(stderr=True)
    if spec.study is not None:
        raise InputError(
            f"experiment {spec.name!r} has several arms: `qhybrid study {spec.name}` trains them all; --set study=none "
            "trains it as it is, without them"
        )
    if spec.trains_generator:
        return train_generator(spec, out=out, console=console)
    if this_rank(spec.train) > 0:
        with tempfile.TemporaryDirectory() as folder:
            take_part(Run(Path(folder), spec))
        raise SystemExit(0)
    dataset, model, leaks = _prepare(spec, console)
    first: Pretrained | None = None
    if spec.model.weights == "pretrained":
        first = pretrain(spec, dataset, root=pretrained or pretrained_root(out, spec.name), console=console)
        model = _build(spec, dataset, spec.model.circuit, first)
    run = create_run(spec, out)
    with claim(run), _state_kept(run, model):
        _describe(run, dataset, model, leaks, first)
        return _finish(run, dataset, model, console)


def check(spec: ExperimentSpec, *, console: Console | None = None) -> str:
    """Look at all that the user can have got wrong, as before a training.

    Args:
        spec: The experiment.
        console: Where warnings go; None: standard error.

    Returns:
        The fingerprint of the images.

    Raises:
        InputError: As in `train`.
    """
    return _prepare(spec, console or Console(stderr=True))[0].fingerprint()


def resume(path: Path | str | None = None, *, root: Path = ROOT, console: Console | None = None) -> Run:
    """Go on with a training that was interrupted, as if it had not been.

    It begins at the last checkpoint (see `fit`), or where there is none at the start. A device that sends jobs sends
    none again: the ledger has those of the steps that come once more.

    Args:
        path: The run folder; None: the newest under `root`.
        root: Folder of all runs.
        console: Where progress and warnings go; None: standard error.

    Returns:
        The complete run; one that was complete already is given back unchanged.

    Raises:
        InputError: The folder is not a run, had not begun, or is being trained by another process; or its data are
            no longer the same.
    """
    console = console or Console(stderr=True)
    run = open_run(path, root=root, incomplete=True)
    if this_rank(run.spec.train) > 0:
        take_part(run)
        raise SystemExit(0)
    if run.state == "complete":
        return run
    with claim(run):
        if not can_go_on(run):
            raise InputError(f"run {str(run.path)!r} cannot be resumed: {how_to_go_on(run)}")
        if run.spec.trains_generator:
            return resume_generator(run, console=console)
        dataset, _ = load_data(run.spec, console)
        if dataset.fingerprint() != run.data["fingerprint"]:
            raise InputError(f"run {str(run.path)!r}: the images of {dataset.name!r} have changed since it began")
        model = _build(run.spec, dataset, run.circuit, first_weights(run))
        if _fingerprint(_noise(model)) != _fingerprint(run.data.get("noise")):
            raise InputError(f"run {str(run.path)!r}: noise model {run.spec.device.noise!r} has changed since it began")
        with _state_kept(run, model):
            return _finish(run, dataset, model, console)


def _prepare(spec: ExperimentSpec, console: Console) -> tuple[ImageDataset, HybridClassifier, list[str]]:
    """The images, the classifier with its first weights, and what leaks there were."""
    check_available(spec.train)
    dataset, leaks = load_data(spec, console)
    if spec.model.weights == "pretrained":
        check_pretraining(spec, dataset, console)
    model = _build(spec, dataset, spec.model.circuit)
    check_synthetic(spec, dataset)
    _check_noise(spec, model)
    _check_processes(spec, dataset, model)
    if model.head.layer is not None:
        warn_of_lost_signal(model.head.layer, console)
    return dataset, model, leaks


def _build(
    spec: ExperimentSpec, dataset: ImageDataset, circuit: str, pretrained: Pretrained | None = None
) -> HybridClassifier:
    """The classifier with its first weights; those of pretraining only where it is given."""
    model = spec.model
    if model.weights == "pretrained":
        weights = "none" if pretrained is None else str(pretrained.weights)
        model = model.model_copy(update={"weights": weights})
    return build_classifier(
        model,
        n_classes=len(dataset.class_names),
        circuit=circuit,
        device=spec.device,
        seed=spec.train.seed,
    )


def _check_noise(spec: ExperimentSpec, model: HybridClassifier) -> None:
    if model.head.layer is not None and model.head.layer.noise is None and spec.train.noise_scale != (1, 1):
        raise InputError(
            f"train.noise_scale scales the noise of the device, but {model.head.layer.device.name} simulates none: "
            "give device.noise (--noise)"
        )


def _check_processes(spec: ExperimentSpec, dataset: ImageDataset, model: HybridClassifier) -> None:
    n = spec.train.n_processes
    if n == 1:
        return
    if job_device(model) is not None:
        raise InputError(
            f"{n} processes (train.devices x train.nodes), but {spec.device.name} sends jobs: their order and their "
            "ledger are those of one process"
        )
    for split, least in (("train", 2 * n), ("validation", n)):
        count = len(labelled(spec, dataset).splits[split])
        if count < least:
            raise InputError(f"{n} processes (train.devices x train.nodes) need {least} {split} images, not {count}")


def _noise(model: HybridClassifier) -> dict[str, Any] | None:
    """Where the noise of the training comes from; None without noise."""
    layer = model.head.layer
    return None if layer is None or layer.noise is None else layer.noise.provenance()


def _fingerprint(noise: dict[str, Any] | None) -> str | None:
    return None if noise is None else str(noise["fingerprint"])


def _describe(
    run: Run, dataset: ImageDataset, model: HybridClassifier, leaks: list[str], pretrained: Pretrained | None
) -> None:
    """Write what the run is made from: its data, its parameter counts, its own copy of the circuit."""
    spec = run.spec.model
    circuit = catalog.find("circuits", spec.circuit)
    write_text(run.path / "circuits" / circuit.name, circuit.read_text(encoding="utf-8"))
    n_classes = len(dataset.class_names)
    description = {
        "source": dataset.name,
        "fingerprint": dataset.fingerprint(),
        "class_names": list(dataset.class_names),
        "counts": labelled(run.spec, dataset).class_counts(),
        "leaks": leaks,
        "leaks_dropped": run.spec.data.drop_leaks,
        "parameters": parameter_counts(model, spec, circuit=spec.circuit, n_classes=n_classes),
        "noise": _noise(model),
        **({} if run.spec.domains is None else {"centres": centre_counts(dataset)}),
    }
    if pretrained is not None:
        description["pretrained"] = pretrained.told()
    write_json(run.path / "data.json", description)


def take_part(run: Run) -> None:
    """Train a run as one of several processes that train it together.

    The first of them writes its checkpoints and its log, and tells on standard error how it goes.

    Args:
        run: Incomplete; only the first process needs its folder, all of them its last checkpoint if there is one.
    """
    quiet = Console(file=io.StringIO())
    dataset, _ = load_data(run.spec, quiet)
    model = _build(run.spec, dataset, run.circuit, first_weights(run))
    _fit(run, dataset, model, quiet if this_rank(run.spec.train) > 0 else Console(stderr=True))


def _fit(run: Run, dataset: ImageDataset, model: HybridClassifier, console: Console) -> None:
    """Train from the start or from the last checkpoint, alone or as one of several processes."""
    spec = run.spec.train
    part = {"rank": this_rank(spec), "n_processes": spec.n_processes}
    training = labelled(run.spec, dataset).splits["train"]
    synthetic = synthetic_images(run, dataset, training, console)
    transform = training_transforms(run.spec.data.transforms) if run.spec.data.transforms else None
    images = training_images(run.spec, [training, *([synthetic] if synthetic else [])], transform)
    with jobs_of(model, str(run.path.resolve()), console):
        fit(
            run,
            training_module(run.spec, model),
            training_loader(images, batch_size=spec.batch_size, workers=spec.workers, **part),
            split_loader(dataset.splits["validation"], batch_size=64, workers=spec.workers, **part),
            console=console,
        )


def _finish(run: Run, dataset: ImageDataset, model: HybridClassifier, console: Console) -> Run:
    """Train from the start or from the last checkpoint, then keep the best model and the features."""
    if starts_processes(run.spec.train):
        run_ranks(run, console)
    else:
        _fit(run, dataset, model, console)
    best = read_checkpoint(run.best_checkpoint)
    training_module(run.spec, model).load_state_dict(best["state_dict"])
    for name, split in labelled(run.spec, dataset).splits.items():
        run.write_features(name, backbone_features(model, split))
    save_weights(model, run.path / "model.safetensors", best_epoch=best["epoch"] + 1)
    run.set_state("complete")
    return run


@torch.inference_mode()
def backbone_features(model: HybridClassifier, split: Split, *, batch_size: int = 64) -> Features:
    """Send a split through the CNN, so that devices can be evaluated without it.

    Args:
        model: Set to evaluation mode.
        split: The images.
        batch_size: Images at a time; bounds the memory.

    Returns:
        Features (N, F) in the order of the split.
    """
    model.eval()
    device = model.mean.device
    rows = [
        model.backbone_features(images.to(device)).float().cpu().numpy()
        for images, _ in split_loader(split, batch_size=batch_size)
    ]
    return Features(np.concatenate(rows), split.labels.numpy(), np.array(split.ids, dtype=np.str_))


@contextmanager
def _state_kept(run: Run, model: HybridClassifier) -> Iterator[None]:
    """As `state_kept`, and say how to go on."""
    sends_jobs = job_device(model) is not None
    try:
        with state_kept(run):
            yield
    except BaseException as error:
        if is_stop(error):
            what = "interrupted; jobs that were sent stay" if sends_jobs else "interrupted"
            raise Interrupted(f"{what}; {how_to_go_on(run)}") from None
        if sends_jobs and isinstance(error, QHybridError) and not isinstance(error, InputError | Diverged):
            raise QHybridError(f"{error}; the training can {how_to_go_on(run)}") from None
        raise
