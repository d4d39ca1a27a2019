"""What an image costs a network, and its features in the plane."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import small_run
from tiny_training import experiment, quiet, write_images
from torch import nn

from qhybrid.experiments.embedding import feature_embedding, in_the_plane, same_class_neighbours
from qhybrid.experiments.evaluation import evaluate
from qhybrid.experiments.model import HybridClassifier, build_classifier
from qhybrid.experiments.network_cost import count_flops, flops_of, network_cost
from qhybrid.experiments.run_folder import Features, Run
from qhybrid.experiments.spec import DeviceChoice, ExperimentSpec, override
from qhybrid.experiments.training import train
from qhybrid.report.network_section import network_section
from qhybrid.report.svg import svg_file
from qhybrid.storage import read_json


def classifier(**settings: Any) -> HybridClassifier:
    spec = override(ExperimentSpec(), {f"model.{key}": value for key, value in settings.items()})
    device = DeviceChoice(name="qhybrid.statevector")
    return build_classifier(spec.model, n_classes=2, circuit=spec.model.circuit, device=device)


def counted(model: HybridClassifier, size: int) -> int:
    """Twice the multiplications of all convolutions and linear layers, from the shapes that go through them."""
    total = 0

    def add(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        total += 2 * output[0].numel() * weight[0].numel()

    hooks = [
        module.register_forward_hook(add) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model.eval()(torch.rand(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("head", ["linear", "mlp", "quantum", "quantum-frozen"])
def test_operations_are_those_of_convolutions_and_linear_layers_without_the_circuit(head: str) -> None:
    model = classifier(backbone="cnn5", head=head)
    assert count_flops(model, 32) == counted(model, 32)


def test_mobilenet_has_the_operations_that_torchvision_says() -> None:
    from torchvision.models import MobileNet_V2_Weights

    model = classifier(backbone="mobilenet_v2", head="linear", feature_dim=1000)  # as wide as its own classifier
    published = 2e9 * MobileNet_V2_Weights.IMAGENET1K_V1.meta["_ops"]  # in billions of multiplications
    assert count_flops(model, 224) == pytest.approx(published, rel=0.01)
    assert count_flops(model, 224) == counted(model, 224)


def test_the_weights_do_not_matter_to_the_count() -> None:
    spec = override(ExperimentSpec(), {"model.backbone": "cnn5", "data.image_size": 48, "model.weights": "pretrained"})
    expected = count_flops(classifier(backbone="cnn5"), 48)
    assert flops_of(spec, n_classes=2, circuit="angle_4q") == expected


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    settings: dict[str, Any] = {
        "model__backbone": "cnn5", "device__name": "qhybrid.statevector", "device__shots": "none",
        "device__diff_method": "best", "model__weights": "pretrained", "pretrain__epochs": 1, "train__epochs": 1,
        "data__label_fraction": 0.4,
    }  # fmt: skip
    images = write_images(folder / "images.npz", n_validation=4)
    made = train(experiment(images, **settings), out=folder / "runs", console=quiet())
    evaluate(made, console=quiet())
    return made


def test_what_was_measured_stays_in_the_run(run: Run) -> None:
    cost = network_cost(run)
    assert cost["latency_ms"] > 0
    assert cost["quantum_device"] == "qhybrid.statevector"
    assert cost == network_cost(run) == read_json(run.path / "network.json")


def test_the_report_shows_cost_and_features(run: Run) -> None:
    section = network_section(run)
    rows = dict(section.tables[0].rows)
    assert rows["floating-point operations of an image"] == f"{network_cost(run)['flops']:,}"
    assert rows["parameters: all"] == f"{run.data['parameters']['total']:,}"
    assert any("pretrained by SimCLR, without labels, on 10 images" in said for said in section.paragraphs)
    assert any("40 % of each class kept their label: 4 were trained on" in said for said in section.paragraphs)
    (picture,) = section.pictures
    assert "of 4 images is of the same class" in picture.description
    assert b"before: pretrained weights" in svg_file(picture.figure)


def test_features_are_in_the_plane_the_same_every_time(run: Run) -> None:
    found = feature_embedding(run)
    assert found.before.shape == found.after.shape == (4, 2)
    assert np.isfinite(found.before).all()
    (run.path / "features" / "embedding-test.npz").unlink()
    again = feature_embedding(run)
    assert np.array_equal(found.after, again.after)
    assert np.array_equal(found.before, again.before)
    assert found.neighbours == again.neighbours == feature_embedding(run).neighbours


def test_a_report_without_images_or_network_says_so(tmp_path: Path) -> None:
    section = network_section(small_run(tmp_path))
    assert not section.pictures
    assert any("What an image costs could not be measured: " in said for said in section.paragraphs)
    assert any("The features before the training are left out: " in said for said in section.paragraphs)


def test_groups_stay_groups_in_the_plane_and_neighbours_are_counted() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    points = (20 * np.eye(3)[labels] + rng.normal(size=(60, 3))).astype(np.float32)
    ids = np.array([str(k) for k in range(60)])
    assert same_class_neighbours(Features(points, labels, ids)) == 1
    plane = in_the_plane(points)
    assert same_class_neighbours(Features(plane.astype(np.float32), labels, ids)) == 1
    assert np.allclose(plane, in_the_plane(3 * points + 5), atol=5)  # neither scale nor origin matters much
    line = np.array([[0.0], [1], [3], [3.5]], dtype=np.float32)
    assert same_class_neighbours(Features(line, np.array([0, 1, 1, 1]), ids[:4])) == 0.5
    assert in_the_plane(line).shape == (4, 2)
    assert np.isfinite(in_the_plane(np.zeros((5, 3), dtype=np.float32))).all()
