"""The command line: one file a command, thin: parse, call, print."""

import sys

import typer

from qhybrid.cli import (
    adapt,
    bench,
    compare,
    data,
    doctor,
    emulator,
    estimate,
    evaluate,
    generate,
    jobs,
    ls,
    noise,
    predict,
    pretrain,
    report,
    show,
    study,
    submit,
    train,
    validate,
)
from qhybrid.errors import QHybridError

app = typer.Typer(
    name="qhybrid",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train hybrid quantum-classical image classifiers and measure them on exchangeable quantum devices.",
)
app.command("pretrain")(pretrain.pretrain)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("estimate")(estimate.estimate)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("study")(study.study)
app.command("submit")(submit.submit)
app.add_typer(jobs.app, name="jobs")
app.command("adapt")(adapt.adapt)
app.command("predict")(predict.predict)
app.command("generate")(generate.generate)
app.command("ls")(ls.ls)
app.command("show")(show.show)
app.command("validate")(validate.validate)
app.add_typer(data.app, name="data")
app.add_typer(noise.app, name="noise")
app.command("emulator")(emulator.emulator)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


def main() -> None:
    """Run the command line; what a user can have got wrong is one line on standard error, without a traceback."""
    try:
        code = app(standalone_mode=False) or 0
        if code == 130:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code)
    except QHybridError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone, and so would the complaint about it
        sys.exit(0)
    except Exception as error:
        # Typer's own errors (a missing argument, an unknown option) are of several classes and versions.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), getattr(error, "exit_code", 2))


def _fail(message: str, exit_code: int) -> None:
    line = " ".join(message.replace("Value error, ", "").split())
    if line:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(exit_code)
