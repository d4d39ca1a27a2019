"""What autoencoder and denoiser are built of: residual blocks, and the branch that a circuit or its twin sits in."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qhybrid.circuits.circuit import Circuit
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.layer import QuantumLayer

GROUPS = 8
"""Of group normalisation; widths are multiples of it."""


class PooledBranch(nn.Module):
    """A residual branch that sees a feature map's mean over its positions: h + up(core(down(mean(h)))).

    One row a sample and not one a position: a device then runs one circuit for each sample, and what it adds is what a
    feature map is as a whole. The mean is normalised over its channels (without weights), so that the angles of a
    circuit start where it responds.
    """

    def __init__(self, width: int, core: nn.Module, n_in: int, n_out: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, n_in)
        self.core = core
        self.up = nn.Linear(n_out, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, H, h, w) -> (B, H, h, w)."""
        pooled = functional.layer_norm(features.mean(dim=(2, 3)), (features.shape[1],))
        added: Tensor = self.up(self.core(self.down(pooled)))
        return features + added[:, :, None, None]


@dataclass(frozen=True)
class BranchRequest:
    """What the branches of a model are made from."""

    circuit: Circuit
    device: DeviceChoice
    seed: int
    """Of the circuits' first weights and of their shots."""

    def quantum(self, width: int, number: int) -> PooledBranch:
        """A branch with the circuit: Linear(H, n), QuantumLayer, Linear(M, H).

        Args:
            width: H, channels of the feature map.
            number: Of the branch in its model: each draws weights and shots of its own.
        """
        choice = self.device
        layer = QuantumLayer(
            self.circuit,
            device=choice.name,
            diff_method=choice.diff_method,
            shots=choice.shots,
            noise=choice.noise,
            noise_scale=choice.noise_scale,
            noise_parts=choice.noise_parts,
            layout_seeds=choice.layout_seeds,
            backend=choice.backend,
            mitigation=choice.mitigation,
            seed=self.seed + number,
        )
        return PooledBranch(width, layer, layer.n_features, layer.n_observables)

    def classical(self, width: int) -> PooledBranch:
        """Its twin: Linear(H, k), tanh, Linear(k, H) with the k whose parameter count comes nearest."""
        hidden = twin_width(width, self.circuit)
        return PooledBranch(width, nn.Tanh(), hidden, hidden)

    def branch(self, width: int, number: int, *, quantum: bool) -> PooledBranch:
        """One or the other."""
        return self.quantum(width, number) if quantum else self.classical(width)


def branch_parameters(width: int, circuit: Circuit) -> int:
    """Parameters of a quantum branch: Linear(H, n), W weights, Linear(M, H)."""
    return (width + 1) * circuit.n_features + circuit.n_weights + (circuit.n_observables + 1) * width


def twin_width(width: int, circuit: Circuit) -> int:
    """Hidden units k of the classical twin: k (2 H + 1) + H parameters, as near to the quantum branch's as can be."""
    return max(1, round((branch_parameters(width, circuit) - width) / (2 * width + 1)))


class ResidualBlock(nn.Module):
    """norm, SiLU, conv (+ embedding), norm, SiLU, conv, all added to the input; then a branch, if there is one."""

    def __init__(
        self, width_in: int, width: int, *, embedding: int | None = None, branch: PooledBranch | None = None
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(GROUPS, width_in), nn.SiLU(), nn.Conv2d(width_in, width, 3, padding=1))
        self.embedding = None if embedding is None else nn.Linear(embedding, width)
        self.second = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)
        self.branch = branch
        nn.init.zeros_(self.second[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.second[2].bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, embedded: Tensor | None = None) -> Tensor:
        """(B, width_in, h, w), and (B, E) where the block takes an embedding -> (B, width, h, w)."""
        hidden = self.first(features)
        if self.embedding is not None and embedded is not None:
            hidden = hidden + self.embedding(embedded)[:, :, None, None]
        hidden = self.skip(features) + self.second(hidden)
        return hidden if self.branch is None else torch.as_tensor(self.branch(hidden))
