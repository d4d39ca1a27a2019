"""Are synthetic images copies? Each beside the training image that comes nearest to it, in pixels and in features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qhybrid.data.dataset import Split
from qhybrid.data.preview import image_grid
from qhybrid.experiments.image_quality import FeatureSpace
from qhybrid.experiments.nearest_images import CopyTest, nearest

SHOWN = 10
"""Samples in a figure: those that come nearest to a training image."""
QUANTILE = 0.01
"""Of the distances between training images and their own nearest training neighbours: nearer than that is a copy."""


def neighbours_of(
    kinds: Mapping[str, Tensor], training: Split, space: FeatureSpace, *, figures: Mapping[str, Path] | None = None
) -> dict[str, Any]:
    """Measure how near each kind of images comes to the training images.

    Args:
        kinds: Name -> images (N, C, S, S) in [0, 1].
        training: The training split.
        space: The features.
        figures: Kind -> PNG to write, with the samples that come nearest beside their nearest training images.

    Returns:
        `pixels` and `features`: the `threshold`, which is the 1 % quantile of the distances between training images
        and their own nearest training neighbours, and for each of `kinds` how many of the `images` are `closer`, the
        `smallest` distance and the `median`, all as root mean square differences.
    """
    test = CopyTest.of(training, QUANTILE)
    known = torch.from_numpy(space.features(training.batch()))
    own, _ = nearest(known, known, apart_from_itself=True)
    found: dict[str, Any] = {
        "quantile": QUANTILE,
        "training_images": len(training),
        "pixels": {"threshold": test.threshold, "kinds": []},
        "features": {"threshold": float(torch.quantile(own, QUANTILE)), "kinds": []},
    }
    for kind, images in kinds.items():
        by_pixels = test.nearest(images)
        by_features = nearest(torch.from_numpy(space.features(images)), known)
        for where, (distances, _) in (("pixels", by_pixels), ("features", by_features)):
            found[where]["kinds"].append(
                {
                    "kind": kind,
                    "images": len(images),
                    "closer": int((distances < found[where]["threshold"]).sum()),
                    "smallest": float(distances.min()),
                    "median": float(distances.median()),
                }
            )
        if figures and kind in figures:
            shown = by_pixels[0].argsort()[:SHOWN]
            rows = [
                ("sample", images[shown]),
                ("nearest in\npixels", test.training[by_pixels[1][shown]]),
                ("nearest in\nfeatures", test.training[by_features[1][shown]]),
            ]
            title = f"{kind}: the {len(shown)} of {len(images)} samples that come nearest to training images"
            image_grid(rows, figures[kind], title=title)
    return found
