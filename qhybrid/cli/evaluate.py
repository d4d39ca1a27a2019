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
    baseline: Annotated[
        str | None,
        typer.Option(
            help="In place of the run's own head: logistic, logistic regression fitted to its training features; "
            "quadratic-form, the matrices that a circuit with amplitude encoding is; quantum-kernel (or "
            "quantum-kernel:iqp_4q), a support vector machine with a circuit's kernel on any simulator; rbf-kernel, "
            "its classical twin. Only quantum-kernel takes a device."
        ),
    ] = None,
    adapt_at_test: Annotated[
        bool,
        typer.Option(
            "--adapt-at-test",
            help="Adapt the batch normalisation of the CNN to the images of the split, without their labels (Tent); "
            "needs the images.",
        ),
    ] = False,
    adapt_steps: Annotated[
        int | None, typer.Option(help="Passes over the images that lower the entropy of the predictions; 10.")
    ] = None,
    adapt_learning_rate: Annotated[float | None, typer.Option(help="Of Adam, in these passes; 0.001.")] = None,
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
    from qhybrid import catalog
    from qhybrid.data.centres_spec import TestTimeSpec
    from qhybrid.errors import InputError
    from qhybrid.experiments import baselines, evaluation
    from qhybrid.experiments.adapted_evaluation import evaluate_adapted
    from qhybrid.experiments.device_choice import DeviceOptions
    from qhybrid.experiments.runs import open_run

    asked: DeviceOptions = {
        "device": device,
        "diff_method": diff_method,
        "shots": shots,
        "noise": noise,
        "noise_scale": noise_scale,
        "noise_parts": options.noise_parts(noise_parts),
        "layout_seeds": layout_seeds,
        "backend": backend,
        "mitigation": mitigation,
    }
    tent = {"steps": adapt_steps, "learning_rate": adapt_learning_rate}
    tent = {key: value for key, value in tent.items() if value is not None}
    if tent and not adapt_at_test:
        raise InputError(
            f"--adapt-{next(iter(tent)).replace('_', '-')} is a setting of --adapt-at-test: give that, too"
        )
    if adapt_at_test:
        if baseline is not None:
            raise InputError("--adapt-at-test adapts the CNN for the run's own head: it takes no --baseline")
        opened = open_run(run, root=runs)
        settings = catalog.parse(TestTimeSpec, tent, "--adapt-at-test")
        result = evaluate_adapted(opened, settings, limit=limit, repeats=repeats, split=split, seed=seed, **asked)
    elif baseline is None:
        opened = open_run(run, root=runs)
        result = evaluation.evaluate(opened, limit=limit, repeats=repeats, split=split, seed=seed, **asked)
    else:
        repeated = None if repeats == 1 else repeats
        baselines.check_baseline(baseline, {**asked, "repeats": repeated, "limit": limit})
        opened = open_run(run, root=runs)
        result = baselines.evaluate_baseline(opened, baseline, split=split, limit=limit, seed=seed, **asked)
    results.show(result, as_json=as_json)
