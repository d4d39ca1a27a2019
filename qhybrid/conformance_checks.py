"""The checks of the conformance suite.

Each compares a device with an independent computation (qhybrid/reference.py), differentiated by torch; a device that
simulates noise with the noisy one of the same ISA circuits. It returns what it saw.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.devices.base import Device, NoisyDevice
from qhybrid.errors import InputError
from qhybrid.gradients import DIFF_METHODS
from qhybrid.layer import QuantumLayer
from qhybrid.reference import noisy_reference_values, reference_values

EXACT = 1e-10
"""Largest difference between exact values or gradients of two devices in double precision."""
NOISY = 1e-7
"""The same under noise: Aer drops terms of this order from its channels."""
SINGLE = 1e-6
"""The same for features and weights in single precision."""
SIGMAS = 5.0
"""Largest difference of an estimate from shots, in standard errors."""
SHOTS = 4000
MANY = 64
"""A circuit with more angles takes long to differentiate by parameter-shift."""
BATCH = 3


class Failed(Exception):
    """A device does not do what it must; the message says what and by how much."""


class NotApplicable(Exception):
    """The device does not offer what the check is about."""


def _need(offered: bool, what: str) -> None:
    if not offered:
        raise NotApplicable(f"the device has no {what}")


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise Failed(message)


def _inputs(circuit: Circuit, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Features (B, F) and a cotangent (B, M) for a check."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(BATCH, circuit.n_features, generator=generator, dtype=torch.float64)
    return features, torch.randn(BATCH, circuit.n_observables, generator=generator, dtype=torch.float64)


def _layer(device: Device, circuit: Circuit, **settings: object) -> QuantumLayer:
    layer = QuantumLayer(circuit, device, **settings)  # type: ignore[arg-type]
    return layer.double()


def _expected(layer: QuantumLayer, features: Tensor) -> Tensor:
    """What the layer's device should give, (B, M), differentiable in the features and the weights."""
    device = layer.device
    if layer.noise is None or not isinstance(device, NoisyDevice):
        return reference_values(layer.circuit, features, layer.weights.double())
    circuits = device.isa_circuits(layer.program)
    return noisy_reference_values(circuits, layer.noise, features, layer.weights.double())


def _allowed(layer: QuantumLayer) -> float:
    """Largest difference that the layer's values and gradients may have."""
    return EXACT if layer.noise is None else NOISY


def _largest(difference: Tensor) -> float:
    return float(difference.detach().abs().max()) if difference.numel() else 0.0


def check_values(device: Device, circuits: Sequence[Circuit]) -> str:
    """Exact expectation values equal the reference, in double and in single precision."""
    _need(device.capabilities.analytic, "exact values")
    worst = 0.0
    for circuit in circuits:
        layer = _layer(device, circuit)
        features, _ = _inputs(circuit)
        difference = _largest(layer(features) - _expected(layer, features))
        worst = max(worst, difference)
        _demand(difference < _allowed(layer), f"{circuit.name}: values differ by {difference:.1e}")
        narrow = layer.float()
        exact = _expected(narrow, features.float().double())
        difference = _largest(narrow(features.float()).double() - exact)
        _demand(difference < SINGLE, f"{circuit.name}: single-precision values differ by {difference:.1e}")
    return f"largest difference {worst:.0e}"


