"""What the tests of mitigation share: devices with a machine's noise, circuits, exact values."""

import functools

import torch
from dense_simulation import circuit_of
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.base import Device, NoisyDevice
from qhybrid.devices.spec import load_device
from qhybrid.noise_models.spec import load_noise_model

BRISBANE = "ibm_brisbane"


@functools.cache
def device(machine: str = BRISBANE, parts: tuple[str, ...] | None = None, name: str = "qhybrid.density") -> NoisyDevice:
    noise = load_noise_model(machine)
    opened = load_device(name, noise=noise if parts is None else noise.with_parts(parts), layout_seeds=2)
    assert isinstance(opened, NoisyDevice)
    return opened


def several_bases() -> Circuit:
    """Words of up to three wires in three bases, which share wires and sub-words."""
    gates = [("ry", (0,)), ("rx", (1,)), ("ry", (2,)), ("cx", (0, 1)), ("ry", (1,)), ("cx", (1, 2)), ("rx", (0,))]
    return circuit_of(gates, ["Z0 Z1 Z2", "X0 Z1", "Z1", "X0", "Y1 Y2", "Z0 Z2"], 3)


def circuit_named(name: str) -> Circuit:
    return several_bases() if name == "several bases" else load_circuit(name).expanded()


def batch(circuit: Circuit, n_rows: int, seed: int = 0) -> Tensor:
    """Angles of random features at random weights, (B, P)."""
    generator = torch.Generator().manual_seed(seed)
    weights = 2 * torch.pi * torch.rand(circuit.n_weights, generator=generator, dtype=torch.float64)
    if not circuit.encoders and circuit.amplitudes is None:
        return 3 * torch.randn(n_rows, circuit.n_angles, generator=generator, dtype=torch.float64)
    features = torch.randn(n_rows, circuit.n_features, generator=generator, dtype=torch.float64)
    return circuit.parameters(features, weights)


def exact(opened: Device, circuit: Circuit, angles: Tensor) -> Tensor:
    return opened.run(opened.prepare(circuit), angles, shots=None, seed=None).values


def rmse(values: Tensor, wanted: Tensor) -> float:
    return float((values - wanted).detach().pow(2).mean().sqrt())
