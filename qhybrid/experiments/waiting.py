"""What is said while a job on a machine is waited for."""

from types import TracebackType

from rich.console import Console
from rich.status import Status
from rich.text import Text

from qhybrid.devices.runtime_messages import Waiting


class StatusLine:
    """One live line on a terminal, elsewhere a line for every change; a `Progress` to be used in a `with` block.

    Args:
        console: Where it goes.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = Status("", console=console) if console.is_terminal else None
        self._said = ""

    def __enter__(self) -> "StatusLine":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, waiting: Waiting) -> None:
        """Say how far a job is."""
        said = describe(waiting)
        if self._status is not None:
            self._status.update(Text(f"{said}, {int(waiting.seconds) // 60}:{int(waiting.seconds) % 60:02d}"))
        elif said != self._said:
            self._console.print(said, highlight=False, markup=False, soft_wrap=True)
        self._said = said


def describe(waiting: Waiting) -> str:
    """Say in one line how far a job is, without the time."""
    rows = waiting.rows
    now = next((row for row in rows if row.state != "collected"), rows[-1])
    parts = f" {now.part + 1} of {now.parts}" if now.parts > 1 else ""
    place = f", place {waiting.position} in the queue" if waiting.position is not None else ""
    trouble = f" ({waiting.trouble}; the job goes on)" if waiting.trouble else ""
    return f"job{parts} {now.job_id or now.tag} on {now.backend}: {now.state}{place}{trouble}"
