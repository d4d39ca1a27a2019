"""Simulations: intervals cover the truth as often as they say, and tests reject a true null hypothesis seldom enough.

120 test samples, half of each class. The slow versions draw 1000 data sets or more, with 2000 bootstrap draws each;
`pytest -m slow -s tests/test_statistics_coverage.py` shows the figures.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats

from qhybrid.statistics import (
    accuracy_equivalence,
    bootstrap_distributions,
    bootstrap_equivalence,
    delong_auc,
    delong_equivalence,
    delong_test,
    holm,
    mcnemar_of_counts,
    mcnemar_test,
    paired_distributions,
    paired_seeds_test,
    paired_t_equivalence,
    seeds_and_samples,
    wilson_interval,
)

N = 120
LABELS = np.repeat([0, 1], N // 2)


def simulated(few: int, many: int, draws: int | None = None) -> pytest.MarkDecorator:
    """A small simulation, and the slow one that decides, with so many bootstrap draws (200 in the small one)."""
    if draws is None:
        return pytest.mark.parametrize("trials", [few, pytest.param(many, marks=pytest.mark.slow)])
    slow = pytest.param(many, draws, marks=pytest.mark.slow)
    return pytest.mark.parametrize(("trials", "draws"), [(few, 200), slow])


def slack(trials: int) -> float:
    """Three standard errors of a share of 5 % in a small simulation; nothing in one of 1000 data sets."""
    return 0.0 if trials >= 1000 else 3 * (0.05 * 0.95 / trials) ** 0.5


def assert_covers(share: float, trials: int) -> None:
    assert 0.92 - slack(trials) <= share <= 0.98 + slack(trials)


def assert_level(share: float, trials: int) -> None:
    assert share <= 0.06 + slack(trials)


def of_score(score: np.ndarray) -> np.ndarray:
    """Probabilities (N, 2) from log odds (N,)."""
    p = 1 / (1 + np.exp(-score))
    return np.stack([1 - p, p], axis=-1)


def right_with(accuracy: float, rng: np.random.Generator) -> np.ndarray:
    """Predictions of which each is right with this probability; F1 has the same limit."""
    return np.eye(2)[np.where(rng.random(N) < accuracy, LABELS, 1 - LABELS)]


def binormal(area: float, rng: np.random.Generator) -> np.ndarray:
    """Normal scores whose area under the ROC curve is this."""
    return of_score(rng.normal(size=N) + np.sqrt(2) * stats.norm.ppf(area) * (LABELS - 0.5))


def correlated_pairs(
    areas: tuple[float, float], trials: int, seed: int, correlation: float = 0.6
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of binormal predictions of the same samples."""
    rng = np.random.default_rng(seed)
    shifts = [np.sqrt(2) * stats.norm.ppf(area) * (LABELS - 0.5) for area in areas]
    for _ in range(trials):
        shared, own = np.sqrt(correlation) * rng.normal(size=N), np.sqrt(1 - correlation)
        first, second = (of_score(shared + own * rng.normal(size=N) + shift) for shift in shifts)
        yield first, second


def say(what: str, counts: dict[str, int], trials: int) -> None:
    print(f"\n{what}: " + ", ".join(f"{name} {count / trials:.3f}" for name, count in counts.items()), end="")


@pytest.mark.parametrize("accuracy", np.linspace(0.80, 0.95, 16).round(2))
def test_wilson_covers_exactly(accuracy: float) -> None:
    # No simulation: the coverage is a sum over the binomial distribution.
    limits = np.array([wilson_interval(k, N) for k in range(N + 1)])
    inside = (limits[:, 0] <= accuracy) & (accuracy <= limits[:, 1])
    assert 0.92 <= stats.binom.pmf(np.arange(N + 1), N, accuracy)[inside].sum() <= 0.98


@simulated(60, 2000)
@pytest.mark.parametrize("area", [0.85, 0.90, 0.95])
def test_delong_covers_on_the_logit_scale(area: float, trials: int) -> None:
    rng = np.random.default_rng(1)
    inside = {"logit": 0, "wald": 0}
    for _ in range(trials):
        probabilities = binormal(area, rng)
        for kind in inside:
            low, high = delong_auc(LABELS, probabilities, kind=kind).interval
            inside[kind] += low <= area <= high
    say(f"coverage of DeLong at area {area}", inside, trials)
    assert_covers(inside["logit"] / trials, trials)


