"""Exact tests of two predictions of the same samples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from qhybrid.errors import InputError
from qhybrid.statistics.metrics import checked


@dataclass(frozen=True)
class McNemar:
    """Two predictions of the same samples compared by which samples only one of them gets right."""

    only_right: int
    """Samples that the predictions get right and the reference wrong."""
    only_reference_right: int
    """Samples that the reference gets right and the predictions wrong."""
    p_value: float
    """Two-sided, of equal accuracy."""


def mcnemar_test(labels: ArrayLike, probabilities: ArrayLike, reference: ArrayLike, *, mid_p: bool = False) -> McNemar:
    """Test whether two predictions of the same samples are equally accurate.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C).
        reference: What they are compared with, shape (N, C).
        mid_p: As in `mcnemar_of_counts`.

    Raises:
        InputError: As in `classification_metrics`.
    """
    (truth, scores), (_, others) = checked(labels, probabilities), checked(labels, reference)
    right, reference_right = scores.argmax(axis=1) == truth, others.argmax(axis=1) == truth
    return mcnemar_of_counts(int(np.sum(right & ~reference_right)), int(np.sum(~right & reference_right)), mid_p=mid_p)


def mcnemar_of_counts(only_right: int, only_reference_right: int, *, mid_p: bool = False) -> McNemar:
    """Test whether discordant pairs fall on both sides equally often.

    Sources: Q. McNemar, Psychometrika 12, 153 (1947), exact in the form of `scipy.stats.binomtest`; the mid-p variant
    and published values: M. W. Fagerland, S. Lydersen, P. Laake, BMC Med. Res. Methodol. 13, 91 (2013).

    Args:
        only_right: Samples that the predictions alone get right.
        only_reference_right: Samples that the reference alone gets right.
        mid_p: Count only half of the probability of what was seen: less conservative, and not exact any more.

    Raises:
        InputError: A count is negative.
    """
    from scipy.stats import binom, binomtest

    if min(only_right, only_reference_right) < 0:
        raise InputError(f"discordant counts {only_right} and {only_reference_right}: neither can be negative")
    n = only_right + only_reference_right
    p_value = 1.0 if n == 0 else float(binomtest(only_right, n).pvalue)
    if mid_p and n:
        # Both tails lose half of their innermost term; where the counts are equal, that is one term.
        inner = float(binom.pmf(only_right, n, 0.5))
        p_value -= inner if only_right != only_reference_right else inner / 2
    return McNemar(only_right, only_reference_right, p_value)
