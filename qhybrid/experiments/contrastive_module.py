"""SimCLR as a Lightning module: a CNN, lightly's projection head and its NT-Xent loss."""

from dataclasses import asdict
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

from qhybrid.experiments.contrastive_views import Views, check_lightly
from qhybrid.experiments.pretrain_spec import PretrainSpec
from qhybrid.experiments.spec import TrainSpec
from qhybrid.experiments.training_module import Diverged, EpochSums, adam


class ContrastiveModule(lightning.LightningModule):  # type: ignore[misc]
    """SimCLR (Chen et al., arXiv 2002.05709): the two views of an image are to be alike, those of others not."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        cnn: nn.Module,
        width: int,
        normalised_by: tuple[Tensor, Tensor],
        pretraining: PretrainSpec,
        training: TrainSpec,
    ) -> None:
        """Put a projection head on a CNN; its weights come from torch's global generator.

        Args:
            cnn: (B, 3, H, W) -> (B, width, h, w).
            width: Channels of its last feature map.
            normalised_by: Mean and standard deviation, (3, 1, 1) each.
            pretraining: Temperature and widths of the projection head.
            training: Optimiser and epochs.
        """
        super().__init__()
        check_lightly()
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead

        self.register_buffer("mean", normalised_by[0])
        self.register_buffer("std", normalised_by[1])
        self.cnn = cnn.to(memory_format=torch.channels_last)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projection = SimCLRProjectionHead(width, *pretraining.projection)
        self.loss = NTXentLoss(temperature=pretraining.temperature)
        self.training_spec = training
        self.sums = EpochSums()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> projections (B, P)."""
        normalised = (images - self.mean) / self.std
        projected: Tensor = self.projection(
            self.pool(self.cnn(normalised.contiguous(memory_format=torch.channels_last)))
        )
        return projected

    def on_train_epoch_start(self) -> None:
        self.sums = EpochSums()

    def training_step(self, views: Views, _index: int) -> Tensor:
        first, second = views
        # One pass for both, as in the paper: batch normalisation sees all views of the step.
        projected = self(torch.cat([first, second]))
        loss: Tensor = self.loss(*projected.chunk(2))
        if not torch.isfinite(loss):
            epoch = self.current_epoch + 1
            raise Diverged(f"the pretraining diverged in epoch {epoch}: try a smaller pretrain.learning_rate")
        self.sums.add(loss, partners_found(projected.detach()), len(first))
        if self.trainer.is_last_batch:
            n = self.sums.images
            scores = {"train_loss": self.sums.loss / n, "train_accuracy": self.sums.correct / n}
            self.log_dict(scores, on_step=False, on_epoch=True, batch_size=n)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        return adam(self, self.training_spec)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["epoch_sums"] = asdict(self.sums)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.sums = EpochSums(**checkpoint["epoch_sums"])


def partners_found(projected: Tensor) -> Tensor:
    """Share of the views whose nearest view of the step, by the cosine, is the other one of the same image.

    Args:
        projected: (2B, P), first all first views, then all second ones.
    """
    unit = functional.normalize(projected, dim=1)
    alike = (unit @ unit.T).fill_diagonal_(-2)
    partner = torch.arange(len(projected), device=projected.device).roll(len(projected) // 2)
    return (alike.argmax(dim=1) == partner).float().mean()
