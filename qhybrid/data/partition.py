"""Splits and smaller sets, stratified by class and seeded."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.spec import SPLITS
from qhybrid.errors import InputError


def stratified(
    labels: Sequence[int], fractions: tuple[float, float, float], *, seed: int, where: str
) -> dict[str, list[int]]:
    """Split indices so that every class is shared out by the same fractions.

    Args:
        labels: One label per image.
        fractions: Train, validation and test shares; they sum to 1.
        seed: Of the shuffle. A class keeps its split when images of other classes come or go.
        where: The source, for the error.

    Returns:
        Sorted indices per split name. Each split has at least one image of every class.

    Raises:
        InputError: A class has fewer images than there are splits.
    """
    indices: dict[str, list[int]] = {name: [] for name in SPLITS}
    array = np.asarray(labels)
    for label in np.unique(array):
        members = np.flatnonzero(array == label)
        if len(members) < len(SPLITS):
            raise InputError(
                f"{where}: class {int(label)} has {len(members)} image(s), too few for a training, a validation "
                "and a test image"
            )
        members = np.random.default_rng((seed, int(label))).permutation(members)
        held_out = [max(1, round(fraction * len(members))) for fraction in fractions[1:]]
        while sum(held_out) >= len(members):
            held_out[held_out.index(max(held_out))] -= 1
        ends = np.cumsum([len(members) - sum(held_out), *held_out])
        for name, part in zip(SPLITS, np.split(members, ends[:-1]), strict=True):
            indices[name].extend(part.tolist())
    return {name: sorted(part) for name, part in indices.items()}


def stratified_draw(labels: NDArray[np.int64], size: int, *, seed: int) -> NDArray[np.int64]:
    """Draw some samples, so that every class keeps its share as nearly as it can.

    Args:
        labels: One label per sample, shape (N,).
        size: How many; more than there are: all.
        seed: Of the draw; a larger draw of the same seed holds a smaller one.

    Returns:
        Their indices in rising order, shape (min(size, N),).
    """
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(place, kind="stable")[:size])
