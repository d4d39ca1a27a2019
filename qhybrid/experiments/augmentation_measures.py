"""What is measured of one kind of synthetic images, draw by draw, and how that is summed up."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qhybrid.experiments.image_quality import (
    FeatureSpace,
    Floats,
    frechet_distance,
    kernel_distance,
    kernel_distances_of_halves,
)
from qhybrid.experiments.manifold import precision_and_recall


class Measures:
    """A list over the draws for each class."""

    def __init__(self, n_classes: int) -> None:
        self.seconds: list[float] = []
        self.fid: list[list[float]] = [[] for _ in range(n_classes)]
        self.kid: list[list[float]] = [[] for _ in range(n_classes)]
        self.halves: list[list[Floats]] = [[] for _ in range(n_classes)]
        self.precision: list[list[float]] = [[] for _ in range(n_classes)]
        self.recall: list[list[float]] = [[] for _ in range(n_classes)]
        self.as_asked: list[list[float]] = [[] for _ in range(n_classes)]

    def add(
        self, label: int, real: Floats, synthetic: Floats, *, n_halves: int, seed: int, space: FeatureSpace | None
    ) -> None:
        """Compare the images of one class in one draw.

        Args:
            label: The class.
            real: (n, d) features of held-out images.
            synthetic: (n, d)
            n_halves: Over which the standard error of KID is taken.
            seed: Of these halves.
            space: Whose classifier says which class the images show; None: none knows these classes.
        """
        self.fid[label].append(frechet_distance(real, synthetic))
        self.kid[label].append(kernel_distance(real, synthetic))
        self.halves[label].append(kernel_distances_of_halves(real, synthetic, n=max(2, n_halves), seed=seed))
        precision, recall = precision_and_recall(real, synthetic)
        self.precision[label].append(precision)
        self.recall[label].append(recall)
        if space is not None:
            self.as_asked[label].append(share_of_class(space, synthetic, label))

    def summary(self, floor: "Measures", class_names: Sequence[str]) -> dict[str, Any]:
        """Means over the draws, for each class and over the classes."""
        fid, kid, above = np.array(self.fid), np.array(self.kid), np.array(self.kid) - np.array(floor.kid)
        halves = np.array(self.halves).reshape(len(fid), -1)
        above_halves = halves - np.array(floor.halves).reshape(len(fid), -1)
        shares = {"precision": self.precision, "recall": self.recall, "as_asked": self.as_asked}

        def numbers(of: Any) -> dict[str, dict[str, float]]:
            return {
                "fid": {"mean": float(of(fid).mean()), "std": float(of(fid).std(ddof=1))},
                "kid": {"mean": float(of(kid).mean()), "stderr": float(of(halves).std(ddof=1))},
                "excess": {"mean": float(of(above).mean()), "stderr": float(of(above_halves).std(ddof=1))},
            } | {
                name: {"mean": float(of(np.array(rows)).mean()), "std": float(of(np.array(rows)).std(ddof=1))}
                for name, rows in shares.items()
                if rows[0]
            }

        return {
            "seconds_per_image": float(np.median(self.seconds)),
            "classes": {name: numbers(lambda rows, k=k: rows[k]) for k, name in enumerate(class_names)},
            "mean": numbers(lambda rows: rows.mean(axis=0)),
        }


def share_of_class(space: FeatureSpace, features: Floats, label: int) -> float:
    """Share of images with these features (n, d) that a run's classifier puts into a class."""
    assert space.classify is not None
    return float((space.classify(features) == label).mean())
