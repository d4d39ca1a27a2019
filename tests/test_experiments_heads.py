"""The heads: the quantum one, its variants that lack one thing each, the classical ones; small, trained, on devices."""

import json
import signal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from command_line import runner
from small_head import small_head
from small_run import small_run
from tiny_training import experiment, quiet, same_end, write_images
from torch.nn import functional

from qhybrid.circuits.controls import without_entanglement
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.adaptation import adapt
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.heads import (
    QuantumHead,
    build_head,
    count_parameters,
)
from qhybrid.experiments.model import build_classifier, parameter_counts
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.spec import DeviceChoice, Head, ModelSpec, TrainSpec, load_experiment
from qhybrid.experiments.training import resume, train
from qhybrid.experiments.training_module import TrainingModule

ALL: tuple[Head, ...] = get_args(Head)
VARIANTS: tuple[Head, ...] = ("quantum", "quantum-separable", "quantum-frozen")
QUANTUM = tuple(head for head in ALL if ModelSpec(head=head).is_quantum)


def test_the_eight_heads_are_there_and_four_of_them_are_quantum() -> None:
    assert set(ALL) - set(QUANTUM) == {"vqc-mlp", "linear", "mlp", "quadratic"}
    assert (*VARIANTS, "tt-quantum") == QUANTUM
    with pytest.raises(InputError, match=r"model\.head.*quantum-frozen"):
        load_experiment("quickstart", {"model.head": "quantum-frosen"})


@pytest.mark.parametrize(
    ("kind", "circuit"),
    [
        *((kind, "sda_qec") for kind in ALL if kind != "tt-quantum"),
        *((kind, "sda_qec_4q") for kind in ALL),
        *((kind, circuit) for kind in QUANTUM for circuit in ("angle_4q", "iqp_4q", "reupload_4q")),
    ],
)
def test_gradients_reach_the_features_and_all_that_is_trained(kind: str, circuit: str) -> None:
    head = small_head(kind, circuit, n_classes=3, angle_spread=0.5)
    features = torch.rand(6, 256, requires_grad=True)
    loss = functional.cross_entropy(head(features), torch.arange(6) % 3)
    loss.backward()
    gradients = {name: value.grad for name, value in head.named_parameters() if value.requires_grad}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())
    assert features.grad is not None
    assert features.grad.abs().max() > 0
    moved = {name for name, gradient in gradients.items() if gradient is not None and gradient.abs().max() > 0}
    assert moved == set(gradients)


def test_quantum_heads_of_one_seed_begin_with_the_same_weights() -> None:
    plain, separable, frozen = (small_head(kind, "sda_qec_4q", seed=5).state_dict() for kind in VARIANTS)
    quadratic = small_head("quadratic", "sda_qec_4q", seed=5).state_dict()
    assert plain.keys() == separable.keys() == frozen.keys()
    for name, value in plain.items():
        assert torch.equal(value, separable[name]), name
        assert torch.equal(value, frozen[name]), name
        assert not torch.equal(value, small_head("quantum", "sda_qec_4q", seed=6).state_dict()[name]), name
    for name in ("projection.weight", "projection.bias"):
        assert torch.equal(plain[name], quadratic[name]), name


@pytest.mark.parametrize("circuit", ["angle_4q", "sda_qec_4q"])
def test_the_separable_head_runs_the_circuit_without_entangling_gates(circuit: str) -> None:
    head, plain = small_head("quantum-separable", circuit), small_head("quantum", circuit)
    assert isinstance(head, QuantumHead)
    control = without_entanglement(load_circuit(circuit))
    assert head.layer.circuit.gates == control.gates
    assert count_parameters(head) == count_parameters(plain)
    features = torch.rand(3, 256)
    assert not torch.allclose(head(features), plain(features), atol=1e-3)


def test_a_circuit_without_entangling_gates_has_no_separable_head(tmp_path: Path) -> None:
    path = tmp_path / "local.toml"
    path.write_text('qubits = 1\nobservables = ["Z0"]\nblocks = [{ encode = "angle" }, { rotate = "Y" }]\n')
    with pytest.raises(
        InputError,
        match="head 'quantum-separable': circuit 'local' has no gate between two qubits",
    ):
        small_head("quantum-separable", str(path))


def test_the_frozen_head_trains_all_but_its_circuit() -> None:
    spec = ModelSpec(head="quantum-frozen", feature_dim=16)
    device = DeviceChoice(name="qhybrid.statevector")
    model = build_classifier(spec, n_classes=2, circuit="angle_4q", device=device)
    counts = parameter_counts(model, spec, circuit="angle_4q", n_classes=2)
    assert (counts["head"], counts["frozen"], counts["quantum_head"]) == (68 + 10, 8, 68 + 8 + 10)
    assert counts["total"] == counts["backbone"] + 68 + 10
    module = TrainingModule(model, TrainSpec(learning_rate=0.1, weight_penalty=0.1))
    optimizer = module.configure_optimizers()["optimizer"]
    before = {name: value.detach().clone() for name, value in model.head.named_parameters()}
    functional.cross_entropy(model.head(torch.rand(6, 16)), torch.arange(6) % 2).backward()
    optimizer.step()
    changed = {name for name, value in model.head.named_parameters() if not torch.equal(value, before[name])}
    assert changed == before.keys() - {"layer.weights"}


