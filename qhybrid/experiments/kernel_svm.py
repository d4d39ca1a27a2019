"""Support vector machines on a precomputed kernel: what they are fitted to, and how penalty and scale are chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import InputError
from qhybrid.experiments.adaptation import class_weights, training_samples
from qhybrid.experiments.adaptation_fits import INVERSE_STRENGTHS, cross_entropy
from qhybrid.experiments.quantum_kernel import PositiveGram
from qhybrid.experiments.run_folder import Features, Run
from qhybrid.experiments.split_predictions import samples_of

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Kernel = Callable[[Floats, Floats], Floats]
"""Samples (A, n) and (B, n) -> kernel (A, B)."""

FITTED_ON = ("train", "validation")
MAX_SAMPLES = 500
"""Most samples of the training split, and of the validation split: a kernel takes a circuit for every pair."""
CONSTANT = 1e-6
"""Standard deviation, of the largest, below which a direction of the features says nothing."""


@dataclass(frozen=True)
class KernelSVM:
    """A support vector machine, its decision values scaled to logits.

    Args:
        model: scikit-learn's `SVC`.
        gram: What it was fitted to.
        strength: C.
        sharpness: Factor from decision values to logits; it changes no prediction.
        loss: Cross entropy on the validation split.
    """

    model: Any
    gram: PositiveGram
    strength: float
    sharpness: float
    loss: float

    def logits(self, rows: Floats) -> Floats:
        """Kernel values of samples with the training samples (A, N) -> logits (A, C)."""
        return self.sharpness * _decisions(self.model, self.gram.rows(rows))

    @property
    def numbers(self) -> dict[str, Any]:
        """What a result's JSON says of it."""
        return {
            "C": self.strength,
            "validation_cross_entropy": self.loss,
            "support_vectors": len(self.model.support_),
            "negative_eigenvalues": self.gram.n_negative,
            "negative_share": self.gram.removed,
        }


@dataclass(frozen=True)
class KernelSamples:
    """What a kernel is fitted to and evaluated on: features of a run, reduced to a few numbers a sample.

    Args:
        training: Of the training split, shape (N, n).
        training_labels: Their classes, shape (N,).
        validation: Shape (V, n).
        validation_labels: Shape (V,).
        evaluated: Shape (A, n).
        stored: The samples that are evaluated, as the run keeps them.
        class_weights: What a sample of each class counts, shape (C,).
    """

    training: Floats
    training_labels: Integers
    validation: Floats
    validation_labels: Integers
    evaluated: Floats
    stored: Features
    class_weights: Floats

    @classmethod
    def of(cls, run: Run, width: int, *, split: str, limit: int | None, seed: int) -> "KernelSamples":
        """Read them, at most `MAX_SAMPLES` each of the training and the validation split, drawn class by class.

        Args:
            run: A complete run with any head.
            width: Numbers a sample, n.
            split: What is evaluated; not what is fitted on.
            limit: Only this many samples of it, drawn class by class; None: all.
            seed: Of the draws.

        Raises:
            InputError: The run is damaged, a class has no training sample, the split is one that is fitted on, or there
                are fewer features, or fewer training samples, than numbers are asked for.
        """
        if split in FITTED_ON:
            raise InputError(f"a kernel is fitted on {split!r}: evaluate it on another split, such as test")
        stored = samples_of(run, split, limit, seed=seed)
        training = training_samples(run, MAX_SAMPLES, seed)
        validation = run.features("validation").drawn(MAX_SAMPLES, seed=seed)
        found = reduced([each.features for each in (training, validation, stored)], width)
        return cls(
            found[0], training.labels, found[1], validation.labels, found[2], stored, class_weights(run)
        )  # fmt: skip

    def fit(self, gram: Floats, validation_rows: Floats) -> KernelSVM:
        """Fit to a kernel of the training samples, (N, N), and of the validation samples with them, (V, N)."""
        labels = self.training_labels, self.validation_labels
        return fit_svm(gram, labels[0], validation_rows, labels[1], class_weights=self.class_weights)

    def tuned(self, kernel: Kernel, scales: Sequence[float]) -> tuple[float, KernelSVM]:
        """Fit for all factors on the reduced features, and keep that with the lowest cross entropy on validation."""
        found = []
        for scale in scales:
            training = scale * self.training
            found.append((scale, self.fit(kernel(training, training), kernel(scale * self.validation, training))))
        return min(found, key=lambda each: each[1].loss)


