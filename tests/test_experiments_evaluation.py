import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from qhybrid.errors import InputError
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.evaluation_table import metrics_table
from qhybrid.experiments.prediction import predict
from qhybrid.experiments.runs import Run, open_run
from qhybrid.experiments.spec import ExperimentSpec, override
from qhybrid.experiments.training import train
from qhybrid.report.figures import draw_evaluation
from qhybrid.statistics import classification_metrics
from qhybrid.storage import read_arrays, read_json

N_TEST = 12


def _run(folder: Path, *, n_classes: int, **settings: Any) -> Run:
    """A tiny training on images that are saved as PNG as well."""
    rng = np.random.default_rng(1)
    arrays = {}
    for split, count in (("train", 24), ("val", N_TEST), ("test", N_TEST)):
        labels = np.arange(count) % n_classes
        pixels = (rng.integers(0, 120, size=(count, 28, 28)) + 40 * labels[:, None, None]).astype(np.uint8)
        arrays |= {f"{split}_images": pixels, f"{split}_labels": labels[:, None]}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "images.npz", **arrays)
    for number, image in enumerate(arrays["test_images"]):
        Image.fromarray(image).save(folder / f"{number}.png")
    tiny = {
        "data.source": f"medmnist:{folder / 'images.npz'}",
        "data.image_size": 32,
        "model.feature_dim": 16,
        "device.name": "qhybrid.statevector",
        # Enough steps for the running means of batch normalisation, without which all predictions are equal.
        "train.epochs": 3,
        "train.batch_size": 2,
        "train.learning_rate": 1e-3,
    }
    spec = override(ExperimentSpec(name="tiny"), tiny | settings)
    return train(spec, out=folder / "runs", console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(tmp_path_factory.mktemp("binary"), n_classes=2)


@pytest.fixture(scope="module")
def multi_class(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(tmp_path_factory.mktemp("multi"), n_classes=4, **{"model.head": "linear"})


def test_every_device_gives_the_same_probabilities(run: Run) -> None:
    devices = ("qhybrid.statevector", "lightning.qubit", "default.qubit")
    found = [evaluate(run, device=device).predictions.probabilities for device in devices]
    assert np.ptp(found[0], axis=0).max() > 0  # predictions that are all equal would prove nothing
    for probabilities in found[1:]:
        np.testing.assert_allclose(probabilities, found[0], atol=1e-5)


def test_stored_features_give_what_the_images_give(run: Run) -> None:
    folder = Path(run.spec.data.source.removeprefix("medmnist:")).parent
    from_images = predict(run, [folder / f"{number}.png" for number in range(N_TEST)])
    np.testing.assert_allclose(from_images, evaluate(run).predictions.probabilities, atol=1e-5)


def test_predictions_and_results_are_stored_under_a_telling_name(run: Run) -> None:
    evaluation = evaluate(run, shots=200, split="validation", seed=3)
    assert evaluation.name == "validation-qhybrid.statevector-200shots-seed3"
    stored = read_arrays(
        run.path / "predictions" / f"{evaluation.name}.npz",
        ("ids", "labels", "logits", "probabilities", "expectation_values", "stderr"),
    )
    assert stored["expectation_values"].shape == stored["stderr"].shape == (N_TEST, 4)
    assert (stored["stderr"] > 0).any()
    np.testing.assert_allclose(stored["probabilities"].sum(axis=1), 1)
    results = read_json(run.path / "results" / f"{evaluation.name}.json")
    values = {name: entry["value"] for name, entry in results["metrics"].items()}
    assert values == pytest.approx(classification_metrics(stored["labels"], stored["probabilities"]))
    for entry in results["metrics"].values():
        low, high = entry["bootstrap"]
        assert low <= entry["value"] <= high
    assert results["metrics"]["accuracy"]["wilson"] is not None
    assert results["metrics"]["auc"]["wilson"] is None
    assert np.sum(results["confusion_matrix"]) == results["n_samples"] == N_TEST
    assert results["device"]["shots"] == 200
    assert results["device"]["tracker"]["batches"] == 1
    assert results["device"]["tracker"]["shots"] == 200 * N_TEST
    assert results["data"]["fingerprint"] == run.data["fingerprint"]
    assert {"versions", "git", "command", "seed", "circuit"} <= results.keys()


def test_shots_follow_the_seed(run: Run) -> None:
    first = evaluate(run, shots=50, seed=1).predictions.expectation_values
    np.testing.assert_array_equal(evaluate(run, shots=50, seed=1).predictions.expectation_values, first)
    assert (evaluate(run, shots=50, seed=2).predictions.expectation_values != first).any()


def test_shots_agree_with_the_exact_values(run: Run) -> None:
    exact = evaluate(run).predictions
    sampled = evaluate(run, shots=4000, seed=5).predictions
    assert (exact.stderr == 0).all()
    deviations = np.abs(sampled.expectation_values - exact.expectation_values)
    assert (deviations <= 5 * np.maximum(sampled.stderr, 1e-3)).all()


def test_the_table_shows_value_and_interval(run: Run) -> None:
    evaluation = evaluate(run)
    shown = io.StringIO()
    Console(file=shown, width=120).print(metrics_table(evaluation))
    (low, high), kind = evaluation.interval("accuracy")
    assert kind == "Wilson"
    assert f"{evaluation.metrics['accuracy']:.3f} [{low:.3f}, {high:.3f}]" in shown.getvalue()
    assert "F1, macro" in shown.getvalue()
    assert "qhybrid.statevector" in shown.getvalue()


def test_more_than_two_classes_are_measured_and_drawn(multi_class: Run) -> None:
    evaluation = evaluate(multi_class)
    assert evaluation.name == "test-classical-seed0"
    assert evaluation.predictions.probabilities.shape == (N_TEST, 4)
    assert evaluation.predictions.expectation_values.shape == (N_TEST, 0)
    assert "f1_binary" not in evaluation.metrics
    assert evaluation.confusion.shape == (4, 4)
    assert all(path.is_file() for path in draw_evaluation(evaluation))


def test_a_device_for_a_classical_head_is_refused(multi_class: Run) -> None:
    with pytest.raises(InputError, match="linear head without a quantum layer"):
        evaluate(multi_class, device="lightning.qubit")


def test_figures_of_a_run_are_drawn(run: Run) -> None:
    paths = draw_evaluation(evaluate(run))
    assert [path.parent for path in paths] == [run.path / "figures"] * 3
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"device": "lightning.qubitt"}, "unknown device 'lightning.qubitt'; did you mean"),
        ({"split": "tests"}, "unknown split 'tests'; did you mean 'test'"),
        ({"shots": -1}, "shots"),
        ({"device": "lightning.qubit", "noise": "ibm_brisbane"}, "takes no noise model"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(run: Run, arguments: dict[str, Any], said: str) -> None:
    before = sorted(run.path.rglob("*"))
    with pytest.raises(InputError, match=said) as caught:
        evaluate(run, **arguments)
    assert "\n" not in str(caught.value)
    assert sorted(run.path.rglob("*")) == before


def test_missing_and_damaged_images_are_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.png"):
        predict(run, [tmp_path / "nothing.png"])
    (tmp_path / "half.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    with pytest.raises(InputError, match=r"half\.png"):
        predict(run, [tmp_path / "half.png"])


def test_a_run_with_a_damaged_model_is_refused(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    for file in run.path.rglob("*"):
        if file.is_file():
            (copy / file.relative_to(run.path)).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.relative_to(run.path)).write_bytes(file.read_bytes())
    moved = open_run(copy)
    evaluate(moved)  # a moved run works
    (copy / "model.safetensors").write_bytes(b"0" * 50)
    with pytest.raises(InputError, match=r"model\.safetensors: damaged"):
        evaluate(moved)


def test_features_that_are_not_finite_never_reach_a_device(run: Run) -> None:
    head = run.load_head()
    with pytest.raises(InputError, match="NaN or infinity"):
        head(torch.full((2, 16), float("nan")))
