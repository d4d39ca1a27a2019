"""The autoencoder of a generator: image <-> latent, and the loss that it is trained by."""

import torch
from torch import Tensor, nn

from qhybrid.experiments.latent_blocks import GROUPS, BranchRequest, ResidualBlock

LOG_VARIANCES = (-30.0, 20.0)
"""Beyond these, log variances are cut off, as latent diffusion does."""


class Autoencoder(nn.Module):
    """Convolutions down to the latent's mean and log variance, and up again (variational; Kingma and Welling, 2014).

    Between the encoder's features and the latent there is a residual branch over the whole image: a circuit, or its
    classical twin. Images are mapped to [-1, 1].
    """

    def __init__(
        self,
        channels: int,
        request: BranchRequest,
        *,
        width: int,
        latent_channels: int,
        downsamplings: int,
        quantum: bool,
    ) -> None:
        super().__init__()
        deep = 2 * width
        # Four pixels are one position from the start: convolutions at full resolution would take most of the time.
        down: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, width, 3, padding=1)]
        for level in range(1, downsamplings):
            before = width if level == 1 else deep
            down += [nn.SiLU(), nn.Conv2d(before, deep, 4, stride=2, padding=1)]
        last = width if downsamplings == 1 else deep
        self.encoder = nn.Sequential(*down, ResidualBlock(last, deep))
        self.bottleneck = request.branch(deep, 0, quantum=quantum)
        self.to_latent = nn.Sequential(
            nn.GroupNorm(GROUPS, deep), nn.SiLU(), nn.Conv2d(deep, 2 * latent_channels, 3, padding=1)
        )
        up: list[nn.Module] = [nn.Conv2d(latent_channels, deep, 3, padding=1), ResidualBlock(deep, last)]
        for level in reversed(range(1, downsamplings)):
            after = width if level == 1 else deep
            up += [nn.SiLU(), nn.Conv2d(deep, 4 * after, 3, padding=1), nn.PixelShuffle(2)]
        self.decoder = nn.Sequential(
            *up,
            ResidualBlock(width, width),
            nn.SiLU(),
            nn.Conv2d(width, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, S, S) in [0, 1] -> mean and log variance of their latents, (B, L, s, s) each."""
        features = self.bottleneck(self.encoder(2 * images - 1))
        mean, log_variance = self.to_latent(features).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, L, s, s) -> images (B, C, S, S), not clipped to [0, 1]."""
        images: Tensor = (self.decoder(latents) + 1) / 2
        return images


def sample_latents(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """The latents of a Gaussian posterior for standard normal noise, all of one shape."""
    return mean + torch.exp(0.5 * log_variance) * noise


def reconstruction_loss(images: Tensor, decoded: Tensor, *, edge_weight: float) -> Tensor:
    """Mean absolute error of the pixels, and of the differences between neighbours times a weight.

    Args:
        images: (B, C, S, S).
        decoded: The same.
        edge_weight: 0: of the pixels only.
    """
    error = decoded - images
    loss = error.abs().mean()
    if edge_weight:
        loss = loss + edge_weight * (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean())
    return loss


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal, the mean over samples and latent values."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def autoencoder_loss(
    model: Autoencoder, images: Tensor, noise: Tensor | None, *, edge_weight: float, kl_weight: float
) -> Tensor:
    """What the autoencoder is trained by.

    Args:
        model: The autoencoder.
        images: (B, C, S, S) in [0, 1].
        noise: (B, L, s, s) of the latents; None: their mean is decoded, as for a validation.
        edge_weight: Of the differences between neighbours.
        kl_weight: Of the divergence.
    """
    mean, log_variance = model.encode(images)
    latents = mean if noise is None else sample_latents(mean, log_variance, noise)
    loss = reconstruction_loss(images, model.decode(latents), edge_weight=edge_weight)
    return loss + kl_weight * divergence(mean, log_variance)
