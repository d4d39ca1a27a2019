"""What a training says while it runs: a bar on a terminal, a line an epoch, and `metrics.csv`."""

import csv
import io
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from qhybrid.storage import write_text

COLUMNS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
"""What is written of an epoch; a training without validation has the first two."""
DOMAIN_COLUMNS = ("domain_accuracy", "consistency")
"""Of trainings across centres only: how often the domain classifier is right, and how far both views are apart."""


class EpochTable(Callback):  # type: ignore[misc]
    """Write `metrics.csv`: one row an epoch, the whole file anew, so that it is never half written.

    The `seconds` of an epoch that was interrupted are those of its steps, not of the time in between.
    """

    def __init__(self, path: Path, *, first_epoch: int = 0, also: dict[str, str] | None = None) -> None:
        self.path = path
        self.first_epoch = first_epoch
        """Epochs of a part of the training that came before, which are counted on."""
        self.also = also or {}
        """Further columns, the same in every row."""
        self.started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": time.monotonic() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.started = time.monotonic() - state_dict["seconds"]

    def on_train_epoch_start(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        epoch = self.first_epoch + trainer.current_epoch + 1
        row = {"epoch": str(epoch)} | self.also
        row |= {name: f"{value:.8g}" for name, value in _measured(trainer).items()}
        row["seconds"] = f"{time.monotonic() - self.started:.2f}"
        rows = [*self._rows_before(epoch), row]
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())

    def _rows_before(self, epoch: int) -> list[dict[str, Any]]:
        # A killed training may have written the row of an epoch whose checkpoint it did not reach.
        if epoch == 1 or not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if int(row["epoch"]) < epoch]


class Progress(Callback):  # type: ignore[misc]
    """One bar for the whole training on a terminal, and one line an epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = TaskID(0)
        self.best = float("inf")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_train_start(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        self.task = self.bar.add_task(
            "training",
            total=int(trainer.estimated_stepping_batches),
            completed=trainer.global_step,
            epoch=trainer.current_epoch + 1,
        )
        self.bar.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args: Any) -> None:
        self.bar.update(self.task, completed=trainer.global_step, epoch=trainer.current_epoch + 1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        found = _measured(trainer)
        loss = found.get("validation_loss", float("inf"))
        best = " *" if loss < self.best else ""
        self.best = min(self.best, loss)
        said = [
            f"{split} {measure} {found[f'{split}_{measure}']:.{digits}f}"
            for split in ("train", "validation")
            for measure, digits in (("loss", 4), ("accuracy", 3))
            if f"{split}_{measure}" in found
        ]
        self.console.print(
            f"epoch {trainer.current_epoch + 1:3d}/{trainer.max_epochs}  {' '.join(said)}{best}",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: lightning.Trainer, *_args: Any) -> None:
        self.bar.stop()


def _measured(trainer: lightning.Trainer) -> dict[str, float]:
    """Those of the columns that the training logs."""
    logged = trainer.callback_metrics
    return {name: float(logged[name]) for name in (*COLUMNS, *DOMAIN_COLUMNS) if name in logged}
