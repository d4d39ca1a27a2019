"""Fusion: a block's values replace the features, stand beside them or are added to them, on every path."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file
from small_head import small_head
from small_run import small_run

from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.adaptation import adapt
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.fusion import FeatureFusion
from qhybrid.experiments.heads import QuantumHead, count_parameters, quantum_head_parameters
from qhybrid.experiments.runs import Run
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml, load_experiment, override
from qhybrid.experiments.study_arms import resolve_arms

FUSIONS = ("replace", "concat", "residual")


def quiet() -> Console:
    return Console(file=io.StringIO())


def by_hand(state: dict[str, np.ndarray], fusion: str, values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Logits in numpy, from the tensors of a head."""
    received = values
    if fusion == "concat":
        received = np.concatenate([np.broadcast_to(features, (*values.shape[:-1], features.shape[-1])), values], -1)
    if fusion == "residual":
        received = features + values @ state["fusion.projection.weight"].T + state["fusion.projection.bias"]
    return received @ state["classifier.weight"].T + state["classifier.bias"]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_quantum_head_fuses_as_its_setting_says(fusion: str) -> None:
    head = small_head("quantum", "reupload_4q", feature_dim=12, fusion=fusion, n_classes=3)
    assert isinstance(head, QuantumHead)
    assert head.reads_values == (fusion == "replace")
    features = torch.randn(5, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = head(features)
    logits.square().sum().backward()
    assert features.grad is not None
    assert bool((head.layer.weights.grad != 0).any())
    with torch.no_grad():
        values = head.layer(head.quantum_features(features))
        torch.testing.assert_close(head.logits(values, features), logits)
        doubled = head.received(values.double(), features).float()
        torch.testing.assert_close(doubled, head.received(values, features))
    state = {name: value.numpy() for name, value in head.state_dict().items()}
    expected = by_hand(state, fusion, values.numpy(), features.detach().numpy())
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_parameters_of_a_head_are_counted_and_its_twin_is_about_as_large(fusion: str, n_classes: int) -> None:
    settings = {"feature_dim": 64, "fusion": fusion, "n_classes": n_classes}
    quantum, twin = (small_head(name, "reupload_4q", **settings) for name in ("quantum", "mlp"))
    counted = quantum_head_parameters(64, load_circuit("reupload_4q"), n_classes, fusion=fusion)
    assert count_parameters(quantum) == counted
    assert count_parameters(twin) == pytest.approx(counted, rel=0.12)


def test_the_twin_fuses_its_hidden_units() -> None:
    twin = small_head("mlp", feature_dim=6, fusion="residual", hidden_units=3)
    features = torch.randn(4, 6)
    state = {name: value.numpy() for name, value in twin.state_dict().items()}
    hidden = np.maximum(features.numpy() @ state["hidden.weight"].T + state["hidden.bias"], 0)
    with torch.no_grad():
        np.testing.assert_allclose(
            twin(features).numpy(), by_hand(state, "residual", hidden, features.numpy()), atol=1e-5
        )


@pytest.mark.parametrize("fusion", ["concat", "residual"])
def test_evaluations_and_adaptations_use_the_features_of_their_samples(tmp_path: Path, fusion: str) -> None:
    run = small_run(tmp_path, model__fusion=fusion)
    state = {
        name.removeprefix("head."): value
        for name, value in load_file(run.path / "model.safetensors").items()
    }  # fmt: skip
    features = run.features("test").features
    found = evaluate(run, shots=50, repeats=2, console=quiet()).predictions
    np.testing.assert_allclose(found.logits, by_hand(state, fusion, found.expectation_values, features), atol=1e-5)
    assert found.reference_expectation_values is not None
    for method in ("head", "rescale"):
        adapted = adapt(run, method=method, shots=20, console=quiet())
        stored = load_file(run.path / "adaptations" / f"{adapted.name}.safetensors")
        noisy, after = adapted.noisy.predictions.expectation_values, adapted.adapted.predictions
        if method == "rescale":
            expected = by_hand(state, fusion, noisy * stored["factor"] + stored["offset"], features)
        else:
            own = state | {"classifier.weight": stored["weight"], "classifier.bias": stored["bias"]}
            expected = by_hand(own, fusion, noisy, features)
        np.testing.assert_allclose(after.logits, expected, atol=2e-4)


def test_a_fusion_of_nothing_is_refused_and_none_leaves_the_names_of_runs_as_they_were(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fusion = 'concat' is for quantum heads and 'mlp', not for 'linear'"):
        override(ExperimentSpec(), {"model.head": "linear", "model.fusion": "concat"})
    with pytest.raises(InputError, match=r"'model\.fusion' is 'add': input should be 'replace', 'concat' or 'resid"):
        override(ExperimentSpec(), {"model.fusion": "add"})
    assert "\nfusion" not in experiment_toml(ExperimentSpec())
    assert isinstance(small_run(tmp_path), Run)  # loads a head without fusion
    assert list(FeatureFusion("replace", 3, 2).parameters()) == []


def test_the_arms_of_lqer_differ_in_what_they_are_named_for() -> None:
    arms = {arm.name: arm.spec.model for arm in resolve_arms(load_experiment("lqer"))}
    assert (arms["lqer"].head, arms["lqer"].fusion) == ("quantum", "residual")
    assert (arms["twin"].head, arms["twin"].fusion) == ("mlp", "residual")
    assert (arms["resnet18"].head, arms["resnet18"].fusion) == ("linear", "replace")
    counts = [
        count_parameters(small_head(arms[name].head, "reupload_4q", feature_dim=64, fusion="residual"))
        for name in ("lqer", "twin")
    ]
    assert counts == [746, 710]
