"""Batches of training images whose order and transforms depend on seed and epoch alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from qhybrid.data.dataset import Split
from qhybrid.data.transforms import TransformFunction
from qhybrid.experiments.seeding import derive_seed

Batch = tuple[Tensor, Tensor]


class TrainingImages(Dataset[Batch]):
    """Real and synthetic training images, varied anew in every epoch.

    A key is `epoch * len(self) + index`. It tells the image and seeds its transforms, so a sample is the same
    after a resume, with any number of workers, and on any quantum device.
    """

    def __init__(self, splits: Sequence[Split], transform: TransformFunction | None, seed: int) -> None:
        self.splits = tuple(splits)
        self.transform = transform
        self.seed = seed
        self.ends = torch.tensor([len(split) for split in splits]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitems__(self, keys: Sequence[int]) -> Batch:
        """One whole batch: images (B, 3, S, S) and labels (B,)."""
        key = torch.as_tensor(keys)
        index = key % len(self)
        part = torch.searchsorted(self.ends, index, right=True)
        images: list[Tensor] = [torch.empty(0)] * len(keys)
        labels = torch.empty(len(keys), dtype=torch.int64)
        for number, split in enumerate(self.splits):
            rows = torch.nonzero(part == number)[:, 0]
            if len(rows):
                inside = index[rows] - (self.ends[number] - len(split))
                labels[rows] = split.labels[inside]
                for row, image in zip(rows.tolist(), split.batch(inside), strict=True):
                    images[row] = image
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                for row, sample in enumerate(keys):
                    torch.manual_seed(derive_seed(self.seed, "transforms", sample))
                    images[row] = self.transform(images[row])
        return torch.stack(images), labels


class SplitImages(Dataset[Batch]):
    """The images of one split as they are, a batch at a time."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """One whole batch: images (B, 3, S, S) and labels (B,)."""
        return self.split.batch(indices), self.split.labels[torch.as_tensor(indices)]


class EpochOrder(Sampler[int]):
    """The keys of `TrainingImages` in an order drawn from the seed and the epoch."""

    def __init__(self, n_images: int, seed: int) -> None:
        self.n_images = n_images
        self.seed = seed
        self.epoch = 0
        self.first = 0

    def start_at(self, epoch: int, first: int) -> None:
        """Leave out the images before `first` in an epoch, which was interrupted after them."""
        self.epoch, self.first = epoch, first

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch; with worker processes, after the first one's order was asked for."""
        if epoch != self.epoch:
            self.start_at(epoch, 0)

    def __len__(self) -> int:
        return self.n_images

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        order = torch.randperm(self.n_images, generator=generator) + self.epoch * self.n_images
        return iter(order[self.first :].tolist())


def training_loader(images: TrainingImages, *, batch_size: int, workers: int) -> DataLoader[Any]:
    """Batches in an order of their own in every epoch."""
    n_images = len(images)
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=EpochOrder(n_images, images.seed),
        num_workers=workers,
        collate_fn=_whole,
        # Batch normalisation cannot train on one image.
        drop_last=n_images % batch_size == 1,
        persistent_workers=False,
    )


def split_loader(split: Split, *, batch_size: int, workers: int = 0) -> DataLoader[Any]:
    """Batches of a split in its own order."""
    return DataLoader(SplitImages(split), batch_size=batch_size, num_workers=workers, collate_fn=_whole)


def _whole(batch: Any) -> Any:
    # The data set gives whole batches already.
    return batch
