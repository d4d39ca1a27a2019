"""Adapting a run to a noisy device: what is fitted, on what, and what it is worth."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.numpy import load_file
from scipy.optimize import minimize
from small_run import COUNTS, small_run

from qhybrid.data.augment import synthetic_count
from qhybrid.errors import InputError
from qhybrid.experiments.adaptation import Adaptation, adapt
from qhybrid.experiments.adaptation_fits import (
    INVERSE_STRENGTHS,
    cross_entropy,
    fit_head,
    fit_rescale,
)
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.evaluation_table import adaptation_notes, adaptation_table
from qhybrid.experiments.runs import Features, Run
from qhybrid.storage import read_arrays, read_json

NOISE: dict[str, Any] = {"device": "qiskit.aer", "noise": "ibm_torino", "noise_scale": 20.0, "layout_seeds": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module", params=["head", "rescale"])
def adaptation(request: pytest.FixtureRequest, run: Run) -> Adaptation:
    return adapt(run, method=request.param, **NOISE)


def _samples(seed: int, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_classes)
    return np.tanh(0.5 * rng.normal(size=(n_classes, 3))[labels] + 0.3 * rng.normal(size=(n, 3))), labels


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_head_is_the_minimum_of_the_penalised_loss(n_classes: int) -> None:
    values, labels = _samples(0, 80, n_classes)
    held_out, their_labels = _samples(0, 50, n_classes)
    weights = np.linspace(1, 2, n_classes)
    fit = fit_head(values, labels, held_out, their_labels, class_weights=weights)
    standard = (values - values.mean(axis=0)) / values.std(axis=0)

    def loss(parameters: np.ndarray) -> float:
        weight, bias = parameters[: 3 * n_classes].reshape(n_classes, 3), parameters[3 * n_classes :]
        logits = standard @ weight.T + bias
        log_sum = np.log(np.exp(logits).sum(axis=1))
        entropies = log_sum - logits[np.arange(80), labels]
        # For two classes scikit-learn penalises the difference w of their weights: |w|^2 = 2 |W|^2 for w = 2 W.
        penalty = (2 if n_classes == 2 else 1) * (weight**2).sum() / 2
        return float(fit.numbers["C"] * (weights[labels] * entropies).sum() + penalty)

    found = minimize(loss, np.zeros(4 * n_classes), tol=1e-10).x
    expected = standard @ found[: 3 * n_classes].reshape(n_classes, 3).T + found[3 * n_classes :]
    logits = values @ fit.weight.T + fit.bias
    differences = [each - each[:, :1] for each in (logits, expected)]
    np.testing.assert_allclose(differences[0], differences[1], atol=2e-2)
    assert fit.numbers["validation_cross_entropy"] == pytest.approx(
        cross_entropy(held_out @ fit.weight.T + fit.bias, their_labels)
    )


def test_the_head_does_not_care_how_much_noise_shrinks_the_values() -> None:
    values, labels = _samples(1, 80, 2)
    held_out, their_labels = _samples(1, 60, 2)
    shrink, shift = np.array([0.9, 0.3, 0.02]), np.array([0.1, -0.2, 0.0])
    ones = np.ones(2)
    before = fit_head(values, labels, held_out, their_labels, class_weights=ones)
    after = fit_head(values * shrink + shift, labels, held_out * shrink + shift, their_labels, class_weights=ones)
    np.testing.assert_allclose(
        (values * shrink + shift) @ after.weight.T + after.bias, values @ before.weight.T + before.bias, atol=1e-3
    )


def test_the_strength_is_the_best_on_the_validation_split_and_noise_alone_gives_the_strongest() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(30, 4)), np.arange(30) % 2
    held_out, their_labels = rng.normal(size=(200, 4)), np.arange(200) % 2
    fit = fit_head(values, labels, held_out, their_labels, class_weights=np.ones(2))
    assert fit.numbers["C"] <= 1e-2
    assert fit.numbers["validation_cross_entropy"] == pytest.approx(np.log(2), abs=0.02)
    assert INVERSE_STRENGTHS[0] < INVERSE_STRENGTHS[-1]


def test_an_expectation_value_that_never_changes_gets_no_weight() -> None:
    values, labels = _samples(2, 60, 2)
    values[:, 1] = 0.123
    fit = fit_head(values, labels, values, labels, class_weights=np.ones(2))
    assert (fit.weight[:, 1] == 0).all()
    rescale = fit_rescale(values, values + 0.1, np.ones((2, 3)), np.zeros(2))
    assert rescale.factor is not None
    assert rescale.offset is not None
    assert rescale.factor[1] == 0
    assert rescale.offset[1] == pytest.approx(0.223)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 40))
def test_rescaling_is_least_squares_column_by_column(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    exact = rng.uniform(-1, 1, size=(n, 3))
    noisy = exact * rng.uniform(0.1, 1, 3) + 0.1 * rng.normal(size=(n, 3))
    weight, bias = rng.normal(size=(2, 3)), rng.normal(size=2)
    fit = fit_rescale(noisy, exact, weight, bias)
    lines = [np.polyfit(noisy[:, column], exact[:, column], 1) for column in range(3)]
    np.testing.assert_allclose(fit.factor, [line[0] for line in lines], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit.offset, [line[1] for line in lines], rtol=1e-6, atol=1e-9)
    mapped = noisy * fit.factor + fit.offset
    np.testing.assert_allclose(noisy @ fit.weight.T + fit.bias, mapped @ weight.T + bias, atol=1e-12)
    assert fit.numbers["rms_after"] <= fit.numbers["rms_before"] + 1e-12


def test_a_subset_keeps_the_shares_of_the_classes() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    stored = Features(np.zeros((100, 1), np.float32), labels, np.arange(100).astype(str))
    kept = stored.drawn(20, seed=1)
    assert np.bincount(kept.labels).tolist() == [12, 6, 2]
    assert len(set(kept.ids)) == 20
    assert kept.ids.tolist() != stored.drawn(20, seed=2).ids.tolist()
    assert stored.drawn(1000, seed=0).ids.tolist() == stored.ids.tolist()


def test_what_noise_took_is_recovered(adaptation: Adaptation) -> None:
    labels = adaptation.noisy.predictions.labels
    noisy, adapted = (cross_entropy(each.predictions.logits, labels) for each in (adaptation.noisy, adaptation.adapted))
    assert adapted < noisy - 0.02
    reference = adaptation.adapted.reference
    before = adaptation.noisy.reference
    assert reference is not None
    assert before is not None
    if adaptation.method == "rescale":
        assert reference.rms < 0.3 * before.rms
    else:
        assert reference.rms == before.rms  # only the last layer is new


def test_everything_is_stored(run: Run, adaptation: Adaptation) -> None:
    name = f"{adaptation.method}-qiskit.aer-ibm_torino_x20-analytic-seed0"
    assert adaptation.name == name
    layer = load_file(run.path / "adaptations" / f"{name}.safetensors")
    noisy, adapted = (
        read_arrays(run.path / "predictions" / f"{each}.npz", ("expectation_values", "logits", "probabilities"))
        for each in (adaptation.noisy.name, adaptation.adapted.name)
    )
    np.testing.assert_allclose(
        noisy["expectation_values"] @ layer["weight"].T + layer["bias"], adapted["logits"], atol=1e-5
    )
    stored = read_json(run.path / "adaptations" / f"{name}.json")
    assert stored["fitted_on"] == {
        "splits": ["train", "validation"] if adaptation.method == "head" else ["train"],
        "training_samples": COUNTS["train"],
    }
    assert stored["device"]["noise"]["name"] == "ibm_torino"
    assert stored["device"]["tracker"]["batches"] == 2  # one for the split, one for what is fitted on
    for name in (adaptation.noisy.name, adaptation.adapted.name):
        results = read_json(run.path / "results" / f"{name}.json")
        metric = stored["metrics"]["accuracy"]
        key = "noisy" if name == adaptation.noisy.name else "adapted"
        assert results["metrics"]["accuracy"]["value"] == metric[key]
        assert results["reference"]["metrics"]["accuracy"]["value"] == metric["exact"]
    assert stored["metrics"]["auc"]["adapted_minus_noisy"][0] == pytest.approx(
        stored["metrics"]["auc"]["adapted"] - stored["metrics"]["auc"]["noisy"]
    )


def test_as_it_is_equals_what_eval_gives(run: Run) -> None:
    options = NOISE | {"shots": 40, "seed": 5}
    adapted = adapt(run, **options).noisy
    evaluated = evaluate(run, **options)
    assert adapted.name == evaluated.name
    np.testing.assert_array_equal(adapted.predictions.expectation_values, evaluated.predictions.expectation_values)
    assert adapted.metrics == evaluated.metrics
    assert adapted.device["tracker"] == evaluated.device["tracker"]


@pytest.mark.parametrize(("method", "looked_at"), [("head", ["train", "validation"]), ("rescale", [])])
def test_no_label_is_looked_at_but_those_that_are_said(method: str, looked_at: list[str], tmp_path: Path) -> None:
    fits = {}
    for changed in ("nothing", "train", "validation", "test"):
        run = small_run(tmp_path)
        if changed != "nothing":
            stored = run.features(changed)
            run.write_features(changed, replace(stored, labels=1 - stored.labels))
        name = adapt(run, method=method, **NOISE).name
        fits[changed] = (run.path / "adaptations" / f"{name}.safetensors").read_bytes()
    assert [changed for changed, fit in fits.items() if fit != fits["nothing"]] == looked_at


def test_classes_count_as_they_did_in_the_training(tmp_path: Path) -> None:
    run = small_run(tmp_path, augment__kind="diffusion", augment__rho=1.0)
    stored = run.features("train")
    kept = np.flatnonzero((stored.labels == 0) | (np.arange(len(stored.labels)) % 3 == 0))
    fewer = replace(stored, features=stored.features[kept], labels=stored.labels[kept], ids=stored.ids[kept])
    run.write_features("train", fewer)
    n_negative, n_positive = np.bincount(fewer.labels).tolist()
    weights = adapt(run, **NOISE).fit.numbers["class_weights"]
    assert weights == [1.0, 1 + synthetic_count(n_negative, n_positive, 1.0) / n_positive]
    assert weights[1] * n_positive == n_negative


def test_three_classes_few_samples_and_shots(tmp_path: Path) -> None:
    run = small_run(tmp_path, n_classes=3)
    for method in ("head", "rescale"):
        adapted = adapt(run, method=method, limit=12, shots=200, **NOISE)
        assert adapted.name == f"{method}-qiskit.aer-ibm_torino_x20-200shots-limit12-seed0"
        assert adapted.n_training == 12
        assert (adapted.adapted.predictions.stderr > 0).all()
        assert adapted.adapted.metrics["accuracy"] > 0.6


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_shows_exact_noisy_and_adapted_on_one_line(adaptation: Adaptation, width: int) -> None:
    text = io.StringIO()
    console = Console(file=text, width=width)
    console.print(adaptation_table(adaptation))
    for line in adaptation_notes(adaptation):
        console.print(line)
    (row,) = [line for line in text.getvalue().splitlines() if line.startswith("specificity")]
    assert row.count("[") == 2
    assert f"{adaptation.adapted.metrics['specificity']:.3f}" in row
    assert "90 training samples" in text.getvalue()
    assert "calibrated 2025-02-26" in text.getvalue()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (NOISE | {"method": "haed"}, "unknown method 'haed'; did you mean 'head'"),
        (NOISE | {"split": "train"}, "'head' is fitted on 'train'"),
        (NOISE | {"split": "validation"}, "'head' is fitted on 'validation'"),
        (NOISE | {"split": "train", "method": "rescale"}, "'rescale' is fitted on 'train'"),
        (NOISE | {"split": "tset"}, "unknown split 'tset'"),
        (NOISE | {"limit": 1}, "limit = 1: at least 2 training samples"),
        ({}, "qhybrid.statevector is exact and without noise here: there is nothing to adapt to"),
        ({"device": "lightning.qubit", "noise": "ibm_torino"}, "takes no noise model"),
        ({"noise": "ibm_torino", "shots": 10**12}, "shots = 1000000000000"),
        ({"noise_scale": 2.0}, "give --noise"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(run: Run, options: dict[str, Any], said: str) -> None:
    before = sorted(run.path.rglob("*"))
    with pytest.raises(InputError, match=said) as caught:
        adapt(run, **options)
    assert "\n" not in str(caught.value)
    assert sorted(run.path.rglob("*")) == before


def test_a_classical_head_has_nothing_to_adapt(tmp_path: Path) -> None:
    run = small_run(tmp_path, model__head="mlp")
    with pytest.raises(InputError, match="mlp head without a quantum layer"):
        adapt(run, noise="ibm_torino")
