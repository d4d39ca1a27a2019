"""Checkpoints of a training: written in one piece, read without unpickling, and when to stop."""

from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from qhybrid.errors import InputError
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import TrainSpec
from qhybrid.storage import write_atomically

MONITOR = "validation_loss"


class CheckpointFiles(TorchCheckpointIO):  # type: ignore[misc]
    """How Lightning reaches checkpoint files; its own way is neither synced to the disk nor `weights_only`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        del storage_options  # for remote file systems
        write_atomically(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: str | Path, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint with `weights_only=True`.

    Raises:
        InputError: The file is missing, damaged, or would need unpickling.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist") from None
    except Exception as error:  # torch raises many kinds for damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: damaged, not readable as a checkpoint ({reason})") from None
    if not isinstance(checkpoint, dict) or not {"state_dict", "epoch", "callbacks", "loops"} <= checkpoint.keys():
        raise InputError(f"{path}: damaged, not a checkpoint of a training")
    return checkpoint


def best_and_last(run: Run) -> list[Callback]:
    """Keep the epoch with the lowest validation loss and the last finished one."""
    best = run.best_checkpoint
    return [
        ModelCheckpoint(
            filename=best.stem, monitor=MONITOR, mode="min", save_on_train_epoch_end=True, **_one_in(best.parent)
        ),
        *last_only(run),  # comes second: it holds the state of the first
    ]


def last_only(run: Run) -> list[Callback]:
    """Keep the last finished epoch."""
    last = run.last_checkpoint
    return [ModelCheckpoint(filename=last.stem, every_n_epochs=1, save_on_train_epoch_end=True, **_one_in(last.parent))]


def _one_in(folder: Path) -> dict[str, Any]:
    return {"dirpath": folder, "save_top_k": 1, "enable_version_counter": False}


class EveryStep(Callback):  # type: ignore[misc]
    """Write the state after every training step over that of the last epoch.

    But for the last step of an epoch: Lightning, resumed there, would leave out the validation. From the state before
    it the step is done again, and a device that sends jobs finds its job in the ledger.
    """

    def __init__(self, run: Run) -> None:
        self.path = run.last_checkpoint

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args: Any) -> None:
        if not trainer.is_last_batch:
            trainer.save_checkpoint(self.path)


def early_stopping(patience: int) -> list[Callback]:
    """Stop after this many epochs without a lower validation loss; 0: never."""
    return [EarlyStopping(MONITOR, patience=patience, mode="min")] if patience else []


def has_stopped(checkpoint: dict[str, Any], spec: TrainSpec) -> bool:
    """Whether a training had come to its end when its last checkpoint was written.

    Lightning does not keep that: resumed, it would train for one more epoch.
    """
    stoppers = [state for name, state in checkpoint["callbacks"].items() if name.startswith("EarlyStopping")]
    ran_out = any(state["wait_count"] >= state["patience"] for state in stoppers)
    return ran_out or position(checkpoint)[0] >= spec.epochs


def position(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """Where a checkpoint was written: number of finished epochs, and of steps of the next one."""
    progress = checkpoint["loops"]["fit_loop"]
    batches = progress["epoch_loop.batch_progress"]
    epochs: int = progress["epoch_progress"]["current"]["processed"]
    return epochs, 0 if batches["is_last_batch"] else batches["current"]["processed"]
