"""Train an experiment into a run folder, and go on with one that was interrupted."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from rich.console import Console
from torch.nn import functional

from qhybrid import catalog
from qhybrid.data.audit import audit, drop_leaks
from qhybrid.data.augment import augment
from qhybrid.data.dataset import ImageDataset, Split
from qhybrid.data.sources import load_dataset
from qhybrid.data.transforms import training_transforms
from qhybrid.errors import InputError
from qhybrid.experiments.batches import Batch, TrainingImages, split_loader, training_loader
from qhybrid.experiments.checkpoints import (
    CheckpointFiles,
    best_and_last,
    early_stopping,
    has_stopped,
    read_checkpoint,
)
from qhybrid.experiments.model import HybridClassifier, build_classifier, parameter_counts, save_weights
from qhybrid.experiments.progress import EpochTable, Progress
from qhybrid.experiments.runs import ROOT, Features, Run, claim, create_run, open_run
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import ExperimentSpec, TrainSpec
from qhybrid.experiments.storage import write_json, write_text


class TrainingModule(lightning.LightningModule):  # type: ignore[misc]
    """The paper's loss and optimiser (SDA-QEC, section 2.5), and the metrics of an epoch."""

    def __init__(self, classifier: HybridClassifier, spec: TrainSpec) -> None:
        super().__init__()
        self.classifier = classifier
        self.spec = spec

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, _index: int) -> torch.Tensor:
        return self._step(batch, "validation")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # The loss has lambda * |theta|^2, whose gradient is 2 * lambda * theta; Adam adds weight_decay * theta.
        return torch.optim.Adam(
            self.parameters(),
            lr=self.spec.learning_rate,
            betas=self.spec.betas,
            weight_decay=2 * self.spec.weight_penalty,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The count seeds the next shots: a resumed training must not draw the first ones again.
        layer = self.classifier.head.layer
        checkpoint["layer_calls"] = 0 if layer is None else layer.calls

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.classifier.head.layer is not None:
            self.classifier.head.layer.calls = int(checkpoint["layer_calls"])

    def _step(self, batch: Batch, split: str) -> torch.Tensor:
        images, labels = batch
        logits = self.classifier(images)
        loss = functional.cross_entropy(logits, labels)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        scores = {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss


def train(spec: ExperimentSpec, *, out: Path = ROOT, console: Console | None = None) -> Run:
    """Train an experiment.

    All that the user can have got wrong is looked at before the run folder is made.

    Args:
        spec: The experiment.
        out: Folder of all runs; the new one is `<out>/<name>/<time>-<hash>/`.
        console: Where progress and warnings go; None: standard error.

    Returns:
        The complete run: best model, and the features of every split.

    Raises:
        InputError: Data, circuit, device or weights are wrong.
    """
    console = console or Console(stderr=True)
    dataset, leaks = _load_data(spec, console)
    model = _build(spec, dataset, spec.model.circuit)
    run = create_run(spec, out)
    with claim(run), _state_kept(run):
        _describe(run, dataset, model, leaks)
        return _fit(run, dataset, model, console)


def resume(path: Path | str | None = None, *, root: Path = ROOT, console: Console | None = None) -> Run:
    """Go on with a training that was interrupted, as if it had not been.

    Args:
        path: The run folder; None: the newest under `root`.
        root: Folder of all runs.
        console: Where progress and warnings go; None: standard error.

    Returns:
        The complete run; one that was complete already is given back unchanged.

    Raises:
        InputError: The folder is not a run, has no finished epoch, or is being trained by another process; or
            its data are no longer the same.
    """
    console = console or Console(stderr=True)
    run = open_run(path, root=root, incomplete=True)
    if run.state == "complete":
        return run
    with claim(run):
        if not run.last_checkpoint.is_file():
            raise InputError(
                f"run {str(run.path)!r} has no finished epoch to go on from: start again with `qhybrid train "
                f"{run.spec.name}`"
            )
        dataset, _ = _load_data(run.spec, console)
        if dataset.fingerprint() != run.data["fingerprint"]:
            raise InputError(f"run {str(run.path)!r}: the images of {dataset.name!r} have changed since it began")
        model = _build(run.spec, dataset, run.circuit)
        with _state_kept(run):
            return _fit(run, dataset, model, console)


def _load_data(spec: ExperimentSpec, console: Console) -> tuple[ImageDataset, list[str]]:
    """Load, audit, and drop leaks if asked to; says what leaks there were."""
    dataset = load_dataset(spec.data)
    report = audit(dataset, near=False)
    leaks = report.leak_sentences()
    for sentence in leaks:
        console.print(f"[yellow]warning:[/] {sentence}", highlight=False)
    if leaks and spec.data.drop_leaks:
        before = len(dataset.splits["train"])
        dataset = drop_leaks(dataset, report)
        dropped = before - len(dataset.splits["train"])
        console.print(f"dropped {dropped} training images that recur in validation or test", highlight=False)
    elif leaks:
        console.print("scores may be too good; --drop-leaks removes the training copies", highlight=False)
    return dataset, leaks


def _build(spec: ExperimentSpec, dataset: ImageDataset, circuit: str) -> HybridClassifier:
    return build_classifier(
        spec.model,
        n_classes=len(dataset.class_names),
        circuit=circuit,
        device=spec.device,
        seed=spec.train.seed,
    )


def _describe(run: Run, dataset: ImageDataset, model: HybridClassifier, leaks: list[str]) -> None:
    """Write what the run is made from: its data, its parameter counts, its own copy of the circuit."""
    spec = run.spec.model
    circuit = catalog.find("circuits", spec.circuit)
    write_text(run.path / "circuits" / circuit.name, circuit.read_text(encoding="utf-8"))
    n_classes = len(dataset.class_names)
    description = {
        "source": dataset.name,
        "fingerprint": dataset.fingerprint(),
        "class_names": list(dataset.class_names),
        "counts": dataset.class_counts(),
        "leaks": leaks,
        "leaks_dropped": run.spec.data.drop_leaks,
        "parameters": parameter_counts(model, spec, circuit=spec.circuit, n_classes=n_classes),
    }
    write_json(run.path / "data.json", description)


def _fit(run: Run, dataset: ImageDataset, model: HybridClassifier, console: Console) -> Run:
    spec = run.spec.train
    training = dataset.splits["train"]
    synthetic = augment(training, run.spec.augment, seed=derive_seed(spec.seed, "augmentation"))
    transform = training_transforms(run.spec.data.transforms) if run.spec.data.transforms else None
    images = TrainingImages([training, *([synthetic] if synthetic else [])], transform, spec.seed)
    module = TrainingModule(model, spec)
    gpu = torch.cuda.is_available() if spec.accelerator == "auto" else spec.accelerator == "gpu"
    with _quiet_lightning(), _deterministic(on=not gpu):
        trainer = lightning.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=1,
            max_epochs=spec.epochs,
            logger=_loggers(run),
            callbacks=[
                *early_stopping(spec.patience),
                EpochTable(run.path / "metrics.csv"),
                Progress(console),
                *best_and_last(run),
            ],
            plugins=[CheckpointFiles()],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        last = run.last_checkpoint if run.last_checkpoint.is_file() else None
        if last is None or not has_stopped(last, spec):
            trainer.fit(
                module,
                training_loader(images, batch_size=spec.batch_size, workers=spec.workers),
                split_loader(dataset.splits["validation"], batch_size=64, workers=spec.workers),
                ckpt_path=last,
            )
    best = read_checkpoint(run.best_checkpoint)
    module.load_state_dict(best["state_dict"])
    for name, split in dataset.splits.items():
        run.write_features(name, backbone_features(model, split))
    save_weights(model, run.path / "model.safetensors", {"format": "qhybrid", "epoch": str(best["epoch"])})
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


def _loggers(run: Run) -> list[Any] | bool:
    """TensorBoard and MLflow, if asked for; `metrics.csv` is written in any case."""
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger

    makers = {
        "tensorboard": lambda: TensorBoardLogger(save_dir=run.path, name="", version="tensorboard"),
        "mlflow": lambda: MLFlowLogger(
            experiment_name=run.spec.name, run_name=run.path.name, tracking_uri=(run.path / "mlflow").as_uri()
        ),
    }
    try:
        return [makers[name]() for name in dict.fromkeys(run.spec.train.loggers) if name in makers] or False
    except ModuleNotFoundError as error:
        raise InputError(f"train.loggers: {error}") from None


@contextmanager
def _state_kept(run: Run) -> Iterator[None]:
    """Mark a run that ends early as failed, with the reason; a killed one stays `running`."""
    run.set_state("running")
    try:
        yield
    except BaseException as error:
        # Lightning turns Ctrl-C into SystemExit.
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        run.set_state("failed", "interrupted" if stopped else f"{type(error).__name__}: {error}")
        raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says about hardware and settings that are ours on purpose."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",  # batches are made in one call; workers would only cost
                ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
                ".*The dirpath has changed.*",  # a run folder that was moved
                ".*GPU available but not used.*",
                ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 with torch 2.14
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _deterministic(*, on: bool) -> Iterator[None]:
    """Make torch choose deterministic algorithms for a while."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
