"""The dressed controls: a tensor train before the circuit, and a circuit that makes the weights of an MLP."""

from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import runner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_run import small_run
from tiny_training import experiment, quiet, write_images
from torch.nn import functional

from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.adaptation import adapt
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.heads import ClassifierHead, QuantumHead, build_head, count_parameters
from qhybrid.experiments.heads_classical import MatchedMLPHead
from qhybrid.experiments.heads_generated import GeneratedMLPHead
from qhybrid.experiments.model import load_weights, save_weights
from qhybrid.experiments.prediction import predict
from qhybrid.experiments.runs import Run
from qhybrid.experiments.spec import DeviceChoice, ExperimentSpec, ModelSpec, experiment_toml
from qhybrid.experiments.tensor_train import TensorTrainLinear, tensor_shape
from qhybrid.experiments.training import train
from qhybrid.layer import QuantumLayer
from qhybrid.reference import reference_values
from qhybrid.storage import read_arrays


def head_of(kind: str, *, circuit: str = "angle_4q", seed: int = 0, **model: object) -> ClassifierHead:
    spec = ModelSpec(head=kind, **{"feature_dim": 12, **model})  # type: ignore[arg-type]
    device = DeviceChoice(name="qhybrid.statevector")
    return build_head(spec, n_classes=3, circuit=circuit, device=device, seed=seed)


def generated(seed: int = 0, **model: object) -> GeneratedMLPHead:
    head = head_of("vqc-mlp", seed=seed, **model)
    assert isinstance(head, GeneratedMLPHead)
    return head


def dense(layer: TensorTrainLinear) -> np.ndarray:
    """The matrix of a tensor train (outputs, features), entry by entry from the product of its cores' slices."""
    cores = [core.detach().numpy() for core in layer.cores]
    reads, gives = [core.shape[1] for core in cores], [core.shape[2] for core in cores]
    matrix = np.empty((prod(gives), prod(reads)))
    for row, given_ in enumerate(product(*map(range, gives))):
        for column, read in enumerate(product(*map(range, reads))):
            value = np.eye(1)
            for core, f, o in zip(cores, read, given_, strict=True):
                value = value @ core[:, f, o]
            matrix[row, column] = value[0, 0]
    return matrix


@pytest.mark.parametrize(
    ("n_features", "n_outputs", "rank"), [(256, 4, None), (12, 6, 3), (7, 2, 2), (4, 16, 5), (1, 1, 1)]
)
def test_a_tensor_train_is_the_matrix_of_its_cores(n_features: int, n_outputs: int, rank: int | None) -> None:
    torch.manual_seed(0)
    layer = TensorTrainLinear(n_features, n_outputs, rank=rank)
    features = torch.randn(5, n_features)
    wanted = features.numpy() @ dense(layer).T + layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(features).detach().numpy(), wanted, atol=1e-5)


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 50))
def test_cores_read_all_features_and_give_all_outputs(n_features: int, n_outputs: int, rank: int) -> None:
    shape = tensor_shape(n_features, n_outputs)
    assert prod(read for read, _ in shape) == n_features
    assert prod(given_ for _, given_ in shape) == n_outputs
    assert (1, 1) not in shape or shape == [(1, 1)]
    if n_features * n_outputs < 5000:
        layer = TensorTrainLinear(n_features, n_outputs, rank=rank)
        assert (layer.ranks[0], layer.ranks[-1]) == (1, 1)
        assert max(layer.ranks) <= max(rank, 1)
        assert layer(torch.zeros(2, n_features)).shape == (2, n_outputs)


def test_a_tensor_train_begins_as_large_as_a_linear_layer() -> None:
    torch.manual_seed(0)
    matrices = [dense(TensorTrainLinear(64, 4)) for _ in range(40)]
    assert np.var(matrices) == pytest.approx(1 / (3 * 64), rel=0.2)
    assert tensor_shape(256, 4) == [(4, 2), (4, 2), (4, 1), (4, 1)]
    assert tensor_shape(1280, 6)[0] == (5, 3)


def test_a_tensor_train_of_full_rank_can_be_any_matrix() -> None:
    layer = TensorTrainLinear(6, 4, rank=100)
    assert [tuple(core.shape) for core in layer.cores] == [(1, 3, 2, 4), (4, 2, 2, 1)]
    wanted = torch.randn(4, 6)
    blocks = wanted.reshape(2, 2, 3, 2).permute(2, 0, 3, 1).reshape(6, 4)  # (f_1 o_1, f_2 o_2)
    left, levels, right = torch.linalg.svd(blocks, full_matrices=False)
    with torch.no_grad():
        layer.cores[0].copy_((left * levels).reshape(1, 3, 2, 4))
        layer.cores[1].copy_(right.reshape(4, 2, 2, 1))
    np.testing.assert_allclose(dense(layer), wanted.numpy(), atol=1e-5)


