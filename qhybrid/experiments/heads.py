"""From features to logits: the quantum head and its classical controls."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import DeviceChoice, Head, ModelSpec
from qhybrid.layer import QuantumLayer


class ClassifierHead(nn.Module):
    """Features (B, F) -> logits (B, C)."""

    layer: QuantumLayer | None
    """The quantum layer; None in a classical head."""

    def __init__(self) -> None:
        super().__init__()
        self.register_module("layer", None)

    def quantum_features(self, features: Tensor) -> Tensor:
        """What the quantum layer receives, (B, F) -> (B, n_features); only heads that have one."""
        raise NotImplementedError

    def logits(self, expectation_values: Tensor) -> Tensor:
        """What the head makes of the quantum layer's output, (B, M) -> (B, C); only heads that have one."""
        raise NotImplementedError


class QuantumHead(ClassifierHead):
    """[Linear(F, n_features)] -> quantum layer -> Linear(n_observables, C) (SDA-QEC, section 2.4).

    The projection is there only where the circuit takes another number of features than the backbone gives.

    Args:
        feature_dim: Width of the features.
        layer: The quantum layer.
        n_classes: Number of classes.
        angle_spread: Batch-normalise what the layer receives to this standard deviation; None: do not.
        classifier_gain: Factor on the first weights of the last layer.
    """

    def __init__(
        self,
        feature_dim: int,
        layer: QuantumLayer,
        n_classes: int,
        *,
        angle_spread: float | None = None,
        classifier_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.projection = nn.Identity() if layer.n_features == feature_dim else nn.Linear(feature_dim, layer.n_features)
        self.layer: QuantumLayer = layer
        self.spread = angle_spread
        self.norm = None if angle_spread is None else nn.BatchNorm1d(layer.n_features, affine=False)
        self.classifier = nn.Linear(layer.n_observables, n_classes)
        with torch.no_grad():
            self.classifier.weight *= classifier_gain

    def forward(self, features: Tensor) -> Tensor:
        return self.logits(self.layer(self.quantum_features(features)))

    def quantum_features(self, features: Tensor) -> Tensor:
        projected: Tensor = self.projection(features)
        return projected if self.norm is None or self.spread is None else self.spread * self.norm(projected)

    def logits(self, expectation_values: Tensor) -> Tensor:
        logits: Tensor = self.classifier(expectation_values)
        return logits


class LinearHead(ClassifierHead):
    """Linear(F, C)."""

    def __init__(self, feature_dim: int, n_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(feature_dim, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features)
        return logits


class MatchedMLPHead(ClassifierHead):
    """[average pooling to `width`] -> Linear(width, hidden) -> ReLU -> Linear(hidden, C).

    `matched_mlp` chooses the sizes.
    """

    def __init__(self, width: int, hidden: int, n_classes: int) -> None:
        super().__init__()
        self.width = width
        self.hidden = nn.Linear(width, hidden)
        self.classifier = nn.Linear(hidden, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool1d(features, self.width)
        logits: Tensor = self.classifier(functional.relu(self.hidden(pooled)))
        return logits


def matched_mlp(feature_dim: int, n_classes: int, n_parameters: int) -> tuple[int, int]:
    """Choose the multilayer perceptron whose parameter count is nearest to that of a quantum head.

    It sees all features if at least two hidden units fit the budget, and takes the hidden width nearest to it. A
    smaller budget (the 18 parameters of `sda_qec`) does not pay for one weight a feature: then two hidden units
    see as many averages over neighbouring features as fit.

    Args:
        feature_dim: Width of the features.
        n_classes: Number of classes.
        n_parameters: The budget.

    Returns:
        Width after pooling, and number of hidden units.
    """
    hidden = round((n_parameters - n_classes) / (feature_dim + 1 + n_classes))
    if hidden >= 2:
        return feature_dim, hidden
    width = round((n_parameters - 3 * n_classes) / 2) - 1
    return min(feature_dim, max(1, width)), 2


def quantum_head_parameters(feature_dim: int, circuit: Circuit, n_classes: int) -> int:
    """Parameter count of a quantum head with this circuit: projection, circuit, classifier."""
    projection = 0 if circuit.n_features == feature_dim else (feature_dim + 1) * circuit.n_features
    return projection + circuit.n_weights + (circuit.n_observables + 1) * n_classes


@dataclass(frozen=True)
class HeadRequest:
    """All that a builder of heads may need."""

    feature_dim: int
    n_classes: int
    circuit: str
    """Catalog name or path."""
    device: DeviceChoice
    seed: int
    """Of the circuit's weights and of the shots."""
    spec: ModelSpec


def _quantum(request: HeadRequest) -> ClassifierHead:
    layer = QuantumLayer(
        request.circuit,
        device=request.device.name,
        diff_method=request.device.diff_method,
        shots=request.device.shots,
        noise=request.device.noise,
        noise_scale=request.device.noise_scale,
        noise_parts=request.device.noise_parts,
        layout_seeds=request.device.layout_seeds,
        backend=request.device.backend,
        seed=request.seed,
    )
    return QuantumHead(
        request.feature_dim,
        layer,
        request.n_classes,
        angle_spread=request.spec.angle_spread,
        classifier_gain=request.spec.classifier_gain,
    )


def _linear(request: HeadRequest) -> ClassifierHead:
    return LinearHead(request.feature_dim, request.n_classes)


def _mlp(request: HeadRequest) -> ClassifierHead:
    budget = quantum_head_parameters(request.feature_dim, load_circuit(request.circuit), request.n_classes)
    return MatchedMLPHead(*matched_mlp(request.feature_dim, request.n_classes, budget), request.n_classes)


HEADS: dict[Head, Callable[[HeadRequest], ClassifierHead]] = {
    "quantum": _quantum,
    "linear": _linear,
    "mlp": _mlp,
}


def build_head(spec: ModelSpec, *, n_classes: int, circuit: str, device: DeviceChoice, seed: int = 0) -> ClassifierHead:
    """Build a head with its first weights.

    Args:
        spec: The model; names the head.
        n_classes: Number of classes.
        circuit: Catalog name or path of the circuit.
        device: What runs the quantum layer.
        seed: Of the weights, and of the shots.

    Returns:
        The head. torch's global generator is left as it was.

    Raises:
        InputError: The circuit or the device is wrong.
    """
    request = HeadRequest(spec.feature_dim, n_classes, circuit, device, derive_seed(seed, "circuit"), spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "head"))
        return HEADS[spec.head](request)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable values in a module."""
    return sum(prod(parameter.shape) for parameter in module.parameters() if parameter.requires_grad)
