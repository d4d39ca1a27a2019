"""Wilson's intervals of proportions."""

import numpy as np

from qhybrid.errors import InputError
from qhybrid.statistics.metrics import Integers

Interval = tuple[float, float]


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
