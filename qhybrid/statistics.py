"""Metrics of a classifier and their uncertainty, computed from stored predictions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qhybrid.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Numbers = Floats | Integers
Interval = tuple[float, float]

CELLS_PER_CHUNK = 4_000_000  # draws x samples held at once: 32 MB a float64 array, whatever the data set's size


def classification_metrics(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Compute the metrics of the paper (section 3) from predictions.

    The predicted class is the most probable one. For two classes class 1 is the positive one. For more
    classes precision, recall, specificity and AUC are unweighted means over the classes, each against the
    rest (AUC: over the classes that occur in `labels`), and `f1_binary` is left out. A ratio whose
    denominator is zero counts as 0, as in scikit-learn with `zero_division=0`.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C).

    Returns:
        accuracy, precision, recall (= sensitivity), specificity, f1_binary (two classes only), f1_macro, auc.

    Raises:
        InputError: The shapes do not fit, a value is not finite, or only one class occurs.
    """
    from sklearn import metrics

    truth, scores = _checked(labels, probabilities)
    predicted = scores.argmax(axis=1)
    classes = list(range(scores.shape[1]))
    binary = len(classes) == 2
    average = {"average": "binary" if binary else "macro", "labels": classes, "zero_division": 0}
    values = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "precision": metrics.precision_score(truth, predicted, **average),
        "recall": metrics.recall_score(truth, predicted, **average),
        "specificity": _specificity(confusion_matrix(truth, scores)[None])[0],
    }
    if binary:
        values["f1_binary"] = metrics.f1_score(truth, predicted, **average)
    values["f1_macro"] = metrics.f1_score(truth, predicted, labels=classes, average="macro", zero_division=0)
    values["auc"] = np.mean(
        [metrics.roc_auc_score(truth == k, scores[:, k]) for k in _scored_classes(truth, binary=binary)]
    )
    return {name: float(value) for name, value in values.items()}


def confusion_matrix(labels: ArrayLike, probabilities: ArrayLike) -> Integers:
    """Count samples by true class (rows) and predicted class (columns).

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C).

    Returns:
        Counts, shape (C, C).

    Raises:
        InputError: As in `classification_metrics`.
    """
    truth, scores = _checked(labels, probabilities)
    n_classes = scores.shape[1]
    cells = np.bincount(truth * n_classes + scores.argmax(axis=1), minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927); method 3 of R. G. Newcombe, Statistics in
    Medicine 17, 857 (1998), whose published examples the tests reproduce.

    Args:
        successes: Count of successes, 0..n.
        n: Count of trials; with none, nothing is known: (0, 1).
        confidence: Coverage, between 0 and 1.

    Returns:
        Lower and upper limit.

    Raises:
        InputError: `successes` is not between 0 and `n`.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n:
        raise InputError(f"successes is {successes}: it must lie between 0 and n = {n}")
    if n == 0:
        return 0.0, 1.0
    limits = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(limits.low), float(limits.high)


def wilson_intervals(confusion: Integers, confidence: float = 0.95) -> dict[str, Interval]:
    """Wilson intervals of every metric that is a proportion of independent samples.

    Args:
        confusion: Counts, true class by predicted class, shape (C, C).
        confidence: Coverage, between 0 and 1.

    Returns:
        Intervals of accuracy and, for two classes, precision, recall and specificity. (Means over classes
        are no single proportion.)
    """
    counts = {"accuracy": (int(np.trace(confusion)), int(confusion.sum()))}
    if len(confusion) == 2:
        (tn, fp), (fn, tp) = confusion.tolist()
        counts |= {"precision": (tp, tp + fp), "recall": (tp, tp + fn), "specificity": (tn, tn + fp)}
    return {name: wilson_interval(k, n, confidence) for name, (k, n) in counts.items()}


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
    truth, scores = _checked(labels, probabilities)
    chunks = [metrics_of_weights(truth, scores, weights) for weights in _resamples(truth, n, seed)]
    tail = 50 * (1 - confidence)
    limits = {
        name: np.percentile(np.concatenate([chunk[name] for chunk in chunks]), [tail, 100 - tail]) for name in chunks[0]
    }
    return {name: (float(low), float(high)) for name, (low, high) in limits.items()}


