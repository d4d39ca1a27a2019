"""Jobs on disk, and the machines that run them one after another."""

import json
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qiskit_ibm_runtime import RuntimeDecoder, RuntimeEncoder

from qhybrid.emulator.counters import Counters
from qhybrid.emulator.faults import FaultState
from qhybrid.emulator.isa import JobFailure
from qhybrid.emulator.machines import Machine
from qhybrid.emulator.simulation import run_job
from qhybrid.storage import read_json, write_json, write_text

FINAL = ("Completed", "Failed", "Cancelled")
Record = dict[str, Any]


def now() -> str:
    """This moment as IBM writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Jobs:
    """All jobs ever accepted, one thread for each machine. A new one resumes what an earlier one left undone.

    Args:
        state: Folder; jobs are in `jobs/`: ID.json, ID.params.json, ID.result.json.
        machines: Name -> machine.
        faults: Delays and failures.
        counters: Of what was run.
        seed: Of the shots; None: another every time.
    """

    def __init__(
        self, state: Path, machines: dict[str, Machine], faults: FaultState, counters: Counters, seed: int | None
    ) -> None:
        self._folder = state / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._machines, self._faults, self._counters, self._seed = machines, faults, counters, seed
        self._changed = threading.Condition()
        self._stopping = False
        files = [path for path in self._folder.glob("*.json") if path.name.count(".") == 1]
        self._records: dict[str, Record] = {path.stem: read_json(path) for path in files}
        for record in self._records.values():
            if record["state"]["status"] == "Running":
                self._save(record, {"status": "Queued"})
        self._threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in machines.values()]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave what is not done to the next one; what runs now is run again then."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def create(self, fields: Record, params: str) -> Record:
        """Accept a job, on disk before this returns.

        Args:
            fields: backend, program, tags and the like.
            params: What to run, as the client encoded it.
        """
        with self._changed:
            job_id = secrets.token_hex(10)
            order = 1 + max((each["order"] for each in self._records.values()), default=0)
            record = {"id": job_id, "order": order, "created": now(), "timestamps": {}, "usage": None, **fields}
            write_text(self._file(job_id, ".params.json"), params, durable=False)
            self._save(record, {"status": "Queued"})
            self._records[job_id] = record
            self._changed.notify_all()
            return dict(record)

    def get(self, job_id: str) -> Record | None:
        """A copy of a job's record; None: there is no such job."""
        with self._changed:
            record = self._records.get(job_id)
            return None if record is None else dict(record)

    def all(self) -> list[Record]:
        """Copies of all records, the oldest first."""
        with self._changed:
            return [dict(each) for each in sorted(self._records.values(), key=lambda each: int(each["order"]))]

    def params(self, job_id: str) -> str:
        """What a job was to run, as the client encoded it."""
        return self._file(job_id, ".params.json").read_text(encoding="utf-8")

    def result(self, job_id: str) -> str | None:
        """A job's result or error text; None: it has none. That of a private job can be read once."""
        path = self._file(job_id, ".result.json")
        with self._changed:
            if not path.exists():
                return None
            text = path.read_text(encoding="utf-8")
            if self._records[job_id].get("private"):
                path.unlink()
            return text

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; False: it had ended already."""
        with self._changed:
            record = self._records[job_id]
            if record["state"]["status"] in FINAL:
                return False
            self._end(record, {"status": "Cancelled", "reason": "Job cancelled by the user"})
            self._changed.notify_all()
            return True

    def set_tags(self, job_id: str, tags: list[str]) -> None:
        """Replace a job's tags."""
        with self._changed:
            self._records[job_id]["tags"] = tags
            self._save(self._records[job_id])

    def delete(self, job_id: str) -> None:
        """Forget a job and its result."""
        with self._changed:
            del self._records[job_id]
            for suffix in (".json", ".params.json", ".result.json"):
                self._file(job_id, suffix).unlink(missing_ok=True)

    def pending(self, backend: str) -> int:
        """Jobs that wait for or run on a machine."""
        return sum(each["backend"] == backend and each["state"]["status"] not in FINAL for each in self.all())

    def position(self, record: Record) -> int | None:
        """Place of a job among those that wait for its machine, from 1; None: it waits no longer."""
        if record["state"]["status"] != "Queued":
            return None
        queued = [each for each in self.all() if each["state"]["status"] == "Queued"]
        return sum(bool(each["backend"] == record["backend"] and each["order"] <= record["order"]) for each in queued)

    def _file(self, job_id: str, suffix: str) -> Path:
        return self._folder / f"{job_id}{suffix}"

    def _save(self, record: Record, state: Record | None = None) -> None:
        if state is not None:
            record["state"] = state
        write_json(self._file(record["id"], ".json"), record, durable=False)

    def _end(self, record: Record, state: Record) -> None:
        record["timestamps"]["finished"] = now()
        self._save(record, state)
        self._counters.add(state["status"].lower())

    def _work(self, machine: Machine) -> None:
        """Run a machine's jobs until stopped."""
        while True:
            with self._changed:
                record = self._next(machine)
                if record is None:
                    return
                record["timestamps"]["running"] = now()
                self._save(record, {"status": "Running"})
                self._counters.add("started")
            self._run(machine, record)

    def _run(self, machine: Machine, record: Record) -> None:
        """Run a job to its end, unless it is cancelled or all is stopped meanwhile."""
        started = time.monotonic()
        finish = self._simulate(machine, record)
        with self._changed:
            wait = self._faults.now.run_seconds - (time.monotonic() - started)
            self._changed.wait_for(lambda: self._stopping or self._ended(record), max(wait, 0))
            if self._stopping or self._ended(record):
                return
            try:
                finish()
            except OSError as problem:  # a full disk: the next job may fit
                record["state"] = {"status": "Failed", "reason": f"Not saved: {problem.strerror}", "reasonCode": 9999}
                print(f"qhybrid emulator: job {record['id']} is not saved: {problem}", file=sys.stderr)

    def _next(self, machine: Machine) -> Record | None:
        """Wait for the oldest job that may run now; None: stopped."""
        while not self._stopping:
            waiting = [
                each for each in self._records.values()
                if each["backend"] == machine.name and each["state"]["status"] == "Queued"
            ]  # fmt: skip
            if not waiting:
                self._changed.wait()
                continue
            first = min(waiting, key=lambda each: int(each["order"]))
            age = (datetime.now(UTC) - datetime.fromisoformat(first["created"])).total_seconds()
            if age >= self._faults.now.queue_seconds:
                return first
            self._changed.wait(min(self._faults.now.queue_seconds - age, 0.2))
        return None

    def _ended(self, record: Record) -> bool:
        return record["id"] not in self._records or record["state"]["status"] in FINAL

    def _simulate(self, machine: Machine, record: Record) -> Callable[[], None]:
        """Run a job; returns what is to be done when it is over."""
        if self._faults.take("fail_jobs"):
            return lambda: self._fail(record, "Internal error on the machine (a fault asked for).", 9999)
        if self._faults.take("cancel_jobs"):
            state = {"status": "Cancelled", "reason": "Cancelled by the operator (a fault asked for)"}
            return lambda: self._end(record, state)
        seed = None if self._seed is None else self._seed + record["order"]
        try:
            params = json.loads(self.params(record["id"]), cls=RuntimeDecoder)
            outcome = run_job(machine, record["program"], params, seed)
            text = json.dumps(outcome.result, cls=RuntimeEncoder)
        except JobFailure as failure:
            reason, code = str(failure), failure.code
            return lambda: self._fail(record, reason, code)
        except FileNotFoundError:  # deleted meanwhile
            return lambda: None
        except Exception:  # whatever a client can have sent: the machine says so and takes the next job
            reason = traceback.format_exc(limit=-1)
            return lambda: self._fail(record, reason, 9999)

        def finish() -> None:
            limit = record.get("cost")
            record["usage"] = min(outcome.quantum_seconds, limit or outcome.quantum_seconds)
            if limit and outcome.quantum_seconds > limit:
                reason = f"Ran too long: {outcome.quantum_seconds} s of {limit} s"
                self._end(record, {"status": "Cancelled", "reason": reason, "reasonCode": 1305})
                return
            record.update(circuits=outcome.circuits, shots=outcome.shots)
            write_text(self._file(record["id"], ".result.json"), text, durable=False)
            self._counters.add("circuits", outcome.circuits)
            self._counters.add("shots", outcome.shots)
            self._end(record, {"status": "Completed"})

        return finish

    def _fail(self, record: Record, reason: str, code: int) -> None:
        write_text(self._file(record["id"], ".result.json"), reason, durable=False)
        self._end(record, {"status": "Failed", "reason": reason, "reasonCode": code})
