"""`qhybrid show`: a circuit drawn and counted, a noise model in numbers, or any other description of the catalogs."""

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli import options


def show(
    name: Annotated[str, typer.Argument(help="A circuit, noise model, device or experiment: name or file.")],
    png: Annotated[Path | None, typer.Option(help="Also draw the circuit or machine into this PNG file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show a circuit (drawn in text, counted) or a noise model, or print a device or an experiment."""
    from qhybrid import catalog
    from qhybrid.cli.validate import kind_of
    from qhybrid.errors import InputError, did_you_mean

    if name.startswith("fake:"):
        _show_noise_model(name, png, as_json=as_json)
        return
    folder = Path(name).expanduser()
    if catalog.is_path(name, "circuits") or catalog.is_path(name, "noise_models"):
        wanted: catalog.Kind = "noise_models" if name.endswith(".json") else "circuits"
        path = folder if folder.is_dir() else catalog.find(wanted, name)
        kind = kind_of(path)
    else:
        kinds = [kind for kind in catalog.KINDS if name in catalog.entries(kind)]
        if not kinds:
            everything = [each for kind in catalog.KINDS for each in catalog.entries(kind)]
            raise InputError(f"nothing is called {name!r}; {did_you_mean(name, everything)}")
        kind, path = kinds[0], catalog.entries(kinds[0])[name]
    if kind == "circuits":
        _show_circuit(path, png, as_json=as_json)
        return
    if kind == "noise_models":
        _show_noise_model(str(path), png, as_json=as_json)
        return
    if png is not None:
        raise InputError(f"--png draws circuits and noise models; {name!r} is one of the {kind.replace('_', ' ')}")
    if as_json:
        options.print_json(catalog.load_toml(path))
    else:
        print(f"# {path}\n{path.read_text(encoding='utf-8').rstrip()}")


def _show_noise_model(name: str, png: Path | None, *, as_json: bool) -> None:
    from qhybrid.cli.noise import print_noise_model
    from qhybrid.noise_models.spec import load_noise_model

    print_noise_model(load_noise_model(name), png, as_json=as_json)


def _show_circuit(path: Path, png: Path | None, *, as_json: bool) -> None:
    from qhybrid.circuits.draw import circuit_summary, draw_figure, draw_text
    from qhybrid.circuits.spec import load_circuit
    from qhybrid.errors import InputError

    circuit = load_circuit(str(path))
    if png is not None:
        try:
            draw_figure(circuit).savefig(png, dpi=200, bbox_inches="tight")
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write {str(png)!r}: {error}") from None
    if as_json:
        options.print_json({"name": circuit.name, "description": circuit.description} | circuit_summary(circuit))
        return
    print(f"{circuit.name}: {circuit.description}\n{circuit.source}\n")
    print(draw_text(circuit))
    print()
    summary = circuit_summary(circuit)
    expanded = summary.pop("expanded", None)
    for key, value in summary.items():
        print(f"{key.replace('_', ' '):18} {_in_words(value)}")
    if isinstance(expanded, dict):
        counts = [f"{expanded[key]} {key.replace('_', ' ')}" for key in ("angles", "gates", "two_qubit_gates")]
        print(f"prepared by gates  {', '.join(counts)}, depth {expanded['depth']}")
    if png is not None:
        print(f"\ndrawn into {png}")


def _in_words(value: object) -> str:
    return ", ".join(str(each) for each in value) if isinstance(value, list | tuple) else str(value)
