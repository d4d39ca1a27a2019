import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import load, save_file

from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.heads import build_head, count_parameters, quantum_head_parameters
from qhybrid.experiments.heads_classical import matched_mlp
from qhybrid.experiments.model import (
    HybridClassifier,
    build_classifier,
    load_weights,
    parameter_counts,
    save_weights,
)
from qhybrid.experiments.spec import DeviceChoice, ModelSpec

STATEVECTOR = DeviceChoice(name="qhybrid.statevector")


def _classifier(*, seed: int = 0, n_classes: int = 2, **model: Any) -> HybridClassifier:
    spec = ModelSpec(**model)
    return build_classifier(spec, n_classes=n_classes, circuit=spec.circuit, device=STATEVECTOR, seed=seed)


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return dict(torchvision.models.resnet18().state_dict())


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet18", "densenet121", "vgg16"])
def test_every_backbone_gives_features_and_logits(backbone: str) -> None:
    model = _classifier(backbone=backbone, head="linear", n_classes=3).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = model.backbone_features(images)
        assert features.shape == (2, 256)
        assert (features >= 0).all()
        torch.testing.assert_close(model.head(features), model(images))
        assert model(images).shape == (2, 3)


def test_the_seed_fixes_all_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = _classifier(seed=1), _classifier(seed=1), _classifier(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(first.head.layer.weights, other.head.layer.weights)
    assert not torch.equal(first.neck[2].weight, other.neck[2].weight)


def test_heads_share_the_first_weights_of_the_backbone() -> None:
    quantum, linear = _classifier(head="quantum"), _classifier(head="linear")
    for key, value in linear.state_dict().items():
        if not key.startswith("head."):
            assert torch.equal(value, quantum.state_dict()[key])


def test_sda_qec_has_the_18_parameters_of_the_paper() -> None:
    spec = ModelSpec(circuit="sda_qec")
    model = _classifier(circuit="sda_qec")
    counts = parameter_counts(model, spec, circuit="sda_qec", n_classes=2)
    assert counts["head"] == counts["quantum_head"] == 18
    assert counts["total"] == counts["backbone"] + 18


@pytest.mark.parametrize("circuit", ["angle_4q", "sda_qec", "sda_qec_4q", "reupload_4q"])
@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_the_mlp_head_has_about_as_many_parameters_as_the_quantum_head(circuit: str, n_classes: int) -> None:
    spec = ModelSpec(head="mlp", circuit=circuit)
    head = build_head(spec, n_classes=n_classes, circuit=circuit, device=STATEVECTOR)
    budget = quantum_head_parameters(256, load_circuit(circuit), n_classes)
    built = build_head(ModelSpec(circuit=circuit), n_classes=n_classes, circuit=circuit, device=STATEVECTOR)
    assert count_parameters(built) == budget
    assert count_parameters(head) == pytest.approx(budget, rel=0.12, abs=1)
    assert head(torch.rand(5, 256)).shape == (5, n_classes)


def test_a_small_budget_pools_features_and_a_large_one_sees_all() -> None:
    assert matched_mlp(256, 2, 18) == (5, 2)
    assert matched_mlp(256, 2, 1046) == (256, 4)


def test_the_projection_is_there_only_where_widths_differ() -> None:
    direct = _classifier(feature_dim=4, circuit="angle_4q")
    assert isinstance(direct.head.projection, torch.nn.Identity)
    assert _classifier(circuit="angle_4q").head.projection.weight.shape == (4, 256)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_local_file(tmp_path: Path, resnet18: dict[str, Any], suffix: str) -> None:
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save(resnet18, path)
    else:
        save_file(resnet18, path)
    model = _classifier(backbone="resnet18", head="linear", weights=str(path))
    assert torch.equal(model.cnn[0].weight, resnet18["conv1.weight"])
    torch.testing.assert_close(model.mean[:, 0, 0], torch.tensor([0.485, 0.456, 0.406]))


def test_old_densenet_names_are_understood(tmp_path: Path) -> None:
    state = torchvision.models.densenet121().state_dict()
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert any(".norm.1." in key for key in old)
    save_file(old, tmp_path / "densenet121.safetensors")
    model = _classifier(backbone="densenet121", head="linear", weights=str(tmp_path / "densenet121.safetensors"))
    expected = state["features.denseblock1.denselayer1.conv2.weight"]
    assert torch.equal(model.cnn[0].denseblock1.denselayer1.conv2.weight, expected)


def test_wrong_weight_files_are_refused_in_one_line(tmp_path: Path, resnet18: dict[str, Any]) -> None:
    def said(path: Path, backbone: str = "resnet18") -> str:
        with pytest.raises(InputError) as caught:
            _classifier(backbone=backbone, head="linear", weights=str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in said(tmp_path / "missing.pth")
    good = tmp_path / "resnet18.safetensors"
    save_file(resnet18, good)
    assert "not weights of mobilenet_v2" in said(good, "mobilenet_v2")
    short = tmp_path / "short.safetensors"
    short.write_bytes(good.read_bytes()[:1000])
    assert "not readable" in said(short)
    save_file(resnet18 | {"conv1.weight": torch.full((64, 3, 7, 7), float("inf"))}, tmp_path / "inf.safetensors")
    assert "not finite" in said(tmp_path / "inf.safetensors")
    save_file(resnet18 | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "shape.safetensors")
    assert "(64, 3, 3, 3), not (64, 3, 7, 7)" in said(tmp_path / "shape.safetensors")


def test_a_weight_file_cannot_run_code(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "attacked",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(InputError, match="not readable as weights without running code"):
        _classifier(backbone="resnet18", head="linear", weights=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "attacked").exists()


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_args: Any, **_kwargs: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"cannot be downloaded .*--set model\.weights=PATH") as caught:
        _classifier(weights="imagenet", head="linear")
    assert "mobilenet_v2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saved_weights_are_loaded_whole_or_in_part(tmp_path: Path) -> None:
    model = _classifier(seed=1)
    save_weights(model, tmp_path / "model.safetensors")
    other = load_weights(_classifier(seed=2), tmp_path / "model.safetensors")
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    head = build_head(ModelSpec(), n_classes=2, circuit="angle_4q", device=STATEVECTOR, seed=2)
    load_weights(head, tmp_path / "model.safetensors", prefix="head.")
    assert torch.equal(head.layer.weights, model.head.layer.weights)


def test_damaged_models_are_refused_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = _classifier(head="linear")
    save_weights(model, path)
    whole = path.read_bytes()
    state = load(whole)  # load_file would map the file that is overwritten below into memory
    target = _classifier(head="linear", seed=1)
    before = target.head.classifier.weight.clone()

    def said() -> str:
        with pytest.raises(InputError) as caught:
            load_weights(target, path)
        assert torch.equal(target.head.classifier.weight, before)
        return str(caught.value)

    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in said()
    path.write_bytes(b"")
    assert "damaged" in said()
    save_file(state | {"head.classifier.weight": torch.full((2, 256), float("nan"))}, path)
    assert "not finite" in said()
    save_file(state | {"head.classifier.weight": torch.zeros(3, 256)}, path)
    assert "(3, 256), not (2, 256)" in said()
    save_file({key: value for key, value in state.items() if key != "head.classifier.bias"}, path)
    assert "no tensor 'head.classifier.bias'" in said()
    path.unlink()
    assert "does not exist" in said()


def test_the_spread_of_the_angles_and_the_gain_of_the_classifier_are_settings() -> None:
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    device = DeviceChoice(name="qhybrid.statevector")
    plain, spread = (
        build_classifier(ModelSpec(**settings), n_classes=2, circuit="angle_4q", device=device)
        for settings in ({}, {"angle_spread": 0.3, "classifier_gain": 8.0})
    )
    features = plain.backbone_features(images)
    assert torch.equal(plain.head.quantum_features(features), plain.head.projection(features))
    assert torch.allclose(spread.head.quantum_features(features).std(0, correction=0), torch.tensor(0.3), atol=0.02)
    assert torch.allclose(spread.head.classifier.weight, 8 * plain.head.classifier.weight)
    assert sum(p.numel() for p in spread.head.parameters()) == sum(p.numel() for p in plain.head.parameters())
