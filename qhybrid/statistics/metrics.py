"""Metrics of a classifier from its predictions, once or for many weightings of the samples."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qhybrid.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Numbers = Floats | Integers


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

    truth, scores = checked(labels, probabilities)
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
    truth, scores = checked(labels, probabilities)
    n_classes = scores.shape[1]
    cells = np.bincount(truth * n_classes + scores.argmax(axis=1), minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


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
    aucs = [area_under_curve(truth == k, scores[:, k], weights) for k in _scored_classes(truth, binary=binary)]
    values["auc"] = np.mean(aucs, axis=0)
    return values


def area_under_curve(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve, P(positive above negative) + P(tie) / 2, per row of weights: shape (D,)."""
    # With negatives first among equal scores a tie counts as a win, with positives first as a loss.
    first, last = np.lexsort((positive, score)), np.lexsort((~positive, score))
    wins = _pairs_won(positive[first], weights[:, first])
    if not np.array_equal(first, last):  # there are ties of a positive and a negative
        wins = (wins + _pairs_won(positive[last], weights[:, last])) / 2
    return _ratio(wins, weights[:, positive].sum(axis=1) * weights[:, ~positive].sum(axis=1))


def _pairs_won(positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Weight of the pairs in which the negative comes before the positive, shape (D,)."""
    negatives_before = np.cumsum(weights * ~positive, axis=1)
    return np.asarray((weights * negatives_before)[:, positive].sum(axis=1))


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


def checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Integers, Floats]:
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
