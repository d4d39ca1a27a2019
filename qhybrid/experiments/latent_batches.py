"""Batches of images and of latents for the training of a generator."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qhybrid.data.dataset import Split
from qhybrid.data.spec import Transform
from qhybrid.data.transforms import training_transforms
from qhybrid.experiments.batches import Batch, EpochOrder, TrainingImages
from qhybrid.experiments.latent_diffusion import LatentDiffusion

Take = Callable[[Tensor], Batch]
"""(B,) keys -> inputs (B, ...) and labels (B,). A key is `epoch * N + index`, as `EpochOrder` gives them."""
CHUNK = 256
"""Images encoded at once; bounds the memory."""


class Rows(Dataset[Batch]):
    """Rows of a table, whole batches at a time."""

    def __init__(self, take: Take, n_rows: int) -> None:
        self.take = take
        self.n_rows = n_rows

    def __len__(self) -> int:
        return self.n_rows

    def __getitems__(self, keys: Sequence[int]) -> Batch:
        """One whole batch."""
        return self.take(torch.as_tensor(keys))


def image_rows(split: Split) -> Take:
    """The images of a split as they are: (B, C, S, S) in [0, 1], grey ones with a single channel."""
    channels, n = split.images.shape[1], len(split)
    return lambda keys: (split.batch(keys % n)[:, :channels], split.labels[keys % n])


def varied_rows(split: Split, transforms: Sequence[Transform], seed: int) -> Take:
    """The same, varied at random in every epoch."""
    images, channels = TrainingImages([split], training_transforms(transforms), seed), split.images.shape[1]

    def take(keys: Tensor) -> Batch:
        varied, labels = images.__getitems__(keys.tolist())
        return varied[:, :channels], labels

    return take


@torch.no_grad()
def encoded(model: LatentDiffusion, split: Split) -> Tensor:
    """Mean and log variance of the latents of all images of a split, (N, 2 L, s, s)."""
    take = image_rows(split)
    model.eval()
    device = model.latent_mean.device
    parts = [
        torch.cat(model.autoencoder.encode(take(chunk)[0].to(device)), dim=1).cpu()
        for chunk in torch.arange(len(split)).split(CHUNK)
    ]
    return torch.cat(parts)


def latent_rows(posteriors: Tensor, labels: Tensor) -> Take:
    """What `encoded` has made, with labels."""
    return lambda keys: (posteriors[keys % len(labels)], labels[keys % len(labels)])


def ordered_loader(take: Take, n_rows: int, *, batch_size: int, seed: int) -> DataLoader[Any]:
    """Batches for a training, in an order of their own in every epoch."""
    return DataLoader(
        Rows(take, n_rows), batch_size=batch_size, sampler=EpochOrder(n_rows, seed), collate_fn=lambda batch: batch
    )


def plain_loader(take: Take, n_rows: int, *, batch_size: int) -> DataLoader[Any]:
    """Batches in the order of the rows."""
    return DataLoader(Rows(take, n_rows), batch_size=batch_size, collate_fn=lambda batch: batch)
