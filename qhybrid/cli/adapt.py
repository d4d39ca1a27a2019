"""`qhybrid adapt`: adapt a trained run to a noisy device, without training it."""

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli import options
from qhybrid.cli.results import print_result


def adapt(
    run: Annotated[Path | None, typer.Argument(help="Run folder; the newest complete run without it.")] = None,
    device: options.Device = None,
    noise: options.Noise = None,
    noise_scale: options.NoiseScale = None,
    noise_parts: options.NoiseParts = None,
    layout_seeds: options.LayoutSeeds = None,
    backend: options.Backend = None,
    mitigation: options.Mitigation = None,
    shots: options.Shots = None,
    method: Annotated[
        str,
        typer.Option(
            help="head: refit the last linear layer to the labels of the training split, its regularisation chosen on "
            "the validation split. rescale: an affine map of each expectation value, from noisy to exact, fitted on "
            "the training features without labels."
        ),
    ] = "head",
    limit: Annotated[int | None, typer.Option(help="Fit on this many training samples; on all without it.")] = None,
    split: Annotated[str, typer.Option(help="What is evaluated; never what is fitted on.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of the shots, of --limit and of the bootstrap.")] = 0,
    runs: Annotated[Path, typer.Option(help="Folder of the runs, for finding the newest.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Adapt a trained run to a noisy device: one batch of training samples, no quantum gradient.

    Only what follows the circuit is fitted, on the training split (and the validation split, see --method); the split
    that is evaluated is never looked at. Without --device it runs on the device of the training, or on qiskit.aer if
    --noise is given.
    """
    from qhybrid.experiments import adaptation
    from qhybrid.experiments.runs import open_run

    adapted = adaptation.adapt(
        open_run(run, root=runs),
        device=device,
        noise=noise,
        noise_scale=noise_scale,
        noise_parts=options.noise_parts(noise_parts),
        layout_seeds=layout_seeds,
        backend=backend,
        mitigation=mitigation,
        shots=shots,
        method=method,
        limit=limit,
        split=split,
        seed=seed,
    )
    if as_json:
        options.print_json(adapted.to_dict())
        return
    from qhybrid.experiments.evaluation_table import adaptation_notes, adaptation_table

    folder = adapted.adapted.run.path
    print_result(
        adaptation_table(adapted),
        adaptation_notes(adapted),
        fit=folder / "adaptations" / f"{adapted.name}.json",
        noisy=folder / "results" / f"{adapted.noisy.name}.json",
        adapted=folder / "results" / f"{adapted.adapted.name}.json",
    )
