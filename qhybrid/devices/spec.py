"""The device file, and how a name becomes a device.

driver = "pennylane"            # a shipped driver, "package.module:Class" or "./file.py:Class"
description = "PennyLane's C++ statevector simulator"
diff_method = "adjoint"         # what "best" means on it; without the key, the driver decides
[options]                       # keyword arguments of the driver, and `mitigation` (see mitigation_spec.py)
device = "lightning.qubit"
"""

import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qhybrid import catalog
from qhybrid.devices.base import Device
from qhybrid.devices.mitigation_spec import Mitigation, parse_mitigation
from qhybrid.errors import InputError, QHybridError, did_you_mean
from qhybrid.noise_models.model import NoiseModel

DRIVERS = {
    "statevector": "qhybrid.devices.statevector:StatevectorDevice",
    "density": "qhybrid.devices.density:DensityDevice",
    "pennylane": "qhybrid.devices.pennylane:PennyLaneDevice",
    "default.mixed": "qhybrid.devices.pennylane_noise:MixedDevice",
    "aer": "qhybrid.devices.aer:AerDevice",
    "runtime": "qhybrid.devices.runtime:RuntimeDevice",
}
"""Shipped drivers by their short names."""

NOISY = "qhybrid.density and qiskit.aer take one"

ENTRY_POINTS = "qhybrid.devices"
"""Group of entry points under which other packages offer drivers; the entry point's name is the device's name."""


class DeviceSpec(BaseModel):
    """A device file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    """One line for people."""
    driver: str
    """A key of `DRIVERS`, `package.module:Class`, or `./file.py:Class` relative to the device file."""
    diff_method: Literal["best", "backprop", "adjoint", "parameter-shift", "spsa"] = "best"
    """Gradient method where the user asks for "best"."""
    shots: int | None = Field(default=None, ge=1)
    """Shots where the user gives none; None means exact."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the driver."""


@dataclass(frozen=True)
class DeviceEntry:
    """A device that can be named.

    Args:
        name: What the user writes.
        description: One line for people.
        origin: The device file, the entry point, or "PennyLane".
        problem: Why it does not start here; None where it does, or where that was not tried.
    """

    name: str
    description: str
    origin: str
    problem: str | None = None


def device_spec(name: str) -> tuple[DeviceSpec, Path | None]:
    """Find the description of a device.

    Args:
        name: Name of a device file (the user's ./devices first), a path to one, an entry point in the group
            `qhybrid.devices`, or any installed PennyLane device.

    Returns:
        The description and the file it came from (None where there is no file).

    Raises:
        InputError: There is no such device, or its file is wrong.
    """
    if catalog.is_path(name, "devices") or name in catalog.entries("devices"):
        path = catalog.find("devices", name)
        return catalog.parse(DeviceSpec, catalog.load_toml(path), str(path)), path
    points = _entry_points()
    if name in points:
        return DeviceSpec(driver=points[name]), None
    from qhybrid.devices.pennylane import installed

    if name in installed():
        return DeviceSpec(driver="pennylane", options={"device": name}), None
    raise InputError(f"unknown device {name!r}; {did_you_mean(name, _names())}")


