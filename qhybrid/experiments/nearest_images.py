"""Which training image comes nearest to each image, and how near that is for a picture that was not copied."""

from dataclasses import dataclass

import torch
from torch import Tensor

from qhybrid.data.dataset import Split
from qhybrid.errors import InputError

CHUNK = 512
"""Rows of a matrix of distances at once."""


def nearest(images: Tensor, references: Tensor, *, apart_from_itself: bool = False) -> tuple[Tensor, Tensor]:
    """Find the nearest reference of each image.

    Args:
        images: (N, ...) values, such as pixels (C, S, S) in [0, 1] or features.
        references: (M, ...)
        apart_from_itself: Both are the same; the n-th image is not its own neighbour, but a copy of it is.

    Returns:
        Root mean square differences (N,) float64, and which reference (N,).

    Raises:
        InputError: There is none.
    """
    if len(references) < 1 + apart_from_itself:
        raise InputError(f"{len(references)} images: none is a neighbour")
    rows, columns = images.flatten(1).float(), references.flatten(1).float()
    found = []
    for start in range(0, len(rows), CHUNK):
        distances = torch.cdist(rows[start : start + CHUNK], columns)
        if apart_from_itself:
            distances.diagonal(start).fill_(torch.inf)
        found.append(distances.argmin(dim=1))
    place = torch.cat(found)
    # What is quick to find is inexact where two images are nearly the same: the distance of the winner is taken anew.
    difference = rows.double() - columns.double()[place]
    return difference.square().mean(dim=1).sqrt(), place


@dataclass(frozen=True)
class CopyTest:
    """Says of an image whether it is nearer to a training image than training images are to one another."""

    training: Tensor
    """(M, C, S, S) in [0, 1]"""
    threshold: float
    """Root mean square difference of pixels below which an image is a copy."""
    quantile: float
    """Of the training images' distances to their own nearest training neighbours, which the threshold is."""

    @classmethod
    def of(cls, training: Split, quantile: float) -> "CopyTest":
        """Measure the training images."""
        images = training.batch()[:, : training.images.shape[1]]
        distances, _ = nearest(images, images, apart_from_itself=True)
        return cls(images, float(torch.quantile(distances, quantile)), quantile)

    def nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Distance (N,) to the nearest training image, and which that is (N,)."""
        return nearest(images, self.training)

    def copies(self, images: Tensor) -> Tensor:
        """Which of the images (N, C, S, S) are copies, (N,) Booleans."""
        return self.nearest(images)[0] < self.threshold