@simulated(60, 1000, 2000)
@pytest.mark.parametrize("accuracy", [0.80, 0.85, 0.90, 0.95])
def test_the_default_bootstrap_of_accuracy_and_f1_covers(accuracy: float, trials: int, draws: int) -> None:
    rng = np.random.default_rng(2)
    data = (right_with(accuracy, rng) for _ in range(trials))
    check_bootstrap(data, ("accuracy", "f1_binary", "f1_macro"), accuracy, trials, draws)


@simulated(60, 1000, 2000)
@pytest.mark.parametrize("area", [0.85, 0.90, 0.95])
def test_the_default_bootstrap_of_the_area_covers(area: float, trials: int, draws: int) -> None:
    rng = np.random.default_rng(3)
    check_bootstrap((binormal(area, rng) for _ in range(trials)), ("auc",), area, trials, draws)


def check_bootstrap(data: Iterator[np.ndarray], names: tuple[str, ...], truth: float, trials: int, draws: int) -> None:
    inside = {f"{name} {kind}": 0 for kind in ("bca", "percentile") for name in names}
    for trial, probabilities in enumerate(data):
        found = bootstrap_distributions(LABELS, probabilities, n=draws, seed=trial)
        for key in inside:
            name, kind = key.split()
            low, high = replace(found[name], kind=kind).interval()
            inside[key] += low - 1e-9 <= truth <= high + 1e-9
    say(f"coverage of the bootstrap at {truth}", inside, trials)
    for name in names:
        assert_covers(inside[f"{name} bca"] / trials, trials)


def test_mcnemar_holds_its_level() -> None:
    @cache
    def p_value(ahead: int, behind: int, *, mid_p: bool) -> float:
        return mcnemar_of_counts(ahead, behind, mid_p=mid_p).p_value

    discordant = np.random.default_rng(4).binomial(N, 0.15, size=4000)
    ahead = np.random.default_rng(5).binomial(discordant, 0.5)
    counts = list(zip(ahead.tolist(), (discordant - ahead).tolist(), strict=True))
    rejected = {
        name: sum(p_value(*pair, mid_p=mid_p) < 0.05 for pair in counts)
        for name, mid_p in (("exact", False), ("mid-p", True))
    }
    say("type I error of McNemar", rejected, 4000)
    assert_level(max(rejected.values()) / 4000, 4000)


@simulated(100, 2000)
@pytest.mark.parametrize("area", [0.85, 0.95])
def test_tests_of_a_pair_hold_their_level(area: float, trials: int) -> None:
    rejected = {"DeLong": 0, "McNemar": 0}
    for pair in correlated_pairs((area, area), trials, seed=6):
        rejected["DeLong"] += delong_test(LABELS, *pair).p_value < 0.05
        rejected["McNemar"] += mcnemar_test(LABELS, *pair).p_value < 0.05
    say(f"type I error at area {area}", rejected, trials)
    assert_level(max(rejected.values()) / trials, trials)


ALIKE = [(0.92, 0.6), (0.95, 0.97)]
"""Area, correlation of the scores: two networks, and one network on two devices."""


@simulated(60, 1000, 2000)
@pytest.mark.parametrize(("area", "correlation"), ALIKE)
def test_the_paired_bootstrap_holds_its_level(area: float, correlation: float, trials: int, draws: int) -> None:
    rejected = {f"{name} {kind}": 0 for kind in ("percentile", "bca") for name in ("accuracy", "f1_binary", "auc")}
    for trial, pair in enumerate(correlated_pairs((area, area), trials, 7, correlation)):
        found = paired_distributions(LABELS, *pair, n=draws, seed=trial)
        assert found["auc"].kind == "percentile"
        for key in rejected:
            name, kind = key.split()
            rejected[key] += replace(found[name], kind=kind).p_value() < 0.05
    say(f"type I error of the paired bootstrap at area {area}, correlation {correlation}", rejected, trials)
    assert_level(max(count for key, count in rejected.items() if "percentile" in key) / trials, trials)


