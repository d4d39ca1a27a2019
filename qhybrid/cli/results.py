"""How commands show results: a table, remarks under it, and where the files are."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from qhybrid.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from qhybrid.experiments.measurement import Evaluation
    from qhybrid.experiments.run_folder import Run


def show(evaluation: "Evaluation", *, as_json: bool) -> None:
    """Draw the figures of an evaluation; print its table and where everything is, or all of it as JSON."""
    from qhybrid.experiments.evaluation_table import metrics_table, notes
    from qhybrid.report.figures import draw_evaluation

    figures = draw_evaluation(evaluation)
    if as_json:
        options.print_json(evaluation.to_dict())
        return
    run = evaluation.run.path
    results = run / "results" / f"{evaluation.name}.json"
    print_result(metrics_table(evaluation), notes(evaluation), run=run, results=results, figures=figures[0].parent)


def print_result(table: "RenderableType", notes: Iterable[str], **paths: Path) -> None:
    """Print a table, the remarks under it, and a line for each path, which is never wrapped."""
    console = options.console()
    console.print(table)
    for note in notes:
        console.print(note, highlight=False, markup=False)
    for name, path in paths.items():
        console.print(f"{name:8} {path}", highlight=False, markup=False, soft_wrap=True)


def show_generator(run: "Run", *, as_json: bool) -> None:
    """Print what a trained generator is, and where."""
    log, parameters = run.training_log(), run.data["parameters"]
    stages = [log["validation_loss"][log["stage"] == number] for number in (1, 2)]
    values = {
        "run": str(run.path),
        "parameters": parameters,
        "validation_loss": {"autoencoder": float(stages[0].min()), "denoiser": float(stages[1].min())},
        "seconds": float(log["seconds"].sum()),
    }
    if as_json:
        options.print_json(values)
        return
    places = " and ".join(run.spec.generator.quantum) if run.spec.generator else ""
    options.print_table(
        f"{run.spec.name}: a generator with circuits in {places}" if places else f"{run.spec.name}: a generator",
        ["part", "parameters", "epochs", "lowest validation loss"],
        [
            [part, parameters[part], len(stage), f"{stage.min():.4f}"]
            for part, stage in zip(("autoencoder", "denoiser"), stages, strict=True)
        ],
    )
    twins = f"{parameters['quantum_twin']} parameters with circuits everywhere, {parameters['classical_twin']} without"
    options.console().print(f"{twins}; {values['seconds']:.0f} s of training", highlight=False, markup=False)
    options.console().print(f"run      {run.path}", highlight=False, markup=False, soft_wrap=True)
