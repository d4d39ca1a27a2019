"""Images of several centres: real ones with sources of their own, or simulated by named transforms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional

from qhybrid.data.centres_spec import EACH, REFERENCE_SIZE, CentreSpec, DomainsSpec
from qhybrid.data.dataset import ImageDataset, Split, check_dataset, resize
from qhybrid.data.sources import load_dataset
from qhybrid.data.spec import SPLITS, DataSpec
from qhybrid.errors import InputError

GOLDEN = 2654435769
"""Odd, near 2^32 / the golden ratio: centres see an image with noise of their own."""
Strength = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True, eq=False)
class CentreSplit(Split):
    """One split whose images belong to centres, each image seen through the transforms of its centre.

    `images` are as they were before the transforms: audits and augmentation see these.

    Attributes:
        centres: (N,) int64, which centre each image is from.
        seeds: (N,) int64 below 2^32, of the noise of each image.
        specs: Of all centres.
    """

    centres: Tensor
    seeds: Tensor
    specs: tuple[CentreSpec, ...]

    def batch(self, indices: Sequence[int] | Tensor | None = None) -> Tensor:
        chosen = torch.arange(len(self)) if indices is None else torch.as_tensor(indices, dtype=torch.int64)
        return self.seen_in(chosen, self.centres[chosen])

    def seen_in(self, indices: Tensor, centres: Tensor) -> Tensor:
        """Take images as they would look in any centres.

        Args:
            indices: (n,), which images.
            centres: (n,), the centre of each.

        Returns:
            (n, 3, image_size, image_size) float32 in [0, 1].
        """
        images, seeds = self.images[indices], self.seeds[indices]
        images = resize(images.float() / 255 if images.dtype == torch.uint8 else images, self.image_size).clamp(0, 1)
        seen = torch.empty_like(images)
        for centre in centres.unique().tolist():
            rows = torch.nonzero(centres == centre)[:, 0]
            seen[rows] = see(images[rows], self.specs[centre], (seeds[rows] + GOLDEN * (centre + 1)) % 2**32)
        return seen.expand(-1, 3, -1, -1).contiguous()

    def subset(self, indices: Sequence[int] | Tensor) -> "CentreSplit":
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        part = super().subset(chosen)
        assert isinstance(part, CentreSplit)
        return replace(part, centres=self.centres[chosen], seeds=self.seeds[chosen])

    def varied(self, images: Tensor, source: Tensor, ids: tuple[str, ...]) -> "CentreSplit":
        seeds = (self.seeds[source] * 31 + 1 + torch.arange(len(source))) % 2**32
        labels, centres = self.labels[source], self.centres[source]
        return replace(self, images=images, labels=labels, ids=ids, centres=centres, seeds=seeds)


def see(images: Tensor, centre: CentreSpec, seeds: Tensor) -> Tensor:
    """Show images as a centre would have taken them (see `CentreSpec`).

    Args:
        images: (n, C, S, S) in [0, 1].
        centre: Its transforms.
        seeds: (n,) below 2^32, of the noise of each image.

    Returns:
        (n, C, S, S) in [0, 1]; the very same tensor where all transforms are off.
    """
    for name, strength in centre.strengths.items():
        changed = images + strength * _normal(images, seeds) if name == "noise" else STRENGTHS[name](images, strength)
        images = changed.clamp(0, 1)
    return images


def _resolution(images: Tensor, share: float) -> Tensor:
    size = images.shape[-1]
    left = max(1, round(share * size))
    return images if left == size else interpolate(resize(images, left), size=(size, size), mode="bilinear")


def _blur(images: Tensor, sigma: float) -> Tensor:
    size = images.shape[-1]
    sigma = sigma * size / REFERENCE_SIZE
    radius = min(max(1, int(np.ceil(4 * sigma))), size - 1)
    blurred: Tensor = functional.gaussian_blur(images, [2 * radius + 1] * 2, [sigma] * 2)
    return blurred


STRENGTHS: dict[str, Strength] = {
    "resolution": _resolution,
    "blur": _blur,
    "sharpness": lambda images, strength: functional.adjust_sharpness(images, 1 + strength),
    "gamma": functional.adjust_gamma,
    "contrast": lambda images, strength: functional.adjust_contrast(images, 1 + strength),
    "brightness": lambda images, strength: images + strength,
}
"""(n, C, S, S) in [0, 1] and a strength -> (n, C, S, S), maybe beyond [0, 1]. The noise, which is seeded, is apart."""


def _normal(images: Tensor, seeds: Tensor) -> Tensor:
    # A generator for each image: what it draws must not depend on the batch that it is in.
    drawn = torch.empty_like(images)
    for row, seed in enumerate(seeds.tolist()):
        drawn[row].normal_(generator=torch.Generator().manual_seed(seed))
    return drawn


def load_centres(data: DataSpec, domains: DomainsSpec, *, cache_dir: Path | None = None) -> ImageDataset:
    """Load the images of the centres that are trained and tested on.

    Args:
        data: The `[data]` table; its source is not read where centres have their own.
        domains: Which centres, and which is held out.
        cache_dir: Where generated images are kept; None: the user's cache folder.

    Returns:
        Train and validation of all centres but the one that is held out, and the test images of that one; splits are
        `CentreSplit`, ids such as `B:test/17`.

    Raises:
        InputError: As `load_dataset`; centres have other classes; a centre has too few images; or it does not say which
            centre is held out.
    """
    if domains.held_out == EACH:
        raise InputError(
            f"domains.held_out is {EACH!r}, for `qhybrid study`; a training holds out one centre: --set "
            f"domains.held_out={domains.names[0]}"
        )
    whole = _shared(data, domains, cache_dir) if domains.simulated else _joined(data, domains, cache_dir)
    kept = {"train": domains.training, "validation": domains.training, "test": domains.tested}
    splits: dict[str, Split] = {}
    for name, split in whole.splits.items():
        assert isinstance(split, CentreSplit)
        splits[name] = split.subset(torch.nonzero(torch.isin(split.centres, torch.tensor(kept[name])))[:, 0])
        for centre in kept[name]:
            if not (split.centres == centre).any():
                raise InputError(f"centre {domains.names[centre]!r} has no image in the {name} split of {whole.name!r}")
    return check_dataset(replace(whole, splits=splits))


def _shared(data: DataSpec, domains: DomainsSpec, cache_dir: Path | None) -> ImageDataset:
    """The images of one source, shared out to simulated centres."""
    dataset = load_dataset(data, cache_dir=cache_dir)
    splits: dict[str, Split] = {}
    for number, name in enumerate(SPLITS):
        split = dataset.splits[name]
        centres = share_out(split.labels.numpy(), len(domains.centres), seed=(domains.seed, number))
        splits[name] = _of_centres(split, centres, domains, number)
    return replace(dataset, splits=splits)


def share_out(labels: NDArray[np.int64], n_centres: int, *, seed: tuple[int, ...]) -> Tensor:
    """Give every image to one centre, so that each has its share of every class.

    Args:
        labels: (N,).
        n_centres: Number of centres.
        seed: Of the draw.

    Returns:
        (N,) int64. The sizes of the centres differ by one at most, and so do their counts of any class.
    """
    centres = np.empty(len(labels), dtype=np.int64)
    given = 0
    for label in np.unique(labels):
        members = np.random.default_rng((*seed, int(label))).permutation(np.flatnonzero(labels == label))
        centres[members] = (given + np.arange(len(members))) % n_centres
        given += len(members)
    return torch.from_numpy(centres)


def _joined(data: DataSpec, domains: DomainsSpec, cache_dir: Path | None) -> ImageDataset:
    """The images of several sources, one a centre."""
    sources = [str(centre.source) for centre in domains.centres]
    parts = [load_dataset(data.model_copy(update={"source": source}), cache_dir=cache_dir) for source in sources]
    classes = parts[0].class_names
    for name, part in zip(domains.names, parts, strict=True):
        if part.class_names != classes:
            mine, first = ", ".join(part.class_names), f"{domains.names[0]!r} has {', '.join(classes)}"
            raise InputError(f"all centres need the same classes: {first}; {name!r} ({part.name}) has {mine}")
    splits: dict[str, Split] = {}
    for number, name in enumerate(SPLITS):
        several = [part.splits[name] for part in parts]
        centres = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(split) for split in several]))
        joined = Split(
            _stacked([split.images for split in several], data.image_size),
            torch.cat([split.labels for split in several]),
            tuple(image_id for split in several for image_id in split.ids),
            data.image_size,
        )
        splits[name] = _of_centres(joined, centres, domains, number)
    return ImageDataset(", ".join(sources), classes, splits)


def _stacked(several: list[Tensor], size: int) -> Tensor:
    """Images of several sources in one tensor, at their own resolution if they have the same."""
    if len({images.dtype for images in several}) > 1:
        several = [images.float() / 255 if images.dtype == torch.uint8 else images for images in several]
    if len({images.shape[-2:] for images in several}) > 1:
        whole = several[0].dtype == torch.uint8
        several = [resize(images.float(), size) for images in several]
        several = [images.round().clamp(0, 255).to(torch.uint8) if whole else images for images in several]
    channels = max(images.shape[1] for images in several)
    return torch.cat([images.expand(-1, channels, -1, -1) for images in several])


def _of_centres(split: Split, centres: Tensor, domains: DomainsSpec, number: int) -> CentreSplit:
    seeds = np.random.SeedSequence((domains.seed, number)).generate_state(len(split)).astype(np.int64)
    ids = tuple(f"{domains.names[centre]}:{name}" for centre, name in zip(centres.tolist(), split.ids, strict=True))
    specs = tuple(domains.centres)
    return CentreSplit(split.images, split.labels, ids, split.image_size, centres, torch.from_numpy(seeds), specs)


def centre_counts(dataset: ImageDataset) -> dict[str, dict[str, dict[str, int]]]:
    """Images per split, centre and class name."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for name, split in dataset.splits.items():
        assert isinstance(split, CentreSplit)
        counts[name] = {}
        for centre in split.centres.unique().tolist():
            found = torch.bincount(split.labels[split.centres == centre], minlength=len(dataset.class_names))
            counts[name][split.specs[centre].name] = dict(zip(dataset.class_names, found.tolist(), strict=True))
    return counts
