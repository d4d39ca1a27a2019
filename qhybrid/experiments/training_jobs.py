"""A training whose quantum layer runs as jobs of a service: what each job is for, and how the training lets go."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.markup import escape

from qhybrid.errors import QHybridError
from qhybrid.experiments.model import HybridClassifier


@runtime_checkable
class JobDevice(Protocol):
    """A device whose `run` sends a job, or takes up one of the same run, purpose and angles that was sent before."""

    run_name: str
    purpose: str

    def close(self) -> None:
        """Close the session, if there is one."""


def job_device(classifier: HybridClassifier) -> JobDevice | None:
    """The device of the quantum layer where that sends jobs; None: it computes here, or there is no such layer."""
    layer = classifier.head.layer
    return layer.device if layer is not None and isinstance(layer.device, JobDevice) else None


@contextmanager
def jobs_of(classifier: HybridClassifier, run_name: str, console: Console) -> Iterator[None]:
    """Send jobs in the name of a run; whatever ends it, the session is closed, and jobs that were sent go on.

    Args:
        classifier: With the device.
        run_name: Under which the ledger keeps the jobs.
        console: Where is said that a session could not be closed.
    """
    device = job_device(classifier)
    if device is None:
        yield
        return
    device.run_name = run_name
    try:
        yield
    finally:
        device.run_name = device.purpose = ""
        try:
            device.close()
        except QHybridError as error:
            reason = escape(str(error))
            console.print(f"[yellow]warning:[/] the session is still open: {reason}", highlight=False, soft_wrap=True)
