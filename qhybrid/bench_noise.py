"""Speed of a quantum layer under noise, beside PennyLane-Qiskit's `qiskit.aer` through a TorchLayer, in one run.

The rival runs at its best settings: `compile_backend`, without which it simulates no two-qubit noise on ECR machines,
and `broadcast_expand`, without which it cannot take gradients of a batch. Larger circuits, which it would take minutes
for, are compared with Aer's density matrix on the same noise model, cut to the qubits in use.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pennylane as qml
import torch
from qiskit.providers import BackendV2, Options
from qiskit.transpiler import Target
from torch import Tensor, nn

from qhybrid.bench import pennylane_body
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile import isa_circuits
from qhybrid.errors import InputError
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.model import BEST_CASE, NoiseModel
from qhybrid.noise_models.spec import load_noise_model

RIVAL = "TorchLayer on PennyLane-Qiskit's qiskit.aer"
LARGE = 5
"""Circuits of more qubits run few rows, and without the rival."""
MAX_SHIFTED = 64
"""Circuits with more angles are not differentiated by parameter-shift here: it would take minutes a row."""


@dataclass
class NoisyTiming:
    """One contender on one circuit."""

    circuit: str
    layer: str
    prepare: float
    """Seconds to open, lay out and compile, up to the first rows: once."""
    evaluation_rows: int
    gradient_rows: int
    """0 where no gradient is timed."""
    diff_method: str
    evaluation: list[float] = field(default_factory=list)
    """Milliseconds a row of each round, forward from shots."""
    gradient: list[float] = field(default_factory=list)
    """Milliseconds a row of each round, forward and gradient of weights and features."""


@dataclass
class NoisyBenchmark:
    """Timings of one run of `qhybrid bench --noise`."""

    noise: dict[str, Any]
    shots: int
    repeats: int
    timings: list[NoisyTiming]
    layouts: dict[str, float]
    """Circuit -> seconds that its layout takes the first time; later it comes from the disk."""

    def ratio(self, timing: NoisyTiming, what: str) -> float | None:
        """How many times faster a row is than the rival's, or than Aer's where the rival does not run."""
        same = [t for t in self.timings if t.circuit == timing.circuit]
        base = next((t for t in same if t.layer == RIVAL), None) or next(
            (t for t in same if t.layer == "qiskit.aer"), None
        )
        ours, theirs = getattr(timing, what), getattr(base, what) if base else []
        return statistics.median(theirs) / statistics.median(ours) if ours and theirs and base is not timing else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, with ratios."""
        rows = [
            asdict(t) | {"ratio": {what: self.ratio(t, what) for what in ("evaluation", "gradient")}}
            for t in self.timings
        ]
        return {
            "noise": self.noise,
            "shots": self.shots,
            "repeats": self.repeats,
            "layouts": self.layouts,
            "timings": rows,
        }

    def tables(self) -> list[tuple[str, list[list[str]]]]:
        """One table a circuit: its title, and its rows with the header first."""
        tables = []
        for circuit in dict.fromkeys(t.circuit for t in self.timings):
            rows = [["layer", "gradient", "evaluation", "forward + gradient", "open and compile, s"]]
            for timing in (t for t in self.timings if t.circuit == circuit):
                cells = [self._cell(timing, "evaluation", timing.evaluation_rows)]
                cells.append(self._cell(timing, "gradient", timing.gradient_rows))
                rows.append([timing.layer, timing.diff_method, *cells, f"{timing.prepare:.2f}"])
            title = f"{circuit} on {self.noise['name']}, {self.shots} shots, ms a row, median of {self.repeats} rounds"
            tables.append((title, rows))
        return tables

    def notes(self) -> list[str]:
        """What the columns mean."""
        date = f"calibrated {self.noise['date'][:10]}; " if self.noise["date"] else ""
        laid_out = ", ".join(f"{circuit} {seconds:.1f} s" for circuit, seconds in self.layouts.items())
        return [
            f"laying a circuit out on the machine, once, then kept on disk: {laid_out}",
            "evaluation: from shots; gradient: of weights and features, backprop exact, parameter-shift from shots",
            f"(n x): times faster than {RIVAL} at its best settings, or than qiskit.aer where that does not run",
            f"noise: {self.noise['name']}, {date}{BEST_CASE}",
        ]

    def _cell(self, timing: NoisyTiming, what: str, rows: int) -> str:
        times = getattr(timing, what)
        if not times:
            return "-"
        ratio = self.ratio(timing, what)
        return (
            f"{statistics.median(times):.3g}"
            + (f" ({ratio:.0f} x)" if ratio else "")
            + f", {rows} row{'s' * (rows > 1)}"
        )


