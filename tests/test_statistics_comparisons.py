"""McNemar, Holm, equivalence and tests over seeds, against published values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qhybrid.errors import InputError
from qhybrid.statistics import (
    BootstrapDistribution,
    accuracy_equivalence,
    accuracy_equivalence_of_counts,
    bootstrap_equivalence,
    classification_metrics,
    holm,
    mcnemar_of_counts,
    mcnemar_test,
    paired_bootstrap_differences,
    paired_distributions,
    paired_seeds_test,
    paired_t_equivalence,
    seed_mean,
    seeds_and_samples,
)

SDA_QEC = Path(__file__).parents[2] / "shared/reference/sda_qec.md"


@pytest.mark.parametrize(
    ("counts", "exact", "mid_p"),
    [((1, 7), 0.070, 0.039), ((6, 16), 0.052, 0.035)],
)
def test_mcnemar_gives_the_values_of_fagerland_2013(counts: tuple[int, int], exact: float, mid_p: float) -> None:
    # BMC Med. Res. Methodol. 13, 91: airway hyper-responsiveness (Bentur 2009) and complete response (Cavo 2012).
    assert mcnemar_of_counts(*counts).p_value == pytest.approx(exact, abs=5e-4)
    assert mcnemar_of_counts(*counts, mid_p=True).p_value == pytest.approx(mid_p, abs=5e-4)


def test_mcnemar_of_agrestis_approval_ratings() -> None:
    # Agresti, Categorical Data Analysis, 1990, p. 350: 794, 150, 86, 570 of 1600 voters; z^2 = 17.36, p = 3.1e-5.
    first = np.repeat([1, 1, 0, 0], [794, 150, 86, 570])
    second = np.repeat([1, 0, 1, 0], [794, 150, 86, 570])
    labels = np.ones(1600, dtype=int)
    labels[-1] = 0  # a disapproval that both meet: two classes have to occur
    found = mcnemar_test(labels, np.eye(2)[first], np.eye(2)[second])
    assert (found.only_right, found.only_reference_right) == (150, 86)
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(86, 236, 0.5), rel=1e-12)
    assert found.p_value == pytest.approx(3.1e-5, rel=0.25)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_symmetric_and_mid_p_is_never_larger(b: int, c: int) -> None:
    exact, mid = mcnemar_of_counts(b, c), mcnemar_of_counts(b, c, mid_p=True)
    assert mcnemar_of_counts(c, b).p_value == pytest.approx(exact.p_value)
    assert 0 < mid.p_value <= exact.p_value <= 1
    tail = stats.binom.cdf(min(b, c), b + c, 0.5)
    expected = min(1.0, 2 * tail) if b != c else 1.0
    assert exact.p_value == pytest.approx(expected)
    half = stats.binom.pmf(min(b, c), b + c, 0.5) / 2
    assert mid.p_value == pytest.approx(2 * (tail - half) if b != c else 1 - half * (b + c > 0))


# Confusion matrices (TN, FP, FN, TP) of arXiv 2601.18556, section 3.2, and what they give: accuracy, precision, recall,
# specificity, F1. Where the paper's Table 1 prints something else, that stands behind.
MATRICES = {
    "SDA-QEC": ((59, 1, 1, 59), (0.9833, 0.9833, 0.9833, 0.9833, 0.9833)),
    "ResNet18": ((55, 5, 2, 58), (0.9417, 0.9206, 0.9667, 0.9167, 0.9431)),  # .9500, .9394, F1 .9499
    "MobileNetV2": ((53, 7, 12, 48), (0.8417, 0.8727, 0.8000, 0.8833, 0.8348)),  # precision .8955, F1 .8448
    "DenseNet121": ((57, 3, 20, 40), (0.8083, 0.9302, 0.6667, 0.9500, 0.7767)),  # precision .9524, F1 .7843
    "VGG16": ((13, 47, 0, 60), (0.6083, 0.5607, 1.0000, 0.2167, 0.7186)),  # precision .5610, F1 .7191
}


@pytest.mark.parametrize("model", MATRICES)
def test_the_papers_matrices_give_the_corrected_table(model: str) -> None:
    counts, row = MATRICES[model]
    labels, predicted = np.repeat([0, 0, 1, 1], counts), np.repeat([0, 1, 0, 1], counts)
    values = classification_metrics(labels, np.eye(2)[predicted])
    found = [round(values[name], 4) for name in ("accuracy", "precision", "recall", "specificity", "f1_binary")]
    assert found == list(row)


def test_the_correction_is_that_of_the_reference_and_mcnemar_tells_no_difference() -> None:
    if not SDA_QEC.exists():
        pytest.skip("../shared is absent")
    text = SDA_QEC.read_text(encoding="utf-8")
    assert "TP 58 FN 2 FP 5 TN 55" in text
    assert ".9417/.9206/.9431" in text
    # "With 120 test images and 2 against 6 errors, an exact McNemar test gives p ~ .06-.13": 2 errors against the 7 of
    # ResNet18, or against 6, all of the better one's shared.
    assert "p ~ .06-.13" in text
    assert mcnemar_of_counts(5, 0).p_value == pytest.approx(0.0625)
    assert mcnemar_of_counts(4, 0).p_value == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        (
            [0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238, 0.177096952723,
             5.23656777208e-05, 0.0202732688798, 0.00028140506198, 0.0149877310796],
            [1, 1, 1, 1, 1, 1, 5.2365677720800005e-04, 1.4191288215860001e-01, 2.5326455578199999e-03,
             1.1990184863680001e-01],
        ),
        ([0.002, 0.004, 0.006, 0.008, 0.010, 0.012], [0.012, 0.020, 0.024, 0.024, 0.024, 0.024]),
        (
            [0.001, 0.002, 0.003, 0.004, 0.005, 0.05, 0.06, 0.07, 0.08, 0.09],
            [0.01, 0.018, 0.024, 0.028, 0.03, 0.25, 0.25, 0.25, 0.25, 0.25],
        ),
    ],
)  # fmt: skip
def test_holm_gives_the_values_of_r_multtest(raw: list[float], adjusted: list[float]) -> None:
    # R's mt.rawp2adjp as published in statsmodels/stats/tests/test_multi.py (res_multtest1 to 3)
    assert holm(raw) == pytest.approx(adjusted, rel=1e-11)


@given(st.lists(st.floats(0, 1), max_size=12), st.randoms())
def test_holm_keeps_the_order_given(p_values: list[float], random: object) -> None:
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= 1).all()
    shuffled = list(range(len(p_values)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert holm([p_values[k] for k in shuffled]) == pytest.approx(adjusted[shuffled])
    # The definition: the smallest p-value times K, the next times K - 1, never less than one before.
    order = np.argsort(p_values, kind="stable")
    level = 0.0
    for step, k in enumerate(order):
        level = max(level, min(1.0, (len(p_values) - step) * p_values[k]))
        assert adjusted[k] == pytest.approx(level)


# Data set `clinic` of R's package equivalence, columns var1 and var2 of both arms, with its results of
# tost(..., eps = 0.6), as published in statsmodels/stats/tests/test_weightstats.py (or test_tost.py).
CLINIC = {
    "var1": ([2.84, 2.51, 2.41, 2.95, 3.14, 3.79, 4.14, 3.85, 3.02, 3.45, 5.37, 3.81, 4.19, 3.16, 3.84],
             [2.60, 2.82, 2.18, 3.46, 4.01, 3.04, 3.47, 4.06, 2.91, 3.59, 4.51, 3.16, 3.86, 3.31, 3.02]),
    "var2": ([4.00, 3.26, 4.14, 3.42, 3.25, 4.34, 4.97, 4.31, 3.11, 3.41, 5.02, 4.21, 4.59, 5.30, 4.32],
             [3.76, 3.66, 3.65, 3.60, 3.48, 2.87, 3.24, 3.92, 3.99, 4.21, 4.21, 3.31, 3.61, 2.97, 2.73]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "difference", "interval", "p_value", "verdict"),
    [
        ("var2", 0.5626666666666665, (0.1261653305099018, 0.999168002823431), 0.4412034046017588, "not shown"),
        ("var1", 0.1646666666666667, (-0.0744336620516462, 0.4037669953849797), 0.003166881489265175, "equivalent"),
    ],
)
def test_paired_tost_is_that_of_r_equivalence(
    column: str, difference: float, interval: tuple[float, float], p_value: float, verdict: str
) -> None:
    found = paired_t_equivalence(*CLINIC[column], margin=0.6)
    assert found.difference == pytest.approx(difference)
    assert found.interval == pytest.approx(interval)
    assert found.p_value == pytest.approx(p_value)
    assert found.verdict == verdict


def test_the_score_test_of_accuracies_is_that_of_tango() -> None:
    # T. Tango, Statistics in Medicine 17, 891 (1998): soft contact lenses, 44 of them, 0 and 1 discordant, margin .1:
    # Z = 1.709, p = .044, 90 % interval -.096 to .037.
    found = accuracy_equivalence_of_counts(0, 1, 44, 0.1, claim="non-inferior")
    assert found.p_value == pytest.approx(stats.norm.sf(1.709), abs=1e-4)
    assert found.interval == pytest.approx((-0.096, 0.037), abs=5e-4)
    assert found.verdict == "non-inferior"


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.01, 0.3))
def test_accuracies_are_equivalent_just_where_the_interval_lies_within_the_margin(
    b: int, c: int, margin: float
) -> None:
    found = accuracy_equivalence_of_counts(b, c, 120, margin)
    back = accuracy_equivalence_of_counts(c, b, 120, margin)
    assert back.p_value == pytest.approx(found.p_value, abs=1e-9)
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=1e-6)
    low, high = found.interval
    assert low - 1e-6 <= (b - c) / 120 <= high + 1e-6
    if min(abs(low + margin), abs(high - margin)) > 1e-6:
        assert found.shown == (-margin < low and high < margin)
    # At a margin of nothing it is McNemar's z.
    if b != c:
        tiny = accuracy_equivalence_of_counts(max(b, c), min(b, c), 120, 1e-12, claim="non-inferior")
        assert tiny.p_value == pytest.approx(stats.norm.sf(abs(b - c) / np.sqrt(b + c)), rel=1e-3)


def test_equal_accuracy_on_every_sample_is_judged_by_the_number_of_samples() -> None:
    # No discordant pair among n: the upper limit at 95 % one-sided is z^2 / (n + z^2), as Wilson's.
    labels = np.repeat([0, 1], 60)
    found = accuracy_equivalence(labels, np.eye(2)[labels], np.eye(2)[labels], 0.05)
    limit = 1.6448536**2 / (120 + 1.6448536**2)
    assert found.interval == pytest.approx((-limit, limit), abs=1e-5)
    assert found.verdict == "equivalent"
    assert accuracy_equivalence(labels, np.eye(2)[labels], np.eye(2)[labels], 0.02).verdict == "not shown"


def test_bootstrap_tost_of_a_normal_distribution_is_the_normal_one() -> None:
    draws = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000, loc=0.01, scale=0.02)
    for kind in ("bca", "percentile"):
        found = bootstrap_equivalence(BootstrapDistribution(0.01, draws, 0.0, kind), 0.05)
        assert found.p_value == pytest.approx(stats.norm.sf(2), rel=0.01)
        assert found.interval == pytest.approx((0.01 - 1.645 * 0.02, 0.01 + 1.645 * 0.02), abs=1e-4)
        assert found.shown
        worse = bootstrap_equivalence(BootstrapDistribution(0.01, draws, 0.0, kind), 0.03, claim="non-inferior")
        assert worse.p_value == pytest.approx(stats.norm.sf(2), rel=0.01)


def test_equivalence_holds_just_where_the_interval_lies_within_the_margin() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 60)
    score = rng.normal(size=120) + 2 * labels
    other = score + rng.normal(scale=0.3, size=120)
    first, second = (np.stack([1 - p, p], 1) for p in (1 / (1 + np.exp(-2 * (s - 1))) for s in (score, other)))
    distribution = paired_distributions(labels, first, second)["auc"]
    low, high = bootstrap_equivalence(distribution, 0.1).interval
    for kind in ("bca", "percentile"):  # the more cautious of both decides
        inner = replace(distribution, kind=kind).interval(0.9)
        assert low <= inner[0] <= inner[1] <= high
    wide = max(-low, high)
    assert bootstrap_equivalence(distribution, 1.05 * wide).verdict == "equivalent"
    assert bootstrap_equivalence(distribution, 0.95 * wide).verdict == "not shown"
    assert bootstrap_equivalence(distribution, -1.05 * low, claim="non-inferior").verdict == "non-inferior"
    same = paired_distributions(labels, first, first)["auc"]
    assert bootstrap_equivalence(same, 0.01).shown


def test_equivalence_of_predicted_classes_allows_for_half_a_sample() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], 60)
    first, second = (np.eye(2)[np.where(rng.random(120) < 0.9, labels, 1 - labels)] for _ in range(2))
    distribution = paired_distributions(labels, first, second)["accuracy"]
    low, high = bootstrap_equivalence(distribution, 0.1).interval
    inner = [replace(distribution, kind=kind).interval(0.9) for kind in ("bca", "percentile")]
    assert low == pytest.approx(min(each[0] for each in inner) - 0.5 / 120, abs=1e-4)
    assert high == pytest.approx(max(each[1] for each in inner) + 0.5 / 120, abs=1e-4)
    wide = max(-low, high)
    assert bootstrap_equivalence(distribution, wide + 1.01 / 120).shown
    assert not bootstrap_equivalence(distribution, wide - 1.01 / 120).shown


def test_seeds_are_compared_by_students_paired_test() -> None:
    # R's data set `sleep` (Student, Biometrika 6, 1, 1908): t = -4.0621, df = 9, p = .002833, interval -2.4598 to
    # -.7002, from the examples of t.test.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_seeds_test(first, second)
    assert found.difference == pytest.approx(-1.58)
    assert found.p_value == pytest.approx(0.002833, abs=5e-7)
    assert found.interval == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)
    assert found.effect_size == pytest.approx(-4.0621 / np.sqrt(10), abs=1e-4)
    five = paired_seeds_test([0.91, 0.92, 0.95, 0.93, 0.97], [0.90, 0.90, 0.92, 0.89, 0.92], method="wilcoxon")
    assert five.p_value == 0.0625


def test_seeds_that_all_differ_alike_are_told_from_seeds_that_do_not() -> None:
    same = paired_seeds_test([0.9, 0.8, 0.7], [0.9, 0.8, 0.7])
    assert (same.difference, same.p_value, same.effect_size) == (0.0, 1.0, 0.0)
    shifted = paired_seeds_test([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert (shifted.difference, shifted.interval, shifted.p_value) == (1.0, (1.0, 1.0), 0.25)
    assert shifted.effect_size == np.inf


def test_the_mean_over_seeds_has_students_interval() -> None:
    values = [0.91, 0.88, 0.93, 0.90, 0.95]
    found = seed_mean(values)
    assert found.interval == pytest.approx(
        stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values)), abs=1e-12
    )
    assert (found.mean, found.std, found.seeds) == pytest.approx((0.914, np.std(values, ddof=1), 5))


def test_seeds_and_samples_cover_the_mean_of_seeds_that_differ() -> None:
    # Networks whose accuracy differs from seed to seed (sd .04) on samples of their own difficulty.
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 60)
    inside = 0
    for trial in range(120):
        hard = rng.normal(size=120)
        skill = 1.2 + rng.normal(scale=0.25, size=(5, 1))
        right = rng.normal(size=(5, 120)) + hard < skill  # P(right) = Phi(skill / sqrt 2)
        probabilities = np.eye(2)[np.where(right, labels, 1 - labels)]
        low, high = seeds_and_samples(labels, probabilities, n=300, seed=trial)["accuracy"].interval()
        truth = stats.norm.cdf(1.2 / np.sqrt(2 + 0.25**2))
        inside += low <= truth <= high
    assert inside / 120 >= 0.92


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: mcnemar_of_counts(-1, 3), "neither can be negative"),
        (lambda: holm([0.1, 1.2]), "from 0 to 1"),
        (lambda: holm([0.1, float("nan")]), "from 0 to 1"),
        (lambda: seed_mean([0.9]), "two finite numbers"),
        (lambda: paired_seeds_test([0.9, 0.8], [0.9, 0.8, 0.7]), "2 seeds cannot be paired with 3"),
        (lambda: paired_seeds_test([0.9, 0.8], [0.9, 0.7], method="wilcoxn"), "did you mean 'wilcoxon'"),
        (lambda: paired_t_equivalence([1.0, 2.0], [1.0, 2.5], margin=0), "must be positive"),
        (lambda: paired_t_equivalence([1.0, 2.0], [1.0, 2.5], margin=1, claim="equal"), "did you mean 'equivalent'"),
        (lambda: paired_t_equivalence([1.0, 2.0], [1.0, 2.5], margin=1, alpha=0.7), "between 0 and .5"),
        (lambda: accuracy_equivalence_of_counts(70, 60, 120, 0.1), "counts must fit"),
        (lambda: seeds_and_samples([0, 1], np.eye(2)), "S >= 2"),
        (lambda: seeds_and_samples([0, 1], [np.eye(2)] * 3, [np.eye(2)] * 2), "cannot be paired"),
        (lambda: paired_bootstrap_differences([0, 1], [np.eye(2)] * 3, [np.eye(2)] * 2), "cannot be paired"),
    ],
)
def test_impossible_input_is_refused_in_one_line(call: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