def test_the_head_with_a_tensor_train_is_the_quantum_head_behind_another_projection() -> None:
    head, plain = head_of("tt-quantum", tt_rank=2), head_of("quantum")
    assert isinstance(head, QuantumHead)
    assert isinstance(head.projection, TensorTrainLinear)
    assert max(head.projection.ranks) == 2
    assert isinstance(plain, QuantumHead)
    torch.testing.assert_close(head.layer.weights, plain.layer.weights)
    features = torch.rand(5, 12)
    inputs = features @ torch.from_numpy(dense(head.projection)).float().T + head.projection.bias
    torch.testing.assert_close(head(features), head.classifier(head.layer(inputs)))
    assert count_parameters(head_of("tt-quantum", feature_dim=256)) == 240 + 4 + 8 + 15  # cores, bias, circuit, last
    with pytest.raises(InputError, match="head 'tt-quantum': circuit 'sda_qec_4q' reads all 16 features as they are"):
        head_of("tt-quantum", circuit="sda_qec_4q", feature_dim=16)


@pytest.mark.parametrize("kind", ["tt-quantum", "vqc-mlp"])
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    head = head_of(kind, feature_dim=6, hidden_units=3, tt_rank=2, seed=4).double()
    names = [name for name, value in head.named_parameters() if value.requires_grad]
    values = [value.detach().clone().requires_grad_() for value in head.parameters()]
    features = torch.rand(3, 6, dtype=torch.float64, requires_grad=True)

    def loss(rows: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(head, dict(zip(names, parameters, strict=True)), (rows,))
        return functional.cross_entropy(logits, torch.arange(3))

    assert torch.autograd.gradcheck(loss, (features, *values), eps=1e-6, atol=1e-7)


def test_the_generated_head_is_an_mlp_with_weights_from_dense_matrices() -> None:
    head = generated(hidden_units=5)
    circuit, double = load_circuit("angle_4q"), torch.float64
    values = reference_values(circuit, head.inputs.detach().to(double), head.layer.weights.detach().to(double))
    first = values.numpy() @ head.generator.weight.detach().numpy().T / np.sqrt(12)
    features = torch.rand(7, 12)
    hidden = np.maximum(features.numpy() @ first.T + head.bias.detach().numpy(), 0)
    wanted = hidden @ head.classifier.weight.detach().numpy().T + head.classifier.bias.detach().numpy()
    np.testing.assert_allclose(head(features).detach().numpy(), wanted, atol=1e-5)
    np.testing.assert_allclose(head.eval()(features).detach().numpy(), wanted, atol=1e-5)
    assert count_parameters(head) == 5 * 4 + 8 + 4 * 12 + 5 + (5 + 1) * 3
    twin = head_of("mlp", hidden_units=5)
    assert isinstance(twin, MatchedMLPHead)
    assert count_parameters(twin) == (12 + 1) * 5 + (5 + 1) * 3


def test_weights_are_made_once_a_step_in_training_and_once_for_all_batches_in_evaluation() -> None:
    head = generated()
    tracker = head.layer.device.tracker
    for size in (2, 50):
        head(torch.rand(size, 12))
    assert (tracker.batches, tracker.circuits) == (2, 2 * 16)
    head.eval()
    for size in (3, 20):
        head(torch.rand(size, 12))
    assert tracker.batches == 3
    kept = head.first_layer.clone()
    with torch.no_grad():
        head.layer.weights += 0.3
    head.training = True  # as Lightning goes back to training: without a call of train()
    head(torch.rand(2, 12))
    head.eval()(torch.rand(2, 12))
    assert (head.first_layer != kept).all()


def test_a_head_that_was_kept_predicts_without_a_device(tmp_path: Path) -> None:
    head, features = generated(seed=1).eval(), torch.rand(6, 12)
    wanted = head(features)
    save_weights(head, tmp_path / "head.safetensors")
    other = load_weights(generated(seed=2), tmp_path / "head.safetensors").eval()
    torch.testing.assert_close(other(features), wanted)
    assert other.layer.device.tracker.batches == 0
    alone = other.without_device()
    assert alone.layer is None
    torch.testing.assert_close(alone(features), wanted)
    never_made = generated(seed=1)
    torch.testing.assert_close(never_made.without_device()(features), wanted)


def with_learnt_weights(run: Run) -> Run:
    """The run with weights that its head has kept, as after a training."""
    head = run.load_head()
    head(torch.zeros(1, 4))
    save_weights(torch.nn.ModuleDict({"head": head}), run.path / "model.safetensors")
    return run


def test_a_device_that_is_asked_for_makes_the_weights_anew(tmp_path: Path) -> None:
    run = with_learnt_weights(small_run(tmp_path, model__head="vqc-mlp", model__hidden_units=6))
    classical = evaluate(run)
    assert (classical.name, classical.device) == ("test-classical-seed0", {})
    exact = evaluate(run, device="default.qubit")
    np.testing.assert_allclose(exact.predictions.logits, classical.predictions.logits, atol=1e-5)
    assert exact.device["tracker"]["circuits"] == 6  # not one a sample

    noisy = evaluate(run, device="qhybrid.density", noise="ibm_fez", layout_seeds=2)
    head = run.load_head(DeviceChoice(name="qhybrid.statevector"))
    layer = QuantumLayer("angle_4q", "qhybrid.density", noise="ibm_fez", layout_seeds=2)
    with torch.no_grad():
        layer.weights.copy_(head.layer.weights)
        values = layer.estimate(head.inputs).values
        logits = head.logits(values, torch.from_numpy(run.features("test").features))
    np.testing.assert_allclose(noisy.predictions.logits, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(noisy.predictions.expectation_values, values.numpy(), atol=1e-6)
    assert noisy.reference is not None
    assert noisy.reference.reference == classical.metrics
    assert np.abs(noisy.predictions.logits - classical.predictions.logits).max() > 1e-4
    drawn = evaluate(run, device="qhybrid.statevector", shots=30, repeats=4)
    assert drawn.predictions.stderr.shape == (6, 4)
    assert drawn.predictions.repeated_probabilities is not None
    assert np.ptp(drawn.predictions.repeated_probabilities, axis=0).max() > 1e-3
    np.testing.assert_array_equal(evaluate(run).predictions.logits, classical.predictions.logits)


def test_what_needs_samples_on_a_circuit_refuses_generated_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = with_learnt_weights(small_run(tmp_path / "runs", model__head="vqc-mlp"))
    reason = "has a vqc-mlp head, whose circuit makes weights and sees no sample: nothing to"
    command = runner(monkeypatch, capfd, tmp_path)
    for arguments, said in (
        (["adapt", str(run.path), "--noise", "ibm_fez"], f"{reason} adapt"),
        (["eval", str(run.path), "--baseline", "quadratic-form"], f"{reason} dequantise"),
        (
            ["eval", str(run.path), "--repeats", "3"],
            "predicts from the weights that it has kept; give a device and shots",
        ),
        (["compare", str(run.path), "--noise", "ibm_fez", "--adapt", "head"], f"{reason} adapt"),
    ):
        refused = command(*arguments)
        assert (refused.returncode, refused.stdout) == (2, ""), arguments
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert "angle_4q (vqc-mlp)" in command("ls", "runs").stdout


def test_the_head_with_a_tensor_train_is_evaluated_and_adapted_like_the_quantum_head(tmp_path: Path) -> None:
    run = small_run(tmp_path, model__head="tt-quantum", model__circuit="sda_qec_4q")
    exact, other = evaluate(run), evaluate(run, device="lightning.qubit")
    np.testing.assert_allclose(other.predictions.logits, exact.predictions.logits, atol=1e-5)
    assert exact.to_dict()["head"] == "tt-quantum"
    adapted = adapt(run, device="qhybrid.statevector", shots=64)
    assert adapted.adapted.metrics["auc"] > 0.6


def test_compare_makes_the_weights_under_every_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = with_learnt_weights(small_run(tmp_path, model__head="vqc-mlp"))
    command = runner(monkeypatch, capfd, tmp_path)
    asked = ["--noise", "none", "--shots", "50", "--devices", "qhybrid.statevector", "--executor", "serial"]
    shown = command("compare", str(run.path), *asked, "--repeats", "3")
    assert shown.returncode == 0, shown.stderr
    names = ("expectation_values", "repeated_probabilities", "reference_probabilities")
    (drawn,) = (read_arrays(file, names) for file in (run.path / "comparison" / "cells").glob("*.npz"))
    assert drawn["expectation_values"].shape == (16, 4)
    assert drawn["repeated_probabilities"].shape == (3, 60, 2)
    np.testing.assert_allclose(drawn["reference_probabilities"], evaluate(run).predictions.probabilities, atol=1e-5)


def test_runs_from_before_these_settings_have_the_same_text() -> None:
    text = experiment_toml(ExperimentSpec())
    assert "tt_rank" not in text
    assert "hidden_units" not in text


@pytest.mark.slow
def test_a_trained_run_keeps_the_weights_of_its_best_epoch(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images.npz", n_training=20, n_validation=10)
    spec = experiment(images, model__head="vqc-mlp", device__name="qhybrid.statevector", device__shots=50)
    run = train(spec, out=tmp_path / "runs", console=quiet())
    head = run.load_head(DeviceChoice(name="qhybrid.statevector"))
    assert isinstance(head, GeneratedMLPHead)
    assert head.made
    with torch.no_grad():
        exact = head.generator(head.layer(head.inputs)) / 2
    assert 0 < (head.first_layer - exact).abs().max() < 0.5  # they were made with 50 shots
    classical = evaluate(run)
    assert classical.device == {}
    Image.fromarray(np.full((28, 28), 90, dtype=np.uint8)).save(tmp_path / "one.png")
    shown = predict(run, [tmp_path / "one.png"])
    np.testing.assert_array_equal(predict(run, [tmp_path / "one.png"]), shown)  # no shots are drawn
    assert run.data["parameters"]["head"] == count_parameters(head)