def check_gradients(device: Device, circuits: Sequence[Circuit]) -> str:
    """The gradients of every exact method equal those of the reference, for features and for weights."""
    _need(device.capabilities.analytic, "exact values")
    worst, skipped = 0.0, 0
    methods = [m for m in DIFF_METHODS if m in device.capabilities.diff_methods and m != "spsa"]
    for circuit in circuits:
        features, cotangent = _inputs(circuit)
        for method in methods:
            layer = _layer(device, circuit, diff_method=method)
            slow = isinstance(device, NoisyDevice) or methods == ["parameter-shift"]
            if method == "parameter-shift" and slow and layer.program.circuit.n_columns > MANY:
                skipped += 1
                continue  # hundreds of shifted circuits a row, as density matrices or one at a time
            ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
            got: tuple[Tensor | None, ...] = torch.autograd.grad(
                (layer(ours) * cotangent).sum(), [ours, layer.weights], allow_unused=True
            )
            values = _expected(layer, theirs)
            wanted: tuple[Tensor | None, ...] = torch.autograd.grad(
                (values * cotangent).sum(), [theirs, layer.weights], allow_unused=True
            )
            for what, mine, reference in zip(("features", "weights"), got, wanted, strict=True):
                if mine is None or reference is None:
                    _demand(mine is reference or layer.weights.numel() == 0, f"{circuit.name}: no gradient of {what}")
                    continue
                difference = _largest(mine - reference)
                worst = max(worst, difference)
                _demand(difference < _allowed(layer), f"{circuit.name}: {method} of {what} differs by {difference:.1e}")
    return f"{', '.join(methods)}; largest difference {worst:.0e}{_left_out(skipped)}"


def _left_out(n_circuits: int) -> str:
    """How many circuits were not differentiated by parameter-shift, as the end of a sentence."""
    plural = "s" * (n_circuits > 1)
    return f"; parameter-shift not on {n_circuits} circuit{plural} with more than {MANY} angles" if n_circuits else ""


def check_zero_features(device: Device, circuits: Sequence[Circuit]) -> str:
    """An all-zero feature vector gives finite values and gradients."""
    for circuit in circuits:
        layer = _layer(device, circuit, shots=None if device.capabilities.analytic else SHOTS)
        features = torch.zeros(2, circuit.n_features, dtype=torch.float64, requires_grad=True)
        values = layer(features)
        _demand(bool(torch.isfinite(values).all()), f"{circuit.name}: values of zero features are not finite")
        gradients = torch.autograd.grad(values.sum(), [features, layer.weights], allow_unused=True)
        finite = all(bool(torch.isfinite(g).all()) for g in gradients if g is not None)
        _demand(finite, f"{circuit.name}: gradients of zero features are not finite")
    return "finite"


def check_batches(device: Device, circuits: Sequence[Circuit]) -> str:
    """A row's result does not depend on its batch; empty batches work."""
    shots = None if device.capabilities.analytic else SHOTS
    for circuit in circuits:
        layer = _layer(device, circuit, shots=shots)
        features, _ = _inputs(circuit)
        with torch.no_grad():
            whole, alone, empty = layer(features), layer(features[1]), layer(features[:0])
        _demand(tuple(empty.shape) == (0, circuit.n_observables), f"{circuit.name}: empty batch gives {empty.shape}")
        allowed = _allowed(layer) if shots is None else 2 * SIGMAS / np.sqrt(SHOTS)
        difference = _largest(whole[1] - alone)
        _demand(
            difference < allowed, f"{circuit.name}: a row alone differs by {difference:.1e} from the same in a batch"
        )
    return "rows do not depend on their batch"


def check_shots(device: Device, circuits: Sequence[Circuit]) -> str:
    """Estimates from shots lie within five standard errors; a seed repeats them; rows are drawn independently."""
    _need(device.capabilities.shots, "finite shots")
    worst = 0.0
    for circuit in circuits:
        layers = [_layer(device, circuit, shots=SHOTS, seed=seed) for seed in (11, 11, 12)]
        for layer in layers[1:]:
            layer.weights = layers[0].weights
        row = _inputs(circuit)[0][:1]
        features = row.expand(20, -1)
        first, again, other = (layer.estimate(features) for layer in layers)
        exact = _expected(layers[0], row)
        sigma = torch.sqrt((1 - exact**2).clamp(min=4 / SHOTS) / SHOTS)
        pull = _largest((first.values - exact) / sigma)
        worst = max(worst, pull)
        _demand(pull < SIGMAS + 1, f"{circuit.name}: an estimate is {pull:.1f} standard errors off")
        mean_pull = _largest((first.values.mean(0, keepdim=True) - exact) / sigma) * np.sqrt(len(features))
        _demand(mean_pull < SIGMAS, f"{circuit.name}: the mean of 20 estimates is {mean_pull:.1f} standard errors off")
        _demand(bool((first.stderr > 0).all()), f"{circuit.name}: a standard error is zero")
        same = torch.equal(first.values, again.values)
        _demand(same, f"{circuit.name}: the same seed gives other shots")
        uncertain = exact.abs()[0] < 0.99
        if bool(uncertain.any()):
            _demand(not torch.equal(first.values, other.values), f"{circuit.name}: another seed gives the same shots")
            spread = first.values[:, uncertain].std(0) / sigma[:, uncertain]
            _demand(bool((spread > 0.3).all()), f"{circuit.name}: equal rows of a batch share their shots")
    return f"largest deviation {worst:.1f} standard errors of {SHOTS} shots"


