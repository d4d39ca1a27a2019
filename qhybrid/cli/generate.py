"""`qhybrid generate`: draw images from a trained generator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.experiments.device_choice import DeviceOptions


def generate(
    run: Annotated[Path, typer.Argument(help="Run folder of a generator.")],
    class_name: Annotated[str | None, typer.Option("--class", help="Class to draw; every class without it.")] = None,
    count: Annotated[int, typer.Option(help="Images of a class.")] = 16,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the reverse process; those of its settings without it.")
    ] = None,
    device: options.Device = None,
    shots: options.Shots = None,
    noise: Annotated[
        str | None,
        typer.Option(help="Noise model: a name from `qhybrid ls noise-models`, or a path; on qhybrid.density."),
    ] = None,
    noise_scale: options.NoiseScale = None,
    noise_parts: options.NoiseParts = None,
    layout_seeds: options.LayoutSeeds = None,
    seed: Annotated[int, typer.Option(help="Seed of the images and of the shots.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the images; RUN/samples without it.")] = None,
    as_json: options.Json = False,
) -> None:
    """Draw images from a trained generator: PNG files and a contact sheet."""
    from qhybrid.experiments.device_choice import chosen_noise, noise_lines
    from qhybrid.experiments.generation import generator_device
    from qhybrid.experiments.runs import open_run
    from qhybrid.experiments.samples import SHEET, write_samples

    opened = open_run(run)
    folder = out or opened.path / "samples"
    asked: DeviceOptions = {
        "device": device,
        "shots": shots,
        "noise": noise,
        "noise_scale": noise_scale,
        "noise_parts": options.noise_parts(noise_parts),
        "layout_seeds": layout_seeds,
    }
    found = write_samples(opened, folder, class_name=class_name, count=count, steps=steps, seed=seed, **asked)
    if as_json:
        options.print_json(found)
        return
    n_images = sum(found["classes"].values())
    print(f"{n_images} images in {found['seconds']:.1f} s, {found['steps']} steps each")
    if found["copies"]:
        print(f"{found['copies']} samples were copies of training images and were drawn anew")
    model = chosen_noise(generator_device(opened, asked)) if found["device"] else None
    for line in noise_lines(model) if model else ():
        print(line)
    print(f"sheet    {folder / SHEET}")
