"""Images with labels: one split, and the three splits of a data set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from qhybrid.errors import InputError


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images bilinearly with antialiasing, as torchvision does.

    Args:
        images: (N, C, h, w) float.
        size: Height and width in pixels; another aspect ratio is stretched to the square.

    Returns:
        (N, C, size, size); the very same tensor where the size is right already.
    """
    if images.shape[-2:] == (size, size):
        return images
    return interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


@dataclass(frozen=True, eq=False)
class Split(Dataset[tuple[Tensor, int]]):
    """The images of one split at their native resolution, resized when they are taken.

    Attributes:
        images: (N, C, h, w) uint8, or float32 in [0, 1]; C is 1 or 3.
        labels: (N,) int64.
        ids: A name for each image: its file relative to the root, or `train/17`.
        image_size: Height and width in pixels of what `split[i]` and `batch` give.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    image_size: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of a split of {len(self)}")
        index = int(index) % len(self)
        return self.batch([index])[0], int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        # torch's DataLoader prefers this to one call a sample: a batch is then one resize.
        labels = self.labels[torch.as_tensor(indices, dtype=torch.int64)].tolist()
        return list(zip(self.batch(indices), labels, strict=True))

    def batch(self, indices: Sequence[int] | Tensor | None = None) -> Tensor:
        """Take images as the backbone wants them.

        Args:
            indices: Which images, n of them; None takes all.

        Returns:
            (n, 3, image_size, image_size) float32 in [0, 1]; grey is repeated over the three channels.
        """
        chosen = self.images if indices is None else self.images[torch.as_tensor(indices, dtype=torch.int64)]
        images = chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen
        images = resize(images, self.image_size).clamp(0, 1)
        return images.expand(-1, 3, -1, -1).contiguous()

    def subset(self, indices: Sequence[int] | Tensor) -> "Split":
        """The split of these images only, in this order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        ids = tuple(self.ids[index] for index in chosen.tolist())
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], ids=ids)

    def varied(self, images: Tensor, source: Tensor, ids: tuple[str, ...]) -> "Split":
        """A split of new images that were made of those of this one.

        Args:
            images: (M, C, h, w).
            source: (M,), which image each was made of.
            ids: M of them.
        """
        return Split(images, self.labels[source], ids, self.image_size)

    def class_counts(self, n_classes: int = 0) -> tuple[int, ...]:
        """Images per class, by label; at least `n_classes` entries."""
        return tuple(torch.bincount(self.labels, minlength=n_classes).tolist())


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """The three splits of one source.

    Attributes:
        name: The source as the user wrote it.
        class_names: One name per label.
        splits: `train`, `validation` and `test`.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, Split]

    def fingerprint(self) -> str:
        """SHA-256 over the images and labels of all splits, as hexadecimal digits.

        Equal wherever the loaded pixels, the labels and the splits are equal, whatever files they came from.
        """
        digest = hashlib.sha256()
        for name, split in sorted(self.splits.items()):
            digest.update(f"{name} {split.images.dtype} {tuple(split.images.shape)}".encode())
            digest.update(split.images.contiguous().numpy().tobytes())
            digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Images per split and class name."""
        counts = {name: split.class_counts(len(self.class_names)) for name, split in self.splits.items()}
        return {name: dict(zip(self.class_names, count, strict=True)) for name, count in counts.items()}


def check_dataset(dataset: ImageDataset) -> ImageDataset:
    """Refuse a data set that nothing can be learnt from or measured on.

    Returns:
        The same data set.

    Raises:
        InputError: A split is empty or has images of one class only, a label has no class, or a class has no
            training image.
    """
    n_classes = len(dataset.class_names)
    for name, split in dataset.splits.items():
        where = f"data source {dataset.name!r}: the {name} split"
        if len(split) == 0:
            raise InputError(f"{where} is empty")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= n_classes:
            wrong = low if low < 0 else high
            raise InputError(f"{where} has label {wrong}; labels run from 0 to {n_classes - 1}")
        counts = split.class_counts(n_classes)
        present = [class_name for class_name, count in zip(dataset.class_names, counts, strict=True) if count]
        if len(present) < 2:
            raise InputError(f"{where} has images of one class only ({present[0]!r}); it needs at least two")
        if name == "train" and len(present) < n_classes:
            missing = next(c for c in dataset.class_names if c not in present)
            raise InputError(f"{where} has no image of class {missing!r}")
    return dataset
