"""qhybrid: hybrid quantum-classical image classifiers on exchangeable quantum devices."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qhybrid.circuits.circuit import Circuit
    from qhybrid.circuits.spec import load_circuit
    from qhybrid.devices.base import Capabilities, Device, Estimates, Program
    from qhybrid.devices.spec import list_devices, load_device
    from qhybrid.errors import InputError, QHybridError
    from qhybrid.layer import QuantumLayer

__version__ = "0.1.0"
__all__ = [
    "Capabilities",
    "Circuit",
    "Device",
    "Estimates",
    "InputError",
    "Program",
    "QHybridError",
    "QuantumLayer",
    "__version__",
    "list_devices",
    "load_circuit",
    "load_device",
]

_HOMES = {
    "Capabilities": "qhybrid.devices.base",
    "Circuit": "qhybrid.circuits.circuit",
    "Device": "qhybrid.devices.base",
    "Estimates": "qhybrid.devices.base",
    "InputError": "qhybrid.errors",
    "Program": "qhybrid.devices.base",
    "QHybridError": "qhybrid.errors",
    "QuantumLayer": "qhybrid.layer",
    "list_devices": "qhybrid.devices.spec",
    "load_circuit": "qhybrid.circuits.spec",
    "load_device": "qhybrid.devices.spec",
}


def __getattr__(name: str) -> Any:
    # torch and PennyLane take seconds to import: they load when a name that needs them is first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'qhybrid' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
