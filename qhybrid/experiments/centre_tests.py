"""Arms compared by the mean of the centres' own AUCs, which ranks no two networks' scores together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS, CONFIDENCE
from qhybrid.experiments.study_results import Predicted
from qhybrid.experiments.study_tests import ALPHA, Labels, Probabilities
from qhybrid.statistics import BootstrapDistribution, holm, paired_distributions, seeds_and_samples

SIDES = ("arm", "against")


def compare_centres(
    labels: Labels,
    centres: NDArray[np.str_],
    predicted: Mapping[str, Predicted],
    compared: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Test the difference of two arms' AUCs, averaged over the centres, for each pair of a study.

    An AUC over the images of all centres also changes where one network's scores are merely higher than another's.
    Each centre is resampled for itself, images and seeds: what stands for a seed at one centre is another training
    than at the next. p-values are corrected over all pairs (Holm).

    Args:
        labels: True classes, shape (N,).
        centres: The centre of each image, shape (N,).
        predicted: Arm -> seed -> probabilities, shape (N, C).
        compared: Pairs with `arm`, `against` and the `seeds` that both have.

    Returns:
        For each pair `arm`, `against`, mean `difference`, its `interval`, `p` and `p_holm`.
    """
    found = []
    for pair in compared:
        mine, theirs = (np.stack([predicted[pair[side]][seed] for seed in pair["seeds"]]) for side in SIDES)
        each = [
            _difference(labels[rows], mine[:, rows], theirs[:, rows], seed=number)
            for number, rows in enumerate(centres == name for name in dict.fromkeys(centres.tolist()))
        ]
        mean = BootstrapDistribution(
            float(np.mean([one.estimate for one in each])),
            np.mean([one.draws for one in each], axis=0),
            kind="percentile",
        )
        test = {"difference": mean.estimate, "interval": list(mean.interval(CONFIDENCE)), "p": mean.p_value()}
        found.append({side: pair[side] for side in SIDES} | test)
    for test, p_holm in zip(found, holm([each["p"] for each in found]) if found else (), strict=True):
        test["p_holm"] = float(p_holm)
    return found


def said_of_centres(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which arms differ in the mean of the centres' own AUCs, one sentence each, the surest first."""
    different = sorted((each for each in tests if each["p_holm"] < ALPHA), key=lambda each: float(each["p_holm"]))
    if tests and not different:
        return ["By the mean of the centres' own AUCs no arm is shown to differ."]
    return [f"By the mean of the centres' own AUCs {_in_words(each)}." for each in different]


def _in_words(test: Mapping[str, Any]) -> str:
    way, (low, high) = "better" if test["difference"] > 0 else "worse", test["interval"]
    return (
        f"{test['arm']!r} is {way} than {test['against']!r}: {test['difference']:+.3f} [{low:+.3f}, {high:+.3f}], "
        f"p = {test['p_holm']:.2g} after Holm"
    )


def _difference(labels: Labels, mine: Probabilities, theirs: Probabilities, *, seed: int) -> BootstrapDistribution:
    """Of the AUC at one centre, over images and, where there are several, seeds."""
    if len(mine) > 1:
        return seeds_and_samples(labels, mine, theirs, n=BOOTSTRAP_DRAWS, seed=seed)["auc"]
    return paired_distributions(labels, mine[0], theirs[0], n=BOOTSTRAP_DRAWS, seed=seed)["auc"]
