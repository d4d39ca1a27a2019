"""What the last layer receives: a block's values alone, or with the features that the block saw."""

import torch
from torch import Tensor, nn

from qhybrid.experiments.spec import Fusion


class FeatureFusion(nn.Module):
    """Values of a block (B, M) and the features that it saw (B, F) -> what the last layer receives (B, width).

    The block is a circuit, or the hidden layer in its place. `replace`: its values. `concat`: features and values, side
    by side. `residual`: features + W values + b, for which values go through a linear layer of the features' width.
    LQER (arXiv 2601.18814) enhances ResNet18's features with a circuit's; how is left open, and this is our reading.

    Args:
        fusion: Which.
        feature_dim: Width of the features, F.
        n_values: Of the block, M.
    """

    def __init__(self, fusion: Fusion, feature_dim: int, n_values: int) -> None:
        super().__init__()
        self.fusion = fusion
        self.width = {"replace": n_values, "concat": feature_dim + n_values, "residual": feature_dim}[fusion]
        """Of what the last layer receives."""
        self.projection = nn.Linear(n_values, feature_dim) if fusion == "residual" else None

    def forward(self, values: Tensor, features: Tensor) -> Tensor:
        """Values (B, M) in either precision and features (B, F) -> (B, width)."""
        if self.projection is not None:
            projected: Tensor = self.projection(values.to(self.projection.weight.dtype))
            return features + projected
        return values if self.fusion == "replace" else torch.cat([features, values.to(features.dtype)], dim=1)

    def extra_repr(self) -> str:
        """What `print(layer)` shows."""
        return self.fusion


def fused_parameters(fusion: Fusion, feature_dim: int, n_values: int, n_classes: int) -> int:
    """Parameters behind a block: those of the fusion and of the last layer.

    Args:
        fusion: Which.
        feature_dim: Width of the features.
        n_values: Of the block.
        n_classes: Number of classes.
    """
    if fusion == "replace":
        return (n_values + 1) * n_classes
    if fusion == "concat":
        return (feature_dim + n_values + 1) * n_classes
    return (n_values + 1) * feature_dim + (feature_dim + 1) * n_classes
