"""Devices of Qiskit Aer and a circuit for them."""

import functools
from typing import Any

from dense_simulation import circuit_of

from qhybrid.circuits.circuit import Circuit
from qhybrid.devices.aer import AerDevice
from qhybrid.noise_models.spec import load_noise_model


def rotated() -> Circuit:
    """Three qubits, observables in two bases."""
    gates = [("ry", (0,)), ("rx", (1,)), ("ry", (2,)), ("cx", (0, 1)), ("rzz", (1, 2)), ("crx", (2, 0)), ("ry", (2,))]
    return circuit_of(gates, ["X0 Y1", "Z2", "Y2 Z0", "Y2"], 3)


@functools.cache
def device(machine: str | None = "ibm_brisbane", **options: Any) -> AerDevice:
    noise = None if machine is None else load_noise_model(machine)
    return AerDevice("qiskit.aer", noise=noise, layout_seeds=2, **options)
