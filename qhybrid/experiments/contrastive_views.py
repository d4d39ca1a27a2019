"""Pairs of views of an image for SimCLR: lightly's transforms, with settings for medical images."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qhybrid.data.dataset import Split
from qhybrid.data.spec import Transform
from qhybrid.errors import InputError
from qhybrid.experiments.batches import EpochOrder
from qhybrid.experiments.pretrain_spec import PretrainSpec
from qhybrid.experiments.seeding import derive_seed

Views = tuple[Tensor, Tensor]
ViewFunction = Callable[[Image.Image], Tensor]


def check_lightly() -> None:
    """Refuse SimCLR where lightly is missing.

    Raises:
        InputError: It is not installed.
    """
    if find_spec("lightly") is None:
        raise InputError("pretrain.method 'simclr' needs lightly, which is not installed: pip install 'qhybrid[ssl]'")
    # Up to version 1.5 lightly asks its server for a newer one when it is imported, unless this says that it has.
    os.environ.setdefault("LIGHTLY_DID_VERSION_CHECK", "True")


def view_transform(spec: PretrainSpec, transforms: Sequence[Transform], image_size: int) -> ViewFunction:
    """What makes a view of an image: `lightly.transforms.SimCLRViewTransform` without colours.

    Args:
        spec: How much views differ.
        transforms: Those of the experiment: `flip` allows a view to be mirrored, `quarter_turns` to be turned, too.
        image_size: Height and width of a view in pixels.

    Returns:
        A grey or RGB picture -> (1 or 3, image_size, image_size) in [0, 1]. It draws from the global generators of
        torch and NumPy.
    """
    check_lightly()
    from lightly.transforms.simclr_transform import SimCLRViewTransform

    turned = "quarter_turns" in transforms
    view: ViewFunction = SimCLRViewTransform(
        input_size=image_size,
        min_scale=spec.crop,
        cj_strength=1.0,
        cj_bright=spec.brightness,
        cj_contrast=spec.contrast,
        cj_sat=0.0,
        cj_hue=0.0,
        random_gray_scale=0.0,
        gaussian_blur=spec.blur,
        sigmas=spec.blur_sigma,
        hf_prob=0.5 if turned or "flip" in transforms else 0.0,
        # Both flips and one turn by 90 degrees, each half of the time, are all eight symmetries of a square alike.
        vf_prob=0.5 if turned else 0.0,
        rr_prob=0.5 if turned else 0.0,
        normalize=None,  # the network does that
    )
    return view


class ContrastiveImages(Dataset[Views]):
    """Two views of each image, other ones in every epoch.

    A key is `epoch * len(self) + index`, as of `TrainingImages`: a view depends on it and the seed alone.
    """

    def __init__(self, split: Split, view: ViewFunction, seed: int) -> None:
        self.split = split
        self.view = view
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, keys: Sequence[int]) -> Views:
        """One whole batch: the first views and the second ones, (B, 3, S, S) each."""
        views: tuple[list[Tensor], list[Tensor]] = ([], [])
        with _generators_kept():
            for key in keys:
                image = _picture(self.split.images[key % len(self)])
                for number, several in enumerate(views):
                    seed = derive_seed(self.seed, "pretraining", 1, key, number)
                    torch.manual_seed(seed)
                    np.random.seed(seed)  # lightly's blur and turns draw from it
                    several.append(self.view(image).expand(3, -1, -1))
        return torch.stack(views[0]), torch.stack(views[1])


def contrastive_loader(images: ContrastiveImages, *, batch_size: int, workers: int) -> DataLoader[Any]:
    """Full batches in an order of their own in every epoch; where there are fewer images, all of them."""
    return DataLoader(
        images,
        batch_size=min(batch_size, len(images)),
        sampler=EpochOrder(len(images), derive_seed(images.seed, "pretraining", 2)),
        drop_last=True,  # NT-Xent of a few images would weigh as much as that of many
        num_workers=workers,
        collate_fn=_whole,
    )


def _picture(image: Tensor) -> Image.Image:
    """(1 or 3, h, w) uint8, or float32 in [0, 1], as a picture of 8 bits."""
    pixels = image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy())


@contextmanager
def _generators_kept() -> Iterator[None]:
    state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(state)


def _whole(batch: Any) -> Any:
    # The data set gives whole batches already.
    return batch