@pytest.mark.parametrize("kind", ["quantum-separable", "quantum-frozen"])
def test_the_controls_are_evaluated_and_adapted_on_devices_like_the_quantum_head(kind: str, tmp_path: Path) -> None:
    run = small_run(tmp_path, model__head=kind, device__name="default.qubit")
    exact = evaluate(run)
    assert exact.metrics["accuracy"] > 0.8
    assert exact.to_dict()["head"] == kind
    for options in (
        {"device": "lightning.qubit"},
        {"device": "qhybrid.statevector"},
        {"device": "qiskit.aer"},
    ):
        found = evaluate(open_run(run.path), **options)
        np.testing.assert_allclose(found.predictions.logits, exact.predictions.logits, atol=1e-5)
    noisy = [
        evaluate(run, device=device, noise="ibm_torino", layout_seeds=2) for device in ("qiskit.aer", "qhybrid.density")
    ]
    np.testing.assert_allclose(
        noisy[0].predictions.expectation_values, noisy[1].predictions.expectation_values, atol=1e-6
    )
    assert noisy[0].reference is not None
    assert 0 < noisy[0].reference.rms < 0.2
    assert noisy[0].device["isa"][0]["gates2q"] == (0 if kind == "quantum-separable" else 6)
    drawn = evaluate(run, noise="ibm_torino", layout_seeds=2, shots=100, repeats=2)
    assert drawn.predictions.stderr.max() > 0
    assert adapt(run, noise="ibm_torino", layout_seeds=2).noisy.metrics == noisy[0].metrics


def test_tables_tell_the_controls_from_the_circuit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = small_run(tmp_path, model__head="quantum-separable")
    small_run(tmp_path, model__head="quantum-frozen")
    small_run(tmp_path, model__head="quadratic", model__circuit="sda_qec_4q")
    qhybrid = runner(monkeypatch, capfd, tmp_path)
    listed = qhybrid("ls", "runs", "--runs", str(tmp_path), "--json").stdout
    rows = {row["head"]: row["device"] for row in json.loads(listed)}
    statevector = "qhybrid.statevector"
    assert rows == {"angle_4q (separable)": statevector, "angle_4q (frozen)": statevector, "quadratic": ""}
    said = qhybrid("estimate", str(run.path), "--noise", "ibm_torino", "--layout-seeds", "2")
    assert "angle_4q-separable on ibm_torino: no two-qubit gate" in said.stdout, said.stderr


@pytest.mark.parametrize(
    ("circuit", "sizes"),
    [
        ("sda_qec", {"quantum": (18, 0), "quantum-separable": (18, 0), "quantum-frozen": (10, 8), "linear": (514, 0),
                     "mlp": (18, 0), "quadratic": (74, 0)}),
        ("angle_4q", {"quantum": (1046, 0), "quantum-separable": (1046, 0), "quantum-frozen": (1038, 8),
                      "linear": (514, 0), "mlp": (1038, 0)}),
    ],
)  # fmt: skip
def test_the_sizes_in_the_readme_are_those_of_the_heads(circuit: str, sizes: dict[str, tuple[int, int]]) -> None:
    heads = {kind: small_head(kind, circuit) for kind in sizes}
    assert {k: (count_parameters(head), count_parameters(head, trainable=False)) for k, head in heads.items()} == sizes


@pytest.mark.slow
def test_a_training_with_frozen_weights_goes_on_as_if_it_had_not_been_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path / "images.npz", n_validation=10)
    exact = {"device__name": "qhybrid.statevector", "device__diff_method": "best", "device__shots": "none"}
    spec = experiment(images, model__head="quantum-frozen", **exact)
    whole = train(spec, out=tmp_path / "whole", console=quiet())
    step = TrainingModule.training_step

    def stop_in_second_epoch(self: TrainingModule, batch: Any, index: int) -> torch.Tensor:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stop_in_second_epoch)
        with pytest.raises(Interrupted):
            train(spec, out=tmp_path / "cut", console=quiet())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it after an interrupt
    cut = open_run(root=tmp_path / "cut", incomplete=True)
    same_end(resume(cut.path, console=quiet()), whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_every_head_is_trained_and_its_run_opens_again(kind: str, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images.npz", n_training=20, n_validation=10)
    spec = experiment(
        images,
        model__head=kind,
        model__circuit="sda_qec_4q",
        model__feature_dim=32 if kind == "tt-quantum" else 16,
        device__name="qhybrid.statevector",
        device__diff_method="best",
        device__shots="none",
    )
    run = train(spec, out=tmp_path / "runs", console=quiet())
    again = open_run(run.path)
    assert again.spec.model.head == kind
    assert resume(run.path) == run
    counts = again.data["parameters"]
    assert counts["frozen"] == (8 if kind == "quantum-frozen" else 0)
    head = again.load_head()
    stored = again.features("test")
    with torch.no_grad():
        expected = again.load_model().head(torch.from_numpy(stored.features))
        torch.testing.assert_close(head(torch.from_numpy(stored.features)), expected)
    first = build_head(
        spec.model, n_classes=2, circuit=again.circuit, device=spec.device, seed=spec.train.seed
    ).state_dict()
    learnt = {name for name, value in head.state_dict().items() if not torch.equal(value, first[name])}
    assert learnt == set(first) - ({"layer.weights"} if kind == "quantum-frozen" else set())
    found = evaluate(again)
    assert len(found.predictions.labels) == 4
