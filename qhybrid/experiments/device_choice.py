"""Which device evaluates a run, under which noise, and what must be said about it."""

from typing import Any, TypedDict

from rich.console import Console
from rich.markup import escape

from qhybrid.circuits.isa import IsaReport, verdict, worst
from qhybrid.devices.base import MachineDevice
from qhybrid.devices.mitigation import MitigatedDevice
from qhybrid.errors import InputError
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.layer import QuantumLayer
from qhybrid.noise_models.model import BEST_CASE, NoiseModel
from qhybrid.noise_models.spec import load_noise_model

NOISY_DEVICE = "qiskit.aer"
"""The device where a noise model is given and no device."""
HARDWARE_DEVICE = "qiskit.remote"
"""The device where a backend is given and no device."""
LINE = 140
"""Characters in a line of text."""


class DeviceOptions(TypedDict, total=False):
    """What can be asked of the device that evaluates a run; a key that is missing or None is not asked for."""

    device: str | None
    """Name or path of the device."""
    diff_method: str | None
    """Of a device that is about to be trained through; evaluation takes no gradient."""
    shots: int | None
    """Shots per circuit."""
    noise: str | None
    """Name or path of a noise model."""
    noise_scale: float | None
    """Factor on all of its rates."""
    noise_parts: list[str] | None
    """Which parts of it are on."""
    layout_seeds: int | None
    """Transpiler seeds tried for the layout on its machine."""
    backend: str | None
    """Machine of a device that has several."""
    mitigation: str | None
    """How errors are mitigated, such as `readout,zne`."""


def choose_device(run: Run, options: DeviceOptions) -> DeviceChoice:
    """Settle on the device that evaluates a run.

    With neither a device nor a noise model it is that of the training, with its noise and shots. With a device there
    is no noise and there are no shots but those that are given. With a noise model and no device it is `qiskit.aer`,
    with a backend and no device `qiskit.remote`.

    Args:
        run: Whose training is asked where nothing is given.
        options: What is given; it goes before.

    Returns:
        The choice, not yet opened.

    Raises:
        InputError: The run has a classical head, or a noise scale or noise parts are given without a noise model.
    """
    asked = {key: value for key, value in options.items() if value is not None}
    if not run.spec.model.has_circuit:
        if asked:
            raise InputError(
                f"run {str(run.path)!r} has a {run.spec.model.head} head without a quantum layer: "
                "device, shots and noise do not apply"
            )
        return run.spec.device
    name, noise, backend = asked.pop("device", None), asked.get("noise"), asked.get("backend")
    other = HARDWARE_DEVICE if noise is None and backend is not None else NOISY_DEVICE
    stays = name is None and noise is None and (backend is None or run.spec.device.backend is not None)
    kept = run.spec.device if stays else DeviceChoice(name=str(name or other))
    choice = kept.model_copy(update={"diff_method": "best"} | asked)
    if choice.noise is None and (choice.noise_scale != 1 or choice.noise_parts is not None):
        raise InputError(f"a noise scale or noise parts are given, but no noise model for {choice.name}: give --noise")
    return choice


def chosen_noise(choice: DeviceChoice) -> NoiseModel | None:
    """The noise model of a choice, scaled, of the parts that are on; None without one."""
    if choice.noise is None:
        return None
    model = load_noise_model(choice.noise).scaled(choice.noise_scale)
    return model if choice.noise_parts is None else model.with_parts(choice.noise_parts)


def describe_device(layer: QuantumLayer) -> dict[str, Any]:
    """What a result says about its device: name, machine, shots, noise, ISA circuits, and the tracker's counts."""
    return {
        "name": layer.device.name,
        "machine": layer.device.machine if isinstance(layer.device, MachineDevice) else None,
        "mitigation": mitigation_label(layer),
        "remark": layer.device.remark(layer.program) if isinstance(layer.device, MitigatedDevice) else None,
        "diff_method": layer.diff_method,
        "shots": layer.shots,
        "noise": None if layer.noise is None else {"label": layer.noise.label} | layer.noise.provenance(),
        "isa": [report.to_dict() for report in isa_reports(layer)],
        "verdict": isa_verdict(layer),
        "tracker": layer.device.tracker.to_dict(),
    }


def mitigation_label(layer: QuantumLayer) -> str | None:
    """What mitigation is at work; None without one."""
    return layer.device.mitigation.label if isinstance(layer.device, MitigatedDevice) else None


def isa_reports(layer: QuantumLayer) -> list[IsaReport]:
    """What each measurement basis costs on the machine; empty without one."""
    if not isinstance(layer.device, MachineDevice):
        return []
    return [isa.report for isa in layer.device.isa_circuits(layer.program)]


def isa_verdict(layer: QuantumLayer) -> str | None:
    """What the costliest of them means for the result; None without a machine."""
    reports = isa_reports(layer)
    if not reports:
        return None
    assert isinstance(layer.device, MachineDevice)
    return verdict(worst(reports), layer.circuit.name, str(layer.device.machine))


def noise_lines(noise: NoiseModel) -> list[str]:
    """What must stand under every result of a noise model, in two lines; its provenance has the remarks in full."""
    date = f"calibrated {noise.date[:10]}" if noise.date else "parametric, no machine's calibration"
    line = "; ".join([f"noise: {noise.label}, {date}", *noise.remarks])
    return [line if len(line) <= LINE else f"{line[: LINE - 4].rstrip(' ,:;')} ...", BEST_CASE]


def warn_of_lost_signal(layer: QuantumLayer, console: Console) -> None:
    """Say before anything is run if a circuit will hardly survive the machine of its noise model."""
    reports = isa_reports(layer)
    if reports and worst(reports).level == "hardly":
        console.print(f"[yellow]warning:[/] {escape(str(isa_verdict(layer)))}", highlight=False, soft_wrap=True)
