"""QuantumLayer in use: what a call costs, seeds, refused input, training."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qhybrid import InputError, QuantumLayer

DEVICES = ["qhybrid.statevector", "default.qubit", "lightning.qubit"]


def features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("device", DEVICES)
def test_an_exact_batch_is_one_call_of_as_many_circuits(device: str) -> None:
    layer = QuantumLayer("angle_4q", device)
    layer(features(16, 4))
    assert layer.device.tracker.to_dict() == {
        "batches": 1, "circuits": 16, "shots": 0, "transpilations": 1, "jobs": 1}  # fmt: skip


@pytest.mark.parametrize(("inputs_need", "columns"), [(True, 8), (False, 8)])
def test_a_parameter_shift_step_is_one_job(inputs_need: bool, columns: int) -> None:
    layer = QuantumLayer("angle_4q", "qhybrid.statevector", diff_method="parameter-shift", shots=20)
    x = features(16, 4).requires_grad_(inputs_need)
    layer(x).sum().backward()
    tracker = layer.device.tracker
    assert (tracker.batches, tracker.jobs) == (1, 1)
    assert tracker.circuits == 16 * (1 + 2 * columns)
    assert tracker.shots == 20 * tracker.circuits


@pytest.mark.parametrize(("frozen", "inputs_need", "shifted"), [(True, True, 4), (False, False, 24), (True, False, 0)])
def test_only_the_needed_columns_are_shifted(frozen: bool, inputs_need: bool, shifted: int) -> None:
    layer = QuantumLayer("strongly_entangling_4q", "qhybrid.statevector", diff_method="parameter-shift")
    layer.requires_grad_(not frozen)
    layer(features(2, 4).requires_grad_(inputs_need))
    assert layer.device.tracker.circuits == 2 * (1 + 2 * shifted)


def test_equal_seeds_draw_equal_shots_and_successive_calls_differ() -> None:
    x = features(3, 4)
    layers = [QuantumLayer("angle_4q", "qhybrid.statevector", shots=100, seed=seed) for seed in (1, 1)]
    first, second = ([layer(x), layer(x)] for layer in layers)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], first[1])
    fresh = layers[0].with_device("qhybrid.statevector", shots=100)
    assert torch.equal(fresh(x), first[0])
    assert not torch.equal(layers[0].with_device("qhybrid.statevector", shots=100, seed=9)(x), first[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_numbers_are_refused_with_their_row(bad: float) -> None:
    x = features(3, 4)
    x[1, 2] = bad
    with pytest.raises(InputError, match="features contain NaN or infinity in row 1"):
        QuantumLayer("angle_4q", "qhybrid.statevector")(x)


@pytest.mark.parametrize("shape", [(3, 5), (5,), (), (4, 3)])
def test_features_of_a_wrong_width_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        QuantumLayer("angle_4q", "qhybrid.statevector")(features(*shape))
    assert str(caught.value) == f"features of shape {shape}: circuit 'angle_4q' reads (..., 4)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"circuit": "angel_4q"}, "unknown circuit 'angel_4q'; did you mean 'angle_4q'?"),
        ({"device": "lightning.qbit"}, "unknown device 'lightning.qbit'; did you mean 'lightning.qubit'?"),
        ({"diff_method": "adjiont"}, "unknown diff_method 'adjiont'; did you mean 'adjoint'?"),
        ({"shots": 0}, "shots = 0: allowed are whole numbers from 1 to 100000000, or None"),
        ({"shots": 2.5}, "shots = 2.5: allowed are whole numbers"),
        ({"shots": True}, "shots = True: allowed are whole numbers"),
        ({"noise": "ibm_brisbane"}, "lightning.qubit takes no noise model (noise = 'ibm_brisbane')"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        QuantumLayer(**arguments)
    assert str(caught.value).startswith(message)


def test_zero_features_of_an_amplitude_circuit_train_without_nan() -> None:
    layer = QuantumLayer("sda_qec_4q")
    x = torch.zeros(2, 16, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weights.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert torch.isfinite(layer.weights.grad).all()


@pytest.mark.parametrize(
    ("device", "diff_method", "shots"),
    [("qhybrid.statevector", "backprop", None), ("lightning.qubit", "adjoint", None),
     ("qhybrid.statevector", "parameter-shift", 500), ("qhybrid.statevector", "spsa", None)],
)  # fmt: skip
def test_training_reduces_a_loss(device: str, diff_method: str, shots: int | None) -> None:
    torch.manual_seed(0)
    x = features(24, 4)
    wanted = (x[:, 0] * x[:, 1] > 0).long()
    model = nn.Sequential(QuantumLayer("angle_4q", device, diff_method=diff_method, shots=shots), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])
