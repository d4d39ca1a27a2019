"""`qhybrid predict`: classify image files with a trained run."""

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli import options


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[list[Path], typer.Argument(help="Image files: PNG, JPEG, ... or DICOM.")],
    device: options.Device = None,
    shots: options.Shots = None,
    noise: options.Noise = None,
    as_json: options.Json = False,
) -> None:
    """Classify image files with a trained run."""
    from qhybrid.experiments.device_choice import choose_device, chosen_noise, noise_lines
    from qhybrid.experiments.prediction import predict as classify
    from qhybrid.experiments.runs import open_run

    opened = open_run(run)
    choice = choose_device(opened, {"device": device, "shots": shots, "noise": noise})
    probabilities = classify(opened, images, device=choice)
    names = opened.class_names
    if as_json:
        options.print_json(
            [
                {
                    "image": str(image),
                    "class": names[int(row.argmax())],
                    "probabilities": dict(zip(names, row.tolist(), strict=True)),
                }
                for image, row in zip(images, probabilities, strict=True)
            ]
        )
        return
    options.print_table(
        f"{opened.spec.name}: {opened.path}",
        ["image", "class", *[f"P({name})" for name in names]],
        [
            [image, names[int(row.argmax())], *[f"{p:.3f}" for p in row]]
            for image, row in zip(images, probabilities, strict=True)
        ],
    )
    model = chosen_noise(choice)
    for line in noise_lines(model) if model else ():
        print(line)
