"""Weights of samples: the stratified bootstrap's and the jackknife's."""

from collections.abc import Iterator

import numpy as np

from qhybrid.errors import InputError
from qhybrid.statistics.metrics import Floats, Integers

CELLS_PER_CHUNK = 4_000_000  # draws x samples held at once: 32 MB a float64 array, whatever the data set's size


def resamples(truth: Integers, n: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Draw how often each sample occurs in each stratified bootstrap draw.

    Each draw takes as many samples of each class as there are, with replacement.

    Args:
        truth: True classes, shape (N,).
        n: Number of draws.
        rng: Source of the draws.

    Yields:
        Counts in chunks of shape (d, N).

    Raises:
        InputError: `n` is not positive.
    """
    if n < 1:
        raise InputError(f"n = {n} bootstrap draws: it must be 1 or more (2000 by default)")
    members = [np.flatnonzero(truth == k) for k in np.unique(truth)]
    chunk = max(1, CELLS_PER_CHUNK // len(truth))
    for start in range(0, n, chunk):
        size = min(chunk, n - start)
        weights = np.zeros((size, len(truth)))
        rows = np.arange(size)[:, None] * len(truth)
        for member in members:
            drawn = member[rng.integers(0, len(member), size=(size, len(member)))]
            weights += np.bincount((rows + drawn).ravel(), minlength=weights.size).reshape(weights.shape)
        yield weights


def leave_one_out(n: int) -> Iterator[Floats]:
    """Weights that leave out one sample each, in chunks of shape (d, n)."""
    chunk = max(1, CELLS_PER_CHUNK // n)
    for start in range(0, n, chunk):
        size = min(chunk, n - start)
        weights = np.ones((size, n))
        weights[np.arange(size), start + np.arange(size)] = 0
        yield weights


def repeat_weights(repeats: int, n: int, rng: np.random.Generator) -> Floats:
    """Draw how much each repeat counts in each bootstrap draw, shape (n, R), rows of sum 1.

    R - 1 of R repeats are drawn with replacement, which makes the variance over the draws an unbiased estimate of the
    variance of the mean; R of R would give (R - 1) / R of it (J. N. K. Rao and C. F. J. Wu, J. Am. Stat. Assoc. 83,
    231, 1988).
    """
    if repeats == 1:
        return np.ones((n, 1))
    drawn = rng.multinomial(repeats - 1, np.full(repeats, 1 / repeats), size=n)
    return np.asarray(drawn / (repeats - 1))
