"""The loss and the optimiser of the paper as a Lightning module."""

from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch.nn import functional

from qhybrid.errors import QHybridError
from qhybrid.experiments.batches import Batch
from qhybrid.experiments.model import HybridClassifier
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import TrainSpec
from qhybrid.experiments.training_jobs import job_device

NOISE_STEPS = 16


class Diverged(QHybridError):
    """The weights have become infinite: going on is of no use."""


@dataclass
class EpochSums:
    """The training steps of an epoch so far, added up; part of every checkpoint, so that a mean is of all of them."""

    loss: float = 0.0
    correct: float = 0.0
    images: int = 0


class TrainingModule(lightning.LightningModule):  # type: ignore[misc]
    """The paper's loss and optimiser (SDA-QEC, section 2.5), and the metrics of an epoch.

    On a device that sends jobs a training step is one job, and so is a whole validation: the CNN takes the images batch
    by batch, which bounds the memory, and the head takes the features of all of them.
    """

    def __init__(self, classifier: HybridClassifier, spec: TrainSpec) -> None:
        super().__init__()
        self.classifier = classifier
        self.spec = spec
        self.sums = EpochSums()
        self._held_back: list[Batch] = []

    def on_train_epoch_start(self) -> None:
        self.sums = EpochSums()  # not called when an epoch goes on in its middle

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self._name_job(f"training epoch {self.current_epoch + 1} step {index + 1}")
        images, labels = batch
        features = self._features(images)
        layer = self.classifier.head.layer
        if layer is not None:
            layer.noise_factor = noise_factor(self.spec, self.global_step)
        try:
            loss, accuracy = self._scores(features, labels)
        finally:
            if layer is not None:
                layer.noise_factor = 1.0  # the backward pass keeps the program of its forward pass
        self.sums.loss += float(loss.detach()) * len(labels)
        self.sums.correct += float(accuracy) * len(labels)
        self.sums.images += len(labels)
        if self.trainer.is_last_batch:
            n_images = self.sums.images
            self._log("train", self.sums.loss / n_images, self.sums.correct / n_images, n_images)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._held_back = []

    def validation_step(self, batch: Batch, _index: int) -> None:
        images, labels = batch
        features = self._features(images)
        if job_device(self.classifier) is None:
            self._log("validation", *self._scores(features, labels), len(labels))
        else:
            self._held_back.append((features, labels))

    def on_validation_epoch_end(self) -> None:
        if self._held_back:
            self._name_job(f"validation epoch {self.current_epoch + 1}")
            features, labels = (torch.cat(parts) for parts in zip(*self._held_back, strict=True))
            self._log("validation", *self._scores(features, labels), len(labels))

    def configure_optimizers(self) -> dict[str, Any]:
        # The loss has lambda * |theta|^2, whose gradient is 2 * lambda * theta; Adam adds weight_decay * theta.
        optimizer = torch.optim.Adam(
            self.parameters(),
            lr=self.spec.learning_rate,
            betas=self.spec.betas,
            weight_decay=2 * self.spec.weight_penalty,
        )
        if self.spec.schedule == "constant":
            return {"optimizer": optimizer}
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.spec.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The count seeds the next shots: a resumed training must not draw the first ones again.
        layer = self.classifier.head.layer
        checkpoint["layer_calls"] = 0 if layer is None else layer.calls
        checkpoint["epoch_sums"] = asdict(self.sums)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.classifier.head.layer is not None:
            self.classifier.head.layer.calls = int(checkpoint["layer_calls"])
        self.sums = EpochSums(**checkpoint.get("epoch_sums", {}))

    def _name_job(self, purpose: str) -> None:
        device = job_device(self.classifier)
        if device is not None:
            device.purpose = purpose

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        features = self.classifier.backbone_features(images)
        # Said here, because a quantum layer would only complain about its input.
        if not torch.isfinite(features).all():
            epoch = self.current_epoch + 1
            raise Diverged(f"the training diverged in epoch {epoch}: try a smaller train.learning_rate")
        return features

    def _scores(self, features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and accuracy."""
        logits = self.classifier.head(features)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return functional.cross_entropy(logits, labels), accuracy

    def _log(self, split: str, loss: torch.Tensor | float, accuracy: torch.Tensor | float, n_images: int) -> None:
        scores = {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=n_images)


def noise_factor(spec: TrainSpec, step: int) -> float:
    """Draw the factor on the device's noise in one training step (noise injection).

    Uniform over 17 values, `noise_scale` cut into 16 steps, so that a device compiles 17 programs at most. It follows
    from the seed and the number of the step alone: a resumed training draws what an uninterrupted one would have.

    Args:
        spec: Its `noise_scale` is the interval.
        step: Number of the optimiser's steps before this one.
    """
    low, high = spec.noise_scale
    drawn = np.random.default_rng(derive_seed(spec.seed, "noise", step)).integers(NOISE_STEPS + 1)
    return low + (high - low) * int(drawn) / NOISE_STEPS
