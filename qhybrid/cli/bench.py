"""`qhybrid bench`: speed of the layer on each device, beside what users write today, in one run."""

from typing import Annotated

import typer

from qhybrid.cli import options


def bench(
    circuits: Annotated[str, typer.Option(help="Circuits, separated by commas.")] = "angle_4q,sda_qec",
    devices: Annotated[
        str, typer.Option(help="Devices, separated by commas.")
    ] = "qhybrid.statevector,default.qubit,lightning.qubit",
    batch_size: Annotated[int, typer.Option(help="Rows of a batch.")] = 16,
    repeats: Annotated[int, typer.Option(help="Timed rounds; the median counts.")] = 15,
    as_json: options.Json = False,
) -> None:
    """Time forward and forward + backward of a layer beside hand-written `qml.qnn.TorchLayer`s."""
    from qhybrid.bench import run_bench

    result = run_bench(circuits.split(","), devices.split(","), batch_size=batch_size, repeats=repeats)
    if as_json:
        options.print_json(result.to_dict())
        return
    for title, rows in result.tables():
        options.print_table(title, rows[0], rows[1:])
    for line in result.notes():
        print(line)
