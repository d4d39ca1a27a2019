"""From features to logits: the quantum head, its variants that lack one thing each, and its classical controls."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.controls import without_entanglement
from qhybrid.circuits.quadratic_form import check_quadratic_form
from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.classifier_head import ClassifierHead, ProjectingHead
from qhybrid.experiments.fusion import fused_parameters
from qhybrid.experiments.heads_classical import LinearHead, MatchedMLPHead, QuadraticHead, matched_mlp
from qhybrid.experiments.heads_generated import GeneratedMLPHead
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import Attention, DeviceChoice, Fusion, Head, ModelSpec
from qhybrid.experiments.tensor_train import TensorTrainLinear
from qhybrid.layer import QuantumLayer

__all__ = [
    "HEADS", "ClassifierHead", "HeadRequest", "QuantumHead", "build_head", "count_parameters", "head_circuit",
    "quantum_head_parameters",
]  # fmt: skip


class QuantumHead(ProjectingHead):
    """[Linear(F, n_features)] -> quantum layer -> [attention] -> [fusion] -> Linear(n, C) (SDA-QEC, section 2.4).

    With `attention = "features"` the softmax of the expectation values weights the features x that the circuit read,
    and the last layer receives softmax(E)_i x_i: HQCNN (arXiv 2509.14277), in our reading.

    Args:
        feature_dim: Width of the features.
        layer: The quantum layer.
        n_classes: Number of classes.
        attention: `none` or `features`.
        fusion: As in `ProjectingHead`.
        projection: As in `ProjectingHead`.
        angle_spread: As in `ProjectingHead`.
        classifier_gain: As in `ProjectingHead`.

    Raises:
        InputError: Attention to features needs an expectation value for each of them.
    """

    layer: QuantumLayer

    def __init__(
        self,
        feature_dim: int,
        layer: QuantumLayer,
        n_classes: int,
        *,
        attention: Attention = "none",
        fusion: Fusion = "replace",
        projection: nn.Module | None = None,
        angle_spread: float | None = None,
        classifier_gain: float = 1.0,
    ) -> None:
        if attention == "features" and layer.n_features != layer.n_observables:
            raise InputError(
                f"attention = 'features' needs an observable for each feature; circuit {layer.circuit.name!r} has "
                f"{layer.n_observables} for {layer.n_features}"
            )
        super().__init__(
            feature_dim,
            layer.n_features,
            layer.n_observables,
            n_classes,
            fusion=fusion,
            projection=projection,
            angle_spread=angle_spread,
            classifier_gain=classifier_gain,
        )
        self.layer = layer
        self.attention = attention

    def forward(self, features: Tensor) -> Tensor:
        encoded = self.quantum_features(features)
        attended = self._attended(self.layer(encoded), encoded)
        logits: Tensor = self.classifier(self.fusion(attended, features))
        return logits

    def quantum_features(self, features: Tensor) -> Tensor:
        return self.projected(features)

    def logits(self, expectation_values: Tensor, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.received(expectation_values, features))
        return logits

    def received(self, expectation_values: Tensor, features: Tensor) -> Tensor:
        """What the last layer receives, (B, n), from expectation values (B, M) and the head's features (B, F)."""
        if self.attention != "none":
            expectation_values = self._attended(expectation_values, self.quantum_features(features))
        fused: Tensor = self.fusion(expectation_values, features)
        return fused

    @property
    def reads_values(self) -> bool:
        """Whether the last layer receives the expectation values as they are."""
        return self.attention == "none" and self.fusion.fusion == "replace"

    def _attended(self, expectation_values: Tensor, encoded: Tensor) -> Tensor:
        return expectation_values if self.attention == "none" else torch.softmax(expectation_values, dim=1) * encoded


def quantum_head_parameters(feature_dim: int, circuit: Circuit, n_classes: int, *, fusion: Fusion = "replace") -> int:
    """Parameter count of a quantum head with this circuit: projection, circuit, fusion and classifier."""
    projection = 0 if circuit.n_features == feature_dim else (feature_dim + 1) * circuit.n_features
    return projection + circuit.n_weights + fused_parameters(fusion, feature_dim, circuit.n_observables, n_classes)


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


