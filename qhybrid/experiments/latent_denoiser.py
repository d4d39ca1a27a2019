"""The denoiser of a generator: a small U-Net on latents that is told the step and the class."""

import math

import torch
from torch import Tensor, nn

from qhybrid.experiments.latent_blocks import GROUPS, BranchRequest, PooledBranch, ResidualBlock

FREQUENCIES = 64
"""Sines and cosines that a step is told by."""


class Denoiser(nn.Module):
    """One residual block down, some at half the resolution, one up, with a skip connection (after Ho et al., 2020).

    Some of the blocks hold a branch with a circuit, or its classical twin: those in the middle first.
    """

    def __init__(
        self,
        latent_channels: int,
        n_classes: int,
        request: BranchRequest,
        *,
        width: int,
        middle_blocks: int,
        branches: int,
        quantum: bool,
    ) -> None:
        super().__init__()
        deep, told = 2 * width, 2 * width
        # Middle blocks first, then up, then down.
        order = [*range(1, middle_blocks + 1), middle_blocks + 1, 0]
        holders = {place: number for number, place in enumerate(order[:branches], start=1)}

        def branch(place: int, width: int) -> PooledBranch | None:
            return request.branch(width, holders[place], quantum=quantum) if place in holders else None

        self.step = nn.Sequential(nn.Linear(FREQUENCIES, told), nn.SiLU(), nn.Linear(told, told))
        self.label = nn.Embedding(n_classes, told)
        self.enter = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.down = ResidualBlock(width, width, embedding=told, branch=branch(0, width))
        self.halve = nn.Conv2d(width, deep, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(
            ResidualBlock(deep, deep, embedding=told, branch=branch(place, deep))
            for place in range(1, middle_blocks + 1)
        )
        self.enlarge = nn.Sequential(nn.Conv2d(deep, 4 * width, 1), nn.PixelShuffle(2))
        self.up = ResidualBlock(deep, width, embedding=told, branch=branch(middle_blocks + 1, width))
        self.leave = nn.Sequential(
            nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, latent_channels, 3, padding=1)
        )

    def forward(self, latents: Tensor, steps: Tensor, labels: Tensor) -> Tensor:
        """Predict the noise in latents, or the velocity.

        Args:
            latents: (B, L, s, s), noisy.
            steps: (B,) int64, 0..T - 1.
            labels: (B,) int64.

        Returns:
            (B, L, s, s)
        """
        told = nn.functional.silu(self.step(step_features(steps)) + self.label(labels))
        skip = self.down(self.enter(latents), told)
        hidden = self.halve(skip)
        for block in self.middle:
            hidden = block(hidden, told)
        hidden = self.up(torch.cat([self.enlarge(hidden), skip], dim=1), told)
        predicted: Tensor = self.leave(hidden)
        return predicted


def step_features(steps: Tensor) -> Tensor:
    """Steps (B,) -> sines and cosines of frequencies from 1 to 1/10000, (B, FREQUENCIES) (Ho et al., 2020)."""
    half = FREQUENCIES // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=steps.device) / half)
    angles = steps[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