def run_noisy_bench(
    circuits: Sequence[str],
    devices: Sequence[str],
    noise: str,
    *,
    shots: int = 1024,
    evaluation_rows: int = 120,
    gradient_rows: int = 16,
    repeats: int = 3,
) -> NoisyBenchmark:
    """Time layers under noise and their rival; they take turns.

    Args:
        circuits: Names or paths.
        devices: Names of devices that take a noise model.
        noise: The noise model.
        shots: Shots of an evaluation, and of a gradient by parameter-shift.
        evaluation_rows: Rows of an evaluation.
        gradient_rows: Rows of a gradient step.
        repeats: Timed rounds, after one that warms up everything but the rival.

    Raises:
        InputError: A circuit, a device or the noise model does not exist; a number is not positive.
    """
    if min(evaluation_rows, gradient_rows, repeats, shots) < 1:
        raise InputError("rows, repeats and shots must be at least 1")
    model = load_noise_model(noise)
    contenders: list[_Contender] = []
    layouts = {}
    for name in circuits:
        circuit = load_circuit(name)
        layouts[circuit.name] = _layout_seconds(circuit, model)
        contenders += [_ours(circuit, device, model, shots, evaluation_rows, gradient_rows) for device in devices]
        body = pennylane_body(circuit)
        if body is not None and circuit.n_qubits < LARGE:
            contenders.append(_rival(circuit, body, model, shots, evaluation_rows, gradient_rows))
    for round_number in range(repeats + 1):
        for contender in contenders:
            contender.time(warm_up=round_number == 0)
    return NoisyBenchmark(model.provenance(), shots, repeats, [each.timing for each in contenders], layouts)


def _layout_seconds(circuit: Circuit, model: NoiseModel) -> float:
    """Seconds to lay a circuit out that nobody has laid out before."""
    started = time.perf_counter()
    isa_circuits(circuit.expanded(), model.target(), schedule=model.idle, machine=model.name, cache=False)
    return time.perf_counter() - started


@dataclass
class _Contender:
    timing: NoisyTiming
    width: int
    evaluate: Callable[[Tensor], Any]
    differentiate: nn.Module | None

    def time(self, *, warm_up: bool) -> None:
        """Time one round; a slow contender needs no warming up."""
        timing = self.timing
        if warm_up and (timing.layer == RIVAL or timing.evaluation_rows == 1):
            return
        features = torch.rand(timing.evaluation_rows, self.width) + 0.1
        started = time.perf_counter()
        with torch.no_grad():
            self.evaluate(features)
        evaluation = 1e3 * (time.perf_counter() - started) / timing.evaluation_rows
        gradient = None
        if self.differentiate is not None and timing.gradient_rows:
            features = (torch.rand(timing.gradient_rows, self.width) + 0.1).requires_grad_()
            started = time.perf_counter()
            self.differentiate(features).sum().backward()
            gradient = 1e3 * (time.perf_counter() - started) / timing.gradient_rows
        if not warm_up:
            timing.evaluation.append(evaluation)
            if gradient is not None:
                timing.gradient.append(gradient)


def _ours(
    circuit: Circuit, device: str, model: NoiseModel, shots: int, evaluation_rows: int, gradient_rows: int
) -> _Contender:
    started = time.perf_counter()
    layer = QuantumLayer(circuit, device, noise=model)
    layer.estimate(torch.rand(1, circuit.n_features))
    prepare = time.perf_counter() - started
    method = layer.diff_method
    if method == "parameter-shift":
        layer = layer.with_device(layer.device, diff_method=method, shots=shots)
    sampled = layer.with_device(layer.device, shots=shots)
    if circuit.n_qubits >= LARGE:
        slow = device != "qhybrid.density"
        evaluation_rows, gradient_rows = (1, 0) if slow else (4, 2)
    if method == "parameter-shift" and layer.program.circuit.n_columns > MAX_SHIFTED:
        gradient_rows = 0
    timing = NoisyTiming(circuit.name, device, prepare, evaluation_rows, gradient_rows, method)
    return _Contender(timing, circuit.n_features, sampled.estimate, layer)


def _rival(
    circuit: Circuit,
    body: tuple[Callable[..., None], tuple[int, ...]],
    model: NoiseModel,
    shots: int,
    evaluation_rows: int,
    gradient_rows: int,
) -> _Contender:
    """The same circuit and machine as a user of PennyLane-Qiskit writes them."""
    started = time.perf_counter()
    draw, shape = body
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        device = qml.device(
            "qiskit.aer",
            wires=circuit.n_qubits,
            noise_model=model.aer(tuple(range(model.n_qubits))),
            compile_backend=_Machine(model),
        )

    @qml.set_shots(shots)  # type: ignore[untyped-decorator]
    @qml.transforms.broadcast_expand  # type: ignore[untyped-decorator]
    @qml.qnode(device, interface="torch", diff_method="parameter-shift")  # type: ignore[untyped-decorator]
    def quantum_node(inputs: Tensor, weights: Tensor) -> list[Any]:
        draw(inputs, weights, circuit.n_qubits)
        return [qml.expval(qml.PauliZ(wire)) for wire in range(4)]

    layer = qml.qnn.TorchLayer(quantum_node, {"weights": shape})
    prepare = time.perf_counter() - started
    timing = NoisyTiming(circuit.name, RIVAL, prepare, evaluation_rows, gradient_rows, "parameter-shift")
    return _Contender(timing, circuit.n_features, layer, layer)


class _Machine(BackendV2):  # type: ignore[misc]
    """What the plug-in transpiles for."""

    def __init__(self, model: NoiseModel) -> None:
        super().__init__(name=model.name)
        self._target = model.target()

    @property
    def target(self) -> Target:
        return self._target

    @property
    def max_circuits(self) -> None:
        return None

    @classmethod
    def _default_options(cls) -> Options:
        return Options()

    def run(self, run_input: Any, **options: Any) -> Any:
        raise NotImplementedError("only transpiled for")
