"""Synthetic samples for the smaller classes of a training split.

The diffusion augmentor is SDA-QEC's (arXiv 2601.18556, section 2.2): the forward process of a diffusion model and
nothing of the reverse one, so its samples are noisy, slightly blurred copies of real ones.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2.functional import gaussian_blur

from qhybrid.data.dataset import Split, resize
from qhybrid.data.spec import AugmentSpec
from qhybrid.errors import InputError

MAX_TURN = 15.0
"""Degrees by which the geometric augmentor turns at most, either way."""
CHUNK = 64
"""Samples that are worked on at once: enough for one call to be worth it, few enough to stay in the cache."""


def noise_schedule(spec: AugmentSpec) -> Tensor:
    """The cumulative product of the linear schedule, abar_t = prod_{s=1..t} (1 - beta_s) (Eq. 1 and 2).

    Returns:
        (T + 1,) float64; entry t belongs to step t and entry 0 is 1. The noise of step t has the standard
        deviation sqrt(1 - abar_t).
    """
    beta = torch.linspace(spec.beta_start, spec.beta_end, spec.steps, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, dim=0)])


def synthetic_count(n_majority: int, n_minority: int, rho: float) -> int:
    """How many samples a class lacks, M = max(0, ceil(rho N_maj) - N_min) (Eq. 3)."""
    # As a decimal fraction: 0.1 * 30 is a little more than 3 in binary, and its ceiling 4.
    return max(0, math.ceil(Fraction(str(rho)) * n_majority) - n_minority)


def diffuse(images: Tensor, steps: Tensor, noise: Tensor, spec: AugmentSpec) -> Tensor:
    """Add the noise of a step to each image: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (Eq. 1).

    Args:
        images: (n, C, S, S) in [0, 1].
        steps: (n,) int64, 0..T.
        noise: (n, C, S, S) standard normal.
        spec: The schedule.

    Returns:
        (n, C, S, S), not clipped.
    """
    alpha_bar = noise_schedule(spec)[steps].to(images.dtype)[:, None, None, None]
    return alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise


def compose(images: Tensor, brightness: Tensor, spec: AugmentSpec) -> Tensor:
    """Blur and brighten (Eq. 4): gamma * G_sigma(x), or literally G_sigma(x) * (gamma * x).

    Args:
        images: (n, C, S, S).
        brightness: (n,) factors gamma.
        spec: The blur and which of the two.

    Returns:
        (n, C, S, S) clipped to [0, 1].
    """
    blurred = images
    if spec.blur_sigma > 0:
        radius = min(max(1, math.ceil(4 * spec.blur_sigma)), min(images.shape[-2:]) - 1)
        blurred = gaussian_blur(images, [2 * radius + 1] * 2, [spec.blur_sigma] * 2)
    factor = brightness[:, None, None, None]
    result = factor * blurred * (images if spec.composition == "product" else 1)
    return result.clamp(0, 1)


def transform_geometrically(images: Tensor, degrees: Tensor, flips: Tensor, brightness: Tensor) -> Tensor:
    """Turn, mirror and brighten each image on its own; what enters at the border repeats the border.

    Args:
        images: (n, C, S, S).
        degrees: (n,) angles.
        flips: (n,) Booleans: mirrored left-right or not.
        brightness: (n,) factors.

    Returns:
        (n, C, S, S) clipped to [0, 1].
    """
    cosine, sine = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    mirror = 1 - 2 * flips.to(images.dtype)
    zero = torch.zeros_like(cosine)
    rows = [torch.stack([mirror * cosine, -sine, zero], 1), torch.stack([mirror * sine, cosine, zero], 1)]
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    turned = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return (brightness[:, None, None, None] * turned).clamp(0, 1)


def augment(split: Split, spec: AugmentSpec, *, seed: int) -> Split | None:
    """Make the samples that the smaller classes of a training split lack.

    Every class below rho times the largest is filled up to it; where rho is above 1, the largest is, too. Each sample
    has a source drawn from its class with replacement, and its own step or turn, brightness and noise; equal seeds give
    equal samples.

    Args:
        split: The training split; nothing else may ever be given here.
        spec: Which augmentor, and its settings.
        seed: Of a generator of its own; torch's global one is left alone.

    Returns:
        Only the synthetic samples: (M, C, image_size, image_size) float32 with C as in the split, ids such as
        `synthetic/000:source=train/5:t=3`; None where there is nothing to make.
    """
    if spec.kind == "latent-diffusion":
        raise InputError("augment.kind 'latent-diffusion' takes a generator, which an experiment trains")
    counts = split.class_counts()
    if spec.kind == "none" or not counts:
        return None
    generator = torch.Generator().manual_seed(seed)
    sources = []
    for label, count in enumerate(counts):
        n_synthetic = synthetic_count(max(counts), count, spec.rho)
        if count and n_synthetic:
            members = torch.nonzero(split.labels == label)[:, 0]
            sources.append(members[torch.randint(count, (n_synthetic,), generator=generator)])
    if not sources:
        return None
    return vary(split, torch.cat(sources), spec, generator)


def vary(split: Split, source: Tensor, spec: AugmentSpec, generator: torch.Generator) -> Split:
    """Make one synthetic sample of each image that is given.

    Args:
        split: Where the images are.
        source: (M,) indices of them, each as often as wanted.
        spec: The augmentor; `none` takes the images as they are.
        generator: Of all that is drawn.

    Returns:
        (M, C, image_size, image_size) float32 with the labels of their sources; ids as in `augment`.
    """
    originals = _resized(split, source)
    if spec.kind == "diffusion":
        images, notes = _diffused(originals, spec, generator)
    elif spec.kind == "geometric":
        images, notes = _turned(originals, spec, generator)
    else:
        images, notes = originals, ["as it is"] * len(originals)
    width = max(3, len(str(len(source) - 1)))
    ids = tuple(
        f"synthetic/{number:0{width}}:source={split.ids[index]}:{note}"
        for number, (index, note) in enumerate(zip(source.tolist(), notes, strict=True))
    )
    return split.varied(images, source, ids)


def _resized(split: Split, indices: Tensor) -> Tensor:
    chosen = split.images[indices]
    images = chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen
    return resize(images, split.image_size).clamp(0, 1)


def _chunks(n: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]


def _brightness(n: int, spec: AugmentSpec, generator: torch.Generator) -> Tensor:
    low, high = spec.brightness
    return low + (high - low) * torch.rand(n, generator=generator)


def _diffused(originals: Tensor, spec: AugmentSpec, generator: torch.Generator) -> tuple[Tensor, list[str]]:
    first = 1 if spec.include_last_step else 0
    steps = torch.randint(first, first + spec.steps, (len(originals),), generator=generator)
    brightness = _brightness(len(originals), spec, generator)
    noise = torch.randn(originals.shape, generator=generator)
    images = [
        compose(diffuse(originals[part], steps[part], noise[part], spec), brightness[part], spec)
        for part in _chunks(len(originals))
    ]
    return torch.cat(images), [f"t={step}" for step in steps.tolist()]


def _turned(originals: Tensor, spec: AugmentSpec, generator: torch.Generator) -> tuple[Tensor, list[str]]:
    degrees = MAX_TURN * (2 * torch.rand(len(originals), generator=generator) - 1)
    flips = torch.rand(len(originals), generator=generator) < 0.5
    brightness = _brightness(len(originals), spec, generator)
    images = [
        transform_geometrically(originals[part], degrees[part], flips[part], brightness[part])
        for part in _chunks(len(originals))
    ]
    notes = [
        f"turn={angle:.1f}{':flip' if flip else ''}"
        for angle, flip in zip(degrees.tolist(), flips.tolist(), strict=True)
    ]
    return torch.cat(images), notes
