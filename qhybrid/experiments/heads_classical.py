"""The classical controls of a quantum head, sized after its parameter count."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.quadratic_form import check_quadratic_form, seen_amplitude_wires
from qhybrid.experiments.classifier_head import ClassifierHead, ProjectingHead
from qhybrid.experiments.fusion import FeatureFusion, fused_parameters
from qhybrid.experiments.spec import Fusion


class LinearHead(ClassifierHead):
    """Linear(F, C)."""

    def __init__(self, feature_dim: int, n_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(feature_dim, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features)
        return logits


class MatchedMLPHead(ClassifierHead):
    """[average pooling to `pooled`] -> Linear(pooled, hidden) -> ReLU -> [fusion] -> Linear(n, C).

    `matched_mlp` chooses the sizes, unless the number of hidden units is given.

    Args:
        feature_dim: Width of the features.
        hidden: Number of hidden units.
        n_classes: Number of classes.
        pooled: Averages over neighbouring features that the hidden units see.
        fusion: How the hidden units meet the features before the last layer (see `FeatureFusion`).
    """

    def __init__(
        self, feature_dim: int, hidden: int, n_classes: int, *, pooled: int, fusion: Fusion = "replace"
    ) -> None:
        super().__init__()
        self.width = pooled
        self.hidden = nn.Linear(pooled, hidden)
        self.fusion = FeatureFusion(fusion, feature_dim, hidden)
        self.classifier = nn.Linear(self.fusion.width, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool1d(features, self.width)
        logits: Tensor = self.classifier(self.fusion(functional.relu(self.hidden(pooled)), features))
        return logits


def matched_mlp(feature_dim: int, n_classes: int, n_parameters: int, *, fusion: Fusion = "replace") -> tuple[int, int]:
    """Choose the multilayer perceptron whose parameter count is nearest to that of a quantum head.

    It sees all features if at least two hidden units fit the budget, and takes the hidden width nearest to it. A
    smaller budget (the 18 parameters of `sda_qec`) does not pay for one weight a feature: then two hidden units
    see as many averages over neighbouring features as fit. With a fusion there is one hidden unit at least.

    Args:
        feature_dim: Width of the features.
        n_classes: Number of classes.
        n_parameters: The budget.
        fusion: How the hidden units meet the features.

    Returns:
        Width after pooling, and number of hidden units.
    """
    without = fused_parameters(fusion, feature_dim, 0, n_classes)
    each = feature_dim + 1 + fused_parameters(fusion, feature_dim, 1, n_classes) - without
    hidden = round((n_parameters - without) / each)
    if hidden >= 2 or fusion != "replace":
        return feature_dim, max(1, hidden)
    width = round((n_parameters - 3 * n_classes) / 2) - 1
    return min(feature_dim, max(1, width)), 2


class QuadraticHead(ProjectingHead):
    """[Linear(F, n_features)] -> unit vector v -> K terms u_k^T rho(v) u_k -> Linear(K, C).

    The classical control of a circuit that begins with amplitude encoding. Such a circuit gives v^T A v with matrices
    A that its gates and few weights prescribe (`quadratic_form`); here they are free, of rank one each: every logit is
    v^T (sum of c_k u_k u_k^T) v + b, of rank K and of either sign. Projection and normalisation are the circuit's. rho
    is the state of the qubits that its observables can depend on, D x D with the others traced out: all that the
    circuit sees of v. It is 16 x 16 for `sda_qec`, whose qubits 4 to 7 no gate touches.

    There is a term for every observable at least: with a single one, which would match the parameters of the smallest
    circuits, a CNN from random weights does not leave its plateau, and the control would be a straw man.

    The vectors u_k are drawn with entries from N(0, (D - 1)^(-1/2)): over random unit vectors v a term then varies as
    much as the expectation value of a Pauli observable, whose variance is 2 / (D + 2).

    Args:
        feature_dim: Width of the features.
        circuit: One that `check_quadratic_form` accepts.
        n_classes: Number of classes.
        angle_spread: As in `ProjectingHead`.
        classifier_gain: As in `ProjectingHead`.

    Raises:
        InputError: The circuit is no quadratic form.
    """

    order: Tensor

    def __init__(
        self,
        feature_dim: int,
        circuit: Circuit,
        n_classes: int,
        *,
        angle_spread: float | None = None,
        classifier_gain: float = 1.0,
    ) -> None:
        check_quadratic_form(circuit)
        assert circuit.amplitudes is not None
        wires, seen = circuit.amplitude_wires, seen_amplitude_wires(circuit)
        self.dimension = 2 ** len(seen)
        n_parameters = circuit.n_weights + (circuit.n_observables + 1) * n_classes
        n_terms = max(circuit.n_observables, matched_terms(self.dimension, n_classes, n_parameters))
        super().__init__(
            feature_dim,
            circuit.n_features,
            n_terms,
            n_classes,
            angle_spread=angle_spread,
            classifier_gain=classifier_gain,
        )
        self.encoder = circuit.amplitudes
        axes = [wires.index(wire) for wire in (*seen, *(wire for wire in wires if wire not in seen))]
        order = torch.arange(2 ** len(wires)).reshape((2,) * len(wires)).permute(axes).flatten()
        self.register_buffer("order", order, persistent=False)
        self.vectors = nn.Parameter((self.dimension - 1) ** -0.25 * torch.randn(n_terms, self.dimension))

    def forward(self, features: Tensor) -> Tensor:
        amplitudes = self.encoder(self.projected(features))[:, self.order]
        parts = amplitudes.reshape(len(features), self.dimension, -1)
        terms = torch.einsum("kd,bdr->bkr", self.vectors, parts).square().sum(dim=2)
        logits: Tensor = self.classifier(terms)
        return logits


def matched_terms(dimension: int, n_classes: int, n_parameters: int) -> int:
    """The number of rank-one terms whose parameter count is nearest to that of a circuit and its last layer.

    Args:
        dimension: Entries of a term's vector, D.
        n_classes: Number of classes.
        n_parameters: Of circuit and last layer.
    """
    return round((n_parameters - n_classes) / (dimension + n_classes))
