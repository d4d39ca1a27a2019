"""Claims of no difference: equivalence and non-inferiority against a margin."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from qhybrid.errors import InputError, did_you_mean
from qhybrid.statistics.delong import AucDifference, delong_test
from qhybrid.statistics.distribution import BootstrapDistribution, Kind
from qhybrid.statistics.metrics import Floats
from qhybrid.statistics.paired_tests import mcnemar_test
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

    Source: two one-sided tests, D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15, 657 (1987). Of percentile and BCa
    limits the more cautious decide, because away from zero either kind alone is too sure at times, and metrics of
    predicted classes get the continuity correction of half a sample: with few flipped predictions the tests would be
    wrong in 7 % instead of 5. Areas and accuracies have tests of their own, `delong_equivalence` and
    `accuracy_equivalence`.

    Args:
        distribution: Of a difference of a metric of which more is better, from `paired_distributions`.
        margin: The difference that would matter, positive, in units of the metric.
        claim: `equivalent` or `non-inferior`.
        alpha: Size of each one-sided test.

    Raises:
        InputError: The margin is not positive, `alpha` not between 0 and .5, or the claim none of the two.
    """
    _check(margin, claim, alpha)
    kinds = [replace(distribution, kind=kind) for kind in get_args(Kind)]
    lows, highs = zip(*(each.interval(1 - 2 * alpha) for each in kinds), strict=True)
    half = distribution.granularity / 2
    above = max(each.p_value(half - margin, "greater") for each in kinds)
    below = max(each.p_value(margin - half, "less") for each in kinds)
    return Equivalence(
        claim,
        distribution.estimate,
        margin,
        alpha,
        (min(lows) - half, max(highs) + half),
        above if claim == "non-inferior" else max(above, below),
    )


def accuracy_equivalence(
    labels: ArrayLike,
    probabilities: ArrayLike,
    reference: ArrayLike,
    margin: float,
    *,
    claim: Claim = "equivalent",
    alpha: float = 0.05,
) -> Equivalence:
    """Test a paired difference of accuracies against a margin by the score test: McNemar's, moved to the margin.

    Source: T. Tango, Statistics in Medicine 17, 891 (1998), whose example the tests reproduce.

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities, shape (N, C).
        reference: What they are compared with, shape (N, C).
        margin: The difference of accuracies that would matter, between 0 and 1.
        claim: `equivalent` or `non-inferior`.
        alpha: Size of each one-sided test.

    Raises:
        InputError: As in `mcnemar_test` and `bootstrap_equivalence`.
    """
    counts = mcnemar_test(labels, probabilities, reference)
    return accuracy_equivalence_of_counts(
        counts.only_right, counts.only_reference_right, len(np.asarray(labels)), margin, claim=claim, alpha=alpha
    )


