"""Refit what follows a quantum layer, from expectation values alone: no quantum gradient, no new circuit."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import InputError, did_you_mean

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Method = Literal["head", "rescale"]
METHODS: tuple[Method, ...] = get_args(Method)
FITTED_ON: dict[Method, tuple[str, ...]] = {"head": ("train", "validation"), "rescale": ("train",)}
"""The splits that each method looks at."""
DONE: dict[str, str] = {"head": "head refitted", "rescale": "values rescaled"}
"""In words, what each method does."""
INVERSE_STRENGTHS = tuple(10.0**exponent for exponent in range(-4, 5))
"""What is tried for scikit-learn's C, the strongest regularisation first."""
CONSTANT = 1e-9
"""Standard deviation below which an expectation value says nothing about a sample."""


@dataclass(frozen=True)
class Fit:
    """A last layer for noisy expectation values: logits = values @ weight.T + bias.

    Where the last layer receives something else than expectation values (`attention`, `fusion`), `values` are that for
    a last layer that is fitted; the run's own is used as it is on what follows from rescaled expectation values.

    Args:
        weight: Shape (C, n); None: the run's own last layer stays as it is.
        bias: Shape (C,); None likewise.
        factor: For each expectation value what it is multiplied by before the run's own last layer, shape (M,); None
            where the last layer itself is fitted.
        offset: What is then added, shape (M,); None likewise.
        numbers: What the fit found, for its JSON file.
    """

    weight: Floats | None
    bias: Floats | None
    factor: Floats | None
    offset: Floats | None
    numbers: dict[str, Any]

    def logits(self, values: Floats) -> Floats:
        """Logits (..., C) from noisy expectation values (..., M), or from what the last layer receives, (..., n)."""
        assert self.weight is not None
        assert self.bias is not None
        return values @ self.weight.T + self.bias

    def rescaled(self, values: Floats) -> Floats:
        """Expectation values (..., M) after the affine map; as they are where only the last layer is fitted."""
        return values if self.factor is None or self.offset is None else values * self.factor + self.offset


def check_method(method: str, split: str) -> Method:
    """A method by its name, for the evaluation of a split.

    Args:
        method: `head` or `rescale`.
        split: What is evaluated.

    Raises:
        InputError: There is no such method, or it is fitted on that split.
    """
    known = next((each for each in METHODS if each == method), None)
    if known is None:
        raise InputError(f"unknown method {method!r}; {did_you_mean(method, METHODS)}")
    if split in FITTED_ON[known]:
        raise InputError(f"method {method!r} is fitted on {split!r}: evaluate it on another split, such as test")
    return known


def fit_head(
    values: Floats,
    labels: Integers,
    validation_values: Floats,
    validation_labels: Integers,
    *,
    class_weights: Floats,
) -> Fit:
    """Fit the last layer by logistic regression with an L2 penalty.

    Noise shrinks expectation values, and not all by the same factor, so each is first standardised by its mean and
    standard deviation: a strength of the penalty then means the same at any noise. The strength with the lowest cross
    entropy on the validation split is taken, since the CNN has seen the training images too often to tell.

    Args:
        values: Noisy expectation values of training samples, shape (N, M).
        labels: Their classes, shape (N,); every class occurs.
        validation_values: Of the validation split, shape (V, M).
        validation_labels: Their classes, shape (V,).
        class_weights: What a sample of each class counts, shape (C,).
    """
    from sklearn.linear_model import LogisticRegression

    mean, deviation = values.mean(axis=0), values.std(axis=0)
    informative = deviation > CONSTANT
    scale = np.where(informative, deviation, 1.0)
    candidates = []
    for strength in INVERSE_STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000)
        model.fit((values - mean) / scale * informative, labels, sample_weight=class_weights[labels])
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:  # two classes: scikit-learn gives the difference of their logits
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight * informative / scale
        bias = bias - weight @ mean
        candidates.append(
            (cross_entropy(validation_values @ weight.T + bias, validation_labels), strength, weight, bias)
        )
    loss, strength, weight, bias = min(candidates, key=lambda each: each[0])
    numbers = {"C": strength, "validation_cross_entropy": loss, "class_weights": class_weights.tolist()}
    return Fit(weight, bias, None, None, numbers)


def fit_rescale(noisy: Floats, exact: Floats, weight: Floats | None, bias: Floats | None) -> Fit:
    """Fit an affine map of each expectation value, from noisy to exact, by least squares; no label is looked at.

    Shot noise makes the factors smaller than those that undo the noise alone: they give the exact value that is to be
    expected, not the one that would be found with more shots.

    Args:
        noisy: Expectation values of training samples on the device, shape (N, M).
        exact: Of the same samples without noise and shots, shape (N, M).
        weight: Of the run's own last layer, shape (C, M); None: it does not receive expectation values as they are.
        bias: Of it, shape (C,); None likewise.
    """
    mean, target = noisy.mean(axis=0), exact.mean(axis=0)
    variance = noisy.var(axis=0)
    covariance = ((noisy - mean) * (exact - target)).mean(axis=0)
    factor = np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > CONSTANT**2)
    offset = target - factor * mean
    numbers = {
        "factor": factor.tolist(),
        "offset": offset.tolist(),
        "rms_before": _rms(noisy - exact),
        "rms_after": _rms(noisy * factor + offset - exact),
    }
    if weight is None or bias is None:
        return Fit(None, None, factor, offset, numbers)
    return Fit(weight * factor, bias + weight @ offset, factor, offset, numbers)


def cross_entropy(logits: Floats, labels: Integers) -> float:
    """Mean of -log p(true class), from logits (N, C)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))
