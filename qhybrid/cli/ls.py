"""`qhybrid ls`: what can be named: devices, circuits, noise models, experiments, runs."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from qhybrid.experiments.spec import ExperimentSpec


class What(StrEnum):
    """What can be listed."""

    devices = "devices"
    circuits = "circuits"
    noise_models = "noise-models"
    experiments = "experiments"
    runs = "runs"


def ls(
    what: Annotated[What, typer.Argument(help="What to list.")],
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """List devices, circuits, noise models, experiments or runs."""
    listing: dict[What, Callable[[], list[dict[str, Any]]]] = {
        What.devices: _devices,
        What.circuits: _circuits,
        What.noise_models: _noise_models,
        What.experiments: _experiments,
        What.runs: lambda: _runs(runs),
    }
    rows = listing[what]()
    if as_json:
        options.print_json(rows)
    elif rows:
        options.print_table("", list(rows[0]), [list(row.values()) for row in rows])
    else:
        print(f"no {what.value} here")


def _devices() -> list[dict[str, Any]]:
    from qhybrid.devices.spec import list_devices

    return [
        {"device": entry.name, "description": entry.problem or entry.description, "from": _short(entry.origin)}
        for entry in list_devices()
    ]


def _circuits() -> list[dict[str, Any]]:
    from qhybrid import catalog
    from qhybrid.circuits.spec import load_circuit
    from qhybrid.errors import InputError

    rows = []
    for name, path in catalog.entries("circuits").items():
        row: dict[str, Any] = {"circuit": name}
        try:
            circuit = load_circuit(str(path))
            row |= {"qubits": circuit.n_qubits, "features": circuit.n_features, "weights": circuit.n_weights}
            row |= {"outputs": circuit.n_observables, "description": circuit.description}
        except InputError as error:
            row |= {"qubits": "", "features": "", "weights": "", "outputs": "", "description": str(error)}
        rows.append(row | {"from": _short(str(path))})
    return rows


def _noise_models() -> list[dict[str, Any]]:
    from qhybrid import catalog
    from qhybrid.errors import InputError
    from qhybrid.noise_models.spec import load_noise_model
    from qhybrid.noise_models.summary import Summary

    rows = []
    for name, path in catalog.entries("noise_models").items():
        row: dict[str, Any] = {"noise model": name, "description": "", "date": "", "qubits": ""}
        row |= {"2q gate": "", "2q error": ""}
        try:
            model = load_noise_model(str(path))
            summary = Summary(model)
            row |= {"description": model.description, "date": (model.date or "")[:10], "qubits": model.n_qubits}
            pairs = summary.spreads.get("two-qubit gate error")
            row |= {"2q gate": summary.two_qubit_gate, "2q error": f"{pairs.median:.2g}" if pairs else ""}
        except InputError as error:
            row["description"] = str(error)
        rows.append(row | {"from": _short(str(path))})
    return rows


def _experiments() -> list[dict[str, Any]]:
    from qhybrid import catalog
    from qhybrid.errors import InputError
    from qhybrid.experiments.spec import load_experiment

    rows = []
    for name, path in catalog.entries("experiments").items():
        try:
            spec = load_experiment(str(path))
            row = {
                "run with": _command(spec),
                "description": spec.description,
                "cost": spec.cost,
                "source": spec.source,
            }
        except InputError as error:
            row = {"run with": "", "description": str(error), "cost": "", "source": ""}
        rows.append({"experiment": name, **row, "from": _short(str(path))})
    return rows


def _command(spec: "ExperimentSpec") -> str:
    """What runs an experiment, and the images that it wants to be given."""
    verb = "train" if spec.study is None else "study"
    kind, colon, _ = spec.data.source.partition(":")
    return f"{verb} --data {kind}:PATH" if colon else verb


def _runs(root: Path) -> list[dict[str, Any]]:
    from qhybrid.experiments.runs import list_runs

    rows = []
    for run in list_runs(root):
        spec = run.spec
        variant = spec.model.head.removeprefix("quantum").lstrip("-")
        circuit = f"{spec.model.circuit} ({variant})" if variant else spec.model.circuit
        rows.append(
            {
                "run": str(run.path),
                "state": run.state,
                "head": circuit if spec.model.has_circuit else spec.model.head,
                "device": spec.device.name if spec.model.has_circuit else "",
                "seed": spec.train.seed,
                "created": str(run.status.get("created", "")),
            }
        )
    return rows


def _short(origin: str) -> str:
    """A file's origin: relative to the current folder, or `shipped`."""
    path = Path(origin)
    if not path.is_absolute():
        return origin
    try:
        return f"./{path.relative_to(Path.cwd())}"
    except ValueError:
        return "shipped"
