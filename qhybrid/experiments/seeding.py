"""Independent seeds for independent things, all from the one seed of an experiment."""

from typing import Literal

import numpy as np

Purpose = Literal[
    "backbone",
    "head",
    "circuit",
    "order",
    "transforms",
    "augmentation",
    "noise",
    "labels",
    "pretraining",
    "domains",
    "views",
    "test batches",
    "generator",
]
PURPOSES: tuple[Purpose, ...] = (
    "backbone", "head", "circuit", "order", "transforms", "augmentation", "noise", "labels", "pretraining", "domains",
    "views", "test batches", "generator",
)  # fmt: skip


def derive_seed(seed: int, purpose: Purpose, *numbers: int) -> int:
    """Derive the seed of one purpose.

    What one part of a training draws must not depend on how much another part drew before: else two devices
    would see different weights and different batches from the same seed.

    Args:
        seed: The seed of the experiment.
        purpose: What it is for.
        numbers: Further distinctions, such as the epoch.

    Returns:
        A number below 2^32.
    """
    entropy = [seed, PURPOSES.index(purpose), *numbers]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