@simulated(60, 3000, 500)
@pytest.mark.parametrize(("areas", "correlation"), [((0.85, 0.92), 0.6), ((0.95, 0.97), 0.97)])
def test_claims_of_no_difference_hold_their_level_at_the_margin(
    areas: tuple[float, float], correlation: float, trials: int, draws: int
) -> None:
    margin = round(areas[1] - areas[0], 10)
    low, high = (stats.norm.cdf(stats.norm.ppf(area) / np.sqrt(2)) for area in areas)
    shown: dict[str, int] = {}
    for trial, pair in enumerate(correlated_pairs(areas, trials, 8, correlation)):
        found = paired_distributions(LABELS, *pair, n=draws, seed=trial)
        for claim in ("equivalent", "non-inferior"):
            tests = {
                "area by DeLong": delong_equivalence(LABELS, *pair, margin, claim=claim),
                "area by bootstrap": bootstrap_equivalence(found["auc"], margin, claim=claim),
                "accuracy by Tango": accuracy_equivalence(LABELS, *pair, high - low, claim=claim),
                "F1 by bootstrap": bootstrap_equivalence(found["f1_binary"], high - low, claim=claim),
            }
            for name, test in tests.items():
                shown[f"{claim}, {name}"] = shown.get(f"{claim}, {name}", 0) + test.shown
    say(f"type I error at areas {areas}, correlation {correlation}", shown, trials)
    assert_level(max(shown.values()) / trials, trials)


@simulated(60, 4000)
def test_tests_over_seeds_hold_their_level(trials: int) -> None:
    rng = np.random.default_rng(9)
    common = rng.normal(scale=0.02, size=(trials, 8, 1))
    rejected = {"t, 5 seeds": 0, "Wilcoxon, 8 seeds": 0, "TOST, 5 seeds": 0}
    for first, second in (0.9 + common + rng.normal(scale=0.01, size=(trials, 8, 2))).transpose(0, 2, 1):
        rejected["t, 5 seeds"] += paired_seeds_test(first[:5], second[:5]).p_value < 0.05
        rejected["Wilcoxon, 8 seeds"] += paired_seeds_test(first, second, method="wilcoxon").p_value < 0.05
        rejected["TOST, 5 seeds"] += paired_t_equivalence(first[:5] + 0.02, second[:5], 0.02).shown
    say("type I error over seeds", rejected, trials)
    assert_level(max(rejected.values()) / trials, trials)


@simulated(60, 1000)
def test_holm_keeps_the_error_of_a_family(trials: int) -> None:
    # Four arms as good as the reference, with p-values that hang together through it.
    rng = np.random.default_rng(10)
    shift = np.sqrt(2) * stats.norm.ppf(0.9) * (LABELS - 0.5)
    errors = {"Holm": 0, "without": 0}
    for _ in range(trials):
        shared = np.sqrt(0.5) * rng.normal(size=N) + shift
        reference, *arms = (of_score(shared + np.sqrt(0.5) * rng.normal(size=N)) for _ in range(5))
        p_values = [delong_test(LABELS, arm, reference).p_value for arm in arms]
        errors["Holm"] += min(holm(p_values)) < 0.05
        errors["without"] += min(p_values) < 0.05
    say("error of a family of four", errors, trials)
    assert_level(errors["Holm"] / trials, trials)
    assert errors["without"] > 0.06 * trials


@simulated(30, 1000, 500)
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_seeds_and_samples_cover_and_hold_their_level(spread: float, trials: int, draws: int) -> None:
    # Two arms of five seeds whose skill differs from seed to seed, equal on average: P(right) = Phi(skill / sqrt 2).
    rng = np.random.default_rng(11)
    truth = stats.norm.cdf(1.5 / np.sqrt(2 + spread**2))
    covered, rejected = 0, 0
    for trial in range(trials):
        hard = rng.normal(size=N)
        skill = 1.5 + rng.normal(scale=spread, size=(2, 5, 1))
        right = rng.normal(size=(2, 5, N)) + hard < skill
        arms = np.eye(2)[np.where(right, LABELS, 1 - LABELS)]
        settings = {"n": draws, "seed": trial}
        low, high = seeds_and_samples(LABELS, arms[0], **settings)["accuracy"].interval()
        covered += low <= truth <= high
        rejected += seeds_and_samples(LABELS, *arms, **settings)["accuracy"].p_value() < 0.05
    say(f"seeds and samples, spread {spread}", {"coverage": covered, "type I error": rejected}, trials)
    assert covered / trials >= 0.92 - slack(trials)
    assert_level(rejected / trials, trials)
