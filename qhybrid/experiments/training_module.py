"""The loss and the optimiser of the paper as a Lightning module."""

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

NOISE_STEPS = 16


class TrainingModule(lightning.LightningModule):  # type: ignore[misc]
    """The paper's loss and optimiser (SDA-QEC, section 2.5), and the metrics of an epoch."""

    def __init__(self, classifier: HybridClassifier, spec: TrainSpec) -> None:
        super().__init__()
        self.classifier = classifier
        self.spec = spec

    def training_step(self, batch: Batch, _index: int) -> torch.Tensor:
        layer = self.classifier.head.layer
        if layer is None:
            return self._step(batch, "train")
        layer.noise_factor = noise_factor(self.spec, self.global_step)
        try:
            return self._step(batch, "train")
        finally:
            layer.noise_factor = 1.0  # the backward pass keeps the program of its forward pass

    def validation_step(self, batch: Batch, _index: int) -> torch.Tensor:
        return self._step(batch, "validation")

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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.classifier.head.layer is not None:
            self.classifier.head.layer.calls = int(checkpoint["layer_calls"])

    def _step(self, batch: Batch, split: str) -> torch.Tensor:
        images, labels = batch
        features = self.classifier.backbone_features(images)
        # Said here, because a quantum layer would only complain about its input.
        if not torch.isfinite(features).all():
            epoch = self.current_epoch + 1
            raise QHybridError(f"the training diverged in epoch {epoch}: try a smaller train.learning_rate")
        logits = self.classifier.head(features)
        loss = functional.cross_entropy(logits, labels)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        scores = {f"{split}_loss": loss, f"{split}_accuracy": accuracy}
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss


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
