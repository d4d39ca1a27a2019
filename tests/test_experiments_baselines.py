"""Logistic regression on the features of a run, and the quadratic form that a trained amplitude circuit is."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import runner
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_run import COUNTS, small_run
from tiny_training import experiment, quiet, write_images

from qhybrid.errors import InputError
from qhybrid.experiments.adaptation_fits import INVERSE_STRENGTHS
from qhybrid.experiments.baselines import logistic_regression
from qhybrid.experiments.dequantisation import evaluate_quadratic_form
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.evaluation_table import metrics_table, notes, on_what
from qhybrid.experiments.runs import Features, open_run
from qhybrid.experiments.training import train
from qhybrid.statistics import classification_metrics
from qhybrid.storage import read_arrays


@pytest.mark.parametrize(("head", "n_classes"), [("quantum", 2), ("linear", 3)])
def test_the_baseline_is_the_logistic_regression_of_scikit_learn(tmp_path: Path, head: str, n_classes: int) -> None:
    run = small_run(tmp_path, n_classes=n_classes, model__head=head)
    found = logistic_regression(run)
    training, validation, test = (run.features(split) for split in ("train", "validation", "test"))
    models = []
    for strength in INVERSE_STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(training.features.astype(float), training.labels)
        held_out = model.predict_proba(validation.features)[np.arange(len(validation.labels)), validation.labels]
        models.append((-np.log(held_out).mean(), strength, model))
    loss, strength, model = min(models, key=lambda each: each[0])
    np.testing.assert_allclose(found.predictions.probabilities, model.predict_proba(test.features), atol=1e-3)
    assert found.metrics == classification_metrics(test.labels, found.predictions.probabilities)
    assert found.metrics["accuracy"] > 0.6
    assert found.baseline is not None
    assert found.baseline["C"] == strength
    assert found.baseline["validation_cross_entropy"] == pytest.approx(loss, abs=1e-4)
    assert found.baseline["training_samples"] == 90
    assert found.baseline["parameters"] == 5 * (1 if n_classes == 2 else 3)


def test_the_baseline_is_kept_in_the_run_under_a_name_of_its_own(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    before = run.path.joinpath("model.safetensors").read_bytes()
    evaluated, found = evaluate(run), logistic_regression(run)
    assert (evaluated.name, found.name) == ("test-qhybrid.statevector-analytic-seed0", "test-logistic-seed0")
    result = json.loads((run.path / "results" / "test-logistic-seed0.json").read_text())
    assert result == json.loads(json.dumps(found.to_dict()))
    assert result["head"] == result["baseline"]["name"] == "logistic regression"
    assert result["circuit"] is None
    assert result["baseline"]["fitted_on"] == ["train", "validation"]
    assert result["n_samples"] == 60
    assert "baseline" not in evaluated.to_dict()
    stored = read_arrays(run.path / "predictions" / "test-logistic-seed0.npz", ("ids", "labels", "probabilities"))
    np.testing.assert_array_equal(stored["ids"], run.features("test").ids)
    np.testing.assert_allclose(stored["probabilities"], found.predictions.probabilities)
    assert on_what(found) == "logistic regression"
    assert notes(found) == []
    assert metrics_table(found)
    assert (run.path / "model.safetensors").read_bytes() == before
    again = logistic_regression(open_run(run.path))
    np.testing.assert_array_equal(again.predictions.logits, found.predictions.logits)


def test_the_baseline_weights_classes_as_the_training_did(tmp_path: Path) -> None:
    run = small_run(tmp_path, augment__kind="diffusion", augment__rho=1.0)
    assert logistic_regression(run).baseline["class_weights"] == [1, 1]  # as many of both: nothing to add
    stored = run.features("train")
    kept = np.flatnonzero((stored.labels == 0) | (np.arange(90) < 30))  # 45 against 15
    run.write_features("train", type(stored)(stored.features[kept], stored.labels[kept], stored.ids[kept]))
    assert logistic_regression(run).baseline["class_weights"] == [1, 3]


def test_many_features_and_separable_classes_are_fitted_without_a_warning(tmp_path: Path) -> None:
    run = small_run(tmp_path, model__head="linear", model__feature_dim=256)
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        labels = np.arange(count) % 2
        features = np.maximum(rng.normal(size=(count, 256)) + labels[:, None], 0).astype(np.float32)
        features[:, 7] = 0  # a feature that the ReLU has switched off
        run.write_features(split, Features(features, labels, np.arange(count).astype(str)))
    found = logistic_regression(run)
    assert found.metrics["accuracy"] > 0.95


def test_what_is_fitted_on_is_not_evaluated(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    for split in ("train", "validation"):
        with pytest.raises(InputError, match=f"logistic regression is fitted on '{split}': evaluate it on another"):
            logistic_regression(run, split=split)
    with pytest.raises(InputError, match=r"unknown split 'tset'; did you mean 'test'\?"):
        logistic_regression(run, split="tset")
    stored = run.features("train")
    one = stored.labels == 0
    run.write_features("train", type(stored)(stored.features[one], stored.labels[one], stored.ids[one]))
    with pytest.raises(InputError, match=r"there is no training sample of class 'class 1' to fit on$"):
        logistic_regression(run)
    assert not (run.path / "results").exists()


@pytest.mark.parametrize("head", ["quantum", "quantum-separable", "quantum-frozen"])
@pytest.mark.parametrize("circuit", ["sda_qec", "sda_qec_4q"])
def test_the_quadratic_form_of_a_run_predicts_what_its_circuit_does(tmp_path: Path, circuit: str, head: str) -> None:
    run = small_run(tmp_path, model__circuit=circuit, model__head=head)
    exact = evaluate(run)
    twin = evaluate_quadratic_form(run)
    assert twin.name == "test-quadratic_form-seed0"
    assert twin.reference is not None
    assert twin.reference.flipped == 0
    assert twin.reference.largest < 1e-6
    np.testing.assert_allclose(twin.predictions.logits, exact.predictions.logits, atol=1e-5)
    np.testing.assert_array_equal(twin.predictions.probabilities.argmax(1), exact.predictions.probabilities.argmax(1))
    assert on_what(twin) == "quadratic form"
    assert notes(twin)[0].startswith("against exact values without noise: 0 of 60 predictions flipped")
    result = json.loads((run.path / "results" / f"{twin.name}.json").read_text())
    assert (result["head"], result["device"]["name"]) == (head, "quadratic form")
    some = evaluate_quadratic_form(run, split="validation", limit=10, seed=1)
    assert some.name == "validation-limit10-quadratic_form-seed1"
    assert len(some.predictions.labels) == 10


def test_runs_that_are_no_quadratic_form_are_refused(tmp_path: Path) -> None:
    for settings, said in (
        ({"model__head": "linear"}, "has a linear head without a quantum layer: nothing to dequantise"),
        ({"model__head": "quadratic", "model__circuit": "sda_qec_4q"}, "has a quadratic head without a quantum layer"),
        ({}, "'angle_4q' is no quadratic form of its features"),
        ({"model__head": "quantum-separable"}, "'angle_4q-separable' is no quadratic form of its features"),
    ):
        run = small_run(tmp_path, **settings)
        with pytest.raises(InputError, match=said):
            evaluate_quadratic_form(run)
        assert not (run.path / "results").exists()


def test_the_command_line_evaluates_both_and_refuses_a_device_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = small_run(tmp_path / "runs", model__circuit="sda_qec_4q")
    command = runner(monkeypatch, capfd, tmp_path)
    shown = command("eval", str(run.path), "--baseline", "logistic")
    assert shown.returncode == 0, shown.stderr
    assert "small: test split (n = 60) on logistic regression" in shown.stdout
    assert "test-logistic-seed0.json" in shown.stdout
    shown = command("eval", "--baseline", "quadratic-form", "--split", "validation", "--limit", "10", "--json")
    result = json.loads(shown.stdout)
    assert (result["name"], result["device"]["name"]) == ("validation-limit10-quadratic_form-seed0", "quadratic form")
    assert {file.name for file in (run.path / "figures").iterdir()} >= {"roc-test-logistic-seed0.png"}
    written = {file.name for file in (run.path / "results").iterdir()}
    for given, said in (
        (["logistik"], "unknown baseline 'logistik'; did you mean 'logistic'?"),
        (["logistic", "--shots", "100"], "--baseline logistic runs on no quantum device: it takes no --shots"),
        (["logistic", "--repeats", "3"], "--baseline logistic runs on no quantum device: it takes no --repeats"),
        (["quadratic-form", "--noise-parts", "readout"], "runs on no quantum device: it takes no --noise-parts"),
        (["quadratic-form", "--backend", "ibm_fez"], "runs on no quantum device: it takes no --backend"),
        (["logistic", "--limit", "10"], "--baseline logistic evaluates the whole split: it takes no --limit"),
    ):
        refused = command("eval", str(run.path), "--baseline", *given)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert {file.name for file in (run.path / "results").iterdir()} == written


@pytest.mark.slow
def test_a_trained_run_has_a_classical_twin_and_a_baseline(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images.npz", n_training=20, n_validation=10)
    settings = {"device__name": "lightning.qubit", "device__diff_method": "best", "device__shots": "none"}
    spec = experiment(images, model__circuit="sda_qec", model__feature_dim=256, **settings)
    run = train(spec, out=tmp_path / "runs", console=quiet())
    exact, twin = evaluate(run, split="validation"), evaluate_quadratic_form(run, split="validation")
    np.testing.assert_allclose(twin.predictions.logits, exact.predictions.logits, atol=1e-5)
    assert logistic_regression(run).baseline is not None
