"""Sessions and batches on disk."""

import threading
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from qhybrid.emulator.jobs import FINAL, Jobs, now
from qhybrid.storage import read_json, write_json

MAX_SECONDS = 28_800
IDLE_SECONDS = 60


class Sessions:
    """Sessions (mode `dedicated`) and batches.

    Args:
        state: Folder; each is a file in `sessions/`.
        jobs: Whose `session_id` says where they belong.
    """

    def __init__(self, state: Path, jobs: Jobs) -> None:
        self._folder = state / "sessions"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._jobs = jobs
        self._lock = threading.Lock()
        self._records = {path.stem: read_json(path) for path in self._folder.glob("*.json")}

    def create(self, content: dict[str, Any]) -> dict[str, Any]:
        """Open one.

        Args:
            content: `mode`, `backend`, `max_ttl`, as the client sends them.
        """
        record = {
            "id": str(uuid.uuid4()),
            "backend_name": content["backend"],
            "mode": content.get("mode", "dedicated"),
            "max_ttl": content.get("max_ttl") or MAX_SECONDS,
            "interactive_ttl": IDLE_SECONDS,
            "active_ttl": content.get("max_ttl") or MAX_SECONDS,
            "started_at": now(),
            "closed_at": None,
            "accepting_jobs": True,
        }
        with self._lock:
            self._records[record["id"]] = record
            self._save(record)
        return dict(record)

    def details(self, session_id: str) -> dict[str, Any] | None:
        """One as IBM describes it; None: there is none."""
        with self._lock:
            if session_id not in self._records:
                return None
            record = dict(self._records[session_id])
        jobs = [each for each in self._jobs.all() if each.get("session_id") == session_id]
        starts = sorted(each["timestamps"]["running"] for each in jobs if "running" in each["timestamps"])
        ends = sorted(each["timestamps"]["finished"] for each in jobs if "finished" in each["timestamps"])
        busy = any(each["state"]["status"] not in FINAL for each in jobs)
        if record["closed_at"] or (not record["accepting_jobs"] and not busy):
            state = "closed"
        else:
            state = "active" if starts else "open"
        elapsed = sum(each["usage"] or 0 for each in jobs)
        if record["mode"] == "dedicated" and starts:  # a session holds the machine, whatever it does there
            until = now() if busy or not ends else ends[-1]
            elapsed = (datetime.fromisoformat(until) - datetime.fromisoformat(starts[0])).total_seconds()
        return record | {
            "state": state,
            "activated_at": starts[0] if starts else None,
            "last_job_started": starts[-1] if starts else None,
            "last_job_completed": ends[-1] if ends else None,
            "elapsed_time": round(elapsed, 3),
        }

    def set_accepting(self, session_id: str, *, accepting: bool) -> None:
        """Take more jobs, or no more."""
        with self._lock:
            self._records[session_id]["accepting_jobs"] = accepting
            self._save(self._records[session_id])

    def close(self, session_id: str) -> None:
        """Take no more jobs, and cancel those that wait."""
        with self._lock:
            self._records[session_id] |= {"accepting_jobs": False, "closed_at": now()}
            self._save(self._records[session_id])
        for job in self._jobs.all():
            if job.get("session_id") == session_id and job["state"]["status"] not in FINAL:
                self._jobs.cancel(job["id"])

    def _save(self, record: dict[str, Any]) -> None:
        write_json(self._folder / f"{record['id']}.json", record, durable=False)
