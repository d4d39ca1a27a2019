import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from qhybrid.errors import InputError
from qhybrid.statistics import (
    bootstrap_intervals,
    classification_metrics,
    confusion_matrix,
    metrics_of_weights,
    paired_bootstrap_differences,
    roc_band,
    wilson_interval,
    wilson_intervals,
)


def _predictions(counts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and one-hot probabilities that give this confusion matrix."""
    n_classes = len(counts)
    cells = np.repeat(np.arange(n_classes**2), np.ravel(counts))
    return cells // n_classes, np.eye(n_classes)[cells % n_classes]


def _noisy(n: int, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_classes)
    logits = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[labels]
    probabilities = np.exp(logits)
    return labels, np.round(probabilities / probabilities.sum(axis=1, keepdims=True), 2)  # rounded: with ties


def test_the_papers_resnet18_matrix_gives_the_corrected_table_1() -> None:
    # TP 58 FN 2 FP 5 TN 55, arXiv 2601.18556 Fig. 1; the paper's Table 1 prints .9500/.9394/.9499.
    labels, probabilities = _predictions([[55, 5], [2, 58]])
    values = classification_metrics(labels, probabilities)
    assert round(values["accuracy"], 4) == 0.9417
    assert round(values["precision"], 4) == 0.9206
    assert round(values["f1_binary"], 4) == 0.9431
    assert values["recall"] == pytest.approx(58 / 60)
    assert values["specificity"] == pytest.approx(55 / 60)
    assert values["f1_macro"] == pytest.approx((2 * 55 / (2 * 55 + 7) + 2 * 58 / (2 * 58 + 7)) / 2)
    assert confusion_matrix(labels, probabilities).tolist() == [[55, 5], [2, 58]]


def _by_scikit_learn(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    predicted, n_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    over = {"labels": list(range(n_classes)), "zero_division": 0}
    average = over | {"average": "binary" if n_classes == 2 else "macro"}
    scored = [1] if n_classes == 2 else list(np.unique(labels))
    rates = [
        metrics.recall_score(labels != k, predicted != k, zero_division=0)
        for k in (scored if n_classes == 2 else range(n_classes))
    ]
    values = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "precision": metrics.precision_score(labels, predicted, **average),
        "recall": metrics.recall_score(labels, predicted, **average),
        "specificity": np.mean(rates),
        "f1_macro": metrics.f1_score(labels, predicted, **over, average="macro"),
        "auc": np.mean([metrics.roc_auc_score(labels == k, probabilities[:, k]) for k in scored]),
    }
    return values | ({"f1_binary": metrics.f1_score(labels, predicted, **average)} if n_classes == 2 else {})


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("n", [9, 200])
def test_metrics_equal_scikit_learn(n: int, n_classes: int) -> None:
    for seed in range(4):
        labels, probabilities = _noisy(n, n_classes, seed=seed)
        if seed == 3:  # a class that never occurs, and one that is never predicted
            labels = np.where(labels == 3, 0, labels)
            probabilities[:, 0] = 0
        expected = _by_scikit_learn(labels, probabilities)
        assert classification_metrics(labels, probabilities) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_weighted_metrics_equal_scikit_learn_on_the_resampled_data(n_classes: int) -> None:
    labels, probabilities = _noisy(120, n_classes, seed=1)
    rng = np.random.default_rng(2)
    weights = np.stack([np.bincount(rng.integers(0, 120, 120), minlength=120) for _ in range(5)]).astype(float)
    values = metrics_of_weights(labels, probabilities, weights)
    for row, weight in enumerate(weights.astype(int)):
        expected = _by_scikit_learn(np.repeat(labels, weight), np.repeat(probabilities, weight, axis=0))
        assert {name: value[row] for name, value in values.items()} == pytest.approx(expected, abs=1e-12)


def test_multi_class_metrics_are_means_over_one_against_the_rest() -> None:
    labels, probabilities = _noisy(90, 3, seed=3)
    values = classification_metrics(labels, probabilities)
    assert "f1_binary" not in values
    predicted = probabilities.argmax(axis=1)
    specificities = [np.mean(predicted[labels != k] != k) for k in range(3)]
    assert values["specificity"] == pytest.approx(np.mean(specificities))
    aucs = [metrics.roc_auc_score(labels == k, probabilities[:, k]) for k in range(3)]
    assert values["auc"] == pytest.approx(np.mean(aucs))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_reproduces_newcombe_1998_table_1(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_interval_equals_scipy(confidence: float) -> None:
    for successes, n in ((0, 1), (1, 1), (3, 7), (58, 60), (60, 60), (5000, 9999)):
        limits = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
        assert wilson_interval(successes, n, confidence) == pytest.approx((limits.low, limits.high), abs=1e-12)


def test_wilson_intervals_cover_the_proportions_only() -> None:
    intervals = wilson_intervals(np.array([[55, 5], [2, 58]]))
    assert set(intervals) == {"accuracy", "precision", "recall", "specificity"}
    assert intervals["recall"] == wilson_interval(58, 60)
    assert intervals["precision"] == wilson_interval(58, 63)
    assert set(wilson_intervals(np.eye(3, dtype=np.int64))) == {"accuracy"}
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_bootstrap_of_a_proportion_equals_its_exact_binomial_percentiles() -> None:
    # The stratified bootstrap of recall draws Binomial(60, 52/60) / 60: its percentiles are known exactly.
    labels, probabilities = _predictions([[50, 10], [8, 52]])
    low, high = bootstrap_intervals(labels, probabilities, n=20_000, seed=0, kind="percentile")["recall"]
    assert low == pytest.approx(stats.binom.ppf(0.025, 60, 52 / 60) / 60, abs=1.01 / 60)
    assert high == pytest.approx(stats.binom.ppf(0.975, 60, 52 / 60) / 60, abs=1.01 / 60)


def test_bootstrap_equals_a_plain_loop_over_resampled_data() -> None:
    labels, probabilities = _noisy(60, 2, seed=4)
    rng = np.random.default_rng(5)
    members = [np.flatnonzero(labels == k) for k in (0, 1)]
    areas = []
    for _ in range(500):
        drawn = np.concatenate([rng.choice(member, len(member)) for member in members])
        areas.append(metrics.roc_auc_score(labels[drawn], probabilities[drawn, 1]))
    intervals = bootstrap_intervals(labels, probabilities, n=2000, seed=6, kind="percentile")
    assert intervals["auc"] == pytest.approx(np.percentile(areas, [2.5, 97.5]), abs=0.015)


def test_bootstrap_depends_on_the_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities = _noisy(50, 3, seed=7)
    first = bootstrap_intervals(labels, probabilities, n=200, seed=1)
    assert bootstrap_intervals(labels, probabilities, n=200, seed=1) == first
    assert bootstrap_intervals(labels, probabilities, n=200, seed=2) != first
    monkeypatch.setattr("qhybrid.statistics.resampling.CELLS_PER_CHUNK", 50 * 64)
    chunked = bootstrap_intervals(labels, probabilities, n=200, seed=1)
    assert chunked["accuracy"] == pytest.approx(first["accuracy"], abs=0.05)


def test_roc_band_passes_through_the_curve_of_scikit_learn() -> None:
    labels, probabilities = _noisy(80, 2, seed=8)
    band = roc_band(labels == 1, probabilities[:, 1], n=300, seed=0)
    assert band.auc == pytest.approx(metrics.roc_auc_score(labels, probabilities[:, 1]))
    assert band.auc_interval[0] < band.auc < band.auc_interval[1]
    rates, hits, _ = metrics.roc_curve(labels, probabilities[:, 1])
    for rate, hit in zip(rates, hits, strict=True):
        at = np.searchsorted(band.false_positive_rate, rate - 1e-9)  # 1/40 lies on the grid of 1/200
        assert band.true_positive_rate[at] >= hit - 1e-12
    assert (np.diff(band.true_positive_rate) >= 0).all()
    assert ((band.low <= band.true_positive_rate) & (band.true_positive_rate <= band.high)).mean() > 0.95


@pytest.mark.parametrize(
    ("labels", "probabilities", "said"),
    [
        ([1, 1], [[0.1, 0.9], [0.2, 0.8]], "only class 1 occurs"),
        ([0, 1, 1], [[0.1, 0.9], [0.2, 0.8]], r"shape \(3,\)"),
        ([0, 2], [[0.1, 0.9], [0.2, 0.8]], "from 0 to 1"),
        ([0, 1], [[0.1, float("nan")], [0.2, 0.8]], "not finite"),
        ([], [], "N >= 1"),
    ],
)
def test_impossible_input_is_refused_in_one_line(
    labels: list[int], probabilities: list[list[float]], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        classification_metrics(labels, probabilities)
    assert "\n" not in str(caught.value)


def test_paired_differences_equal_a_bootstrap_written_with_scikit_learn() -> None:
    labels, probabilities = _noisy(60, 2, seed=8)
    other = np.clip(probabilities + np.random.default_rng(9).normal(scale=0.2, size=(60, 1)) * [1, -1], 0, 1)
    found = paired_bootstrap_differences(labels, probabilities, other, n=3000, seed=4, kind="percentile")
    rng = np.random.default_rng(5)
    members = [np.flatnonzero(labels == k) for k in (0, 1)]
    drawn = []
    for _ in range(500):
        sample = np.concatenate([rng.choice(member, len(member)) for member in members])
        of = [metrics.roc_auc_score(labels[sample], each[sample, 1]) for each in (probabilities, other)]
        hits = [np.mean(each[sample].argmax(axis=1) == labels[sample]) for each in (probabilities, other)]
        drawn.append((of[0] - of[1], hits[0] - hits[1]))
    for name, values in zip(("auc", "accuracy"), np.transpose(drawn), strict=True):
        assert found[name] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.2 * np.ptp(values))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_paired_difference_of_equal_predictions_is_nothing_and_its_sign_follows_the_order(n_classes: int) -> None:
    labels, probabilities = _noisy(80, n_classes, seed=6)
    assert set(paired_bootstrap_differences(labels, probabilities, probabilities, n=50).values()) == {(0.0, 0.0)}
    worse = np.roll(probabilities, 1, axis=0)
    forth = paired_bootstrap_differences(labels, probabilities, worse, n=200)
    back = paired_bootstrap_differences(labels, worse, probabilities, n=200)
    for name, (low, high) in forth.items():
        assert back[name] == pytest.approx((-high, -low))
