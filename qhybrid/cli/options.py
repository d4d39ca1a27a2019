"""Options that several commands share, and how they print."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.box import Box
    from rich.console import Console

WIDE = 140
"""Columns of output that does not go to a terminal."""

Device = Annotated[str | None, typer.Option(help="Device: a name from `qhybrid ls devices`, or a TOML file.")]
DiffMethod = Annotated[
    str | None, typer.Option(help="Gradient method: backprop, adjoint, parameter-shift, spsa, or best.")
]
Shots = Annotated[int | None, typer.Option(help="Shots for every circuit; exact expectation values without it.")]
Noise = Annotated[str | None, typer.Option(help="Noise model: a name from `qhybrid ls noise-models`, or a path.")]
NoiseScale = Annotated[float | None, typer.Option(help="Factor on all rates of the noise model, such as 0.5.")]
NoiseParts = Annotated[
    str | None,
    typer.Option(help="Only these parts of the noise model, of gates1q,gates2q,thermal,readout,idle; all without it."),
]
LayoutSeeds = Annotated[
    int | None, typer.Option(help="Transpiler seeds tried for the layout on the machine of the noise model.")
]
Limit = Annotated[int | None, typer.Option(help="Only this many samples, drawn class by class; all without it.")]
Backend = Annotated[
    str | None, typer.Option(help="Machine of your account, such as ibm_fez; runs on qiskit.remote without --device.")
]
ExecutorName = Annotated[str, typer.Option("--executor", help="Where tasks run: serial, processes, dask.")]
Workers = Annotated[int | None, typer.Option(help="Processes; as many as cores without it.")]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler that runs already, such as tcp://node:8786.")]
Mitigation = Annotated[
    str | None, typer.Option(help="Mitigate errors: readout, readout:mthree, zne, zne:richardson, readout,zne, none.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any other key of the experiment: --set train.learning_rate=0.001")
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="The experiment in small, by its [quick] table: to see in seconds that it works."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def overrides(settings: Sequence[str] | None, **named: Any) -> dict[str, Any]:
    """Dotted keys -> values: the options that were given (dots written as two underscores), then `--set`."""
    from qhybrid.experiments.spec import parse_setting

    given = {key.replace("__", "."): value for key, value in named.items() if value is not None}
    return given | dict(parse_setting(setting) for setting in settings or ())


def noise_parts(text: str | None) -> list[str] | None:
    """Take `gates1q,readout` apart."""
    return None if text is None else [part.strip() for part in text.split(",")]


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    json.dump(value, sys.stdout, indent=2, default=str)
    print()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; numbers are set right, the first column never wraps."""
    from rich.table import Table
    from rich.text import Text

    listed = [["" if cell is None else cell for cell in row] for row in rows]
    table = Table(title=title or None, title_justify="left", box=table_box())
    for index, column in enumerate(columns):
        cells = [row[index] for row in listed]
        numeric = bool(cells) and all(isinstance(cell, int | float) for cell in cells)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=index == 0, overflow="fold")
    for row in listed:
        table.add_row(*[Text(str(cell)) for cell in row])
    console().print(table)


def console() -> "Console":
    """Standard output; a file or a pipe gets wide lines instead of eighty columns."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def table_box() -> "Box":
    """Lines under the header only: leaves room for the cells, and copies well."""
    from rich import box

    return box.SIMPLE_HEAD
