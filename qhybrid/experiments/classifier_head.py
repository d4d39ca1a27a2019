"""What all heads have in common, and the projection and last layer that several share."""

import torch
from torch import Tensor, nn

from qhybrid.experiments.fusion import FeatureFusion
from qhybrid.experiments.spec import Fusion
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

    def logits(self, expectation_values: Tensor, features: Tensor) -> Tensor:
        """What the head makes of the quantum layer's output, (B, M) -> (B, C); only heads that have one.

        Args:
            expectation_values: Of the quantum layer on any device, shape (B, M).
            features: What the head received, shape (B, F).
        """
        raise NotImplementedError


class ProjectingHead(ClassifierHead):
    """[Linear(F, width)] -> what a subclass does -> [fusion with the features] -> Linear(n_values, C).

    The projection is there only where the circuit takes another number of features than the backbone gives. It is drawn
    before the last layer, so that heads of one seed begin with the same one.

    Args:
        feature_dim: Width of the features.
        width: How many features the circuit reads.
        n_values: What a subclass makes of them.
        n_classes: Number of classes.
        fusion: How they meet the features before the last layer (see `FeatureFusion`).
        projection: In place of the Linear; None: that.
        angle_spread: Batch-normalise what is projected to this standard deviation; None: do not.
        classifier_gain: Factor on the first weights of the last layer.
    """

    def __init__(
        self,
        feature_dim: int,
        width: int,
        n_values: int,
        n_classes: int,
        *,
        fusion: Fusion = "replace",
        projection: nn.Module | None = None,
        angle_spread: float | None = None,
        classifier_gain: float = 1.0,
    ) -> None:
        super().__init__()
        if projection is None:
            projection = nn.Identity() if width == feature_dim else nn.Linear(feature_dim, width)
        self.projection = projection
        self.spread = angle_spread
        self.norm = None if angle_spread is None else nn.BatchNorm1d(width, affine=False)
        self.fusion = FeatureFusion(fusion, feature_dim, n_values)
        self.classifier = nn.Linear(self.fusion.width, n_classes)
        with torch.no_grad():
            self.classifier.weight *= classifier_gain

    def projected(self, features: Tensor) -> Tensor:
        """Features (B, F) -> (B, width)."""
        projected: Tensor = self.projection(features)
        return projected if self.norm is None or self.spread is None else self.spread * self.norm(projected)