def metrics_of_weights(truth: Integers, scores: Floats, weights: Floats) -> dict[str, Floats]:
    """Compute every metric once for each row of sample weights.

    Args:
        truth: True classes, shape (N,).
        scores: Predicted probabilities, shape (N, C).
        weights: How often each sample counts, shape (D, N).

    Returns:
        The metrics of `classification_metrics`, each of shape (D,).
    """
    n_classes = scores.shape[1]
    binary = n_classes == 2
    cells = truth * n_classes + scores.argmax(axis=1)
    confusions = (weights @ np.eye(n_classes**2)[cells]).reshape(-1, n_classes, n_classes)
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    actual, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    precisions, recalls, f1s = (
        _ratio(hits, predicted),
        _ratio(hits, actual),
        _ratio(2 * hits, actual + predicted),
    )
    values = {
        "accuracy": hits.sum(axis=1) / confusions.sum(axis=(1, 2)),
        "precision": precisions[:, 1] if binary else precisions.mean(axis=1),
        "recall": recalls[:, 1] if binary else recalls.mean(axis=1),
        "specificity": _specificity(confusions),
    }
    if binary:
        values["f1_binary"] = f1s[:, 1]
    values["f1_macro"] = f1s.mean(axis=1)
    aucs = [_auc(truth == k, scores[:, k], weights) for k in _scored_classes(truth, binary=binary)]
    values["auc"] = np.mean(aucs, axis=0)
    return values


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
    truth, both = _checked(np.asarray(positive, dtype=np.int64), np.stack([-score, score], axis=-1))
    is_positive, score = truth == 1, both[:, 1]
    grid = np.linspace(0.0, 1.0, 201)
    whole = np.ones((1, len(truth)))
    curves, areas = [], []
    for weights in _resamples(truth, n, seed):
        curves.append(_roc_curves(is_positive, score, weights, grid))
        areas.append(_auc(is_positive, score, weights))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(curves), [tail, 100 - tail], axis=0)
    auc_low, auc_high = np.percentile(np.concatenate(areas), [tail, 100 - tail])
    return RocBand(
        grid,
        _roc_curves(is_positive, score, whole, grid)[0],
        low,
        high,
        float(_auc(is_positive, score, whole)[0]),
        (float(auc_low), float(auc_high)),
    )


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


def _auc(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve, P(positive above negative) + P(tie) / 2, per row of weights: shape (D,)."""
    # With negatives first among equal scores a tie counts as a win, with positives first as a loss.
    wins = [
        _pairs_won(positive[order], weights[:, order])
        for order in (np.lexsort((positive, score)), np.lexsort((~positive, score)))
    ]
    pairs = weights[:, positive].sum(axis=1) * weights[:, ~positive].sum(axis=1)
    return _ratio(wins[0] + wins[1], 2 * pairs)


def _pairs_won(positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Weight of the pairs in which the negative comes before the positive, shape (D,)."""
    negatives_before = np.cumsum(weights * ~positive, axis=1)
    return np.asarray((weights * negatives_before)[:, positive].sum(axis=1))


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


def _specificity(confusions: Numbers) -> Floats:
    """True-negative rate, of class 1 for two classes and averaged over the classes otherwise, shape (D,)."""
    total = confusions.sum(axis=(1, 2))[:, None]
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    actual, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    rates = _ratio(total - actual - predicted + hits, total - actual)
    return rates[:, 1] if rates.shape[1] == 2 else np.asarray(rates.mean(axis=1))


def _scored_classes(truth: Integers, *, binary: bool) -> list[int]:
    """The classes whose AUC is averaged: the positive one, or each that occurs."""
    return [1] if binary else [int(k) for k in np.unique(truth)]


def _ratio(numerator: NDArray[np.floating] | Integers, denominator: NDArray[np.floating] | Integers) -> Floats:
    """Divide, with 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=denominator != 0)


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Integers, Floats]:
    """Labels (N,) and scores (N, C) as arrays, found to fit each other."""
    truth, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] < 2 or truth.shape != scores.shape[:1] or not len(truth):
        raise InputError(
            f"labels have shape {truth.shape} and probabilities {scores.shape}: "
            "they must be (N,) and (N, C) with N >= 1 and C >= 2"
        )
    if not np.isfinite(scores).all():
        raise InputError(f"probabilities hold {int((~np.isfinite(scores)).sum())} values that are not finite")
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise InputError(f"labels must be integers from 0 to {scores.shape[1] - 1}")
    if truth.min() == truth.max():
        raise InputError(f"only class {truth[0]} occurs in the labels: metrics need two classes at least")
    return truth.astype(np.int64), scores
