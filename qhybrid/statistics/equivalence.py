"""Claims of no difference: equivalence and non-inferiority against a margin."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from qhybrid.errors import InputError, did_you_mean
from qhybrid.statistics.delong import delong_test
from qhybrid.statistics.distribution import BootstrapDistribution
from qhybrid.statistics.proportions import Interval
from qhybrid.statistics.seeds import paired_values

Claim = Literal["equivalent", "non-inferior"]
"""`equivalent`: the difference is smaller than the margin both ways; `non-inferior`: no loss as large as it."""


@dataclass(frozen=True)
class Equivalence:
    """Whether data show that a difference is smaller than a margin.

    Not to show it is no proof of a difference: there may be too few data.
    """

    claim: Claim
    difference: float
    margin: float
    alpha: float
    interval: Interval
    """Of the difference, with confidence 1 - 2 alpha."""
    p_value: float
    """Of a difference of the margin or more: the larger of the two one-sided tests, or the lower of them alone for
    `non-inferior`."""

    @property
    def shown(self) -> bool:
        """Whether the claim holds at `alpha`."""
        return self.p_value < self.alpha

    @property
    def verdict(self) -> str:
        """The claim, or `not shown`."""
        return self.claim if self.shown else "not shown"


def bootstrap_equivalence(
    distribution: BootstrapDistribution, margin: float, *, claim: Claim = "equivalent", alpha: float = 0.05
) -> Equivalence:
    """Test a paired difference of any metric against a margin by its bootstrap distribution.

    Source: two one-sided tests, D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 657 (1987).

    Args:
        distribution: Of a difference of a metric of which more is better, from `paired_distributions`.
        margin: The difference that would matter, positive, in units of the metric.
        claim: `equivalent` or `non-inferior`.
        alpha: Size of each one-sided test.

    Raises:
        InputError: The margin is not positive, `alpha` not between 0 and .5, or the claim none of the two.
    """
    _check(margin, claim, alpha)
    above, below = distribution.p_value(-margin, "greater"), distribution.p_value(margin, "less")
    return Equivalence(
        claim,
        distribution.estimate,
        margin,
        alpha,
        distribution.interval(1 - 2 * alpha),
        above if claim == "non-inferior" else max(above, below),
    )


def delong_equivalence(
    labels: ArrayLike,
    probabilities: ArrayLike,
    reference: ArrayLike,
    margin: float,
    *,
    claim: Claim = "equivalent",
    alpha: float = 0.05,
) -> Equivalence:
    """Test a paired difference of areas under the ROC curve against a margin, with DeLong's standard error.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C).
        reference: What they are compared with, shape (N, C).
        margin: The difference of areas that would matter, positive.
        claim: `equivalent` or `non-inferior`.
        alpha: Size of each one-sided test.

    Raises:
        InputError: As in `delong_test` and `bootstrap_equivalence`.
    """
    _check(margin, claim, alpha)
    found = delong_test(labels, probabilities, reference)
    return _by_standard_error(found.difference, found.stderr, None, margin, claim, alpha)


def paired_t_equivalence(
    values: ArrayLike, reference: ArrayLike, margin: float, *, claim: Claim = "equivalent", alpha: float = 0.05
) -> Equivalence:
    """Test the mean of paired differences, such as over seeds, against a margin by two one-sided t-tests.

    Args:
        values: One number for each seed, shape (S,).
        reference: Of the same seeds in the same order, shape (S,).
        margin: The difference that would matter, positive.
        claim: `equivalent` or `non-inferior`.
        alpha: Size of each one-sided test.

    Raises:
        InputError: As in `paired_seeds_test` and `bootstrap_equivalence`.
    """
    _check(margin, claim, alpha)
    differences = np.subtract(*paired_values(values, reference))
    n = len(differences)
    stderr = float(differences.std(ddof=1)) / n**0.5
    return _by_standard_error(float(differences.mean()), stderr, n - 1, margin, claim, alpha)


def _by_standard_error(
    difference: float, stderr: float, freedom: int | None, margin: float, claim: Claim, alpha: float
) -> Equivalence:
    """Two one-sided tests with Student's t, or the normal distribution where `freedom` is None."""
    from scipy.stats import norm, t

    law = norm if freedom is None else t(freedom)
    half = float(law.ppf(1 - alpha)) * stderr
    if stderr > 1e-12:
        above, below = (float(law.sf((margin + gap) / stderr)) for gap in (difference, -difference))
    else:
        above, below = (float(margin + gap <= 0) for gap in (difference, -difference))
    p_value = above if claim == "non-inferior" else max(above, below)
    return Equivalence(claim, difference, margin, alpha, (difference - half, difference + half), p_value)


def _check(margin: float, claim: str, alpha: float) -> None:
    if not margin > 0:
        raise InputError(f"margin is {margin}: it must be positive, the difference that would matter")
    if claim not in get_args(Claim):
        raise InputError(f"claim {claim!r}: {did_you_mean(claim, get_args(Claim))}")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha is {alpha}: it must lie between 0 and .5")
