"""The command line: one file a command, thin: parse, call, print."""

import sys

import typer

from qhybrid.cli import bench, data, doctor, evaluate, ls, predict, show, train, validate
from qhybrid.errors import QHybridError

app = typer.Typer(
    name="qhybrid",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train hybrid quantum-classical image classifiers and measure them on exchangeable quantum devices.",
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("ls")(ls.ls)
app.command("show")(show.show)
app.command("validate")(validate.validate)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


def main() -> None:
    """Run the command line; what a user can have got wrong is one line on standard error, without a traceback."""
    try:
        app()
    except QHybridError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
