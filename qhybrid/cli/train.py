"""`qhybrid train`: train an experiment, evaluate it on the test split, say where the results are."""

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli import options, results


def train(
    experiment: Annotated[
        str, typer.Argument(help="A name from `qhybrid ls experiments`, or a TOML file.")
    ] = "quickstart",
    data: Annotated[str | None, typer.Option(help="angiography, medmnist:PATH.npz, folder:PATH or dicom:PATH.")] = None,
    circuit: Annotated[str | None, typer.Option(help="Circuit: a name from `qhybrid ls circuits`, or a path.")] = None,
    device: options.Device = None,
    diff_method: options.DiffMethod = None,
    shots: options.Shots = None,
    noise: options.Noise = None,
    noise_scale: options.NoiseScale = None,
    noise_parts: options.NoiseParts = None,
    layout_seeds: options.LayoutSeeds = None,
    backend: options.Backend = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs at most.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Images are resized to this many pixels a side.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")] = None,
    accelerator: Annotated[str | None, typer.Option(help="Where the CNN runs: auto, cpu, gpu.")] = None,
    devices: Annotated[
        int | None, typer.Option(help="Processes of a node that train together, each on its GPU, or on the CPU.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Computers; srun or torchrun starts the processes.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Lightning's strategy for several processes: auto, ddp.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    settings: options.Settings = None,
    quick: options.Quick = False,
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="Remove training images that recur in validation or test.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option(help="Go on with an interrupted run: its folder, or `last` for the newest.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train an experiment and evaluate it on its test split."""
    from qhybrid.errors import InputError
    from qhybrid.experiments import evaluation, training
    from qhybrid.experiments.device_choice import HARDWARE_DEVICE
    from qhybrid.experiments.generator_spec import check_generator_settings
    from qhybrid.experiments.spec import load_experiment

    given = options.overrides(
        settings,
        data__source=data,
        model__circuit=circuit,
        device__name=device or (HARDWARE_DEVICE if backend else None),
        device__diff_method=diff_method,
        device__shots=shots,
        device__noise=noise,
        device__noise_scale=noise_scale,
        device__noise_parts=options.noise_parts(noise_parts),
        device__layout_seeds=layout_seeds,
        device__backend=backend,
        train__epochs=epochs,
        train__batch_size=batch_size,
        data__image_size=image_size,
        train__seed=seed,
        train__accelerator=accelerator,
        train__devices=devices,
        train__nodes=nodes,
        train__strategy=strategy,
        data__drop_leaks=drop_leaks or None,
    )
    if resume is not None:
        if given or quick:
            key = next(iter(given), "--quick")
            raise InputError(f"--resume goes on with the settings of the run; it takes no {key}")
        run = training.resume(None if resume == "last" else resume, root=out)
    else:
        spec = load_experiment(experiment, given, quick=quick)
        if spec.trains_generator:
            check_generator_settings(given, spec.name)
        run = training.train(spec, out=out)
    if run.spec.trains_generator:
        results.show_generator(run, as_json=as_json)
        return
    result = evaluation.evaluate(run)
    results.show(result, as_json=as_json)
