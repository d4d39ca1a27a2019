"""A generator: autoencoder, denoiser and noise schedule, with first weights drawn from a seed."""

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qhybrid.circuits.spec import load_circuit
from qhybrid.errors import InputError
from qhybrid.experiments.generator_spec import GeneratorSpec
from qhybrid.experiments.heads import count_parameters
from qhybrid.experiments.latent_blocks import BranchRequest
from qhybrid.experiments.latent_denoiser import Denoiser
from qhybrid.experiments.latent_vae import Autoencoder
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.layer import QuantumLayer

if TYPE_CHECKING:
    from diffusers import DDPMScheduler


class LatentDiffusion(nn.Module):
    """An autoencoder, and a denoiser of its latents (Rombach et al., CVPR 2022).

    The latents are shifted and scaled to mean 0 and variance 1 in each channel before noise is added to them.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, autoencoder: Autoencoder, denoiser: Denoiser, latent_channels: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.denoiser = denoiser
        self.register_buffer("latent_mean", torch.zeros(latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(latent_channels, 1, 1))

    def scaled(self, latents: Tensor) -> Tensor:
        """Latents (B, L, s, s) as the denoiser sees them."""
        return (latents - self.latent_mean) / self.latent_std

    def images(self, scaled: Tensor) -> Tensor:
        """What the denoiser has made, (B, L, s, s), as images (B, C, S, S) in [0, 1]."""
        return self.autoencoder.decode(scaled * self.latent_std + self.latent_mean).clamp(0, 1)


def build_generator(
    spec: GeneratorSpec,
    *,
    channels: int,
    image_size: int,
    n_classes: int,
    circuit: str,
    device: DeviceChoice,
    seed: int = 0,
) -> LatentDiffusion:
    """Build a generator with its first weights.

    Everything but the branches draws from seeds of its own, so that it is the same with and without circuits.

    Args:
        spec: Its settings.
        channels: 1 for grey images, 3 for RGB.
        image_size: Height and width in pixels.
        n_classes: Number of classes.
        circuit: Catalog name or path of the circuit, which a run keeps a copy of.
        device: What runs the circuits.
        seed: Of all first weights, and of the shots.

    Returns:
        The generator. torch's global generator is left as it was.

    Raises:
        InputError: The image size does not fit; or the circuit or the device is wrong.
    """
    unit = 2 ** (spec.downsamplings + 1)
    if image_size % unit:
        raise InputError(
            f"data.image_size = {image_size}: a generator with downsamplings = {spec.downsamplings} takes multiples of "
            f"{unit} pixels"
        )
    request = BranchRequest(load_circuit(circuit), device, derive_seed(seed, "circuit"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "generator", 0))
        autoencoder = Autoencoder(
            channels,
            request,
            width=spec.autoencoder_width,
            latent_channels=spec.latent_channels,
            downsamplings=spec.downsamplings,
            quantum="bottleneck" in spec.quantum,
        )
        torch.manual_seed(derive_seed(seed, "generator", 1))
        denoiser = Denoiser(
            spec.latent_channels,
            n_classes,
            request,
            width=spec.denoiser_width,
            middle_blocks=spec.middle_blocks,
            branches=spec.quantum_blocks,
            quantum="denoiser" in spec.quantum,
        )
    model = LatentDiffusion(autoencoder, denoiser, spec.latent_channels)
    return model.to(memory_format=torch.channels_last)  # faster on a CPU


def quantum_layers(model: nn.Module) -> list[QuantumLayer]:
    """All circuits of a model, in its order."""
    return [module for module in model.modules() if isinstance(module, QuantumLayer)]


def generator_parameters(model: LatentDiffusion, spec: GeneratorSpec, **settings: Any) -> dict[str, int]:
    """Count parameters, of a generator and of its twins.

    Args:
        model: The generator.
        spec: Its settings.
        settings: As `build_generator` was given.

    Returns:
        Trainable ones: `autoencoder`, `denoiser`, `circuits` (part of these), `total`; and the totals of the same
        generator with circuits everywhere (`quantum_twin`) and nowhere (`classical_twin`).
    """
    exact = settings | {"device": DeviceChoice(name="qhybrid.statevector")}
    twins = {
        name: count_parameters(build_generator(spec.model_copy(update={"quantum": places}), **exact))
        for name, places in (("quantum_twin", ["bottleneck", "denoiser"]), ("classical_twin", []))
    }
    return {
        "autoencoder": count_parameters(model.autoencoder),
        "denoiser": count_parameters(model.denoiser),
        "circuits": sum(layer.circuit.n_weights for layer in quantum_layers(model)),
        "total": count_parameters(model),
        **twins,
    }


def noise_schedule(spec: GeneratorSpec, steps: int | None = None) -> "DDPMScheduler":
    """The noise schedule, as diffusers' DDPMScheduler computes it.

    Args:
        spec: Its length, its betas, and what the denoiser predicts.
        steps: Set for sampling in so many steps; None: for training.

    Raises:
        InputError: diffusers is not installed, or there are more steps than the schedule has.
    """
    if importlib.util.find_spec("diffusers") is None:
        raise InputError("a generator needs diffusers: pip install 'qhybrid[generation]'")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # it has nothing to look up
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler(
        num_train_timesteps=spec.timesteps,
        beta_schedule=spec.beta_schedule,
        prediction_type=spec.prediction,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    if steps is not None:
        if not 1 <= steps <= spec.timesteps:
            raise InputError(f"steps = {steps}: allowed are whole numbers from 1 to {spec.timesteps}, the schedule's")
        schedule.set_timesteps(steps)
    return schedule
