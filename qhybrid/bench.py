"""Speed of a quantum layer on each device, beside hand-written `qml.qnn.TorchLayer`s, in one run.

Contenders take turns, so that a busy moment of the machine hits all of them; the median of several rounds counts, and
what is reported are ratios. The rivals are written the way PennyLane's own demos do.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pennylane as qml
import torch
from torch import Tensor, nn

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer

MODES = ("forward", "weights", "all")
"""Forward only; forward + gradient of the weights; forward + gradient of weights and features (a CNN in front)."""
SLOW = 1.0
"""A call that takes longer than this many seconds is timed once only."""

RIVALS = {"default.qubit": "backprop", "lightning.qubit": "adjoint"}
"""PennyLane devices that a TorchLayer is timed on, with the gradient method that suits them best."""


@dataclass
class Timing:
    """One contender on one circuit."""

    circuit: str
    device: str
    diff_method: str
    rival: bool
    """Whether it is a TorchLayer instead of a QuantumLayer."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Mode -> time of each round."""
    problem: str | None = None

    def milliseconds(self, mode: str) -> float | None:
        """Median of a mode's rounds."""
        return 1e3 * statistics.median(self.seconds[mode]) if self.seconds.get(mode) else None


@dataclass
class Benchmark:
    """Timings of one run of `qhybrid bench`."""

    batch_size: int
    repeats: int
    timings: list[Timing]

    def ratio(self, timing: Timing, mode: str) -> float | None:
        """How many times faster a layer is than the TorchLayer on its own device (default.qubit for ours)."""
        rival = self._rival(timing)
        ours = timing.milliseconds(mode)
        theirs = rival.milliseconds(mode) if rival else None
        return theirs / ours if ours and theirs else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, with ratios."""
        rows = [
            asdict(t)
            | {"milliseconds": {mode: t.milliseconds(mode) for mode in MODES}}
            | {"ratio": {mode: self.ratio(t, mode) for mode in MODES}}
            for t in self.timings
        ]
        return {"batch_size": self.batch_size, "repeats": self.repeats, "timings": rows}

    def tables(self) -> list[tuple[str, list[list[str]]]]:
        """One table a circuit: its title, and its rows with the header first."""
        tables = []
        for circuit in dict.fromkeys(t.circuit for t in self.timings):
            rows = [["layer", "device", "gradient", "forward", "+ weights", "+ weights, features"]]
            for timing in self.timings:
                if timing.circuit == circuit:
                    name = "TorchLayer" if timing.rival else "QuantumLayer"
                    cells = [self._cell(timing, mode) for mode in MODES]
                    rows.append([name, timing.device, timing.diff_method, *cells])
            tables.append((f"{circuit}, batch {self.batch_size}, median of {self.repeats} rounds, ms", rows))
        return tables

    def notes(self) -> list[str]:
        """What the ratios mean, and what could not be timed."""
        lines = [
            "forward alone; with the gradient of the weights; with that of weights and features (a CNN in front)",
            "(n x): times faster than qml.qnn.TorchLayer on the same device, or on default.qubit for ours",
        ]
        return lines + [f"{t.circuit} on {t.device}: {t.problem}" for t in self.timings if t.problem]

    def _cell(self, timing: Timing, mode: str) -> str:
        milliseconds, ratio = timing.milliseconds(mode), self.ratio(timing, mode)
        if milliseconds is None:
            return "-"
        return f"{milliseconds:.2f}" + (f" ({ratio:.1f} x)" if ratio and not timing.rival else "")

    def _rival(self, timing: Timing) -> Timing | None:
        wanted = timing.device if timing.device in RIVALS else "default.qubit"
        fitting = [t for t in self.timings if t.rival and (t.circuit, t.device) == (timing.circuit, wanted)]
        return fitting[0] if fitting else None


def run_bench(circuits: Sequence[str], devices: Sequence[str], *, batch_size: int = 16, repeats: int = 15) -> Benchmark:
    """Time layers and their rivals.

    Args:
        circuits: Names or paths.
        devices: Names of devices.
        batch_size: Rows of a batch.
        repeats: Timed rounds after one that warms up.

    Raises:
        InputError: A circuit or a device does not exist; batch size or repeats are not positive.
    """
    if batch_size < 1 or repeats < 1:
        raise InputError(f"batch size {batch_size} and repeats {repeats} must be at least 1")
    contenders: list[tuple[Timing, nn.Module, int]] = []
    for name in circuits:
        circuit = load_circuit(name)
        for device in devices:
            layer = QuantumLayer(circuit, device)
            contenders.append((Timing(circuit.name, device, layer.diff_method, False), layer, circuit.n_features))
        for device, method in RIVALS.items():
            rival = torch_layer(circuit, device, method)
            if rival is not None:
                contenders.append((Timing(circuit.name, device, method, True), rival, circuit.n_features))
    for round_number in range(repeats + 1):
        for timing, module, width in contenders:
            for mode in MODES:
                _time(timing, module, torch.rand(batch_size, width) + 0.1, mode, warm_up=round_number == 0)
    return Benchmark(batch_size, repeats, [timing for timing, _, _ in contenders])


def _time(timing: Timing, module: nn.Module, features: Tensor, mode: str, *, warm_up: bool) -> None:
    """Time one call; a slow one counts although it was the first."""
    times = timing.seconds.setdefault(mode, [])
    if timing.problem or (times and times[0] > SLOW):
        return
    step = _step(module, features, mode)
    try:
        started = time.perf_counter()
        step()
        seconds = time.perf_counter() - started
    except Exception as error:  # a rival that cannot do it is part of the result
        timing.problem = f"{mode}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return
    if not warm_up or seconds > SLOW:
        times.append(seconds)


def _step(module: nn.Module, features: Tensor, mode: str) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            module(features)

    def backward() -> None:
        module(features.requires_grad_(mode == "all")).sum().backward()

    return forward if mode == "forward" else backward


def torch_layer(circuit: Circuit, device: str, diff_method: str) -> nn.Module | None:
    """The same circuit as a user of PennyLane writes it, None where nobody has written it here.

    Args:
        circuit: A circuit of the catalog; only its name and size are used.
        device: A PennyLane device.
        diff_method: Its gradient method.
    """
    found = pennylane_body(circuit)
    if found is None or (circuit.name, device) == ("iqp_4q", "lightning.qubit"):
        return None  # PennyLane 0.45 loses the batch of an IQPEmbedding on Lightning
    body, shape = found
    n_wires = circuit.n_qubits

    @qml.qnode(qml.device(device, wires=n_wires), interface="torch", diff_method=diff_method)  # type: ignore[untyped-decorator]
    def quantum_node(inputs: Tensor, weights: Tensor) -> list[Any]:
        body(inputs, weights, n_wires)
        return [qml.expval(qml.PauliZ(wire)) for wire in range(4)]

    return qml.qnn.TorchLayer(quantum_node, {"weights": shape})  # type: ignore[no-any-return]


def pennylane_body(circuit: Circuit) -> tuple[Callable[..., None], tuple[int, ...]] | None:
    """A circuit of the catalog in PennyLane's words, and the shape of its weights; None where nobody has written it."""
    bodies: dict[str, tuple[Callable[..., None], tuple[int, ...]]] = {
        "angle_4q": (_angle, (2, 4)),
        "sda_qec": (_amplitude, (2, 4)),
        "sda_qec_4q": (_amplitude, (2, 4)),
        "sda_qec_8q": (_amplitude, (2, 8)),
        "strongly_entangling_4q": (_strongly_entangling, (2, 4, 3)),
        "iqp_4q": (_iqp, (2, 4)),
    }
    return bodies.get(circuit.name)


def _layers(weights: Tensor) -> None:
    for layer in weights:
        for wire, weight in enumerate(layer):
            qml.RY(weight, wires=wire)
        for wire in range(len(layer) - 1):
            qml.CNOT(wires=[wire, wire + 1])


def _angle(inputs: Tensor, weights: Tensor, n_wires: int) -> None:
    qml.AngleEmbedding(torch.pi * torch.tanh(inputs), wires=range(n_wires), rotation="Y")
    _layers(weights)


def _amplitude(inputs: Tensor, weights: Tensor, n_wires: int) -> None:
    qml.AmplitudeEmbedding(inputs, wires=range(n_wires), normalize=True)
    _layers(weights)


def _strongly_entangling(inputs: Tensor, weights: Tensor, n_wires: int) -> None:
    qml.AngleEmbedding(torch.pi * torch.tanh(inputs), wires=range(n_wires), rotation="X")
    qml.StronglyEntanglingLayers(weights, wires=range(n_wires))


def _iqp(inputs: Tensor, weights: Tensor, n_wires: int) -> None:
    qml.IQPEmbedding(torch.pi / 2 * torch.tanh(inputs), wires=range(n_wires), n_repeats=2)
    _layers(weights)
