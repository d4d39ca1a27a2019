"""The conformance suite that every device passes: `qhybrid doctor --device NAME` and tests/test_conformance.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qhybrid import catalog
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.conformance_checks import CHECKS, Failed, NotApplicable
from qhybrid.devices.base import Device, NoisyDevice
from qhybrid.devices.spec import load_device
from qhybrid.errors import InputError, QHybridError
from qhybrid.layer import Noise
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.reference import random_circuit

NOISY_QUBITS = 5
"""Largest circuit whose density matrix the dense reference simulates in reasonable time."""


@dataclass(frozen=True)
class Check:
    """What one check found.

    Args:
        name: What was checked.
        passed: None where the device does not offer what the check is about.
        detail: The largest difference seen and what was left out, or what went wrong.
    """

    name: str
    passed: bool | None
    detail: str


def conformance_circuits(device: Device, *, n_random: int = 3) -> list[Circuit]:
    """The catalog's circuits that fit a device, and some random ones; with noise, those the reference can simulate."""
    found = [load_circuit(name) for name in catalog.entries("circuits")]
    generator = np.random.default_rng(2024)
    found += [random_circuit(generator) for _ in range(n_random)]
    limit = device.capabilities.max_qubits
    if isinstance(device, NoisyDevice) and device.noise is not None:
        limit = min(limit, NOISY_QUBITS)
    return [circuit for circuit in found if circuit.n_qubits <= limit]


def run_conformance(
    device: str | Device, circuits: Sequence[Circuit] | None = None, *, noise: Noise | None = None
) -> Iterator[Check]:
    """Run every check on a device.

    Args:
        device: Its name, or an open device. One given by its name is checked without mitigation: mitigated values are
            not those of the noise.
        circuits: Circuits to check with; None takes `conformance_circuits`.
        noise: Noise model that a device given by its name simulates.

    Yields:
        What each check found, in the order of `CHECKS`.
    """
    if isinstance(device, str):
        model = None if noise is None else load_noise_model(noise)
        device = load_device(device, noise=model, mitigation="none")
    elif noise is not None:
        raise InputError(f"{device.name} is open already: give it its noise model when you make it")
    chosen = conformance_circuits(device) if circuits is None else circuits
    for name, check in CHECKS.items():
        try:
            yield Check(name, True, check(device, chosen))
        except NotApplicable as reason:
            yield Check(name, None, str(reason))
        except (Failed, QHybridError) as problem:
            yield Check(name, False, str(problem))