def head_circuit(head: Head, circuit: str) -> Circuit:
    """The circuit that a quantum head runs.

    Args:
        head: Which of the quantum heads.
        circuit: Catalog name or path.

    Raises:
        InputError: The circuit is wrong, or has no entanglement that could be taken away.
    """
    loaded = load_circuit(circuit)
    if head != "quantum-separable":
        return loaded
    try:
        return without_entanglement(loaded)
    except InputError as error:
        raise InputError(f"head {head!r}: {error}") from None


def _layer(request: HeadRequest) -> QuantumLayer:
    return QuantumLayer(
        head_circuit(request.spec.head, request.circuit),
        device=request.device.name,
        diff_method=request.device.diff_method,
        shots=request.device.shots,
        noise=request.device.noise,
        noise_scale=request.device.noise_scale,
        noise_parts=request.device.noise_parts,
        layout_seeds=request.device.layout_seeds,
        backend=request.device.backend,
        mitigation=request.device.mitigation,
        seed=request.seed,
    )


def _quantum(request: HeadRequest) -> ClassifierHead:
    layer = _layer(request)
    layer.weights.requires_grad_(request.spec.head != "quantum-frozen")
    return QuantumHead(
        request.feature_dim,
        layer,
        request.n_classes,
        attention=request.spec.attention,
        fusion=request.spec.fusion,
        projection=_tensor_train(request, layer) if request.spec.head == "tt-quantum" else None,
        angle_spread=request.spec.angle_spread,
        classifier_gain=request.spec.classifier_gain,
    )


def _tensor_train(request: HeadRequest, layer: QuantumLayer) -> TensorTrainLinear:
    if layer.n_features == request.feature_dim:
        raise InputError(
            f"head 'tt-quantum': circuit {layer.circuit.name!r} reads all {request.feature_dim} features as they are: "
            "there is no projection that a tensor train could replace"
        )
    return TensorTrainLinear(request.feature_dim, layer.n_features, rank=request.spec.tt_rank)


def _generated(request: HeadRequest) -> ClassifierHead:
    hidden = request.spec.hidden_units
    return GeneratedMLPHead(request.feature_dim, _layer(request), request.n_classes, hidden_units=hidden)


def _linear(request: HeadRequest) -> ClassifierHead:
    return LinearHead(request.feature_dim, request.n_classes)


def _mlp(request: HeadRequest) -> ClassifierHead:
    width, n_classes, fusion = request.feature_dim, request.n_classes, request.spec.fusion
    hidden = request.spec.hidden_units
    if hidden is None:
        budget = quantum_head_parameters(width, load_circuit(request.circuit), n_classes, fusion=fusion)
        pooled, hidden = matched_mlp(width, n_classes, budget, fusion=fusion)
    else:
        pooled = width
    return MatchedMLPHead(width, hidden, n_classes, pooled=pooled, fusion=fusion)


def _quadratic(request: HeadRequest) -> ClassifierHead:
    circuit = load_circuit(request.circuit)
    try:
        check_quadratic_form(circuit)
    except InputError as error:
        raise InputError(f"head {request.spec.head!r}: {error}") from None
    return QuadraticHead(
        request.feature_dim,
        circuit,
        request.n_classes,
        angle_spread=request.spec.angle_spread,
        classifier_gain=request.spec.classifier_gain,
    )


HEADS: dict[Head, Callable[[HeadRequest], ClassifierHead]] = {
    "quantum": _quantum,
    "quantum-separable": _quantum,
    "quantum-frozen": _quantum,
    "tt-quantum": _quantum,
    "vqc-mlp": _generated,
    "linear": _linear,
    "mlp": _mlp,
    "quadratic": _quadratic,
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
        InputError: The circuit or the device is wrong, or the circuit has no such head.
    """
    request = HeadRequest(spec.feature_dim, n_classes, circuit, device, derive_seed(seed, "circuit"), spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "head"))
        return HEADS[spec.head](request)


def count_parameters(module: nn.Module, *, trainable: bool = True) -> int:
    """Number of trainable values in a module, or of those that are drawn once and stay."""
    return sum(prod(parameter.shape) for parameter in module.parameters() if parameter.requires_grad is trainable)
