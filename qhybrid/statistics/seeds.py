"""Several trainings of one thing: intervals and tests over seeds, and over seeds and samples together."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from qhybrid.errors import InputError, did_you_mean
from qhybrid.statistics.bootstrap import bootstrap_distributions, paired_distributions
from qhybrid.statistics.distribution import BootstrapDistribution, Kind, check_confidence
from qhybrid.statistics.metrics import Floats
from qhybrid.statistics.proportions import Interval

Method = Literal["t", "wilcoxon"]


@dataclass(frozen=True)
class SeedMean:
    """The mean of a metric over seeds."""

    mean: float
    std: float
    """Over the seeds."""
    interval: Interval
    """Of the mean, by Student's t."""
    seeds: int


@dataclass(frozen=True)
class SeedDifference:
    """Two arms compared seed by seed."""

    difference: float
    """Mean of the differences."""
    interval: Interval
    """Of the mean difference, by Student's t whatever the test."""
    p_value: float
    """Two-sided."""
    effect_size: float
    """Cohen's d_z: mean of the differences over their standard deviation; infinite where they are all equal."""
    seeds: int


def seed_mean(values: ArrayLike, *, confidence: float = 0.95) -> SeedMean:
    """Average a metric over seeds, with the interval that Student's t gives.

    It says how the mean would change with other seeds on the same test set; `seeds_and_samples` adds other samples.

    Args:
        values: The metric of each seed, shape (S,), two at least.
        confidence: Coverage, between 0 and 1.

    Raises:
        InputError: Fewer than two values, or one is not finite; `confidence` is none.
    """
    check_confidence(confidence)
    given = _checked_values(values)
    mean, std = float(given.mean()), float(given.std(ddof=1))
    return SeedMean(mean, std, _t_interval(given, confidence), len(given))


def paired_seeds_test(
    values: ArrayLike, reference: ArrayLike, *, method: Method = "t", confidence: float = 0.95
) -> SeedDifference:
    """Test whether two arms differ on average over seeds, paired by seed.

    Sources: `scipy.stats.ttest_rel` and `scipy.stats.wilcoxon` (exact where no two differences are equal); the effect
    size: J. Cohen, Statistical Power Analysis, 1988, section 2.3.5. With five seeds Wilcoxon's p-value cannot fall
    below .0625.

    Args:
        values: The metric of each seed, shape (S,), two at least.
        reference: That of the other arm, same seeds in the same order, shape (S,).
        method: `t` or `wilcoxon`.
        confidence: Coverage of the interval, between 0 and 1.

    Raises:
        InputError: As in `seed_mean`; the numbers of seeds differ; the method is none of the two.
    """
    from scipy.stats import ttest_rel, wilcoxon

    check_confidence(confidence)
    if method not in get_args(Method):
        raise InputError(f"test over seeds {method!r}: {did_you_mean(method, get_args(Method))}")
    mine, theirs = paired_values(values, reference)
    differences = mine - theirs
    mean, std = float(differences.mean()), float(differences.std(ddof=1))
    if std <= 1e-12 * max(1.0, abs(mean)):  # the same difference at every seed: nothing to divide by
        equal = abs(mean) <= 1e-12
        effect_size = 0.0 if equal else float(np.copysign(np.inf, mean))
        # The least p-value that flipping the signs of S differences can give.
        p_value = 1.0 if equal else 2.0 ** (1 - len(mine))
        return SeedDifference(mean, (mean, mean), p_value, effect_size, len(mine))
    test = ttest_rel(mine, theirs) if method == "t" else wilcoxon(differences)
    return SeedDifference(mean, _t_interval(differences, confidence), float(test.pvalue), mean / std, len(mine))


def seeds_and_samples(
    labels: ArrayLike,
    probabilities: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    n: int = 2000,
    seed: int = 0,
    kind: Kind | None = None,
) -> dict[str, BootstrapDistribution]:
    """Bootstrap the mean of every metric over seeds, resampling seeds and test samples together.

    All seeds are tested on the same samples, so the two are crossed: each draw takes samples for all seeds, and adds
    the deviation of seeds drawn (see `bootstrap_distributions`). A few seeds understate their spread as the normal
    distribution understates Student's t; that deviation is therefore stretched by t / z at 95 %, which is 1.42 for five
    seeds. Intervals of five seeds then cover in 95 to 98 % of cases, and the test of a difference rejects 1 to 5 %,
    the less, the less seeds differ (tests/test_statistics_coverage.py).

    Args:
        labels: True classes 0..C-1, shape (N,).
        probabilities: Predicted probabilities of each seed, shape (S, N, C), two seeds at least.
        reference: Of the other arm, same seeds in the same order, shape (S, N, C); None: no comparison.
        n: Number of draws.
        seed: Seed of the draws.
        kind: Of the intervals; None: `bca`, and `percentile` for differences, as everywhere.

    Returns:
        The distribution of the mean of each metric over seeds, or of its difference from the reference.

    Raises:
        InputError: As in `paired_distributions`; there are fewer than two seeds, or not as many of the reference.
    """
    from scipy.stats import norm, t

    given = np.asarray(probabilities, dtype=np.float64)
    if given.ndim != 3 or len(given) < 2:
        raise InputError(f"probabilities of seeds have shape {given.shape}: they must be (S, N, C) with S >= 2")
    scale = float(t.ppf(0.975, len(given) - 1) / norm.ppf(0.975))
    if reference is None:
        return bootstrap_distributions(labels, given, n=n, seed=seed, kind=kind or "bca", repeat_scale=scale)
    other = np.asarray(reference, dtype=np.float64)
    if other.shape != given.shape:
        raise InputError(f"predictions of seeds {given.shape} and of the reference {other.shape} cannot be paired")
    return paired_distributions(labels, given, other, n=n, seed=seed, kind=kind or "percentile", repeat_scale=scale)


def paired_values(values: ArrayLike, reference: ArrayLike) -> tuple[Floats, Floats]:
    """Numbers of the same seeds from two arms, found to fit each other.

    Raises:
        InputError: There are fewer than two, one is not finite, or the numbers differ.
    """
    mine, theirs = _checked_values(values), _checked_values(reference)
    if len(mine) != len(theirs):
        raise InputError(f"{len(mine)} seeds cannot be paired with {len(theirs)}")
    return mine, theirs


def _checked_values(values: ArrayLike) -> Floats:
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or len(given) < 2 or not np.isfinite(given).all():
        raise InputError(f"values over seeds are {given.tolist()}: two finite numbers are needed at least")
    return given


def _t_interval(values: Floats, confidence: float) -> Interval:
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half
