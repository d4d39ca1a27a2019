"""The loopback QPU for tests, with the client led to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qhybrid.devices import runtime_jobs
from qhybrid.emulator.running import RunningEmulator, running_emulator

MACHINE, NOISE = "ibm_perth", "fake:FakePerth"
"""A machine of seven qubits: the client takes half a second for each calibration of one with 156."""


@contextmanager
def emulated(**options: Any) -> Iterator[RunningEmulator]:
    """An emulator as of `running_emulator`; until the block ends, the client's environment variables lead to it."""
    with pytest.MonkeyPatch.context() as patch, running_emulator(**options) as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def in_haste(patch: pytest.MonkeyPatch, data: Path) -> None:
    """A ledger of the test's own in the folder `data`, and short pauses between looks and attempts."""
    patch.setenv("QHYBRID_DATA", str(data))
    patch.setattr(runtime_jobs, "LOOKUPS", (0.0, 0.1, 0.2))
    patch.setattr(runtime_jobs, "RETRY", (0.05, 0.2))


def ran(emulator: RunningEmulator, before: dict[str, int]) -> tuple[int, int]:
    """Jobs and circuits that the server took since."""
    after = emulator.counters()
    return after["accepted"] - before["accepted"], after["circuits"] - before["circuits"]
