"""How commands show results: a table, remarks under it, and where the files are."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from qhybrid.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from qhybrid.experiments.measurement import Evaluation


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
