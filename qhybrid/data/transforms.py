"""Random variations of training images, by name (torchvision v2)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from qhybrid.data.spec import Transform

TransformFunction = Callable[[Tensor], Tensor]


def quarter_turns(image: Tensor) -> Tensor:
    """Turn by 0, 90, 180 or 270 degrees; only for images without an up and a down."""
    return torch.rot90(image, int(torch.randint(4, ())), dims=(-2, -1))


TRANSFORMS: dict[Transform, TransformFunction] = {
    "affine": v2.RandomAffine(
        degrees=10, translate=(0.05, 0.05), scale=(0.9, 1.1), interpolation=InterpolationMode.BILINEAR
    ),
    "flip": v2.RandomHorizontalFlip(0.5),
    "quarter_turns": quarter_turns,
    "brightness": v2.ColorJitter(brightness=0.2),
    "contrast": v2.ColorJitter(contrast=0.2),
}
"""`affine` turns by up to 10 degrees, shifts by up to 5 % and scales by up to 10 %; `flip` is left-right, half of
the time; `brightness` and `contrast` are factors from 0.8 to 1.2."""


def training_transforms(names: Sequence[Transform]) -> TransformFunction:
    """The named transforms, one after the other.

    Args:
        names: Of `TRANSFORMS`, in the order in which they apply; none gives the image back unchanged.

    Returns:
        (3, H, W) float32 in [0, 1] -> the same. Draws from torch's global generator, which Lightning seeds in
        every worker.
    """
    return partial(_apply, tuple(names))


def _apply(names: tuple[Transform, ...], image: Tensor) -> Tensor:
    # A partial of a module's function, and no closure, so that it reaches the workers of a DataLoader.
    for name in names:
        image = TRANSFORMS[name](image).clamp(0, 1)
    return image
