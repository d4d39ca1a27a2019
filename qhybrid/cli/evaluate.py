"""`qhybrid eval`: evaluate a trained run on any device, from its stored features."""

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli import options, results


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Run folder; the newest complete run without it.")] = None,
    device: options.Device = None,
    diff_method: options.DiffMethod = None,
    shots: options.Shots = None,
    noise: options.Noise = None,
    noise_scale: options.NoiseScale = None,
    noise_parts: options.NoiseParts = None,
    layout_seeds: options.LayoutSeeds = None,
    backend: options.Backend = None,
    mitigation: options.Mitigation = None,
    repeats: Annotated[int, typer.Option(help="Independent draws of the shots: mean and spread of the metrics.")] = 1,
    limit: options.Limit = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of the shots and of the bootstrap.")] = 0,
    runs: Annotated[Path, typer.Option(help="Folder of the runs, for finding the newest.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Evaluate a trained run on a device, from its stored features.

    Without --device and --noise it runs on the device, the noise and the shots of the training. --device alone has no
    noise and no shots but those that are given; --noise alone runs on qiskit.aer. Noisy or sampled results stand beside
    exact ones without noise, with paired differences. With --backend it is sent to a machine and waited for; Ctrl-C
    leaves the job there, and `qhybrid jobs collect` collects it.
    """
    from qhybrid.experiments import evaluation
    from qhybrid.experiments.runs import open_run

    result = evaluation.evaluate(
        open_run(run, root=runs),
        device=device,
        diff_method=diff_method,
        shots=shots,
        noise=noise,
        noise_scale=noise_scale,
        noise_parts=options.noise_parts(noise_parts),
        layout_seeds=layout_seeds,
        backend=backend,
        mitigation=mitigation,
        limit=limit,
        repeats=repeats,
        split=split,
        seed=seed,
    )
    results.show(result, as_json=as_json)
