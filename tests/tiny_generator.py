"""A generator that trains in seconds, on images whose classes are darker and brighter."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from tiny_training import write_images

from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import ExperimentSpec, override
from qhybrid.experiments.training import train

TINY: dict[str, Any] = {
    "quantum": True,
    "latent_channels": 2,
    "downsamplings": 3,
    "autoencoder_width": 8,
    "denoiser_width": 8,
    "middle_blocks": 1,
    "quantum_blocks": 1,
    "timesteps": 20,
    "sampling_steps": 4,
    "autoencoder_epochs": 2,
    "denoiser_epochs": 2,
    "batch_size": 8,
    "copy_quantile": 0.0,
}


def quiet() -> Console:
    return Console(file=io.StringIO())


def generator_experiment(images: Path, **settings: Any) -> ExperimentSpec:
    """Settings with dots written as two underscores."""
    given = {
        "data.source": f"medmnist:{images}",
        "data.image_size": 32,
        "augment.kind": "none",
        "device.name": "qhybrid.statevector",
        "generator": TINY,
    }
    given |= {key.replace("__", "."): value for key, value in settings.items()}
    return override(ExperimentSpec(name="tiny-generator"), given)


def tiny_generator(folder: Path, **settings: Any) -> Run:
    """A trained one under `folder`, with its images."""
    images = folder / "images.npz"
    if not images.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_images(images, n_training=20, n_validation=12)
    return train(generator_experiment(images, **settings), out=folder / "runs", console=quiet())