def load_device(
    name: str,
    *,
    noise: NoiseModel | None = None,
    layout_seeds: int | None = None,
    backend: str | None = None,
    options: Mapping[str, Any] | None = None,
    mitigation: str | Mapping[str, Any] | Mitigation | None = None,
) -> Device:
    """Open a device by its name (see `device_spec`).

    Args:
        name: Of the device.
        noise: Noise that it simulates; None: none.
        layout_seeds: Transpiler seeds tried for each circuit; None: the driver's default.
        backend: Machine of a device that has several; None: the one in its file.
        options: Options of the driver that replace those of the device file.
        mitigation: How errors are mitigated, such as "readout,zne" (see `parse_mitigation`); "none": not at all; None:
            as the device file says under `options.mitigation`.

    Raises:
        InputError: There is no such device, its file is wrong, it does not start here, or it takes no noise model or
            no backend.
    """
    spec, path = device_spec(name)
    driver = _driver_class(spec.driver, path)
    where = str(path) if path else f"device {name!r}"
    parameters = inspect.signature(driver).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    chosen = {**spec.options, **(options or {})}
    mitigate = parse_mitigation(chosen.pop("mitigation", None), f"{where}: options.mitigation")
    if mitigation is not None:
        mitigate = parse_mitigation(mitigation)
    if backend is not None:
        if "backend" not in parameters and "backend" not in chosen:
            raise InputError(f"{name} takes no backend (backend = {backend!r}); qiskit.remote takes one")
        chosen["backend"] = backend
    unknown = [key for key in chosen if key not in parameters]
    if unknown and not takes_any:
        allowed = [key for key in parameters if key not in ("name", "noise")]
        raise InputError(f"{where}: unknown key 'options.{unknown[0]}'; {did_you_mean(unknown[0], allowed)}")
    settings = {"noise": noise, "layout_seeds": layout_seeds}
    asked = {key: value for key, value in settings.items() if value is not None}
    if noise is not None and "noise" not in parameters:
        raise InputError(f"{name} takes no noise model (noise = {noise.name!r}); {NOISY}")
    asked = {key: value for key, value in asked.items() if key in parameters}
    try:
        device = driver(path.stem if path else name, **(chosen | asked))
    except QHybridError:
        raise
    except Exception as error:
        raise InputError(f"{where}: the driver does not start: {type(error).__name__}: {error}") from None
    missing = [each for each in ("capabilities", "tracker", "prepare", "run") if not hasattr(device, each)]
    if missing:
        raise InputError(f"{where}: driver {spec.driver!r} has no {missing[0]} (see qhybrid.Device)")
    if noise is not None and not device.capabilities.noise:  # never simulate silently without it
        raise InputError(f"{name} takes no noise model (noise = {noise.name!r}); {NOISY}")
    if not mitigate.label:
        return device
    from qhybrid.devices.mitigation import mitigated

    return mitigated(device, mitigate)


def list_devices(*, check: bool = False) -> list[DeviceEntry]:
    """Every device that can be named here: device files, entry points, installed PennyLane devices.

    Args:
        check: Also try to start each of them, which takes seconds, and report why one does not.
    """
    found: dict[str, DeviceEntry] = {}
    for name, path in catalog.entries("devices").items():
        try:
            found[name] = DeviceEntry(name, device_spec(name)[0].description, str(path))
        except InputError as error:
            found[name] = DeviceEntry(name, "", str(path), problem=str(error))
    for name, target in _entry_points().items():
        found.setdefault(name, DeviceEntry(name, f"driver {target}", f"entry point {ENTRY_POINTS}"))
    from qhybrid.devices.pennylane import installed

    for name in installed():
        found.setdefault(name, DeviceEntry(name, "installed PennyLane device", "PennyLane"))
    entries = [entry for _, entry in sorted(found.items())]
    return [_checked(entry) for entry in entries] if check else entries


def _checked(entry: DeviceEntry) -> DeviceEntry:
    if entry.problem:
        return entry
    try:
        load_device(entry.name)
    except QHybridError as error:
        return DeviceEntry(entry.name, entry.description, entry.origin, problem=str(error))
    return entry


def _names() -> list[str]:
    return [entry.name for entry in list_devices()]


def _entry_points() -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def _driver_class(driver: str, path: Path | None) -> type[Device]:
    """Import a driver class."""
    target = DRIVERS.get(driver, driver)
    where = str(path) if path else "device"
    module_name, _, class_name = target.partition(":")
    if not class_name:
        allowed = did_you_mean(driver, DRIVERS)
        raise InputError(
            f"{where}: unknown driver {driver!r}; {allowed}, or 'package.module:Class', or './file.py:Class'"
        )
    try:
        if module_name.endswith(".py"):
            module = _module_from_file(((path.parent if path else Path.cwd()) / module_name).resolve())
        else:
            module = importlib.import_module(module_name)
    except Exception as error:  # a driver is somebody's code, and may fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{where}: driver {driver!r} cannot be imported: {reason}") from None
    if not hasattr(module, class_name):
        classes = [name for name, each in vars(module).items() if inspect.isclass(each)]
        raise InputError(f"{where}: {module_name} has no class {class_name!r}; {did_you_mean(class_name, classes)}")
    return getattr(module, class_name)  # type: ignore[no-any-return]


def _module_from_file(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"qhybrid_device_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
