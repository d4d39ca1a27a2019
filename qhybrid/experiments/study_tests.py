"""The statistics of a study: each arm over seeds and samples, and the tests of one arm against another."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS, CONFIDENCE
from qhybrid.statistics import (
    BootstrapDistribution,
    Equivalence,
    Interval,
    accuracy_equivalence_of_counts,
    bootstrap_distributions,
    bootstrap_equivalence,
    classification_metrics,
    delong_equivalence,
    delong_test,
    holm,
    mcnemar_test,
    paired_distributions,
    paired_seeds_test,
    paired_t_equivalence,
    seed_mean,
    seeds_and_samples,
)
from qhybrid.statistics.equivalence import Claim

ALPHA = 1 - CONFIDENCE
TESTED = ("accuracy", "auc")
"""Metrics that the verdict speaks of."""
CLAIMS: tuple[Claim, ...] = ("equivalent", "non-inferior")

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
"""(S, N, C), of each seed."""


def arm_statistics(labels: Labels, probabilities: Probabilities) -> dict[str, dict[str, Any]]:
    """The mean of every metric over seeds, and how sure it is.

    Args:
        labels: True classes, shape (N,).
        probabilities: Of each seed, shape (S, N, C).

    Returns:
        For each metric: `values` of the seeds, `mean`, `std` and `over_seeds` (Student's t: other seeds, the same
        samples; None for one seed), `interval` (other seeds and other samples; of one seed other samples only).
    """
    each = [classification_metrics(labels, seed) for seed in probabilities]
    draws = _distributions(labels, probabilities, None)
    found = {}
    for metric, distribution in draws.items():
        values = [metrics[metric] for metrics in each]
        over_seeds = seed_mean(values, confidence=CONFIDENCE) if len(values) > 1 else None
        found[metric] = {
            "values": values,
            "mean": float(np.mean(values)),
            "std": None if over_seeds is None else over_seeds.std,
            "over_seeds": None if over_seeds is None else _within(over_seeds.interval, 0, 1),
            "interval": _within(distribution.interval(CONFIDENCE), 0, 1),
        }
    return found


def compare_arms(
    labels: Labels, probabilities: Probabilities, reference: Probabilities, *, margin: float
) -> dict[str, Any]:
    """Test an arm against another one, seed by seed on the same samples.

    Args:
        labels: True classes, shape (N,).
        probabilities: Of each seed, shape (S, N, C).
        reference: Of the other arm, same seeds in the same order, shape (S, N, C).
        margin: Difference of a metric that would matter.

    Returns:
        `metrics`: for each the mean `difference`, its `interval` and `p` over seeds and samples (`seeds_and_samples`),
        the claims against the margin, and `over_seeds`: the paired t-test, which asks of other seeds only.
        `per_seed`: McNemar's and DeLong's test of each seed, which ask of other samples only.
    """
    each = [[classification_metrics(labels, seed) for seed in arm] for arm in (probabilities, reference)]
    metrics = {}
    for metric, distribution in _distributions(labels, probabilities, reference).items():
        mine, theirs = ([values[metric] for values in arm] for arm in each)
        metrics[metric] = {
            "difference": distribution.estimate,
            "interval": _within(distribution.interval(CONFIDENCE), -1, 1),
            "p": distribution.p_value(),
            "claims": {
                claim: _claim(_cautious(metric, distribution, labels, probabilities, reference, margin, claim))
                for claim in CLAIMS
            },
            "over_seeds": _over_seeds(mine, theirs, margin),
        }
    per_seed = [_over_samples(labels, *pair) for pair in zip(probabilities, reference, strict=True)]
    return {"metrics": metrics, "per_seed": per_seed}


def correct(comparisons: Sequence[dict[str, Any]]) -> None:
    """Correct the p-values of each metric over all comparisons of a study (Holm), and say what they show.

    Tests and claims are families of their own. Adds `p_holm` beside every `p` but those of single seeds, and
    `verdict` to every metric.

    Args:
        comparisons: From `compare_arms`; changed in place.
    """
    if not comparisons:
        return
    for metric in comparisons[0]["metrics"]:
        tests = [comparison["metrics"][metric] for comparison in comparisons]
        over_seeds = [test["over_seeds"] for test in tests if test["over_seeds"] is not None]
        for family in (tests, over_seeds, *([test["claims"][claim] for test in tests] for claim in CLAIMS)):
            for test, p_holm in zip(family, holm([each["p"] for each in family]), strict=True):
                test["p_holm"] = float(p_holm)
        for test in tests:
            test["verdict"] = _verdict(test)


def _verdict(test: dict[str, Any]) -> str:
    shown = {claim: test["claims"][claim]["p_holm"] < ALPHA for claim in CLAIMS}
    if test["p_holm"] < ALPHA:
        way = "better" if test["difference"] > 0 else "worse"
        return f"{way}, within the margin" if shown["equivalent"] else way
    return next((claim for claim in CLAIMS if shown[claim]), "undecided")


def _distributions(
    labels: Labels, probabilities: Probabilities, reference: Probabilities | None
) -> dict[str, BootstrapDistribution]:
    """Bootstrap over seeds and samples, or of a single seed over samples."""
    if len(probabilities) > 1:
        return seeds_and_samples(labels, probabilities, reference, n=BOOTSTRAP_DRAWS)
    if reference is None:
        return bootstrap_distributions(labels, probabilities[0], n=BOOTSTRAP_DRAWS)
    return paired_distributions(labels, probabilities[0], reference[0], n=BOOTSTRAP_DRAWS)


def _cautious(
    metric: str,
    distribution: BootstrapDistribution,
    labels: Labels,
    mine: Probabilities,
    theirs: Probabilities,
    margin: float,
    claim: Claim,
) -> Equivalence:
    """The least sure of the tests of a claim.

    The bootstrap knows nothing of errors that did not occur. So Tango's test must agree for accuracy, with the counts
    averaged over the seeds, and DeLong's for the AUC, with the seed whose difference is in the middle.
    """
    tests = [bootstrap_equivalence(distribution, margin, claim=claim, alpha=ALPHA)]
    if metric == "accuracy":
        right, other = mine.argmax(axis=2) == labels, theirs.argmax(axis=2) == labels
        won, lost = ((one & ~two).sum() / len(right) for one, two in ((right, other), (other, right)))
        tests.append(accuracy_equivalence_of_counts(won, lost, len(labels), margin, claim=claim, alpha=ALPHA))
    elif metric == "auc" and _enough(labels):
        found = [
            delong_equivalence(labels, *pair, margin, claim=claim, alpha=ALPHA)
            for pair in zip(mine, theirs, strict=True)
        ]
        tests.append(sorted(found, key=lambda test: test.difference)[(len(found) - 1) // 2])
    return max(tests, key=lambda test: test.p_value)


def _enough(labels: Labels) -> bool:
    """Whether DeLong's variance is there: two samples of each class that occurs."""
    counts = np.bincount(labels)
    return bool(counts[counts > 0].min() >= 2)


