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
    """The steps of an epoch so far, added up."""

    loss: float = 0.0
    correct: float = 0.0
    images: int = 0

    def add(self, loss: torch.Tensor, accuracy: torch.Tensor, n_images: int) -> None:
        """Add the means over the images of one step."""
        self.loss += float(loss.detach()) * n_images
        self.correct += float(accuracy) * n_images
        self.images += n_images


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
        """Of the training; part of every checkpoint, so that a mean is of all steps."""
        self._validation_sums = EpochSums()
        self._held_back: list[Batch] = []

    def on_fit_start(self) -> None:
        layer = self.classifier.head.layer
        if layer is not None and self.global_rank > 0:  # the shots of each process are its own
            layer.seed = derive_seed(self.spec.seed, "circuit", self.global_rank)

    def on_train_epoch_start(self) -> None:
        self.sums = EpochSums()  # not called when an epoch goes on in its middle

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self._name_job(f"training epoch {self.current_epoch + 1} step {index + 1}")
        layer = self.classifier.head.layer
        if layer is not None:
            layer.noise_factor = noise_factor(self.spec, self.global_step)
        try:
            loss, accuracy, added = self.step_scores(batch)
        finally:
            if layer is not None:
                layer.noise_factor = 1.0  # the backward pass keeps the program of its forward pass
        n_images = len(batch[1])
        self.sums.add(loss, accuracy, n_images)
        if self.trainer.is_last_batch:
            self._log_sums("train", self.sums)
        return (loss if added is None else loss + added) * self._share(n_images)

    def step_scores(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Loss and accuracy of a training batch, and what else is to be made small; None: nothing."""
        images, labels = batch
        return *self._scores(self._features(images), labels), None

    def on_validation_epoch_start(self) -> None:
        self._held_back = []
        self._validation_sums = EpochSums()
        if self.trainer.world_size > 1:
            # The means of batch normalisation are of each process's images; the first one's are kept.
            for values in self.buffers():
                torch.distributed.broadcast(values, src=0)

    def validation_step(self, batch: Batch, _index: int) -> None:
        images, labels = batch
        features = self._features(images)
        if job_device(self.classifier) is not None:
            self._held_back.append((features, labels))
        elif self.trainer.world_size > 1:
            self._validation_sums.add(*self._scores(features, labels), len(labels))
        else:
            self._log("validation", *self._scores(features, labels), len(labels))

    def on_validation_epoch_end(self) -> None:
        if self.trainer.world_size > 1:
            self._log_sums("validation", self._validation_sums)
        if self._held_back:
            self._name_job(f"validation epoch {self.current_epoch + 1}")
            features, labels = (torch.cat(parts) for parts in zip(*self._held_back, strict=True))
            self._log("validation", *self._scores(features, labels), len(labels))

    def configure_optimizers(self) -> dict[str, Any]:
        return adam(self, self.spec)

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
        several = self.trainer.world_size > 1  # all have the same then, and Lightning is told so
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=n_images, sync_dist=several)

    def _log_sums(self, split: str, sums: EpochSums) -> None:
        """Log the means over the images of all processes; Lightning's own are wrong where their numbers differ."""
        loss, correct, n_images = sums.loss, sums.correct, sums.images
        if self.trainer.world_size > 1:
            total = torch.tensor([loss, correct, n_images], dtype=torch.float64, device=self.device)
            torch.distributed.all_reduce(total)
            loss, correct, n_images = float(total[0]), float(total[1]), int(total[2])
        self._log(split, loss / n_images, correct / n_images, n_images)

    def _share(self, n_images: int) -> float:
        """Factor on the mean loss of this process's part of a step, so that the mean over all is that of all images."""
        n_processes: int = self.trainer.world_size
        if n_processes == 1:
            return 1.0
        total = torch.tensor(float(n_images), device=self.device)
        torch.distributed.all_reduce(total)
        return n_images * n_processes / float(total)


def adam(module: torch.nn.Module, spec: TrainSpec) -> dict[str, Any]:
    """The optimiser of a module and its schedule, as Lightning wants them.

    Args:
        module: All of its parameters are trained.
        spec: Learning rate, schedule over all epochs, betas, and the penalty lambda * |theta|^2.
    """
    # The gradient of the penalty is 2 * lambda * theta; Adam adds weight_decay * theta.
    optimizer = torch.optim.Adam(
        module.parameters(), lr=spec.learning_rate, betas=spec.betas, weight_decay=2 * spec.weight_penalty
    )
    if spec.schedule == "constant":
        return {"optimizer": optimizer}
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=spec.epochs)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


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
