"""QuantumLayer as a torch module: shapes, dtypes, state, copies, sharing."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import qhybrid
from qhybrid import InputError, QHybridError, QuantumLayer

DEVICES = ["qhybrid.statevector", "default.qubit", "lightning.qubit"]


def features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_the_public_api_is_what_the_readme_promises() -> None:
    layer = qhybrid.QuantumLayer(
        "angle_4q", device="lightning.qubit", diff_method="best", shots=None, noise=None, seed=0
    )
    x = features(5, 4).requires_grad_()
    y = layer(x)
    other = layer.with_device("qhybrid.statevector", diff_method="backprop")
    assert y.shape == (5, 4)
    assert layer.weights.shape == (8,)
    assert layer.device.tracker.to_dict().keys() >= {"batches", "circuits", "shots", "transpilations", "jobs"}
    torch.testing.assert_close(other(x), y)
    assert other.weights is layer.weights
    assert qhybrid.load_circuit("sda_qec").n_qubits == 8
    assert {"qhybrid.statevector", "lightning.qubit"} <= {entry.name for entry in qhybrid.list_devices()}
    assert all(hasattr(qhybrid, name) for name in qhybrid.__all__)


def test_the_default_layer_is_angle_4q_on_lightning() -> None:
    layer = QuantumLayer()
    assert (layer.circuit.name, layer.device.name, layer.diff_method) == ("angle_4q", "lightning.qubit", "adjoint")
    assert repr(layer) == "QuantumLayer(angle_4q, lightning.qubit, adjoint, exact, 8 weights)"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 4), (2, 3, 4), (0, 4), (2, 0, 4)])
def test_any_batch_shape_goes_in_and_comes_out(device: str, shape: tuple[int, ...]) -> None:
    layer = QuantumLayer("angle_4q", device)
    x = features(*shape).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.shape == (*shape[:-1], 4)
    assert x.grad is not None
    assert layer.weights.grad is not None
    assert x.grad.shape == shape
    rows = [layer(row) for row in x.detach().reshape(-1, 4)]
    if rows:
        torch.testing.assert_close(y.reshape(-1, 4), torch.stack(rows))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
@pytest.mark.parametrize("inputs", [torch.float16, torch.float32, torch.float64])
def test_results_have_the_promoted_dtype_and_double_accuracy(
    device: str, weights: torch.dtype, inputs: torch.dtype
) -> None:
    layer = QuantumLayer("sda_qec_4q", device).to(weights)
    x = features(3, 16).to(inputs).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.dtype == torch.promote_types(inputs, weights)
    assert x.grad is not None
    assert layer.weights.grad is not None
    assert (x.grad.dtype, layer.weights.grad.dtype) == (inputs, weights)
    exact = copy.deepcopy(layer).double()(x.detach().double())
    torch.testing.assert_close(y.double(), exact, atol=1e-7, rtol=0)


def test_whole_numbers_are_features_too() -> None:
    layer = QuantumLayer("angle_4q", "qhybrid.statevector")
    torch.testing.assert_close(layer(torch.tensor([[0, 1, 2, 3]])), layer(torch.tensor([[0.0, 1.0, 2.0, 3.0]])))


def test_weights_are_in_the_state_dict_from_construction_on() -> None:
    layer = QuantumLayer("reupload_4q", "qhybrid.statevector", seed=3)
    assert {name: value.shape for name, value in layer.state_dict().items()} == {"weights": (36,)}
    assert [name for name, _ in layer.named_parameters()] == ["weights"]
    assert torch.all((layer.weights >= 0) & (layer.weights < 2 * torch.pi))
    torch.testing.assert_close(QuantumLayer("reupload_4q", seed=3).weights, layer.weights)
    assert not torch.equal(QuantumLayer("reupload_4q", seed=4).weights, layer.weights)


@pytest.mark.parametrize("device", DEVICES)
def test_saved_weights_and_saved_layers_load(device: str) -> None:
    layer, x = QuantumLayer("angle_4q", device, shots=50, seed=1), features(2, 4)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = QuantumLayer("angle_4q", device, shots=50, seed=2)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.weights, layer.weights)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert (loaded.diff_method, loaded.shots, loaded.device.name) == (layer.diff_method, 50, device)
    assert torch.equal(loaded(x), layer(x))


@pytest.mark.parametrize("device", DEVICES)
def test_a_deep_copy_has_weights_of_its_own(device: str) -> None:
    layer, x = QuantumLayer("angle_4q", device), features(2, 4)
    before = layer(x).detach()
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weights.add_(0.5)
    torch.testing.assert_close(layer(x), before)
    assert not torch.allclose(twin(x), before)
    assert twin.device is not layer.device


def test_it_stands_in_a_sequential_model_and_passes_gradients_through() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), QuantumLayer("angle_4q"), nn.Linear(4, 2))
    model(features(6, 3, 4)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert model.double()(features(6, 3, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("device", DEVICES)
def test_no_grad_and_inference_mode_give_plain_values(device: str) -> None:
    layer, x = QuantumLayer("sda_qec_4q", device), features(2, 16)
    y = layer(x)
    assert y.requires_grad
    with torch.no_grad():
        plain = layer(x)
    with torch.inference_mode():
        inferred = layer(x)
    assert not plain.requires_grad
    torch.testing.assert_close(plain, y.detach())
    torch.testing.assert_close(inferred.clone(), y.detach())


@pytest.mark.parametrize("device", DEVICES)
def test_frozen_weights_get_no_gradient(device: str) -> None:
    layer = QuantumLayer("angle_4q", device).requires_grad_(False)
    x = features(2, 4).requires_grad_()
    layer(x).sum().backward()
    assert layer.weights.grad is None
    assert x.grad is not None


def first_fields(batch: list[tuple[Tensor, ...]]) -> Tensor:
    return torch.stack([row for row, *_ in batch])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_it_works_in_a_loop_fed_by_data_loader_workers() -> None:
    layer, x = QuantumLayer("angle_4q", "lightning.qubit"), features(10, 4)
    layer(x[:1])  # threads are awake when the workers are started
    loader = DataLoader(TensorDataset(x), batch_size=4, num_workers=2, collate_fn=first_fields)
    values = []
    for batch in loader:
        loss = layer(batch)
        loss.sum().backward()
        values.append(loss.detach())
    torch.testing.assert_close(torch.cat(values), layer(x).detach())


def test_with_device_shares_weights_in_both_directions() -> None:
    layer = QuantumLayer("sda_qec_4q", "lightning.qubit").eval()
    other = layer.with_device("qhybrid.statevector")
    assert (other.diff_method, other.training) == ("backprop", False)
    other(features(2, 16)).sum().backward()
    assert layer.weights.grad is other.weights.grad
    with torch.no_grad():
        layer.weights.zero_()
    assert torch.equal(other.weights, torch.zeros(8))


def test_an_open_device_can_be_shared() -> None:
    device = qhybrid.load_device("qhybrid.statevector")
    layers = [QuantumLayer(name, device) for name in ("angle_4q", "iqp_4q")]
    for layer in layers:
        layer(features(3, 4))
    assert device.tracker.circuits == 6
    assert all(layer.device is device for layer in layers)


def test_angles_that_overflow_are_an_error_not_nan() -> None:
    circuit = {"qubits": 2, "observables": ["Z0"], "blocks": [{"encode": "iqp"}]}
    layer = QuantumLayer(circuit, "qhybrid.statevector").double()
    with pytest.raises(InputError, match=r"features as large as 1\.0e\+200 give angles that are not finite"):
        layer(torch.full((1, 2), 1e200, dtype=torch.float64))


def test_diverged_weights_are_said_to_be_so() -> None:
    layer = QuantumLayer("angle_4q", "qhybrid.statevector")
    with torch.no_grad():
        layer.weights[0] = torch.nan
    with pytest.raises(QHybridError, match="has the training diverged"):
        layer(torch.zeros(1, 4))
