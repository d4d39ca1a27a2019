"""Batches of images and of latents for the training of a generator."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qhybrid.data.dataset import Split
from qhybrid.experiments.batches import Batch, EpochOrder
from qhybrid.experiments.latent_diffusion import LatentDiffusion

Take = Callable[[Tensor], Batch]
"""(B,) indices -> inputs (B, ...) and labels (B,)."""
CHUNK = 256
"""Images encoded at once; bounds the memory."""


class Rows(Dataset[Batch]):
    """Rows of a table, whole batches at a time; keys count on from epoch to epoch, as `EpochOrder` gives them."""

    def __init__(self, take: Take, n_rows: int) -> None:
        self.take = take
        self.n_rows = n_rows

    def __len__(self) -> int:
        return self.n_rows

    def __getitems__(self, keys: Sequence[int]) -> Batch:
        """One whole batch."""
        return self.take(torch.as_tensor(keys) % self.n_rows)


def image_rows(split: Split) -> Take:
    """The images of a split as they are: (B, C, S, S) in [0, 1], grey ones with a single channel."""
    channels = split.images.shape[1]
    return lambda indices: (split.batch(indices)[:, :channels], split.labels[indices])


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
    return lambda indices: (posteriors[indices], labels[indices])


def ordered_loader(take: Take, n_rows: int, *, batch_size: int, seed: int) -> DataLoader[Any]:
    """Batches for a training, in an order of their own in every epoch."""
    return DataLoader(
        Rows(take, n_rows), batch_size=batch_size, sampler=EpochOrder(n_rows, seed), collate_fn=lambda batch: batch
    )


def plain_loader(take: Take, n_rows: int, *, batch_size: int) -> DataLoader[Any]:
    """Batches in the order of the rows."""
    return DataLoader(Rows(take, n_rows), batch_size=batch_size, collate_fn=lambda batch: batch)
