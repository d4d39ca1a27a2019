"""ROC curves with bootstrap bands."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qhybrid.statistics.distribution import BootstrapDistribution, acceleration_of, check_confidence
from qhybrid.statistics.metrics import Floats, area_under_curve, checked
from qhybrid.statistics.proportions import Interval
from qhybrid.statistics.resampling import leave_one_out, resamples


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
    """BCa, as in `bootstrap_intervals`."""


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
        The curve at 201 false-positive rates, the band and the area with its BCa interval.

    Raises:
        InputError: As in `classification_metrics`; `n` is not positive, `confidence` not between 0 and 1.
    """
    check_confidence(confidence)
    score = np.asarray(scores, dtype=np.float64)
    truth, both = checked(np.asarray(positive, dtype=np.int64), np.stack([-score, score], axis=-1))
    is_positive, score = truth == 1, both[:, 1]
    grid = np.linspace(0.0, 1.0, 201)
    whole = np.ones((1, len(truth)))
    curves, areas = [], []
    for weights in resamples(truth, n, np.random.default_rng(seed)):
        curves.append(_roc_curves(is_positive, score, weights, grid))
        areas.append(area_under_curve(is_positive, score, weights))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(curves), [tail, 100 - tail], axis=0)
    auc = float(area_under_curve(is_positive, score, whole)[0])
    left_out = np.concatenate([area_under_curve(is_positive, score, weights) for weights in leave_one_out(len(truth))])
    acceleration = acceleration_of([left_out[is_positive], left_out[~is_positive]])
    return RocBand(
        grid,
        _roc_curves(is_positive, score, whole, grid)[0],
        low,
        high,
        auc,
        BootstrapDistribution(auc, np.concatenate(areas), acceleration).interval(confidence),
    )


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
