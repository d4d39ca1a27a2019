"""Draw images from a trained generator, its circuits on any device."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from qhybrid.data.dataset import ImageDataset
from qhybrid.errors import InputError
from qhybrid.experiments.device_choice import DeviceOptions
from qhybrid.experiments.generator_spec import GeneratorSpec
from qhybrid.experiments.latent_diffusion import LatentDiffusion, build_generator, noise_schedule, quantum_layers
from qhybrid.experiments.latent_training import settings_of
from qhybrid.experiments.model import load_weights
from qhybrid.experiments.nearest_images import CopyTest
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.seeding import derive_seed
from qhybrid.experiments.spec import DeviceChoice

NOISY_DEVICE = "qhybrid.density"
"""The device where a noise model is given and no device: a step is thousands of circuits."""
SAMPLES = 5
"""What numbers are drawn for, beside the seed (see latent_modules)."""
DECODED = 256
"""Images decoded at once; bounds the memory."""
ATTEMPTS = 20
"""How often samples are drawn anew that were copies."""


@dataclass(frozen=True)
class Generator:
    """A trained generator on a device."""

    run: Run
    spec: GeneratorSpec
    model: LatentDiffusion
    steps: int
    """Of a sample."""
    copy_test: CopyTest | None
    """None: every sample is kept."""

    def images(self, labels: Tensor, *, seed: int) -> tuple[Tensor, int]:
        """Draw an image of each class that is asked for; copies of training images are drawn anew.

        Args:
            labels: (N,) int64.
            seed: Of the noise and of the shots; equal seeds give equal images.

        Returns:
            Images (N, C, S, S) in [0, 1], and how many were copies and were drawn anew.

        Raises:
            InputError: A sample was a copy each time that it was drawn.
        """
        found = self.sample(labels, seed=seed)
        if self.copy_test is None:
            return found, 0
        copies, n_copies = torch.nonzero(self.copy_test.copies(found))[:, 0], 0
        for attempt in range(1, ATTEMPTS + 1):
            if not len(copies):
                return found, n_copies
            n_copies += len(copies)
            again = self.sample(labels[copies], seed=derive_seed(seed, "generator", SAMPLES, attempt))
            found[copies] = again
            copies = copies[self.copy_test.copies(again)]
        raise InputError(
            f"run {str(self.run.path)!r}: {len(copies)} of {len(labels)} samples were copies of training images "
            f"{ATTEMPTS + 1} times over; the generator has learnt its images by heart"
        )

    @torch.no_grad()
    def sample(self, labels: Tensor, *, seed: int) -> Tensor:
        """Draw an image of each class that is asked for, whatever it is: noise, then step by step the reverse process.

        All samples of a step are one call of the device for each circuit (DDPM: Ho et al., 2020, Algorithm 2).

        Args:
            labels: (N,) int64.
            seed: Of the noise and of the shots.

        Returns:
            Images (N, C, S, S) in [0, 1].
        """
        for number, layer in enumerate(quantum_layers(self.model)):
            layer.seed, layer.calls = derive_seed(seed, "circuit", number), 0
        draws = torch.Generator().manual_seed(derive_seed(seed, "generator", SAMPLES))
        schedule = noise_schedule(self.spec, self.steps)
        side = self.run.spec.data.image_size // 2**self.spec.downsamplings
        latents = torch.randn((len(labels), self.spec.latent_channels, side, side), generator=draws)
        for step in schedule.timesteps:
            predicted = self.model.denoiser(latents, step.expand(len(labels)), labels)
            latents = schedule.step(predicted, int(step), latents, generator=draws).prev_sample
        return torch.cat([self.model.images(part) for part in latents.split(DECODED)])


def open_generator(
    run: Run, dataset: ImageDataset, *, steps: int | None = None, **options: Unpack[DeviceOptions]
) -> Generator:
    """Load a trained generator onto a device.

    Args:
        run: A complete run of a generator.
        dataset: The images that it was trained on, which samples must not be copies of.
        steps: Of a sample; None: as its settings say.
        options: The device; without any that of the training. With a noise model and no device it is
            `qhybrid.density`.

    Raises:
        InputError: The run is no generator or damaged, the images are others, the device is wrong, or a device is
            given for a denoiser without circuits.
    """
    if not run.spec.trains_generator:
        raise InputError(f"run {str(run.path)!r} is of a classifier, not of a generator; `qhybrid train` one first")
    spec = settings_of(run.spec)
    if dataset.fingerprint() != run.data["fingerprint"]:
        raise InputError(f"run {str(run.path)!r} was trained on other images than those of {dataset.name!r}")
    model = build_generator(
        spec,
        channels=int(run.data["channels"]),
        image_size=run.spec.data.image_size,
        n_classes=len(run.class_names),
        circuit=run.circuit,
        device=generator_device(run, options),
    )
    for layer in quantum_layers(model):
        if layer.device.capabilities.asynchronous:
            raise InputError(
                f"{layer.device.name} sends jobs: a sample of {steps or spec.sampling_steps} steps would wait for as "
                f"many; take a simulator, such as {NOISY_DEVICE} with a noise model"
            )
    load_weights(model, run.path / "model.safetensors").eval()
    test = CopyTest.of(dataset.splits["train"], spec.copy_quantile) if spec.copy_quantile else None
    steps = steps or spec.sampling_steps
    noise_schedule(spec, steps)
    return Generator(run, spec, model, steps, test)


def generator_device(run: Run, options: DeviceOptions) -> DeviceChoice:
    """Settle on the device that draws samples (see `open_generator`)."""
    asked = {key: value for key, value in options.items() if value is not None}
    if not asked:
        return run.spec.device
    if "denoiser" not in settings_of(run.spec).quantum:
        raise InputError(
            f"run {str(run.path)!r} has no circuit in its denoiser, which alone draws samples: device, shots and noise "
            "do not apply"
        )
    name, noise = asked.pop("device", None), asked.get("noise")
    kept = run.spec.device if name is None and noise is None else DeviceChoice(name=str(name or NOISY_DEVICE))
    return kept.model_copy(update=asked)
