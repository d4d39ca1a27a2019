"""`qhybrid estimate`: what circuits cost on a machine, and whether a result would survive, before anything is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.circuits.circuit import Circuit
    from qhybrid.noise_models.model import NoiseModel


def estimate(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|CIRCUIT]", help="Run folder, or circuit (name or file); all circuits without it."),
    ] = None,
    noise: Annotated[
        str | None, typer.Option(help="Noise model of the machine: a name from `qhybrid ls noise-models`, or a path.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Machine of your IBM account, as it is calibrated now; instead of --noise.")
    ] = None,
    layout_seeds: options.LayoutSeeds = None,
    as_json: options.Json = False,
) -> None:
    """Estimate gates, duration and success probability of circuits on a machine."""
    from qhybrid.circuits.isa import PARTLY, SURVIVES, percent
    from qhybrid.devices.base import LAYOUT_SEEDS
    from qhybrid.noise_models.model import BEST_CASE

    model = _machine(noise, backend)
    seeds = LAYOUT_SEEDS if layout_seeds is None else layout_seeds
    rows = _catalog(model, seeds) if what is None else [_row(_circuit(what), model, seeds)]
    if as_json:
        noise_model = model.provenance() | {"n_qubits": model.n_qubits}
        options.print_json({"noise": noise_model, "layout_seeds": seeds, "circuits": rows})
        return
    when = f", calibrated {model.date[:10]}" if model.date else ""
    options.print_table(
        f"{model.name}: {model.n_qubits} qubits{when}",
        ["circuit", "qubits", "1q", "2q", "depth", "microseconds", "success", "verdict"],
        [
            [
                row["circuit"],
                row["n_qubits"],
                row.get("gates1q"),
                f"{row['gates2q']} {row['two_qubit_gate'].upper()}".strip() if "gates2q" in row else None,
                row.get("depth"),
                f"{1e6 * row['seconds']:.1f}" if "seconds" in row else None,
                percent(row["survival"]) if "survival" in row else None,
                row["verdict"].rpartition(": ")[2],
            ]
            for row in rows
        ],
    )
    if what is not None:
        print(rows[0]["verdict"])
    print(
        f"success: product of all gate, waiting and readout fidelities. Signal is kept from {percent(SURVIVES)} on, "
        f"almost lost below {percent(PARTLY)}."
    )
    for remark in (*model.remarks, BEST_CASE):
        print(remark)


def _machine(noise: str | None, backend: str | None) -> "NoiseModel":
    """The machine of a noise model, or a live one."""
    import tempfile

    from qhybrid.errors import InputError
    from qhybrid.noise_models.pull import pull_snapshot
    from qhybrid.noise_models.snapshot import read_snapshot
    from qhybrid.noise_models.spec import load_noise_model

    if noise is not None and backend is None:
        return load_noise_model(noise)
    if noise is not None or backend is None:
        raise InputError("give the machine: --noise NAME for a noise model, or --backend NAME for one of your account")
    with tempfile.TemporaryDirectory() as folder:
        return read_snapshot(pull_snapshot(backend, Path(folder)))


def _circuit(what: str) -> "Circuit":
    """The circuit of a run folder, or one named by the user."""
    from qhybrid.circuits.spec import load_circuit
    from qhybrid.errors import InputError
    from qhybrid.experiments.runs import open_run

    if not Path(what).expanduser().is_dir():
        return load_circuit(what)
    run = open_run(what, incomplete=True)
    if run.spec.model.head != "quantum":
        raise InputError(f"run {what!r} has no circuit: its head is {run.spec.model.head!r}")
    return load_circuit(run.circuit)


def _catalog(model: "NoiseModel", layout_seeds: int) -> list[dict[str, Any]]:
    from qhybrid import catalog
    from qhybrid.circuits.spec import load_circuit
    from qhybrid.errors import InputError

    rows = []
    for name, path in catalog.entries("circuits").items():
        n_qubits = None
        try:
            circuit = load_circuit(str(path))
            n_qubits = circuit.n_qubits
            rows.append(_row(circuit, model, layout_seeds))
        except InputError as error:
            rows.append({"circuit": name, "n_qubits": n_qubits, "level": "error", "verdict": str(error)})
    return rows


def _row(circuit: "Circuit", model: "NoiseModel", layout_seeds: int) -> dict[str, Any]:
    from qhybrid.circuits.isa import verdict, worst
    from qhybrid.circuits.transpile import isa_circuits

    found = isa_circuits(
        circuit.expanded(), model.target(), schedule=model.idle, layout_seeds=layout_seeds, machine=model.name
    )
    report = worst([isa.report for isa in found])
    said = verdict(report, circuit.name, model.name)
    return {"circuit": circuit.name, "bases": len(found), **report.to_dict(), "verdict": said}
