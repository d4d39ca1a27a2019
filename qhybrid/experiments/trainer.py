"""Lightning's Trainer, set up for a run folder."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import lightning.pytorch as lightning
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from qhybrid.errors import InputError
from qhybrid.experiments.batches import epoch_order
from qhybrid.experiments.checkpoints import (
    CheckpointFiles,
    EveryStep,
    best_and_last,
    early_stopping,
    has_stopped,
    last_only,
    position,
    read_checkpoint,
)
from qhybrid.experiments.progress import EpochTable, Progress
from qhybrid.experiments.ranks import check_processes, cluster_environment
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import TrainSpec
from qhybrid.experiments.training_jobs import job_device
from qhybrid.experiments.training_module import TrainingModule

LOGGER_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",)}


def fit(
    run: Run,
    module: lightning.LightningModule,
    training: DataLoader[Any],
    validation: DataLoader[Any] | None,
    *,
    console: Console,
) -> None:
    """Train, from the last checkpoint of the run if there is one.

    There is one after every epoch, and on a device that sends jobs after every step. Where several processes train
    together, each calls this; the first one writes.

    Args:
        run: Gets the checkpoints and `metrics.csv`; says for how long.
        module: Changed in place; ends with the weights of the last epoch.
        training: From `training_loader`, or another in an `EpochOrder`.
        validation: Batches of the validation split; None: there is none, and no best epoch.
        console: Where progress goes.

    Raises:
        InputError: As in `check_available`, or a checkpoint is damaged.
    """
    spec = run.spec.train
    gpu, environment = check_available(spec), cluster_environment(spec)
    if sends_jobs := isinstance(module, TrainingModule) and job_device(module.classifier) is not None:
        n_jobs = spec.epochs * (len(training) + 1)
        said = f"a job for each of {len(training)} steps and one for the validation an epoch: at most {n_jobs} jobs"
        console.print(said, highlight=False, soft_wrap=True)
    with quiet_lightning(), deterministic(on=not gpu):
        trainer = lightning.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=spec.devices,
            num_nodes=spec.nodes,
            strategy="auto" if environment is None else "ddp" if spec.strategy == "auto" else spec.strategy,
            max_epochs=spec.epochs,
            logger=_loggers(run),
            callbacks=[
                *early_stopping(spec.patience),
                EpochTable(run.path / "metrics.csv"),
                Progress(console),
                *([EveryStep(run)] if sends_jobs else []),
                *(last_only(run) if validation is None else best_and_last(run)),
            ],
            plugins=[CheckpointFiles(), *([] if environment is None else [environment])],
            use_distributed_sampler=False,  # `training_loader` and `split_loader` give each process its part
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        if not run.last_checkpoint.is_file():
            trainer.fit(module, training, validation)
        elif not has_stopped(checkpoint := read_checkpoint(run.last_checkpoint), spec):
            epochs, steps = position(checkpoint)
            epoch_order(training).start_at(epochs, steps * spec.batch_size)
            trainer.fit(module, training, validation, ckpt_path=run.last_checkpoint)


def check_available(spec: TrainSpec) -> bool:
    """Whether the CNN will run on a GPU.

    Raises:
        InputError: There is no GPU where one is asked for, a logger is not installed, or so many processes cannot
            train together here (see `check_processes`).
    """
    for name, packages in LOGGER_PACKAGES.items():
        if name in spec.loggers and not any(find_spec(package) for package in packages):
            raise InputError(f"train.loggers: {name!r} is not installed: pip install 'qhybrid[{name}]'")
    if spec.accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("train.accelerator is 'gpu', but torch finds none here; allowed: auto, cpu")
    gpu = torch.cuda.is_available() and spec.accelerator != "cpu"
    check_processes(spec, gpu=gpu)
    return gpu


def _loggers(run: Run) -> list[Any] | bool:
    """TensorBoard and MLflow, if asked for; `metrics.csv` is written in any case."""
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger

    found: list[Any] = []
    if "tensorboard" in run.spec.train.loggers:
        found.append(TensorBoardLogger(save_dir=run.path, name="", version="tensorboard"))
    if "mlflow" in run.spec.train.loggers:
        uri = (run.path / "mlflow").resolve().as_uri()
        found.append(MLFlowLogger(experiment_name=run.spec.name, run_name=run.path.name, tracking_uri=uri))
    return found or False


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says about hardware and settings that are ours on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",  # batches are made in one call; workers would only cost
                ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
                ".*The dirpath has changed.*",  # a run folder that was moved
                ".*your dataloader is not resumable.*",  # `EpochOrder.start_at` sees to that
                ".*GPU available but not used.*",
                ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 with torch 2.14
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def deterministic(*, on: bool) -> Iterator[None]:
    """Make torch choose deterministic algorithms for a while."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
