"""Jobs: ours beside PennyLane-Qiskit's `qiskit.remote`, both with the unmodified client on the same server.

The figures for README: `pytest -m slow -s tests/test_devices_runtime_rival.py`.
"""

import functools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pennylane as qml
import pennylane_qiskit.qiskit_device
import pytest
import torch
from loopback import emulated
from qiskit_ibm_runtime import QiskitRuntimeService

from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.runtime import RuntimeDevice
from qhybrid.emulator.running import RunningEmulator
from qhybrid.layer import QuantumLayer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The RuntimeOptions class is deprecated",
    "ignore:Setting shots on device is deprecated",
)
SHOTS = 1000


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with pytest.MonkeyPatch.context() as patch, emulated(backends=["ibm_fez"], seed=7) as running:
        patch.setenv("QHYBRID_DATA", str(tmp_path_factory.mktemp("data")))
        yield running


@pytest.fixture
def service(emulator: RunningEmulator) -> QiskitRuntimeService:
    return QiskitRuntimeService()


@dataclass
class Spent:
    """What something cost the server, and how long it took."""

    jobs: int = 0
    circuits: int = 0
    transpilations: int = 0
    seconds: float = 0.0


class Meter:
    """Counts between two points."""

    def __init__(self, emulator: RunningEmulator) -> None:
        self._emulator, self.transpilations = emulator, 0
        self._before, self._started = emulator.counters(), time.monotonic()

    def read(self, what: str) -> Spent:
        now = self._emulator.counters()
        jobs, circuits, completed = (now[name] - self._before[name] for name in ("accepted", "circuits", "completed"))
        assert completed == jobs
        spent = Spent(jobs, circuits, self.transpilations, time.monotonic() - self._started)
        spending = f"{jobs} jobs, {circuits} circuits, {self.transpilations} transpilations, {spent.seconds:.1f} s"
        print(f"\n{what}: {spending}")
        return spent


def rival(service: QiskitRuntimeService, meter: Meter, patch: pytest.MonkeyPatch, **options: Any) -> qml.QNode:
    """`angle_4q` on PennyLane-Qiskit's device as its documentation says, its transpilations counted."""
    transpile = pennylane_qiskit.qiskit_device.transpile

    @functools.wraps(transpile)
    def counted(*given: Any, **kwargs: Any) -> Any:
        meter.transpilations += 1
        return transpile(*given, **kwargs)

    patch.setattr(pennylane_qiskit.qiskit_device, "transpile", counted)
    device = qml.device("qiskit.remote", wires=4, backend=service.backend("ibm_fez"), seed_transpiler=1)

    @qml.set_shots(SHOTS)
    @qml.qnode(device, interface="torch", **options)
    def circuit(features: torch.Tensor, weights: torch.Tensor) -> Any:
        qml.AngleEmbedding(math.pi * torch.tanh(features), wires=range(4), rotation="Y")
        for layer in weights:
            for wire in range(4):
                qml.RY(layer[wire], wires=wire)
            for wire in range(3):
                qml.CNOT([wire, wire + 1])
        return [qml.expval(qml.Z(wire)) for wire in range(4)]

    return circuit


def ours(**options: Any) -> tuple[QuantumLayer, RuntimeDevice]:
    device = RuntimeDevice(backend="ibm_fez", timeout=60.0)
    return QuantumLayer(load_circuit("angle_4q"), device, shots=SHOTS, **options), device


def features(n: int) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.slow
def test_an_evaluation_of_120_samples(
    emulator: RunningEmulator, service: QiskitRuntimeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job and one transpilation; the rival sends and transpiles one for each sample. Both see the same noise."""
    layer, device = ours()
    meter = Meter(emulator)
    with torch.no_grad():
        found = layer(features(120))
    meter.transpilations = device.tracker.transpilations
    spent = meter.read("ours, 120 samples")
    assert (spent.jobs, spent.circuits, spent.transpilations) == (1, 120, 1)
    tracked = device.tracker.to_dict()
    assert (tracked["jobs"], tracked["circuits"], tracked["shots"]) == (1, 120, 120 * SHOTS)
    meter = Meter(emulator)
    circuit = rival(service, meter, monkeypatch)
    with torch.no_grad():
        values = torch.stack(list(circuit(features(120), layer.weights.reshape(2, 4))), dim=1)
    spent = meter.read("PennyLane-Qiskit, 120 samples")
    assert (spent.jobs, spent.transpilations) == (120, 120)
    exact = QuantumLayer(load_circuit("angle_4q"), "qhybrid.statevector")
    exact.load_state_dict(layer.state_dict())
    for noisy in (found, values):
        assert noisy.shape == (120, 4)
        assert float((noisy - exact(features(120)).detach()).abs().mean()) < 0.1


@pytest.mark.slow
def test_a_gradient_step(
    emulator: RunningEmulator, service: QiskitRuntimeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, device = ours(diff_method="parameter-shift")
    meter = Meter(emulator)
    layer(features(16).requires_grad_()).sum().backward()
    meter.transpilations = device.tracker.transpilations
    spent = meter.read("ours, gradient step of batch 16")
    assert (spent.jobs, spent.transpilations) == (1, 1)
    assert device.tracker.jobs == 1
    for n in (1, 2):
        meter = Meter(emulator)
        circuit = rival(service, meter, monkeypatch, diff_method="parameter-shift")
        weights = layer.weights.detach().reshape(2, 4).requires_grad_()
        batch = features(n).requires_grad_()
        sum(sum(circuit(sample, weights)) for sample in batch).backward()
        spent = meter.read(f"PennyLane-Qiskit, gradient step of {n} samples")
        assert spent.jobs == 25 * n