def check_shot_gradients(device: Device, circuits: Sequence[Circuit]) -> str:
    """Parameter-shift gradients from shots agree with the exact ones within five standard errors."""
    _need(device.capabilities.shots, "finite shots")
    skipped = 0
    for circuit in circuits:
        features, cotangent = _inputs(circuit)
        layer = _layer(device, circuit, shots=SHOTS, diff_method="parameter-shift", seed=5)
        if layer.program.circuit.n_columns > MANY:
            skipped += 1
            continue  # hundreds of shifted circuits a row
        got = torch.autograd.grad((layer(features) * cotangent).sum(), layer.weights)[0]
        exact = _expected(layer, features)
        wanted = torch.autograd.grad((exact * cotangent).sum(), layer.weights)[0]
        # Each shifted value has at most 1/shots variance; rows add up, two (or four) terms of weight 1/2.
        sigma = float(torch.sqrt(0.5 * (cotangent.abs().sum(1) ** 2).sum() / SHOTS))
        pull = _largest(got - wanted) / sigma
        _demand(pull < SIGMAS, f"{circuit.name}: a gradient from shots is {pull:.1f} standard errors off")
    return f"within five standard errors{_left_out(skipped)}"


def check_spending(device: Device, circuits: Sequence[Circuit]) -> str:
    """A batch is one job, a gradient step too, and a circuit is compiled once."""
    circuit = circuits[0]
    shots = None if device.capabilities.analytic else 100
    layer = _layer(device, circuit, shots=shots, diff_method="parameter-shift")
    features, _ = _inputs(circuit)
    before = device.tracker.to_dict()
    with torch.no_grad():
        layer(features)
    layer(features).sum().backward()
    spent = {key: value - before[key] for key, value in device.tracker.to_dict().items()}
    _demand(spent["jobs"] == 2, f"an evaluation and a gradient step took {spent['jobs']} jobs, not 2")
    _demand(spent["transpilations"] == 0, "a circuit was compiled again")
    _demand(spent["circuits"] > 2 * len(features), f"only {spent['circuits']} circuits were counted")
    return "one job a batch, one a gradient step"


def check_refusals(device: Device, circuits: Sequence[Circuit]) -> str:
    """What the device cannot do is an error that says what it can."""
    circuit = circuits[0]
    for method in set(DIFF_METHODS) - set(device.capabilities.diff_methods):
        try:
            _layer(device, circuit, diff_method=method, shots=None if device.capabilities.analytic else SHOTS)
        except InputError as error:
            _demand(device.name in str(error), f"the refusal of {method} does not name the device")
        else:
            raise Failed(f"{method} is not refused")
    for shots in (0, -1, 10**12):
        try:
            _layer(device, circuit, shots=shots)
        except InputError:
            continue
        raise Failed(f"shots = {shots} is not refused")
    return "clear refusals"


CHECKS: dict[str, Callable[[Device, Sequence[Circuit]], str]] = {
    "values": check_values,
    "gradients": check_gradients,
    "zero features": check_zero_features,
    "batches": check_batches,
    "shots": check_shots,
    "gradients from shots": check_shot_gradients,
    "spending": check_spending,
    "refusals": check_refusals,
}
"""Every check by name."""
