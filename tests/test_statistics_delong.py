"""DeLong's variance and test against the reference implementation's published values, and against the definition."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from qhybrid.errors import InputError
from qhybrid.statistics import delong_auc, delong_equivalence, delong_test

POOR, GOOD = 41, 72
# The data set aSAH of R's pROC (N. Turck et al., Intensive Care Med. 36, 107, 2010): ranks of three markers of 41
# patients with a poor and 72 with a good outcome. Read off the placement values that pROC publishes patient by
# patient (tests/testthat/helper-deLongPlacementsCpp-expected.R at github.com/xrobin/pROC), which they reproduce.
ASAH = {
    "wfns": """117 94 128 140 140 140 140 94 140 94 37 94 140 128 128 94 140 140 140 94 140 94 140 94 128 140 128 128
        37 128 128 94 94 140 140 94 94 140 140 140 140
        37 37 37 37 140 37 94 94 37 94 94 37 37 37 94 37 94 37 37 117 128 37 128 37 140 140 37 37 94 128 37 37 94 94 37
        94 37 94 94 37 37 37 37 94 37 94 37 37 117 94 128 94 37 128 37 37 140 128 94 94 37 37 37 117 37 94 94 128 128
        37 37 37""",
    "s100b": """81 63 103 78 130 144 140 26 123 50 26 128 126 139 144 118 144 144 144 26 144 120 0 50 116 144 118 144
        38 118 81 63 74 116 144 88 144 121 144 144 130
        81 88 63 10 134 111 63 63 10 38 10 50 74 26 111 26 74 81 111 10 103 88 125 50 142 134 103 26 129 134 74 38 50
        38 10 81 63 88 96 10 10 50 10 50 38 103 50 38 123 74 119 26 63 121 26 10 117 127 63 96 38 88 63 26 10 111 96
        134 111 96 142 139""",
    "ndka": """116 90 98 110 6 40 74 134 140 134 134 58 104 124 24 36 102 2 144 124 62 74 80 102 128 93 124 36 142 109
        6 49 124 6 48 134 76 104 138 74 110
        1 38 30 68 15 109 15 120 100 120 113 139 44 15 85 15 15 143 91 54 54 120 4 30 15 49 96 30 106 136 30 15 85 44
        30 96 131 126 60 78 141 15 113 54 68 68 106 4 113 85 44 68 120 68 78 30 54 68 131 38 85 93 136 75 85 44 131 60
        103 126 15 100""",
}
LABELS = np.repeat([1, 0], [POOR, GOOD])


def marker(name: str) -> np.ndarray:
    score = np.array(ASAH[name].split(), dtype=float)
    return np.stack([-score, score], axis=1)


@pytest.mark.parametrize(
    ("name", "auc", "variance"),
    [
        ("wfns", 0.823678861788618, 0.00146991470882363),
        ("s100b", 0.731368563685637, 0.00266868245717244),
        ("ndka", 0.611957994579946, 0.0031908105493913),
    ],
)
def test_variance_is_that_of_proc(name: str, auc: float, variance: float) -> None:
    # github.com/xrobin/pROC, tests/testthat/test-var.R and helper-deLongPlacementsCpp-expected.R
    found = delong_auc(LABELS, marker(name))
    assert found.auc == pytest.approx(auc, rel=1e-12)
    assert found.stderr**2 == pytest.approx(variance, rel=1e-12)


def test_wald_interval_is_that_of_proc() -> None:
    # github.com/xrobin/pROC, tests/testthat/test-ci.auc.R: ci.auc(roc(aSAH$outcome, aSAH$ndka))
    found = delong_auc(LABELS, marker("ndka"), kind="wald")
    assert found.interval == pytest.approx((0.501244999271703, 0.722670989888189), rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "z", "p_value", "low", "high"),
    [
        ("wfns", "s100b", 2.20898359144091, 0.0271757822291882, 0.0104061769564846, 0.174214419249478),
        ("wfns", "ndka", 2.79777591868904, 0.00514557970691098, 0.0634011709339876, 0.3600405634833566),
        ("ndka", "s100b", -1.39077002573558, 0.164295175223054, -0.2876917446341914, 0.0488706064228094),
    ],
)
def test_paired_test_is_that_of_proc(
    first: str, second: str, z: float, p_value: float, low: float, high: float
) -> None:
    # github.com/xrobin/pROC, tests/testthat/test-roc.test.R
    found = delong_test(LABELS, marker(first), marker(second))
    assert (found.z, found.p_value) == pytest.approx((z, p_value), rel=1e-12)
    assert found.interval == pytest.approx((low, high), rel=1e-12)
    back = delong_test(LABELS, marker(second), marker(first))
    assert (back.z, back.p_value) == pytest.approx((-z, p_value), rel=1e-12)


def test_equivalence_is_a_test_against_the_reference_less_the_margin() -> None:
    # By hand from the areas, variances and the covariance that pROC publishes (test-var.R, test-cov.R), margin .3:
    # is ndka above s100b less .3, and s100b above ndka less .3, on the logit scale?
    first, second, margin = (0.731368563685637, 0.00266868245717244), (0.611957994579946, 0.0031908105493913), 0.3

    def p_value(one: tuple[float, float], other: tuple[float, float]) -> float:
        scales = [1 / (area * (1 - area)) for area in (one[0], other[0] - margin)]
        variance = (
            scales[0] ** 2 * one[1] + scales[1] ** 2 * other[1] + 2 * scales[0] * scales[1] * 0.000756164938056579
        )
        gap = np.log(one[0] / (1 - one[0])) - np.log((other[0] - margin) / (1 - other[0] + margin))
        return float(stats.norm.sf(gap / np.sqrt(variance)))

    found = delong_equivalence(LABELS, marker("s100b"), marker("ndka"), margin)
    assert found.p_value == pytest.approx(max(p_value(first, second), p_value(second, first)), rel=1e-4)
    assert found.difference == pytest.approx(first[0] - second[0])
    loss = delong_equivalence(LABELS, marker("s100b"), marker("ndka"), margin, claim="non-inferior")
    assert loss.p_value == pytest.approx(p_value(first, second), rel=1e-3)
    assert loss.verdict == "non-inferior"


@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_equivalence_is_shown_just_where_the_interval_lies_within_the_margin(alpha: float) -> None:
    for first, second in (("s100b", "wfns"), ("ndka", "wfns"), ("wfns", "wfns")):
        pair = LABELS, marker(first), marker(second)
        low, high = delong_equivalence(*pair, 0.1, alpha=alpha).interval
        assert low <= delong_test(*pair).difference <= high
        wide = max(-low, high)
        assert delong_equivalence(*pair, 1.02 * wide, alpha=alpha).verdict == "equivalent"
        assert delong_equivalence(*pair, 0.98 * wide, alpha=alpha).verdict == "not shown"
        assert delong_equivalence(*pair, -1.02 * low, alpha=alpha, claim="non-inferior").shown
        assert not delong_equivalence(*pair, -0.98 * low, alpha=alpha, claim="non-inferior").shown
    p_values = [delong_equivalence(LABELS, marker("ndka"), marker("wfns"), m / 50).p_value for m in range(1, 50)]
    assert (np.diff(p_values) <= 0).all()


def by_definition(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Equations of DeLong et al. (1988), section 2, over all pairs: components of both classes and the area."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return kernel.mean(axis=1), kernel.mean(axis=0), kernel.mean()


@pytest.mark.parametrize("seed", range(5))
def test_everything_equals_the_definition_over_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 1], [37, 23]))
    first, second = (np.round(rng.normal(size=60) + labels, 1) for _ in range(2))  # rounded: with ties
    x, y, area = by_definition(labels, first)
    u, v, other = by_definition(labels, second)
    covariance = np.cov(x, u) / 23 + np.cov(y, v) / 37
    found = delong_test(labels, np.stack([-first, first], 1), np.stack([-second, second], 1))
    assert (found.auc, found.reference) == pytest.approx((area, other))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.stderr == pytest.approx(np.sqrt(variance))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(area - other) / np.sqrt(variance)))
    logit = np.log(area / (1 - area))
    half = 1.959963985 * np.sqrt(covariance[0, 0]) / (area * (1 - area))
    expected = 1 / (1 + np.exp(-(logit - half))), 1 / (1 + np.exp(-(logit + half)))
    assert delong_auc(labels, np.stack([-first, first], 1)).interval == pytest.approx(expected)


def test_the_variance_of_several_classes_is_what_sampling_shows() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 30, 50])
    areas, variances = [], []
    for _ in range(400):
        scores = rng.normal(size=(120, 3)) + 1.2 * np.eye(3)[labels]
        found = delong_auc(labels, scores)
        areas.append(found.auc)
        variances.append(found.stderr**2)
    one = np.mean([roc_auc_score(labels == k, scores[:, k]) for k in range(3)])
    assert found.auc == pytest.approx(one)
    assert np.mean(variances) == pytest.approx(np.var(areas, ddof=1), rel=0.2)


def test_an_area_of_one_has_the_interval_of_newcombe() -> None:
    # No variance is seen, yet the truth may be lower: at area a, z^2 a (1 - a)(...) / (m n) = (1 - a)^2.
    labels, score = np.repeat([0, 1], [20, 30]), np.arange(50.0)
    found = delong_auc(labels, np.stack([-score, score], 1))
    low, high = found.interval
    assert (found.auc, found.stderr, high) == pytest.approx((1.0, 0.0, 1.0))
    share = 24 * ((1 - low) / (2 - low) + low / (1 + low))
    assert 1 - low == pytest.approx(1.959963985 * np.sqrt(low * (1 - low) * (1 + share) / 600))
    assert 0.85 < low < 0.95


def test_equal_predictions_do_not_differ_and_opposite_ones_differ_as_far_as_samples_can_tell() -> None:
    labels, score = np.repeat([0, 1], 5), np.arange(10.0)
    scores = np.stack([-score, score], 1)
    same = delong_test(labels, scores, scores)
    assert (same.difference, same.stderr, same.z, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    opposite = delong_test(labels, scores, -scores)
    assert (opposite.difference, opposite.z, opposite.p_value) == (1.0, np.inf, 2 / 2**10)


def test_what_has_no_variance_is_refused_in_one_line() -> None:
    scores = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    with pytest.raises(InputError, match="class 0 has one sample only"):
        delong_auc([1, 1, 0], scores)
    with pytest.raises(InputError, match="allowed: logit, wald"):
        delong_auc(LABELS, marker("ndka"), kind="probit")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="confidence is 95"):
        delong_auc(LABELS, marker("ndka"), confidence=95)