def accuracy_equivalence_of_counts(
    only_right: float,
    only_reference_right: float,
    n: int,
    margin: float,
    *,
    claim: Claim = "equivalent",
    alpha: float = 0.05,
) -> Equivalence:
    """Do `accuracy_equivalence` from counts, or from their means over draws of the shots.

    Args:
        only_right: Samples that the predictions alone get right.
        only_reference_right: Samples that the reference alone gets right.
        n: All samples.
        margin: The difference of accuracies that would matter, between 0 and 1.
        claim: `equivalent` or `non-inferior`.
        alpha: Size of each one-sided test.

    Raises:
        InputError: The counts do not fit; otherwise as in `bootstrap_equivalence`.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    _check(margin, claim, alpha)
    b, c = only_right, only_reference_right
    if min(b, c) < 0 or b + c > n or n < 1 or margin >= 1:
        raise InputError(
            f"{b} and {c} discordant of {n} samples, margin {margin}: counts must fit, the margin be below 1"
        )

    def z(difference: float) -> float:
        """Standard errors between what was seen and this difference, at the likeliest proportions that have it."""
        linear = (2 * n - b + c) * difference - b - c
        root = math.sqrt(max(linear**2 + 8 * n * c * difference * (1 - difference), 0.0))
        variance = n * ((root - linear) / (2 * n) + difference * (1 - difference))
        gap = b - c - n * difference
        return gap / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, gap) if gap else 0.0

    critical, estimate = float(norm.ppf(1 - alpha)), (b - c) / n
    edge = 1 - 1e-9
    low = -1.0 if z(-edge) < critical else float(brentq(lambda d: z(d) - critical, -edge, min(estimate, edge)))
    high = 1.0 if z(edge) > -critical else float(brentq(lambda d: z(d) + critical, max(estimate, -edge), edge))
    above, below = float(norm.sf(z(-margin))), float(norm.cdf(z(margin)))
    p_value = above if claim == "non-inferior" else max(above, below)
    return Equivalence(claim, estimate, margin, alpha, (low, high), p_value)


def delong_equivalence(
    labels: ArrayLike,
    probabilities: ArrayLike,
    reference: ArrayLike,
    margin: float,
    *,
    claim: Claim = "equivalent",
    alpha: float = 0.05,
) -> Equivalence:
    """Test a paired difference of areas under the ROC curve against a margin, with DeLong's variances.

    Each one-sided test asks, on the logit scale, whether an area is larger than the other one less the margin. The
    plain z-test of the difference says yes too often where areas are large, because an area that came out high by
    chance also looks sure: with 120 samples and a true loss of just the margin (.97 to .95, scores correlated by .97)
    in 10 % of cases instead of 5; this one in 3 %, and in 4 to 5 % where scores differ more
    (tests/test_statistics_coverage.py). The interval holds the margins that are not rejected.

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
    from scipy.stats import norm

    _check(margin, claim, alpha)
    found = delong_test(labels, probabilities, reference)
    critical = float(norm.ppf(1 - alpha))
    # A gain of the reference of at most m, and one of the predictions of at most m, for a grid of m.
    loss, gain = _margins(found, swapped=False), _margins(found, swapped=True)
    p_values = [float(norm.sf(np.interp(margin, *side))) for side in (loss, gain)]
    low, high = (float(np.interp(critical, z, margins)) for margins, z in (loss, gain))
    return Equivalence(
        claim, found.difference, margin, alpha, (-low, high), p_values[0] if claim == "non-inferior" else max(p_values)
    )


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
    from scipy.stats import t

    _check(margin, claim, alpha)
    differences = np.subtract(*paired_values(values, reference))
    n = len(differences)
    difference, stderr = float(differences.mean()), float(differences.std(ddof=1)) / n**0.5
    if stderr > 1e-12:
        above, below = (float(t.sf((margin + gap) / stderr, n - 1)) for gap in (difference, -difference))
    else:  # the same difference at every seed: as little as flipping the signs of n differences can give
        above, below = (2.0**-n if margin + gap > 0 else 1.0 for gap in (difference, -difference))
    half = float(t.ppf(1 - alpha, n - 1)) * stderr
    p_value = above if claim == "non-inferior" else max(above, below)
    return Equivalence(claim, difference, margin, alpha, (difference - half, difference + half), p_value)


def _margins(found: AucDifference, *, swapped: bool) -> tuple[Floats, Floats]:
    """Margins (G,), and for each how many standard errors an area is above the other one less the margin, (G,)."""
    from scipy.special import logit

    areas = [(found.auc, found.auc_stderr), (found.reference, found.reference_stderr)]
    (area, stderr), (other, other_stderr) = reversed(areas) if swapped else areas
    covariance = (stderr**2 + other_stderr**2 - found.stderr**2) / 2
    area = min(max(area, 1e-6), 1 - 1e-6)
    less = np.linspace(1 - 1e-6, 1e-6, 8001)  # the other area less each margin
    stretch, stretches = 1 / (area * (1 - area)), 1 / (less * (1 - less))
    variance = (stderr * stretch) ** 2 + (other_stderr * stretches) ** 2 - 2 * covariance * stretch * stretches
    z = (logit(area) - logit(less)) / np.sqrt(np.maximum(variance, 1e-18))
    # Who is above by one margin is so by every larger one; towards 0 and 1 the logit's own error hides that.
    at = int(np.searchsorted(-less, -area))
    z[at:] = np.maximum.accumulate(z[at:])
    z[:at] = np.minimum.accumulate(z[:at][::-1])[::-1]
    return other - less, z


def _check(margin: float, claim: str, alpha: float) -> None:
    if not margin > 0:
        raise InputError(f"margin is {margin}: it must be positive, the difference that would matter")
    if claim not in get_args(Claim):
        raise InputError(f"claim {claim!r}: {did_you_mean(claim, get_args(Claim))}")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha is {alpha}: it must lie between 0 and .5")
