"""HQCNN: its backbone, attention of expectation values to features on every path, and the experiment itself."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.numpy import load_file
from safetensors.torch import save_file
from scipy.special import softmax
from small_run import small_run

from qhybrid.errors import InputError
from qhybrid.experiments.adaptation import adapt
from qhybrid.experiments.adaptation_fits import fit_rescale
from qhybrid.experiments.backbones import build_backbone
from qhybrid.experiments.cells import CellTask, compute_cell
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.grid import Cell
from qhybrid.experiments.heads import QuantumHead, build_head
from qhybrid.experiments.model import build_classifier, parameter_counts
from qhybrid.experiments.prediction import predict
from qhybrid.experiments.runs import Run, open_run
from qhybrid.experiments.spec import (
    DeviceChoice,
    ExperimentSpec,
    ModelSpec,
    experiment_toml,
    load_experiment,
    override,
)
from qhybrid.experiments.study_arms import resolve_arms
from qhybrid.experiments.training import train
from qhybrid.storage import read_arrays

STATEVECTOR = DeviceChoice(name="qhybrid.statevector")


def head_of(**settings: Any) -> QuantumHead:
    spec = ModelSpec(feature_dim=6, **settings)
    head = build_head(spec, n_classes=3, circuit=spec.circuit, device=STATEVECTOR, seed=1)
    assert isinstance(head, QuantumHead)
    return head


@pytest.mark.parametrize("size", [28, 29, 64])
def test_cnn5_is_small_and_takes_images_from_28_pixels_on(size: int) -> None:
    cnn, width = build_backbone("cnn5", "none")
    assert sum(isinstance(part, torch.nn.Conv2d) for part in cnn) == 5
    assert sum(parameter.numel() for parameter in cnn.parameters()) == 69_968
    features = cnn(torch.rand(2, 3, size, size))
    assert features.shape == (2, width, size // 4, size // 4)
    assert bool((features >= 0).all())


def test_cnn5_takes_weights_of_its_own_and_no_others(tmp_path: Path) -> None:
    cnn, _ = build_backbone("cnn5", "none")
    state = {name: value.clone() for name, value in cnn.state_dict().items()}
    save_file(state, tmp_path / "cnn5.safetensors")
    read, _ = build_backbone("cnn5", str(tmp_path / "cnn5.safetensors"))
    assert all(torch.equal(value, state[name]) for name, value in read.state_dict().items())
    with pytest.raises(InputError, match=r"these are not weights of resnet18$"):
        build_backbone("resnet18", str(tmp_path / "cnn5.safetensors"))
    with pytest.raises(InputError, match=r"backbone 'cnn5' has no ImageNet weights: give weights = 'none' or a file"):
        override(ExperimentSpec(), {"model.backbone": "cnn5", "model.weights": "imagenet"})


@pytest.mark.parametrize("spread", [None, 0.5])
def test_the_softmax_of_the_expectation_values_weights_the_encoded_features(spread: float | None) -> None:
    head = head_of(circuit="hqcnn_4q", attention="features", angle_spread=spread)
    features = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    trained = head(features)  # batch normalisation has seen this batch once
    if head.norm is not None:
        assert int(head.norm.num_batches_tracked) == 1
    trained.sum().backward()
    assert head.projection.weight.grad is not None
    assert bool((head.layer.weights.grad != 0).all())
    head.eval()
    with torch.no_grad():
        encoded = head.quantum_features(features)
        values = head.layer(encoded)
        expected = head.classifier(torch.from_numpy(softmax(values.numpy(), axis=1)) * encoded)
        torch.testing.assert_close(head(features), expected)
        torch.testing.assert_close(head.logits(values, features), expected)
        plain = head_of(circuit="hqcnn_4q", angle_spread=spread).eval()
        torch.testing.assert_close(plain.logits(values, features), plain.classifier(values))


def test_attention_needs_an_observable_for_each_feature() -> None:
    with pytest.raises(InputError) as caught:
        head_of(circuit="sda_qec_4q", attention="features")
    needs = "attention = 'features' needs an observable for each feature; circuit 'sda_qec_4q' has 4 for 16"
    assert str(caught.value) == needs


def test_experiments_without_attention_have_the_text_and_the_name_that_they_had() -> None:
    spec = ExperimentSpec()
    assert "attention" not in experiment_toml(spec)
    changed = override(spec, {"model.attention": "features"})
    assert 'attention = "features"' in experiment_toml(changed)
    assert override(changed, {"model.attention": "none"}) == spec
    with pytest.raises(InputError, match=r"key 'model\.attention' is 'feature': input should be 'none' or 'features'"):
        override(spec, {"model.attention": "feature"})


@pytest.fixture(scope="module")
def attending(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("attending"), n_classes=3, model__attention="features")


def logits_of(run: Run, values: np.ndarray, split: str = "test") -> np.ndarray:
    """By hand: the features that the circuit reads are those of the run, since there are four of them."""
    state = load_file(run.path / "model.safetensors")
    weighted = softmax(values, axis=-1) * run.features(split).features
    return weighted @ state["head.classifier.weight"].T + state["head.classifier.bias"]


def test_evaluations_on_devices_use_the_features_of_their_samples(attending: Run) -> None:
    for options in ({"shots": 50, "repeats": 3}, {"device": "lightning.qubit"}):
        evaluation = evaluate(attending, console=Console(file=io.StringIO()), **options)
        found = evaluation.predictions
        np.testing.assert_allclose(found.logits, logits_of(attending, found.expectation_values), atol=1e-5)
        if found.repeated_expectation_values is None:
            continue
        assert found.reference_expectation_values is not None
        exact = logits_of(attending, found.reference_expectation_values)
        np.testing.assert_allclose(found.reference_probabilities, softmax(exact, axis=1), atol=1e-5)
        each = [logits_of(attending, values) for values in found.repeated_expectation_values]
        np.testing.assert_allclose(found.repeated_probabilities, softmax(each, axis=2), atol=1e-5)
        labels = attending.features("test").labels
        right = [(logits.argmax(axis=1) == labels).mean() for logits in each]
        assert [repeat["accuracy"] for repeat in evaluation.repeats] == pytest.approx(right)


@pytest.mark.parametrize("method", ["head", "rescale"])
def test_adaptations_fit_what_the_last_layer_receives(attending: Run, method: str) -> None:
    found = adapt(attending, method=method, shots=20, console=Console(file=io.StringIO()))
    stored = load_file(attending.path / "adaptations" / f"{found.name}.safetensors")
    noisy, after = found.noisy.predictions.expectation_values, found.adapted.predictions
    features = attending.features("test").features
    if method == "head":
        expected = (softmax(noisy, axis=1) * features) @ stored["weight"].T + stored["bias"]
        np.testing.assert_array_equal(after.expectation_values, noisy)
    else:
        assert set(stored) == {"factor", "offset"}
        assert bool((stored["factor"] < 1).all())
        expected = logits_of(attending, noisy * stored["factor"] + stored["offset"])
    np.testing.assert_allclose(after.logits, expected, atol=2e-4)


@pytest.mark.parametrize("method", [None, "head", "rescale"])
def test_cells_of_a_comparison_do_too(attending: Run, method: str | None) -> None:
    cell = Cell("qhybrid.density", shots=30, repeats=2, adapt=method)
    file = Path(compute_cell(CellTask(str(attending.path), cell, "test", None, 0, 0.02)))
    names = ("repeated_expectation_values", "repeated_probabilities", "probabilities", "expectation_values")
    arrays = read_arrays(file.with_suffix(".npz"), names)
    if method == "head":
        assert (arrays["repeated_probabilities"][0] != arrays["repeated_probabilities"][1]).any()
        return
    for values, probabilities in (
        ("repeated_expectation_values", "repeated_probabilities"),
        ("expectation_values", "probabilities"),
    ):
        expected = softmax(logits_of(attending, arrays[values]), axis=-1)
        np.testing.assert_allclose(arrays[probabilities], expected, atol=1e-5)


def test_rescaling_of_exact_values_changes_nothing() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, size=(20, 4))
    fit = fit_rescale(values, values, np.ones((2, 4)), np.zeros(2))
    np.testing.assert_allclose(fit.rescaled(values), values, atol=1e-12)


def write_images(path: Path, n_classes: int, shape: tuple[int, ...]) -> Path:
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 24), ("val", 9), ("test", 9)):
        labels = np.arange(count) % n_classes
        pixels = rng.integers(0, 90, size=(count, *shape)) + 50 * labels.reshape(-1, *[1] * len(shape))
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(("n_classes", "shape"), [(2, (28, 28)), (3, (28, 28, 3))], ids=["binary grey", "three RGB"])
def test_hqcnn_trains_on_a_medmnist_file_and_runs_elsewhere(
    tmp_path: Path, n_classes: int, shape: tuple[int, ...]
) -> None:
    images = write_images(tmp_path / "images.npz", n_classes, shape)
    quick = {"data.source": f"medmnist:{images}", "train.epochs": 1, "train.batch_size": 12}
    spec = load_experiment("hqcnn", quick).model_copy(update={"study": None})
    run = open_run(train(spec, out=tmp_path / "runs", console=Console(file=io.StringIO())).path)
    assert run.data["parameters"]["head"] == 68 + 18 + 5 * n_classes
    assert run.data["parameters"]["total"] < 100_000
    there = evaluate(run, device="qhybrid.density", shots=64, console=Console(file=io.StringIO())).predictions
    assert there.probabilities.shape == (9, n_classes)
    here = evaluate(run, console=Console(file=io.StringIO())).predictions
    assert there.reference_probabilities is not None
    np.testing.assert_allclose(there.reference_probabilities, here.probabilities, atol=1e-6)
    Image.fromarray(np.load(images)["test_images"][0]).save(tmp_path / "first.png")
    np.testing.assert_allclose(predict(run, [tmp_path / "first.png"])[0], here.probabilities[0], atol=1e-4)


def test_the_twin_is_as_large_and_arms_differ_in_one_thing() -> None:
    spec = load_experiment("hqcnn")
    arms = {arm.name: arm.spec for arm in resolve_arms(spec)}
    for n_classes in (2, 7, 11):
        counts = {}
        for name, arm in arms.items():
            model = build_classifier(arm.model, n_classes=n_classes, circuit="hqcnn_4q", device=arm.device)
            counts[name] = parameter_counts(model, arm.model, circuit="hqcnn_4q", n_classes=n_classes)
        assert counts["hqcnn"] == counts["expectation values"]
        assert counts["hqcnn"]["head"] <= counts["twin"]["head"] <= 1.08 * counts["hqcnn"]["head"]
        assert {each["backbone"] for each in counts.values()} == {71_008}
