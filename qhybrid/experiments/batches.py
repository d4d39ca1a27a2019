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
        images: list[Tensor] = [torch.empty(0)] * len(keys)
        labels = torch.empty(len(keys), dtype=torch.int64)
        for split, rows, inside in self.places(keys):
            labels[rows] = split.labels[inside]
            for row, image in zip(rows.tolist(), split.batch(inside), strict=True):
                images[row] = image
        return self.varied(images, keys), labels

    def places(self, keys: Sequence[int]) -> Iterator[tuple[Split, Tensor, Tensor]]:
        """Where the images of a batch are: the split, rows of the batch, and indices of these in the split."""
        index = torch.as_tensor(keys) % len(self)
        part = torch.searchsorted(self.ends, index, right=True)
        for number, split in enumerate(self.splits):
            rows = torch.nonzero(part == number)[:, 0]
            if len(rows):
                yield split, rows, index[rows] - (self.ends[number] - len(split))

    def varied(self, images: list[Tensor], keys: Sequence[int]) -> Tensor:
        """Images after the random transforms of their keys, (B, 3, S, S)."""
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                for row, sample in enumerate(keys):
                    torch.manual_seed(derive_seed(self.seed, "transforms", sample))
                    images[row] = self.transform(images[row])
        return torch.stack(images)


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


class SharedBatches(Sampler[list[int]]):
    """What one of several processes takes of every batch.

    The batches are those of a single process, cut into parts whose sizes differ by one at most. A last batch that
    leaves a process less than two images, which batch normalisation needs, is joined to the one before.
    """

    def __init__(self, order: EpochOrder, batch_size: int, rank: int, n_processes: int) -> None:
        self.sampler = order
        self.batch_size = batch_size
        self.rank, self.n_processes = rank, n_processes

    def _ends(self, n_images: int) -> list[int]:
        ends = list(range(self.batch_size, n_images + 1, self.batch_size))
        if n_images % self.batch_size >= 2 * self.n_processes:
            return [*ends, n_images]
        return [*ends[:-1], n_images]

    def __len__(self) -> int:
        return len(self._ends(len(self.sampler)))

    def __iter__(self) -> Iterator[list[int]]:
        order, start = list(self.sampler), 0
        for end in self._ends(len(order)):
            yield order[start:end][self.rank :: self.n_processes]
            start = end


def training_loader(
    images: TrainingImages, *, batch_size: int, workers: int, rank: int = 0, n_processes: int = 1
) -> DataLoader[Any]:
    """Batches in an order of their own in every epoch, or the parts of them that one of several processes takes."""
    n_images = len(images)
    order = EpochOrder(n_images, images.seed)
    batches: dict[str, Any] = {
        "batch_size": batch_size,
        "sampler": order,
        # Batch normalisation cannot train on one image.
        "drop_last": n_images % batch_size == 1,
    }
    if n_processes > 1:
        batches = {"batch_sampler": SharedBatches(order, batch_size, rank, n_processes)}
    return DataLoader(images, num_workers=workers, collate_fn=_whole, persistent_workers=False, **batches)


def epoch_order(loader: DataLoader[Any]) -> EpochOrder:
    """The order of a `training_loader`."""
    order = loader.batch_sampler.sampler if isinstance(loader.batch_sampler, SharedBatches) else loader.sampler
    assert isinstance(order, EpochOrder)
    return order


def split_loader(
    split: Split, *, batch_size: int, workers: int = 0, rank: int = 0, n_processes: int = 1
) -> DataLoader[Any]:
    """Batches of a split in its own order, or of every n-th image from the rank-th on, for one of n processes."""
    part = range(rank, len(split), n_processes)
    return DataLoader(
        SplitImages(split),
        batch_size=batch_size,
        sampler=None if n_processes == 1 else part,
        num_workers=workers,
        collate_fn=_whole,
    )


def _whole(batch: Any) -> Any:
    # The data set gives whole batches already.
    return batch
