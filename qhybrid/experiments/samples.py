"""A folder of samples of a generator: a PNG file each, a contact sheet, and what they were drawn with."""

import io
import time
from pathlib import Path
from typing import Any, Unpack

import torch
from rich.console import Console
from torch import Tensor

from qhybrid.data.preview import image_grid
from qhybrid.errors import InputError, did_you_mean
from qhybrid.experiments.device_choice import DeviceOptions, describe_device
from qhybrid.experiments.generation import open_generator
from qhybrid.experiments.latent_diffusion import quantum_layers
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.study_spec import slug
from qhybrid.experiments.training_data import load_data
from qhybrid.storage import write_bytes, write_json

SHEET = "samples.png"
SHOWN = 12
"""Samples of a class in the contact sheet."""
MOST = 10_000
"""Samples of a class: all of them are in memory at once."""


def write_samples(
    run: Run,
    folder: Path,
    *,
    class_name: str | None = None,
    count: int = 16,
    steps: int | None = None,
    seed: int = 0,
    **options: Unpack[DeviceOptions],
) -> dict[str, Any]:
    """Draw samples and write them as PNG files, with a contact sheet.

    Args:
        run: A complete run of a generator.
        folder: Made if need be; files of the same names are replaced.
        class_name: Of the samples; None: every class.
        count: Samples of a class.
        steps: Of a sample; None: as the generator's settings say.
        seed: Of all that is drawn.
        options: The device (see `open_generator`).

    Returns:
        What `samples.json` beside them holds: the settings, the device, the `seconds`, and how many samples were
        `copies` of training images and were drawn anew.

    Raises:
        InputError: As in `open_generator`; there is no such class; or the folder cannot be written.
    """
    if class_name is not None and class_name not in run.class_names:
        raise InputError(f"unknown class {class_name!r}; {did_you_mean(class_name, run.class_names)}")
    if not 1 <= count <= MOST:
        raise InputError(f"count = {count}: allowed are whole numbers from 1 to {MOST}")
    dataset, _ = load_data(run.spec, Console(quiet=True))
    generator = open_generator(run, dataset, steps=steps, **options)
    chosen = run.class_names if class_name is None else (class_name,)
    labels = torch.tensor([run.class_names.index(name) for name in chosen]).repeat_interleave(count)
    started = time.perf_counter()
    images, n_copies = generator.images(labels, seed=seed)
    seconds = time.perf_counter() - started
    parts = dict(zip(chosen, images.split(count), strict=True))
    layers = quantum_layers(generator.model.denoiser)
    description = {
        "run": str(run.path),
        "classes": dict.fromkeys(chosen, count),
        "steps": generator.steps,
        "seed": seed,
        "copies": n_copies,
        "device": describe_device(layers[0]) if layers else None,
        "seconds": round(seconds, 3),
    }
    try:
        for name, part in parts.items():
            for number, image in enumerate(part):
                write_bytes(folder / f"{slug(name) or 'class'}-{number:04}.png", png(image), durable=False)
        rows = [
            (name if start == 0 else "", part[start : start + SHOWN])
            for name, part in parts.items()
            for start in range(0, min(len(part), 4 * SHOWN), SHOWN)
        ]
        image_grid(rows, folder / SHEET, title=f"{run.spec.name}: samples, {_on(description)}")
        write_json(folder / "samples.json", description)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return description


def png(image: Tensor) -> bytes:
    """An image (C, S, S) in [0, 1], grey or RGB, as a PNG file of 8 bits."""
    from PIL import Image

    pixels = (255 * image).round().to(torch.uint8).permute(1, 2, 0).numpy()
    content = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(content, format="PNG")
    return content.getvalue()


def _on(description: dict[str, Any]) -> str:
    device = description["device"]
    if device is None:
        return f"{description['steps']} steps"
    noise = "" if device["noise"] is None else f", {device['noise']['label']}"
    shots = "exact" if device["shots"] is None else f"{device['shots']} shots"
    return f"{description['steps']} steps, {device['name']}{noise}, {shots}"
