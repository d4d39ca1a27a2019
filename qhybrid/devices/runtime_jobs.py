"""The life of a hardware job: sent once, waited for, collected, by whichever process has the ledger's row.

Whatever is only a matter of the line (no connection, 5xx, 429, a token that has expired, a reply cut short) never fails
a job; only waiting ends, and the job goes on without us.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qhybrid.devices.base import Estimates
from qhybrid.devices.job_row import JobRow, now
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime_client import Client, reason_of, state_of
from qhybrid.devices.runtime_errors import Missing, Unreachable
from qhybrid.devices.runtime_messages import ENDED, Progress, StillRunning, Waiting, ending, still
from qhybrid.devices.runtime_pubs import pubs
from qhybrid.devices.runtime_raw import read_estimates
from qhybrid.errors import QHybridError

LOOKUPS = (0.0, 1.0, 2.0)
"""Seconds before each look for a job of which nobody knows whether the service took it."""
POLL = (0.2, 15.0)
"""Seconds between two questions, the first and the longest."""
RETRY = (0.5, 30.0)
"""The same after failures."""
PATIENCE = 600.0
"""Seconds for which sending is tried while the service cannot be reached."""

QUEUE = 10.0
"""Seconds between two questions for the place in the queue."""


@dataclass(frozen=True)
class Job:
    """A batch of angles on its way through a machine: one job of the service, or the few that its limits make of it.

    Args:
        ledger: That has its rows.
        client: The connection to the service.
        tags: Of its parts, in order.
        on_collect: Called once for each part whose result this process fetched.
    """

    ledger: Ledger
    client: Client
    tags: tuple[str, ...]
    on_collect: Callable[[JobRow], None] = lambda row: None

    @property
    def rows(self) -> list[JobRow]:
        """Its rows as the ledger has them."""
        return [self.ledger.by_tag(tag) for tag in self.tags]

    def refresh(self) -> list[JobRow]:
        """Ask the service once, collect what is done, and return the rows.

        Raises:
            Unreachable: The service cannot be asked now.
        """
        return [_advance(self, row, send_it=False) for row in self.rows]

    def result(self, *, timeout: float | None = None, progress: Progress | None = None) -> Estimates:
        """Wait for the jobs and turn their results into expectation values.

        Args:
            timeout: Seconds to wait; None: as long as it takes; 0: ask once.
            progress: Told after every question.

        Returns:
            Values and standard errors, shape (B, M), float64.

        Raises:
            StillRunning: Waiting ended.
            QHybridError: A job failed, was cancelled or is lost; says IBM's reason.
        """
        started, asked, failed, trouble = time.monotonic(), _pauses(*POLL), _pauses(*RETRY), ""
        states: list[str] = []
        position, asked_for_it = None, -QUEUE
        while True:
            try:
                rows = [_advance(self, row, send_it=True) for row in self.rows]
                trouble, failed = "", _pauses(*RETRY)
            except Unreachable as error:
                rows, trouble = self.rows, str(error)
            waited = time.monotonic() - started
            if progress is not None:
                if not trouble and waited - asked_for_it >= QUEUE:
                    position, asked_for_it = self._position(rows), waited
                progress(Waiting(rows, waited, position if "queued" in (row.state for row in rows) else None, trouble))
            if bad := next((row for row in rows if row.state in ("failed", "cancelled", "lost")), None):
                raise QHybridError(ending(bad))
            if all(row.state == "collected" for row in rows):
                return read_estimates(self.ledger, self.client, rows)
            if timeout is not None and waited >= timeout:
                raise StillRunning(still(rows, waited, trouble))
            if states != (states := [row.state for row in rows]):
                asked = _pauses(*POLL)
            pause = next(failed if trouble else asked)
            time.sleep(pause if timeout is None else min(pause, max(0.0, timeout - waited)))

    def cancel(self) -> list[JobRow]:
        """Cancel what has not ended, on the service and in the ledger.

        Raises:
            QHybridError: Another process is sending one of them just now.
        """
        for row in self.rows:
            if row.state not in ENDED and row.state != "done":
                self._cancel(row)
        return self.rows

    def _position(self, rows: Sequence[JobRow]) -> int | None:
        """Place in the queue of the first part that waits there."""
        job_id = next((row.job_id for row in rows if row.state == "queued" and row.job_id), None)
        return None if job_id is None else _asked(lambda: self.client.queue_position(job_id))

    def _cancel(self, row: JobRow) -> None:
        if row.job_id is None:
            if self.ledger.withdraw(row.tag):
                return None
            claimed = self.ledger.claim(row.tag)
            if claimed is not None:
                return self._cancel_claimed(claimed)
            row = _look(self.ledger, self.client, row.tag)
            if row.job_id is None:
                raise QHybridError(f"job {row.tag} is being sent by another process ({row.owner}); try again")
        self.client.cancel(row.job_id)
        return self._note(row.tag, state_of(self.client.job(row.job_id)))

    def _cancel_claimed(self, row: JobRow) -> None:
        """Cancel what a process was sending that died at it."""
        try:
            found = _find(self.client, row.tag, LOOKUPS)
            if found is None:
                self._note(row.tag, "cancelled")
                return
            job_id = str(found["id"])
            _taken(self.ledger, row.tag, job_id, found.get("session_id"))
            self.client.cancel(job_id)
            self._note(row.tag, state_of(self.client.job(job_id)))
        finally:
            self.ledger.release(row.tag)

    def _note(self, tag: str, state: str) -> None:
        self.ledger.set_state(tag, state, error="cancelled here" if state == "cancelled" else None)


def collect(
    row: JobRow,
    ledger: Ledger,
    *,
    client: Client | None = None,
    timeout: float | None = 0,
    progress: Progress | None = None,
) -> Estimates:
    """Expectation values of a job from its row alone, in whatever process.

    A job whose sender died is looked up by its tag, and sent only if the service has never seen it.

    Args:
        row: Any part of a batch; the whole batch is collected.
        ledger: That it is in.
        client: Connection to the service; None: a new one.
        timeout: Seconds to wait; None: as long as it takes; 0: ask once.
        progress: Told after every question.

    Returns:
        Values and standard errors of the whole batch, shape (B, M), float64.

    Raises:
        StillRunning: The job has not ended.
        QHybridError: It failed, was cancelled or is lost.
    """
    return job_of(row, ledger, client).result(timeout=timeout, progress=progress)


def job_of(row: JobRow, ledger: Ledger, client: Client | None = None) -> Job:
    """The whole batch that a row belongs to.

    Args:
        row: Any part of it.
        ledger: That it is in.
        client: Connection to the service; None: a new one.
    """
    parts = ledger.find(batch=row.batch) if row.batch else [row]
    settings = row.settings
    return Job(
        ledger,
        client or Client(settings.get("instance"), settings.get("channel")),
        tuple(each.tag for each in parts),
    )


def send(ledger: Ledger, client: Client, tag: str, *, patience: float = PATIENCE) -> JobRow:
    """Send a job, unless another process does or the service has it already.

    Args:
        ledger: That has its row.
        client: Connection to the service.
        tag: The job's.
        patience: Seconds for which it is tried while the service cannot be reached.

    Returns:
        Its row afterwards.

    Raises:
        Unreachable: Patience ended; the row stays, and the job can be sent later.
        QHybridError: The service refuses the job.
    """
    row = ledger.claim(tag)
    if row is None:
        return _look(ledger, client, tag)
    was_sent = row.job_id is not None  # and then lost: it may have run, whatever happens here
    started, pauses = time.monotonic(), _pauses(*RETRY)
    looks: Sequence[float] = LOOKUPS if row.attempts > 1 else ()
    try:
        while True:
            try:
                if looks and (found := _find(client, tag, looks)):
                    return _taken(ledger, tag, str(found["id"]), found.get("session_id"))
                if was_sent:
                    return ledger.set_state(tag, "lost", owner=None)
                return _post(ledger, client, row)
            except Unreachable as error:
                looks = LOOKUPS if error.status is None else LOOKUPS[:1]
                row = ledger.set_state(tag, "submitting", attempts=row.attempts + 1)
                if row.state != "submitting":  # another process has found it
                    return row
                if time.monotonic() - started >= patience:
                    raise
                time.sleep(next(pauses))
    finally:
        ledger.release(tag)


def _look(ledger: Ledger, client: Client, tag: str) -> JobRow:
    """Take note of a job that another process is sending, or was sending on a host of which nothing is known."""
    row = ledger.by_tag(tag)
    if row.state == "submitting" and (found := _find(client, tag, LOOKUPS[:1])):
        return _taken(ledger, tag, str(found["id"]), found.get("session_id"))
    return row


def _post(ledger: Ledger, client: Client, row: JobRow) -> JobRow:
    settings = row.settings
    backend = client.backend(row.backend)
    blocs = pubs(ledger.files(row.tag), row)
    try:
        job_id, session_id = client.send(
            backend,
            row.layout["primitive"],
            blocs,
            tags=[*settings["job_tags"], row.tag],
            options=settings["options"],
            mode=settings["mode"],
            session_id=row.session_id,
            shots=row.shots,
        )
    except Unreachable:
        raise
    except QHybridError as error:
        ledger.set_state(row.tag, "failed", error=str(error), finished=now(), owner=None)
        raise
    return _taken(ledger, row.tag, job_id, session_id)


def _taken(ledger: Ledger, tag: str, job_id: str, session_id: str | None) -> JobRow:
    return ledger.set_state(
        tag, "queued", job_id=job_id, session_id=session_id, submitted=now(), owner=None, error=None
    )


def _find(client: Client, tag: str, looks: Sequence[float]) -> dict[str, Any] | None:
    """The service's job with a tag; a second one, of a submission that was repeated, is cancelled."""
    order = ("done", "running", "queued", "failed", "cancelled")
    for pause in looks:
        time.sleep(pause)
        if found := sorted(client.find(tag), key=lambda each: order.index(state_of(each))):
            for double in found[1:]:
                if state_of(double) in ("running", "queued"):
                    client.cancel(double["id"])
            return found[0]
    return None


