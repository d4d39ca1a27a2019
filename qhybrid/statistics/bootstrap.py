"""The stratified bootstrap over samples: intervals of metrics, of paired differences, of ROC curves."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qhybrid.statistics.metrics import Floats, Integers, area_under_curve, checked, metrics_of_weights
from qhybrid.statistics.proportions import Interval

CELLS_PER_CHUNK = 4_000_000  # draws x samples held at once: 32 MB a float64 array, whatever the data set's size


def bootstrap_intervals(
    labels: ArrayLike, probabilities: ArrayLike, *, n: int = 2000, seed: int = 0, confidence: float = 0.95
) -> dict[str, Interval]:
    """Percentile intervals of every metric from a stratified bootstrap over samples.

    Each draw takes as many samples of each class as there are, with replacement (B. Efron and R. Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 13). A sample carries its own shot noise into the draw, so
    predictions from finite shots need no further term.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C).
        n: Number of draws.
        seed: Seed of the draws.
        confidence: Coverage, between 0 and 1.

    Returns:
        Lower and upper limit of each metric of `classification_metrics`.

    Raises:
        InputError: As in `classification_metrics`.
    """
    truth, scores = checked(labels, probabilities)
    chunks = [metrics_of_weights(truth, scores, weights) for weights in _resamples(truth, n, seed)]
    return _percentile_intervals(chunks, confidence)


def paired_bootstrap_differences(
    labels: ArrayLike,
    probabilities: ArrayLike,
    reference: ArrayLike,
    *,
    n: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Percentile intervals of how much every metric differs between two predictions of the same samples.

    As `bootstrap_intervals`, but each draw takes the same samples from both, so that what makes a sample easy or hard
    for both cancels.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C).
        reference: What they are compared with, shape (N, C).
        n: Number of draws.
        seed: Seed of the draws.
        confidence: Coverage, between 0 and 1.

    Returns:
        Lower and upper limit of (metric of `probabilities` - metric of `reference`).

    Raises:
        InputError: As in `classification_metrics`.
    """
    (truth, scores), (_, others) = checked(labels, probabilities), checked(labels, reference)
    chunks = []
    for weights in _resamples(truth, n, seed):
        of_reference = metrics_of_weights(truth, others, weights)
        of_scores = metrics_of_weights(truth, scores, weights)
        chunks.append({name: values - of_reference[name] for name, values in of_scores.items()})
    return _percentile_intervals(chunks, confidence)


@dataclass(frozen=True)
class RocBand:
    """A ROC curve with its pointwise bootstrap band and its area."""

    false_positive_rate: Floats
    """Grid from 0 to 1, shape (G,)."""
    true_positive_rate: Floats
    """The curve at the grid, shape (G,)."""
    low: Floats
    high: Floats
    """Pointwise percentile band, shape (G,)."""
    auc: float
    auc_interval: Interval


def roc_band(
    positive: ArrayLike, scores: ArrayLike, *, n: int = 2000, seed: int = 0, confidence: float = 0.95
) -> RocBand:
    """Compute a ROC curve with a pointwise band from the stratified bootstrap.

    The band is vertical: percentiles of the true-positive rate over the draws at each false-positive rate.

    Args:
        positive: Whether each sample is positive, shape (N,).
        scores: The higher, the more positive, shape (N,).
        n: Number of draws.
        seed: Seed of the draws.
        confidence: Coverage, between 0 and 1.

    Returns:
        The curve at 201 false-positive rates, the band and the area with its percentile interval.

    Raises:
        InputError: As in `classification_metrics`.
    """
    score = np.asarray(scores, dtype=np.float64)
    truth, both = checked(np.asarray(positive, dtype=np.int64), np.stack([-score, score], axis=-1))
    is_positive, score = truth == 1, both[:, 1]
    grid = np.linspace(0.0, 1.0, 201)
    whole = np.ones((1, len(truth)))
    curves, areas = [], []
    for weights in _resamples(truth, n, seed):
        curves.append(_roc_curves(is_positive, score, weights, grid))
        areas.append(area_under_curve(is_positive, score, weights))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(curves), [tail, 100 - tail], axis=0)
    auc_low, auc_high = np.percentile(np.concatenate(areas), [tail, 100 - tail])
    return RocBand(
        grid,
        _roc_curves(is_positive, score, whole, grid)[0],
        low,
        high,
        float(area_under_curve(is_positive, score, whole)[0]),
        (float(auc_low), float(auc_high)),
    )


def _percentile_intervals(chunks: list[dict[str, Floats]], confidence: float) -> dict[str, Interval]:
    """Limits of each metric over the draws of all chunks."""
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    limits = {name: np.percentile(np.concatenate([chunk[name] for chunk in chunks]), tails) for name in chunks[0]}
    return {name: (float(low), float(high)) for name, (low, high) in limits.items()}


def _resamples(truth: Integers, n: int, seed: int) -> Iterator[Floats]:
    """Draw how often each sample occurs in each stratified bootstrap draw, in chunks of shape (d, N)."""
    rng = np.random.default_rng(seed)
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


def _roc_curves(positive: NDArray[np.bool_], score: Floats, weights: Floats, grid: Floats) -> Floats:
    """True-positive rate at each false-positive rate of the grid for each row of weights, shape (D, G)."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # equal scores make one step
    hits = np.cumsum((weights * positive)[:, order], axis=1)[:, ends]
    alarms = np.cumsum((weights * ~positive)[:, order], axis=1)[:, ends]
    hits = np.pad(hits / hits[:, -1:], ((0, 0), (1, 0)))
    alarms = np.pad(alarms / alarms[:, -1:], ((0, 0), (1, 0)))
    # A rate such as 3 / 60 must not fall on the wrong side of its own grid point by a rounding error.
    return np.stack(
        [hit[np.searchsorted(alarm, grid + 1e-12, side="right") - 1] for hit, alarm in zip(hits, alarms, strict=True)]
    )
