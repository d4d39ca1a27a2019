"""An emulator inside this process, for tests and for one command."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from qhybrid.emulator.accounts import DUMMY_TOKEN
from qhybrid.emulator.faults import Faults, with_faults
from qhybrid.emulator.machines import DEFAULT_BACKEND
from qhybrid.emulator.server import Emulator, Settings


class RunningEmulator:
    """A handle on an emulator that can be stopped and started again at the same port with the same jobs."""

    def __init__(self, settings: Settings) -> None:
        self._server: Emulator | None = Emulator(settings)
        self._settings = replace(settings, port=self._server.port)
        self.environment = self._server.environment
        """Environment variables for the client; the same after a restart."""

    @property
    def state(self) -> Path:
        """Folder of its jobs."""
        return self._settings.state

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._settings.port

    def counters(self) -> dict[str, int]:
        """What was asked and what was run, over all restarts (see `counters.NAMES`)."""
        counters: dict[str, int] = json.loads((self.state / "counters.json").read_text(encoding="utf-8"))
        return counters

    def jobs(self) -> list[dict[str, Any]]:
        """The records of all jobs, the oldest first."""
        found = [
            json.loads(path.read_text()) for path in (self.state / "jobs").glob("*.json") if path.name.count(".") == 1
        ]
        return sorted(found, key=lambda each: int(each["order"]))

    def set_faults(self, **changes: Any) -> None:
        """Set faults (see `Faults`) anew; the others stay."""
        if self._server is None:
            self._settings = replace(self._settings, faults=with_faults(self._settings.faults, changes))
        else:
            self._server.faults.set(changes)

    def stop(self) -> None:
        """Stop: connections are refused from now on."""
        if self._server is not None:
            faults = self._server.faults.now
            self._server.stop()
            self._server = None
            self._settings = replace(self._settings, faults=faults)

    def restart(self) -> None:
        """Stop if it runs, and start again: same port, same jobs, same faults, a new certificate in the same file."""
        self.stop()
        self._server = Emulator(self._settings)


@contextmanager
def running_emulator(
    *,
    backends: Sequence[str] = (DEFAULT_BACKEND,),
    state: Path | None = None,
    port: int = 0,
    plan: str = "open",
    api_key: str = DUMMY_TOKEN,
    seed: int | None = None,
    **faults: Any,
) -> Iterator[RunningEmulator]:
    """An emulator in threads of this process, which ends with the block.

    Args:
        backends: Machines, as `load_machines` takes them.
        state: Folder of its jobs; None: one that is deleted at the end.
        port: 0: any that is free.
        plan: `open` or `premium`.
        api_key: The only one that is accepted.
        seed: Of the shots; None: another every time.
        faults: See `Faults`.
    """
    with tempfile.TemporaryDirectory(prefix="qhybrid-emulator-") as temporary:
        settings = Settings(
            state=state or Path(temporary), backends=tuple(backends), port=port, plan=plan, api_key=api_key, seed=seed,
            faults=with_faults(Faults(), faults),
        )  # fmt: skip
        emulator = RunningEmulator(settings)
        try:
            yield emulator
        finally:
            emulator.stop()