def _advance(job: Job, row: JobRow, *, send_it: bool) -> JobRow:
    """Take a row as far as the service lets it go now."""
    ledger, client = job.ledger, job.client
    if row.state in ("prepared", "submitting", "lost") and send_it:
        row = send(ledger, client, row.tag, patience=0)
    if row.state in ("queued", "running"):
        assert row.job_id is not None
        try:
            said = client.job(row.job_id)
        except Missing as error:
            return ledger.set_state(row.tag, "lost", error=str(error))
        state = state_of(said)
        ended = {} if state in ("queued", "running") else {"finished": now()}
        reason = reason_of(said) if state in ("failed", "cancelled") else None
        row = ledger.set_state(row.tag, state, error=reason, **ended)
    if row.state == "done":
        row = _fetch(job, row)
    return row


def _fetch(job: Job, row: JobRow) -> JobRow:
    """Save the raw result of a job that is done, check it, and learn what it cost."""
    ledger, client = job.ledger, job.client
    assert row.job_id is not None
    if row.attempts > 1:
        _find(client, row.tag, LOOKUPS[:1])
    read_estimates(ledger, client, [row])
    job_id = row.job_id
    learnt = {
        "usage": _asked(lambda: client.usage(job_id)),
        "calibration_at_collect": _asked(lambda: client.calibration(client.backend(row.backend), refresh=True)),
    }
    learnt = {name: value for name, value in learnt.items() if value is not None}  # another process may know it
    row = ledger.set_state(row.tag, "collected", collected=now(), **learnt)
    job.on_collect(row)
    return row


def _asked(question: Callable[[], Any]) -> Any:
    """An answer that is good to have; None without one, as of a machine that was retired meanwhile."""
    for pause, _ in zip(_pauses(*RETRY), range(3), strict=False):
        try:
            return question()
        except Unreachable:
            time.sleep(pause)
        except QHybridError:
            return None
    return None


def _pauses(first: float, longest: float) -> Iterator[float]:
    """Growing pauses, each a little random so that many processes do not ask at once."""
    while True:
        yield first * random.uniform(0.75, 1.25)
        first = min(longest, 1.5 * first)
