"""`qhybrid validate`: check description files without running anything."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.cli import options
from qhybrid.errors import InputError

if TYPE_CHECKING:
    from qhybrid.catalog import Kind


def validate(
    files: Annotated[list[Path], typer.Argument(help="Circuit, noise model, device or experiment files.")],
    as_json: options.Json = False,
) -> None:
    """Check circuit, noise model, device and experiment files."""
    rows = []
    for path in files:
        try:
            kind = kind_of(path)
            _load(kind, path)
            rows.append({"file": str(path), "kind": kind, "problem": None})
        except InputError as error:
            rows.append({"file": str(path), "kind": None, "problem": str(error)})
    if as_json:
        options.print_json(rows)
    else:
        for row in rows:
            if row["problem"] is None:
                print(f"ok     {row['file']} ({row['kind']})")
            else:
                print(f"error: {row['problem']}", file=sys.stderr)
    if any(row["problem"] for row in rows):
        raise typer.Exit(2)


def kind_of(path: Path) -> "Kind":
    """Which catalog a file belongs to: by the folder it lies in, or by the keys that it has.

    Raises:
        InputError: The file does not exist or could be anything.
    """
    from qhybrid import catalog

    if catalog.is_folder_entry(path, "noise_models"):
        return "noise_models"
    if path.is_dir():
        raise InputError(f"folder {str(path)!r} is no description: one of a calibration snapshot holds conf_*.json")
    if not path.is_file():
        raise InputError(f"file {str(path)!r} does not exist")
    if path.suffix == ".json":
        return "noise_models"
    if path.suffix == ".qasm":
        return "circuits"
    folder = path.resolve().parent.name
    for kind in catalog.KINDS:
        if kind == folder:
            return kind
    keys = set(catalog.load_toml(path))
    if keys & {"snapshot", "coupling"}:
        return "noise_models"
    if keys & {"qubits", "blocks", "observables"}:
        return "circuits"
    if "driver" in keys:
        return "devices"
    if keys & {"data", "augment", "model", "train"}:
        return "experiments"
    raise InputError(
        f"{path}: neither a circuit (qubits), a noise model (snapshot or coupling), a device (driver) nor an "
        "experiment ([data], [train], ...)"
    )


def _load(kind: "Kind", path: Path) -> None:
    if kind == "circuits":
        from qhybrid.circuits.spec import load_circuit

        load_circuit(str(path.absolute()))
    elif kind == "devices":
        from qhybrid.devices.spec import load_device

        load_device(str(path.absolute()))
    elif kind == "experiments":
        from qhybrid.experiments.spec import load_experiment

        load_experiment(str(path.absolute()))
    else:
        from qhybrid.noise_models.spec import load_noise_model

        load_noise_model(str(path.absolute()))
