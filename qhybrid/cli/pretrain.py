"""`qhybrid pretrain`: pretrain the CNN of an experiment, say where the weights are and what to do with them."""

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli import options


def pretrain(
    experiment: Annotated[str, typer.Argument(help="A name from `qhybrid ls experiments`, or a TOML file.")],
    data: Annotated[str | None, typer.Option(help="angiography, medmnist:PATH.npz, folder:PATH or dicom:PATH.")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Other images to learn from: images:PATH (a folder without labels), or one as for --data."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")] = None,
    settings: options.Settings = None,
    quick: options.Quick = False,
    out: Annotated[Path, typer.Option(help="Folder of all pretrained CNNs.")] = Path("pretrained"),
    as_json: options.Json = False,
) -> None:
    """Pretrain the CNN of an experiment, without labels (SimCLR) or on other images.

    What is there already is not made again, and what was interrupted goes on. `qhybrid train` and `qhybrid study` find
    it where the experiment has model.weights = "pretrained".
    """
    from rich.console import Console

    from qhybrid.experiments.pretraining import pretrain as pretrained
    from qhybrid.experiments.spec import load_experiment
    from qhybrid.experiments.training_data import load_data

    given = options.overrides(
        settings, data__source=data, pretrain__source=source, pretrain__epochs=epochs, train__seed=seed
    )
    spec = load_experiment(experiment, given, quick=quick)
    told = Console(stderr=True)
    dataset, _ = load_data(spec, told)
    found = pretrained(spec, dataset, root=out / spec.name, console=told)
    described = found.description
    if as_json:
        options.print_json({"path": str(found.path), "weights": str(found.weights), **described})
        return
    console = options.console()
    loss = f"loss {described['train_loss']:.4f} after {described['epochs']} epochs, {described['seconds']:.0f} s"
    images = f"{described['n_images']} images of {described['source']}"
    verb = "train" if spec.study is None else "study"
    command = f"qhybrid {verb} {experiment}{' --quick' if quick else ''}{f' --data {data}' if data else ''}"
    pretraining = {"pretrain.source": source, "pretrain.epochs": epochs}
    again = [*(settings or ()), *(f"{key}={value}" for key, value in pretraining.items() if value is not None)]
    if spec.study is None:
        again.append(f"model.weights={found.weights}")
    for line in (
        f"{spec.model.backbone}, {described['method']} on {images}: {loss}",
        f"weights  {found.weights}",
        f"next     {command}{''.join(f' --set {setting}' for setting in again)}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
