"""The loopback QPU for tests, with the client led to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from qhybrid.emulator.running import RunningEmulator, running_emulator


@contextmanager
def emulated(**options: Any) -> Iterator[RunningEmulator]:
    """An emulator as of `running_emulator`; until the block ends, the client's environment variables lead to it."""
    with pytest.MonkeyPatch.context() as patch, running_emulator(**options) as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running
