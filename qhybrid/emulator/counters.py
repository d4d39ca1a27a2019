"""Counters of what was asked of the emulator and what it ran, kept on disk."""

import threading
from pathlib import Path

from qhybrid.storage import read_json, write_json

NAMES = (
    "posted", "accepted", "replies_dropped", "started", "completed", "failed", "cancelled", "circuits", "shots",
    "polls", "results", "lists", "tokens", "errors_5xx", "rate_limited", "closed", "truncated", "unauthorized",
    "refused_hosts",
)  # fmt: skip
"""posted: `POST /jobs` that arrived; accepted: jobs made of them; started: jobs that began to run, once more after a
restart in between; completed, failed, cancelled: how they ended; circuits, shots: of completed jobs; polls, results,
lists: requests for a job, for its result, for lists of jobs; the others: faults."""


class Counters:
    """Counters in a file of the state folder."""

    def __init__(self, state: Path) -> None:
        self._path = state / "counters.json"
        self._lock = threading.Lock()
        kept = read_json(self._path) if self._path.exists() else {}
        self._values: dict[str, int] = dict.fromkeys(NAMES, 0) | kept
        write_json(self._path, self._values, durable=False)

    def add(self, name: str, number: int = 1) -> None:
        """Count."""
        with self._lock:
            self._values[name] += number
            write_json(self._path, self._values, durable=False)

    def as_dict(self) -> dict[str, int]:
        """All of them."""
        with self._lock:
            return dict(self._values)
