"""`qhybrid noise`: noise models shown, and calibrations pulled from IBM."""

from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.noise_models.model import NoiseModel

app = typer.Typer(no_args_is_help=True, help="Show noise models, and pull calibrations of machines.")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Noise model: a name from `qhybrid ls noise-models`, or a path.")],
    png: Annotated[Path | None, typer.Option(help="Also draw a map of the machine into this PNG file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show a noise model: its date, medians of its errors, what is faulty, and a map."""
    from qhybrid.noise_models.spec import load_noise_model

    print_noise_model(load_noise_model(name), png, as_json=as_json)


@app.command("pull")
def pull(
    backend: Annotated[str, typer.Argument(help="Machine, as in ibm_fez.")],
    date: Annotated[
        str | None, typer.Option(help="Calibration of then, YYYY-MM-DD or YYYY-MM-DDTHH:MM; the latest without it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it is there.")] = False,
) -> None:
    """Save a machine's calibration as noise_models/BACKEND_DATE, with the account that Qiskit has saved."""
    from qhybrid.noise_models.pull import pull_snapshot
    from qhybrid.noise_models.spec import load_noise_model

    folder = pull_snapshot(backend, Path("noise_models"), date=date, replace=force)
    print_noise_model(load_noise_model(f"./{folder}"), None, as_json=False)
    print(f"\nsaved in {folder}; use it with --noise {folder.name}")


def print_noise_model(model: "NoiseModel", png: Path | None, *, as_json: bool) -> None:
    """Print a noise model in numbers, and draw its map if a file is named."""
    from qhybrid.errors import InputError
    from qhybrid.noise_models.model import BEST_CASE
    from qhybrid.noise_models.summary import Summary

    summary = Summary(model)
    if png is not None:
        from qhybrid.noise_models.map import machine_map

        try:
            machine_map(summary).savefig(png, dpi=200)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write {str(png)!r}: {error}") from None
    if as_json:
        options.print_json(summary.as_dict())
        return
    usable = len(summary.usable_qubits)
    lines = {
        "calibrated": "no date: parametric" if model.date is None else f"{model.date} ({summary.age_days} days ago)",
        "qubits": str(usable) if usable == model.n_qubits else f"{model.n_qubits}, {usable} of them usable",
        "edges": f"{len(summary.edge_errors)} usable",
        "basis gates": ", ".join(summary.basis_gates),
        "idle noise": "waiting qubits relax (circuits are scheduled)" if model.idle else "none",
    }
    if model.faulty_qubits:
        lines["faulty qubits"] = ", ".join(map(str, model.faulty_qubits))
    if model.faulty_edges:
        lines["faulty edges"] = ", ".join(f"{a}-{b}" for a, b in model.faulty_edges)
    print(f"{model.name}: {model.description}".removesuffix(": "))
    for key, value in lines.items():
        print(f"{key:14} {value}")
    rows = [
        (name, *(f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in astuple(spread)))
        for name, spread in summary.spreads.items()
    ]
    print()
    options.print_table("", ("", "median", "10 %", "90 %"), rows)
    for remark in (*model.remarks, BEST_CASE):
        print(f"note: {remark}")
    if png is not None:
        print(f"\ndrawn into {png}")
