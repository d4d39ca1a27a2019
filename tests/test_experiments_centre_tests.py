"""Arms compared within centres: the mean of the AUCs, whatever the scale of each centre's scores."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from qhybrid.experiments.centre_tests import compare_centres, said_of_centres
from qhybrid.experiments.study_tests import compare_arms, correct

RANDOM = np.random.default_rng(0)
LABELS = np.tile([0, 1], 40)
CENTRES = np.repeat(["A", "B"], 40)


def _scores(signal: float, offset: float = 0.0) -> np.ndarray:
    """Probabilities (80, 2); those of centre B all lie higher by `offset`."""
    score = signal * LABELS + RANDOM.normal(size=80) + offset * (CENTRES == "B")
    positive = 1 / (1 + np.exp(-score))
    return np.stack([1 - positive, positive], axis=1)


def test_the_difference_is_that_of_the_centres_means() -> None:
    predicted = {name: {seed: _scores(signal) for seed in (0, 1, 2)} for name, signal in (("a", 0.3), ("b", 2.5))}
    (found,) = compare_centres(LABELS, CENTRES, predicted, [{"arm": "b", "against": "a", "seeds": [0, 1, 2]}])
    aucs = {
        name: [roc_auc_score(LABELS[half], p[half, 1]) for p in seeds.values() for half in (slice(40), slice(40, 80))]
        for name, seeds in predicted.items()
    }
    assert found["difference"] == pytest.approx(np.mean(aucs["b"]) - np.mean(aucs["a"]))
    low, high = found["interval"]
    assert 0 < low < found["difference"] < high < 1
    assert found["p_holm"] == found["p"] < 0.05
    assert said_of_centres([found])[0].startswith("By the mean of the centres' own AUCs 'b' is better than 'a': +0.")


def test_one_centre_is_an_ordinary_comparison() -> None:
    predicted = {name: {seed: _scores(signal) for seed in (4, 7)} for name, signal in (("a", 0.5), ("b", 1.0))}
    pair = {"arm": "a", "against": "b", "seeds": [4, 7]}
    (found,) = compare_centres(LABELS, np.repeat(["A"], 80), predicted, [pair])
    a, b = (np.stack(list(predicted[name].values())) for name in "ab")
    plain = compare_arms(LABELS, a, b, margin=0.02)
    correct([plain])
    for key in ("difference", "interval", "p", "p_holm"):
        assert found[key] == pytest.approx(plain["metrics"]["auc"][key]), key


def test_scores_that_lie_higher_at_one_centre_change_the_pooled_area_only() -> None:
    before = _scores(2.0, offset=4.0)
    logit = np.log(before[:, 1] / before[:, 0]) - 4.0 * (CENTRES == "B")
    positive = 1 / (1 + np.exp(-logit))
    after = np.stack([1 - positive, positive], axis=1)
    predicted = {"as trained": {0: before}, "adapted": {0: after}}
    (found,) = compare_centres(LABELS, CENTRES, predicted, [{"arm": "adapted", "against": "as trained", "seeds": [0]}])
    assert roc_auc_score(LABELS, after[:, 1]) - roc_auc_score(LABELS, before[:, 1]) > 0.1
    assert found["difference"] == pytest.approx(0)
    assert found["p_holm"] == 1
    assert said_of_centres([found]) == ["By the mean of the centres' own AUCs no arm is shown to differ."]


def test_no_pair_no_test() -> None:
    assert compare_centres(LABELS, CENTRES, {}, []) == []
    assert said_of_centres([]) == []
