"""The head whose first layer a circuit makes: quantum while it is trained, classical when it predicts."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from qhybrid.experiments.classifier_head import ClassifierHead
from qhybrid.layer import QuantumLayer

HIDDEN_UNITS = 16
"""Hidden units where no number is given."""


class GeneratedMLPHead(ClassifierHead):
    """W_1 x + b_1 -> ReLU -> Linear(H, C), with W_1 made by a circuit (VQC-MLPNet, arXiv 2506.12061).

    Our reading: each hidden unit has trainable inputs of its own. The circuit turns those of all units into expectation
    values, (H, n_features) -> (H, M), in one call of the device whatever the number of samples. One matrix (F, M)
    turns the values of a unit into its row of W_1, divided by the root of F, so that they are of the size of
    `nn.Linear`'s. It has no bias: all units would share it, and be silent together on features that are not negative.
    Inputs are drawn from N(0, 1).

    In training every step makes W_1 anew, and gradients pass through the circuit. In evaluation mode it is made once,
    at the first batch, and kept with the parameters: what is saved is what was validated, and a head that is loaded
    predicts without any device. To evaluate it on another device is to make W_1 there: `layer` runs on it,
    `quantum_features` are the inputs of the units, and `logits` takes their expectation values.

    Args:
        feature_dim: Width of the features, F.
        layer: The quantum layer.
        n_classes: Number of classes.
        hidden_units: H; None: `HIDDEN_UNITS`.
    """

    layer: QuantumLayer | None
    first_layer: Tensor
    """W_1 as it was last made, (H, F)."""
    made: Tensor
    """Whether W_1 is of the parameters as they are now."""

    def __init__(
        self, feature_dim: int, layer: QuantumLayer, n_classes: int, *, hidden_units: int | None = None
    ) -> None:
        super().__init__()
        n_hidden = HIDDEN_UNITS if hidden_units is None else hidden_units
        self.layer = layer
        self.inputs = nn.Parameter(torch.randn(n_hidden, layer.n_features))
        self.generator = nn.Linear(layer.n_observables, feature_dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.classifier = nn.Linear(n_hidden, n_classes)
        self.register_buffer("first_layer", torch.zeros(n_hidden, feature_dim))
        self.register_buffer("made", torch.tensor(False))

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            assert self.layer is not None
            self.made.fill_(False)
            return self._classified(features, self._weights(self.layer(self.inputs)))
        self._make()
        return self._classified(features, self.first_layer)

    def quantum_features(self, features: Tensor) -> Tensor:
        """The inputs of the hidden units, (H, n_features), whatever the features."""
        del features
        return self.inputs

    def logits(self, expectation_values: Tensor, features: Tensor) -> Tensor:
        """Expectation values of the hidden units (H, M) and features (B, F) -> (B, C)."""
        return self._classified(features, self._weights(expectation_values))

    def without_device(self) -> "GeneratedMLPHead":
        """The same head as a classical one, in place: it predicts from the weights that are kept."""
        self._make()
        self.layer = None
        return self.eval()

    @torch.no_grad()
    def _make(self) -> None:
        """Make the weights, unless they are of the parameters as they are now."""
        if not self.made:
            assert self.layer is not None
            self.first_layer.copy_(self._weights(self.layer.estimate(self.inputs).values))
            self.made.fill_(True)

    def _weights(self, expectation_values: Tensor) -> Tensor:
        weights: Tensor = self.generator(expectation_values) / self.first_layer.shape[1] ** 0.5
        return weights

    def _classified(self, features: Tensor, weights: Tensor) -> Tensor:
        logits: Tensor = self.classifier(functional.relu(functional.linear(features, weights, self.bias)))
        return logits
