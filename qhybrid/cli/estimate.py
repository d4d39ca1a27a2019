"""`qhybrid estimate`: what circuits cost on a machine, and whether a result would survive, before anything is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qhybrid.circuits.circuit import Circuit
    from qhybrid.circuits.transpile import IsaCircuit
    from qhybrid.devices.mitigation import MitigatedDevice
    from qhybrid.devices.runtime import RuntimeDevice
    from qhybrid.experiments.device_choice import DeviceOptions
    from qhybrid.experiments.hardware import Submission

    LayOut = Callable[[Circuit], Sequence[IsaCircuit]]


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
    device: Annotated[
        str | None, typer.Option(help="Device file of the machine, with its price; qiskit.remote without it.")
    ] = None,
    shots: options.Shots = None,
    mitigation: options.Mitigation = None,
    split: Annotated[str, typer.Option(help="Of a run: train, validation or test.")] = "test",
    limit: options.Limit = None,
    layout_seeds: options.LayoutSeeds = None,
    as_json: options.Json = False,
) -> None:
    """Estimate gates, duration and success probability of circuits on a machine; of a run also jobs, time and cost."""
    from qhybrid.devices.mitigation import MitigatedDevice
    from qhybrid.errors import InputError

    if noise is not None and backend is None and device is None:
        if mitigation is not None:
            raise InputError("--mitigation: a noise model sends no jobs; give the machine with --backend or --device")
        _on_noise_model(what, noise, layout_seeds, as_json)
    elif noise is None and (backend is not None or device is not None):
        opened = _machine(device, backend, layout_seeds, mitigation)
        if what is not None and Path(what).expanduser().is_dir():
            asked: DeviceOptions = {
                "device": device,
                "backend": backend,
                "shots": shots,
                "mitigation": mitigation,
                "layout_seeds": layout_seeds,
            }
            _submission(what, asked, split, limit, as_json)
        elif isinstance(opened, MitigatedDevice):
            raise InputError(
                f"mitigation ({opened.mitigation.label}) is estimated for a run folder; --mitigation none estimates "
                "circuits as they are"
            )
        else:
            _on_machine(what, opened, as_json)
    else:
        raise InputError("give the machine: --noise NAME for a noise model, or --backend NAME for one of your account")


def _on_noise_model(what: str | None, noise: str, layout_seeds: int | None, as_json: bool) -> None:
    from qhybrid.circuits.transpile import isa_circuits
    from qhybrid.devices.base import LAYOUT_SEEDS
    from qhybrid.noise_models.model import BEST_CASE
    from qhybrid.noise_models.spec import load_noise_model

    model = load_noise_model(noise)
    seeds = LAYOUT_SEEDS if layout_seeds is None else layout_seeds

    def lay_out(circuit: "Circuit") -> "Sequence[IsaCircuit]":
        return isa_circuits(
            circuit.expanded(), model.target(), schedule=model.idle, layout_seeds=seeds, machine=model.name
        )

    rows = _rows(what, lay_out, model.name)
    if as_json:
        noise_model = model.provenance() | {"n_qubits": model.n_qubits}
        options.print_json({"noise": noise_model, "layout_seeds": seeds, "circuits": rows})
        return
    when = f", calibrated {model.date[:10]}" if model.date else ""
    _print_rows(f"{model.name}: {model.n_qubits} qubits{when}", what, rows)
    for remark in (*model.remarks, BEST_CASE):
        print(remark)


def _on_machine(what: str | None, device: "RuntimeDevice", as_json: bool) -> None:
    programs = []

    def lay_out(circuit: "Circuit") -> "Sequence[IsaCircuit]":
        programs.append(device.prepare(circuit.expanded()))
        return device.isa_circuits(programs[-1])

    name = str(device.machine)
    rows = _rows(what, lay_out, name)
    n_qubits = device.client.backend(name).num_qubits
    calibration = programs[-1].compiled.calibration if programs else None
    if as_json:
        machine = {"name": name, "n_qubits": n_qubits, "calibration": calibration}
        options.print_json({"machine": machine, "circuits": rows})
        return
    _print_rows(f"{name}: {n_qubits} qubits, calibrated {str(calibration)[:16]}", what, rows)


def _submission(what: str, asked: "DeviceOptions", split: str, limit: int | None, as_json: bool) -> None:
    """The evaluation of a run on a machine, and a step of its training there."""
    from qhybrid.cli.costs import cost_dict, cost_lines, duration
    from qhybrid.experiments.evaluation import open_head
    from qhybrid.experiments.hardware import Submission
    from qhybrid.experiments.runs import open_run

    run = open_run(what)
    head = open_head(run, asked, repeats=1, seed=0)
    submission = Submission.of(run, head, split=split, limit=limit, repeats=1, seed=0)
    whole, step = submission.estimate(), _training_step(submission)
    if as_json:
        options.print_json(cost_dict(submission, whole) | {"training_step": step.to_dict()})
        return
    for line in cost_lines(submission, whole):
        print(line)
    print(
        f"training  a step of {run.spec.train.batch_size} images by {submission.layer.diff_method}: {step.jobs} "
        f"job{'' if step.jobs == 1 else 's'}, {step.circuits} circuits, about {duration(step.qpu_seconds)} of QPU time"
    )


def _training_step(submission: "Submission") -> Any:
    """What one step of the run's training would cost on the machine."""
    from qhybrid.gradients import rows_per_sample

    layer, run = submission.layer, submission.run
    columns = layer.program.circuit.columns_that_depend_on(features=True, weights=True)
    rows = rows_per_sample(layer.program, columns, layer.diff_method) * run.spec.train.batch_size
    return submission.estimate_rows(rows)


