"""What a bootstrap leaves: the draws of one number, and the intervals and p-values that follow from them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from qhybrid.errors import InputError, did_you_mean
from qhybrid.statistics.metrics import Floats
from qhybrid.statistics.proportions import Interval

Kind = Literal["bca", "percentile"]
"""How limits are taken from bootstrap draws."""

Alternative = Literal["two-sided", "greater", "less"]
"""Where the truth lies if the null hypothesis is wrong."""


@dataclass(frozen=True)
class BootstrapDistribution:
    """A number computed from samples, and from each bootstrap draw of them.

    Source: B. Efron, J. Am. Stat. Assoc. 82, 171 (1987), equations 2.3 and 6.6, for the bias-corrected and accelerated
    (BCa) limits; their tests compare them with `scipy.stats.bootstrap`. `percentile` limits are the same without
    correction.

    Where every draw gives the same number (no error at all in the data), the interval has no width: the bootstrap
    knows nothing of errors that did not occur. `wilson_interval` and `delong_auc` do.
    """

    estimate: float
    """From the samples as they are."""
    draws: Floats
    """From each draw, shape (D,)."""
    acceleration: float = 0.0
    """How the standard error changes with the truth, from the jackknife; without unit. For `bca` only."""
    kind: Kind = "bca"
    granularity: float = 0.0
    """The most that leaving out one sample changes; 0 for areas, which change in steps finer than samples."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"bootstrap interval {self.kind!r}: {did_you_mean(str(self.kind), get_args(Kind))}")

    @property
    def stderr(self) -> float:
        """Standard deviation of the draws."""
        return float(np.std(self.draws, ddof=1)) if len(self.draws) > 1 else 0.0

    def interval(self, confidence: float = 0.95) -> Interval:
        """Lower and upper limit.

        Raises:
            InputError: `confidence` is not between 0 and 1.
        """
        from scipy.special import ndtr, ndtri

        check_confidence(confidence)
        bias = self._bias
        tails = bias + ndtri([(1 - confidence) / 2, (1 + confidence) / 2])
        levels = ndtr(bias + tails / np.maximum(1 - self._acceleration * tails, 1e-9))
        low, high = np.quantile(self.draws, levels)
        return float(low), float(high)

    def p_value(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """How far the confidence must be raised until the interval takes in `null`; at least 1 / (D + 1), never 0.

        Args:
            null: What the null hypothesis says the truth is.
            alternative: `greater`: the truth is larger; `less`: smaller; `two-sided`: twice the smaller of the two.
        """
        floor = 1 / (len(self.draws) + 1)
        greater = max(floor, self._tail(self._level(null)))
        less = max(floor, 1 - self._tail(1 - self._level(null, above=True)))
        return {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}[alternative]

    def _level(self, null: float, *, above: bool = False) -> float:
        """Share of the draws at `null` or below it, or at `null` or above it."""
        from scipy.special import ndtr

        n, sign = len(self.draws), -1.0 if above else 1.0
        slack = 1e-12 * max(1.0, abs(null))  # 0.85 - 0.80 and 0.05 are the same number
        count = int((sign * self.draws <= sign * null + slack).sum())
        if count or self.stderr == 0:
            return (count + 1) / (n + 1)
        # Beyond all draws: as far as a normal distribution goes on, or else any bias would be taken at 1 / (n + 1).
        return min(1 / (n + 1), float(ndtr(sign * (null - self.draws.mean()) / self.stderr)))

    @property
    def _acceleration(self) -> float:
        return self.acceleration if self.kind == "bca" else 0.0

    @property
    def _bias(self) -> float:
        """How far the estimate is from the median of the draws, in standard deviations of a normal distribution."""
        from scipy.special import ndtri

        if self.kind == "percentile":
            return 0.0
        slack = 1e-12 * max(1.0, abs(self.estimate))
        below = (self.draws < self.estimate - slack).mean() + (self.draws <= self.estimate + slack).mean()
        half = 0.5 / len(self.draws)
        return float(ndtri(np.clip(below / 2, half, 1 - half)))

    def _tail(self, level: float) -> float:
        """The tail whose limit is the quantile `level` of the draws: the inverse of what `interval` does."""
        from scipy.special import ndtr, ndtri

        if not 0 < level < 1:
            return min(max(level, 0.0), 1.0)
        bias = self._bias
        shifted = float(ndtri(level)) - bias
        stretch = 1 + self._acceleration * shifted
        if stretch <= 0:  # beyond the last limit that any confidence can reach
            return float(shifted > 0)
        return float(ndtr(shifted / stretch - bias))


def acceleration_of(strata: Iterable[Floats]) -> float:
    """Compute the acceleration of the BCa interval from the jackknife.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, equation 14.15; over several strata as
    in `scipy.stats.bootstrap`.

    Args:
        strata: For each stratum of n samples the number with each of them left out, shape (n,).
    """
    third = second = 0.0
    for left_out in strata:
        n = len(left_out)
        influences = (n - 1) * (left_out.mean() - left_out)
        third += float((influences**3).sum()) / n**3
        second += float((influences**2).sum()) / n**2
    return third / (6 * second**1.5) if second > 1e-24 else 0.0


def check_confidence(confidence: float) -> None:
    """Find that a confidence is one.

    Raises:
        InputError: It is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}: it must lie between 0 and 1, such as 0.95")
