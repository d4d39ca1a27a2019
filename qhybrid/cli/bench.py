"""`qhybrid bench`: speed of the layer on each device, beside what users write today, in one run."""

from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.bench import Benchmark
    from qhybrid.bench_noise import NoisyBenchmark
    from qhybrid.bench_systems import SystemBenchmark


def bench(
    circuits: Annotated[str, typer.Option(help="Circuits, separated by commas.")] = "angle_4q,sda_qec",
    devices: Annotated[
        str | None,
        typer.Option(
            help="Devices, separated by commas. [default: qhybrid.statevector,default.qubit,lightning.qubit; "
            "with --noise qiskit.aer,qhybrid.density]"
        ),
    ] = None,
    experiments: Annotated[
        str | None,
        typer.Option(
            help="Experiments, separated by commas, or all: what their quantum blocks add to a training step."
        ),
    ] = None,
    noise: options.Noise = None,
    shots: Annotated[int, typer.Option(help="With --noise: shots for every circuit.")] = 1024,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch; with --noise of a gradient step.")] = 16,
    evaluation_size: Annotated[int, typer.Option(help="With --noise: rows of an evaluation.")] = 120,
    repeats: Annotated[int | None, typer.Option(help="Timed rounds; the median counts. [default: 15, or 3]")] = None,
    as_json: options.Json = False,
) -> None:
    """Time forward and forward + backward of a layer beside hand-written `qml.qnn.TorchLayer`s.

    With --experiments: a training step of whole experiments beside their classical twins.
    """
    result: Benchmark | NoisyBenchmark | SystemBenchmark
    if experiments is not None:
        from qhybrid.bench_systems import SYSTEMS, run_system_bench
        from qhybrid.errors import InputError

        if noise is not None or devices is not None:
            raise InputError("--experiments takes no --devices and no --noise: a step is timed on qhybrid.statevector")
        named = SYSTEMS if experiments == "all" else experiments.split(",")
        result = run_system_bench(named, repeats=15 if repeats is None else repeats)
    elif noise is None:
        from qhybrid.bench import run_bench

        names = (devices or "qhybrid.statevector,default.qubit,lightning.qubit").split(",")
        result = run_bench(
            circuits.split(","), names, batch_size=batch_size, repeats=15 if repeats is None else repeats
        )
    else:
        from qhybrid.bench_noise import run_noisy_bench

        result = run_noisy_bench(
            circuits.split(","),
            (devices or "qiskit.aer,qhybrid.density").split(","),
            noise,
            shots=shots,
            evaluation_rows=evaluation_size,
            gradient_rows=batch_size,
            repeats=3 if repeats is None else repeats,
        )
    if as_json:
        options.print_json(result.to_dict())
        return
    for title, rows in result.tables():
        options.print_table(title, rows[0], rows[1:])
    for line in result.notes():
        print(line)
