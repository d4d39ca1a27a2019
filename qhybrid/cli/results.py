"""How `qhybrid train` and `qhybrid eval` show an evaluation."""

from typing import TYPE_CHECKING

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.experiments.evaluation import Evaluation


def show(evaluation: "Evaluation", *, as_json: bool) -> None:
    """Draw the figures of an evaluation; print its table and where everything is, or all of it as JSON."""
    from qhybrid.experiments.evaluation_table import metrics_table, notes
    from qhybrid.report.figures import draw_evaluation

    figures = draw_evaluation(evaluation)
    if as_json:
        options.print_json(evaluation.to_dict())
        return
    console = options.console()
    console.print(metrics_table(evaluation))
    for line in notes(evaluation):
        console.print(line, highlight=False)
    run = evaluation.run.path
    for name, path in (
        ("run", run),
        ("results", run / "results" / f"{evaluation.name}.json"),
        ("figures", figures[0].parent),
    ):
        console.print(f"{name:8} {path}", soft_wrap=True, highlight=False)