def _machine(
    device: str | None, backend: str | None, layout_seeds: int | None, mitigation: str | None
) -> "RuntimeDevice | MitigatedDevice":
    from qhybrid.devices.mitigation import MitigatedDevice
    from qhybrid.devices.runtime import RuntimeDevice
    from qhybrid.devices.spec import load_device
    from qhybrid.errors import InputError
    from qhybrid.experiments.device_choice import HARDWARE_DEVICE

    opened = load_device(device or HARDWARE_DEVICE, backend=backend, layout_seeds=layout_seeds, mitigation=mitigation)
    if isinstance(opened.device if isinstance(opened, MitigatedDevice) else opened, RuntimeDevice):
        return opened  # type: ignore[return-value]
    raise InputError(f"{device} is no machine of IBM: give --noise NAME, or a device file with the driver runtime")


def _rows(what: str | None, lay_out: "LayOut", machine: str) -> list[dict[str, Any]]:
    """One circuit, or every circuit of the catalog with what is wrong where it does not fit."""
    from qhybrid import catalog
    from qhybrid.circuits.spec import load_circuit
    from qhybrid.errors import InputError

    if what is not None:
        return [_row(_circuit(what), lay_out, machine)]
    rows = []
    for name, path in catalog.entries("circuits").items():
        n_qubits = None
        try:
            circuit = load_circuit(str(path))
            n_qubits = circuit.n_qubits
            rows.append(_row(circuit, lay_out, machine))
        except InputError as error:
            rows.append({"circuit": name, "n_qubits": n_qubits, "level": "error", "verdict": str(error)})
    return rows


def _row(circuit: "Circuit", lay_out: "LayOut", machine: str) -> dict[str, Any]:
    from qhybrid.circuits.isa import verdict, worst

    found = lay_out(circuit)
    report = worst([isa.report for isa in found])
    said = verdict(report, circuit.name, machine)
    return {"circuit": circuit.name, "bases": len(found), **report.to_dict(), "verdict": said}


def _circuit(what: str) -> "Circuit":
    """The circuit of a run folder, or one named by the user."""
    from qhybrid.circuits.spec import load_circuit
    from qhybrid.errors import InputError
    from qhybrid.experiments.runs import open_run

    if not Path(what).expanduser().is_dir():
        return load_circuit(what)
    from qhybrid.experiments.heads import head_circuit

    run = open_run(what, incomplete=True)
    if not run.spec.model.has_circuit:
        raise InputError(f"run {what!r} has no circuit: its head is {run.spec.model.head!r}")
    return head_circuit(run.spec.model.head, run.circuit)


def _print_rows(title: str, what: str | None, rows: list[dict[str, Any]]) -> None:
    from qhybrid.circuits.isa import PARTLY, SURVIVES, percent

    options.print_table(
        title,
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
