"""Requests about jobs: submit, poll, list, results, metrics, cancel, tags, delete."""

import json
from datetime import UTC, datetime
from typing import Any

from qiskit_ibm_runtime import RuntimeDecoder

from qhybrid.emulator.counters import Counters
from qhybrid.emulator.faults import FaultState
from qhybrid.emulator.jobs import FINAL, Jobs, Record
from qhybrid.emulator.machines import Machine
from qhybrid.emulator.messages import CLOSED, Reply, Request, error, ok
from qhybrid.emulator.sessions import Sessions
from qhybrid.emulator.simulation import check_params

PROGRAMS = ("sampler", "estimator")
MAX_LIMIT = 200
LOG = (
    "qhybrid emulator: simulated by Qiskit Aer with the noise of a calibration snapshot, a best case. Options of "
    "error mitigation and suppression are recorded and not simulated.\n"
)


class JobRequests:
    """Answers requests below `/jobs`."""

    def __init__(
        self, machines: dict[str, Machine], jobs: Jobs, sessions: Sessions, faults: FaultState, counters: Counters
    ) -> None:
        self._machines, self._jobs, self._sessions = machines, jobs, sessions
        self._faults, self._counters = faults, counters

    def answer(self, request: Request, path: tuple[str, ...]) -> Reply:
        """The reply.

        Raises:
            ValueError: The request is not what it should be.
        """
        if not path:
            return self._submit(request) if request.method == "POST" else self._list(request)
        record = self._jobs.get(path[0])
        if record is None:
            return error(404, 1291, f"Job not found. Job ID: {path[0]}", "Make sure the job ID is correct.")
        match (request.method, *path[1:]):
            case ("GET",):
                self._counters.add("polls")
                return self._job(request, record)
            case ("DELETE",):
                self._jobs.delete(record["id"])
                return Reply(204)
            case ("GET", "results"):
                return self._result(record)
            case ("GET", "metrics"):
                return ok(_metrics(record) | {"position_in_queue": self._jobs.position(record)})
            case ("GET", "logs"):
                return Reply(200, LOG.encode(), {"Content-Type": "text/plain"})
            case ("POST", "cancel"):
                if self._jobs.cancel(record["id"]):
                    return Reply(204)
                return error(409, 1217, f"Job {record['id']} has ended already and cannot be cancelled.")
            case ("PUT", "tags"):
                self._jobs.set_tags(record["id"], _tags(request.json().get("tags")))
                return Reply(204)
        return error(404, 1000, "Not found.")

    def _submit(self, request: Request) -> Reply:
        content = request.json()
        program, backend = content.get("program_id"), content.get("backend")
        if program not in PROGRAMS:
            return error(404, 1207, f"Program not found: {program}")
        machine = self._machines.get(str(backend))
        if machine is None:
            return error(404, 1007, f"Backend not found: {backend}", "Verify the backend name.")
        session_id = content.get("session_id")
        if session_id is not None:
            session = self._sessions.details(str(session_id))
            if session is None:
                return error(404, 1212, f"Session not found: {session_id}")
            if not session["accepting_jobs"]:
                return error(400, 1217, "Session has been closed.", "Open a new session.")
        try:
            params = json.loads(json.dumps(content.get("params")), cls=RuntimeDecoder)
        except Exception as problem:  # whatever a client can have sent
            return error(400, 1221, f"The params cannot be decoded: {type(problem).__name__}")
        if not isinstance(params, dict) or params.get("version") != 2:
            return error(400, 1221, "params.version: only primitives of version 2 are supported.")
        if (wrong := check_params(machine, str(program), params)) is not None:
            return error(400, 1221, wrong)
        fields = {
            "backend": machine.name,
            "program": program,
            "tags": _tags(content.get("tags") or []),
            "session_id": session_id,
            "cost": content.get("cost"),
            "private": bool(content.get("private")),
            "resilience_level": params.get("resilience_level"),
        }
        record = self._jobs.create(fields, json.dumps(content["params"]))
        self._counters.add("accepted")
        dropped = self._faults.take_drop()
        self._faults.pause(self._faults.now.slow_submit)
        if dropped:
            self._counters.add("replies_dropped")
            status = self._faults.now.drop_status
            return error(status, 9999, "Gateway error (a fault asked for).") if status else CLOSED
        return ok({"id": record["id"], "backend": machine.name})

    def _job(self, request: Request, record: Record) -> Reply:
        answer = _describe(record)
        if request.first("exclude_params") != "true":
            answer["params"] = json.loads(self._jobs.params(record["id"]))
        return ok(answer)

    def _list(self, request: Request) -> Reply:
        self._counters.add("lists")
        wanted = request.query.get("tags", [])
        found = [each for each in self._jobs.all() if set(wanted) <= set(each["tags"])]
        for name in ("backend", "program", "session_id"):
            if (value := request.first(name)) is not None:
                found = [each for each in found if each[name] == value]
        if (pending := request.first("pending")) is not None:
            found = [each for each in found if (each["state"]["status"] not in FINAL) == (pending == "true")]
        if (after := request.first("created_after")) is not None:
            found = [each for each in found if _moment(each["created"]) >= _moment(after)]
        if (before := request.first("created_before")) is not None:
            found = [each for each in found if _moment(each["created"]) <= _moment(before)]
        if request.first("sort") != "ASC":
            found.reverse()
        limit = min(max(int(request.first("limit") or MAX_LIMIT), 1), MAX_LIMIT)
        offset = max(int(request.first("offset") or 0), 0)
        page = [_describe(each) for each in found[offset : offset + limit]]
        return ok({"jobs": page, "count": len(found), "limit": limit, "offset": offset})

    def _result(self, record: Record) -> Reply:
        self._counters.add("results")
        self._faults.pause(self._faults.now.slow_results)
        text = self._jobs.result(record["id"]) if record["state"]["status"] in FINAL else None
        if text is None:
            return Reply(204)
        body = text.encode()
        if self._faults.take("truncate_silently"):
            self._counters.add("truncated")
            return Reply(200, body[: len(body) // 2])
        cut = self._faults.take("truncate_results")
        if cut:
            self._counters.add("truncated")
        return Reply(200, body, cut=cut)


def _describe(record: Record) -> dict[str, Any]:
    """A job as IBM describes it."""
    answer = {
        "id": record["id"],
        "backend": record["backend"],
        "status": record["state"]["status"],
        "state": record["state"],
        "created": record["created"],
        "ended": record["timestamps"].get("finished"),
        "program": {"id": record["program"]},
        "tags": record["tags"],
        "cost": record["cost"],
        "private": record["private"],
        "runtime": "",
        "usage": {"seconds": record["usage"] or 0},
    }
    if record["session_id"] is not None:
        answer["session_id"] = record["session_id"]
    return answer


def _metrics(record: Record) -> dict[str, Any]:
    seconds = record["usage"] or 0
    return {
        "timestamps": {"created": record["created"], "running": None, "finished": None} | record["timestamps"],
        "bss": {"seconds": seconds},
        "usage": {"quantum_seconds": seconds, "seconds": seconds},
        "executions": record.get("shots"),
        "num_circuits": record.get("circuits"),
        "qhybrid_emulator": {
            "simulated": True,
            "resilience_level": record["resilience_level"],
            "resilience_simulated": False,
        },
    }


def _tags(tags: Any) -> list[str]:
    if not isinstance(tags, list) or not all(isinstance(each, str) for each in tags):
        raise ValueError("tags: a list of strings is needed")
    return tags


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
