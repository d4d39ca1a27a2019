"""Training with few labels: the share of the training images that keeps its label."""

import numpy as np
import torch

from qhybrid.data.dataset import Split


def labelled_part(split: Split, fraction: float, *, seed: int) -> Split:
    """The images of a split that keep their label, drawn class by class.

    The images of a smaller fraction are among those of a larger one of the same seed, and a class keeps its images when
    those of other classes come or go.

    Args:
        split: All training images.
        fraction: Share of every class, over 0 and up to 1; each class has one image at least.
        seed: Of the draw.

    Returns:
        The chosen images in their order; the very same split where all are.
    """
    if fraction == 1:
        return split
    kept = []
    for label in torch.unique(split.labels).tolist():
        members = np.flatnonzero(split.labels.numpy() == label)
        order = np.random.default_rng((seed, label)).permutation(members)
        kept += order[: max(1, round(fraction * len(members)))].tolist()
    return split.subset(sorted(kept))
