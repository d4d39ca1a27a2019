"""Whether probabilities mean what they say."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from qhybrid.errors import InputError
from qhybrid.statistics.metrics import Floats, Integers, checked
from qhybrid.statistics.proportions import Interval, wilson_interval


@dataclass(frozen=True)
class ReliabilityBin:
    """Samples of similar confidence, the probability of the predicted class."""

    low: float
    high: float
    """Confidence in the bin: above `low`, up to `high`; of equal-mass bins the least and the largest that occur."""
    n: int
    confidence: float
    """Mean in the bin; 0 where it is empty."""
    accuracy: float
    """Share that is right; 0 where the bin is empty."""
    accuracy_interval: Interval
    """Wilson's, 95 %."""


def reliability_table(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15, equal_mass: bool = False
) -> list[ReliabilityBin]:
    """Compare confidence with accuracy, bin by bin: the numbers behind a reliability diagram.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, ICML 2017, section 2.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C), rows of sum 1.
        bins: Their number.
        equal_mass: Bins hold equally many samples (the last ones one less, where N is no multiple), instead of being
            equally wide between 0 and 1; fewer bins where there are fewer samples.

    Returns:
        One row a bin, in the order of confidence, empty ones included.

    Raises:
        InputError: As in `classification_metrics`; rows are no probabilities; `bins` is not positive.
    """
    truth, scores = _checked_probabilities(labels, probabilities)
    if bins < 1:
        raise InputError(f"bins = {bins}: it must be 1 or more")
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    if equal_mass:
        order = np.argsort(confidence, kind="stable")
        parts = [part for part in np.array_split(order, bins) if len(part)]
        edges = [(float(confidence[part[0]]), float(confidence[part[-1]])) for part in parts]
    else:
        limits = np.linspace(0.0, 1.0, bins + 1)
        place = np.clip(np.searchsorted(limits, confidence, side="left") - 1, 0, bins - 1)
        parts = [np.flatnonzero(place == k) for k in range(bins)]
        edges = [(float(low), float(high)) for low, high in pairwise(limits)]
    return [
        ReliabilityBin(
            low,
            high,
            len(part),
            float(confidence[part].mean()) if len(part) else 0.0,
            float(right[part].mean()) if len(part) else 0.0,
            wilson_interval(int(right[part].sum()), len(part)),
        )
        for part, (low, high) in zip(parts, edges, strict=True)
    ]


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15, equal_mass: bool = False
) -> float:
    """Mean distance of confidence and accuracy over bins, weighted by their samples (ECE).

    Sources: M. Pakdaman Naeini, G. F. Cooper, M. Hauskrecht, AAAI 2015; C. Guo et al., ICML 2017, equation 3. It is
    biased upwards where bins hold few samples, so compare it at equal N and equal bins only.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C), rows of sum 1.
        bins: Their number.
        equal_mass: As in `reliability_table`.

    Returns:
        From 0 (calibrated) to 1.

    Raises:
        InputError: As in `reliability_table`.
    """
    table = reliability_table(labels, probabilities, bins=bins, equal_mass=equal_mass)
    total = sum(row.n for row in table)
    return sum(row.n * abs(row.accuracy - row.confidence) for row in table) / total


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean square distance of probabilities from what was the case.

    Source: G. W. Brier, Mon. Weather Rev. 78, 1 (1950). For two classes that of the positive one alone, from 0 to 1,
    as `sklearn.metrics.brier_score_loss`; for more the sum over the classes, from 0 to 2.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C), rows of sum 1.

    Raises:
        InputError: As in `reliability_table`.
    """
    from sklearn.metrics import brier_score_loss

    truth, scores = _checked_probabilities(labels, probabilities)
    if scores.shape[1] == 2:
        return float(brier_score_loss(truth, scores[:, 1].clip(0, 1)))
    return float(((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(axis=1).mean())


def _checked_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Integers, Floats]:
    """Labels (N,) and probabilities (N, C), found to be such up to single precision."""
    truth, scores = checked(labels, probabilities)
    if scores.min() < -1e-6 or np.abs(scores.sum(axis=1) - 1).max() > 1e-4:
        raise InputError("calibration needs probabilities: rows must be 0 or more each and sum to 1")
    return truth, scores