def fit_svm(
    gram: Floats,
    labels: Integers,
    validation_rows: Floats,
    validation_labels: Integers,
    *,
    class_weights: Floats,
) -> KernelSVM:
    """Fit support vector machines for all strengths, and keep that with the lowest cross entropy on validation.

    Decision values are no probabilities. One factor on them, the same for all samples and classes, is what makes the
    cross entropy on the validation split lowest (temperature scaling, Guo et al., arXiv 1706.04599): predicted classes
    stay those of the machine.

    Args:
        gram: Kernel of the training samples, shape (N, N); its negative eigenvalues are clipped.
        labels: Their classes, shape (N,); every class occurs.
        validation_rows: Kernel of validation samples with them, shape (V, N).
        validation_labels: Their classes, shape (V,).
        class_weights: What a sample of each class counts, shape (C,).
    """
    from sklearn.svm import SVC

    positive, found = PositiveGram.of(gram), []
    rows = positive.rows(validation_rows)
    for strength in INVERSE_STRENGTHS:
        model = SVC(C=strength, kernel="precomputed", class_weight=dict(enumerate(class_weights.tolist())))
        decisions = _decisions(model.fit(positive.values, labels), rows)
        sharpness = _sharpness(decisions, validation_labels)
        loss = cross_entropy(sharpness * decisions, validation_labels)
        found.append(KernelSVM(model, positive, strength, sharpness, loss))
    return min(found, key=lambda each: each.loss)


def rbf_kernel(samples: Floats, others: Floats) -> Floats:
    """exp(-|x - y|^2), samples (A, n) and (B, n) -> (A, B)."""
    squares = (samples**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * samples @ others.T
    return np.asarray(np.exp(-np.maximum(squares, 0)))


def reduced(parts: Sequence[NDArray[np.float32]], width: int) -> list[Floats]:
    """Standardise features, and reduce them to whitened principal components where there are more than are read.

    Every number has mean 0 and standard deviation 1 over the first part, or is 0 where that part does not vary.

    Args:
        parts: Training samples first, (N, F), then others, (A, F); all are treated like the first.
        width: Numbers a sample, n.

    Returns:
        For each part (A, n).

    Raises:
        InputError: There are fewer features, or fewer training samples, than numbers are asked for.
    """
    first = parts[0].astype(np.float64)
    n_samples, n_features = first.shape
    if n_features < width or (n_features > width > n_samples):
        less = f"{n_features} features" if n_features < width else f"{n_samples} training samples"
        raise InputError(f"the circuit of a kernel reads {width} numbers a sample, but there are only {less}")
    mean, deviation = first.mean(axis=0), first.std(axis=0)
    turn = np.diag(_inverse(deviation))
    if n_features > width:
        _, levels, directions = np.linalg.svd((first - mean) @ turn, full_matrices=False)
        signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
        spread = _inverse(levels / np.sqrt(n_samples)) * signs
        turn = turn @ (directions[:width].T * spread[:width])
    return [(part - mean) @ turn for part in parts]


def _inverse(deviations: Floats) -> Floats:
    """1 / each, and 0 for those that are next to nothing beside the largest."""
    kept = deviations > CONSTANT * deviations.max()
    return np.divide(1.0, deviations, out=np.zeros_like(deviations), where=kept)


def _decisions(model: Any, rows: Floats) -> Floats:
    """Decision values (A, C); with two classes minus and plus that of scikit-learn."""
    decisions: Floats = model.decision_function(rows)
    return np.stack([-decisions, decisions], axis=1) if decisions.ndim == 1 else decisions


def _sharpness(decisions: Floats, labels: Integers) -> float:
    """The factor on decision values with the lowest cross entropy, within e^-6 and e^6."""
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return cross_entropy(np.exp(logarithm) * decisions, labels)

    return float(np.exp(minimize_scalar(loss, bounds=(-6, 6), method="bounded").x))