def _claim(found: Equivalence) -> dict[str, Any]:
    return {"margin": found.margin, "interval": _within(found.interval, -1, 1), "p": found.p_value}


def _over_seeds(mine: list[float], theirs: list[float], margin: float) -> dict[str, Any] | None:
    if len(mine) < 2:
        return None
    test = paired_seeds_test(mine, theirs, confidence=CONFIDENCE)
    return {
        "interval": _within(test.interval, -1, 1),
        "p": test.p_value,
        "effect_size": test.effect_size if isfinite(test.effect_size) else None,
        "equivalent_p": paired_t_equivalence(mine, theirs, margin, alpha=ALPHA).p_value,
    }


def _within(interval: Interval, low: float, high: float) -> list[float]:
    """An interval cut at what a metric can be: with few seeds Student's t reaches beyond it."""
    return [min(max(limit, low), high) for limit in interval]


def _over_samples(labels: Labels, mine: Probabilities, theirs: Probabilities) -> dict[str, Any]:
    """Both tests of one seed; DeLong's needs two samples of each class."""
    mcnemar = mcnemar_test(labels, mine, theirs)
    if not _enough(labels):
        return {"mcnemar": asdict(mcnemar), "delong": None}
    delong = delong_test(labels, mine, theirs, confidence=CONFIDENCE)
    return {
        "mcnemar": asdict(mcnemar),
        "delong": {"difference": delong.difference, "interval": list(delong.interval), "p_value": delong.p_value},
    }
