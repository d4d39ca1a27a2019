"""What IBM's hosts answer: identity, global search, catalog, and the runtime service (API version 2025-05-01)."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

from qhybrid.emulator.accounts import INSTANCE, INSTANCE_NAME, Account
from qhybrid.emulator.counters import Counters
from qhybrid.emulator.faults import FaultState
from qhybrid.emulator.jobs import Jobs
from qhybrid.emulator.machines import Machine
from qhybrid.emulator.messages import CLOSED, Reply, Request, error, ok
from qhybrid.emulator.requested_jobs import JobRequests
from qhybrid.emulator.sessions import Sessions

OPEN_PLAN_SECONDS = 600
NO_SUCH_PAGE = "Not found."


class Api:
    """Answers requests.

    Args:
        account: Who may ask.
        machines: Name -> machine.
        jobs: On disk.
        sessions: On disk.
        faults: What goes wrong.
        counters: What is counted.
    """

    def __init__(
        self,
        account: Account,
        machines: dict[str, Machine],
        jobs: Jobs,
        sessions: Sessions,
        faults: FaultState,
        counters: Counters,
    ) -> None:
        self._account, self._machines, self._jobs = account, machines, jobs
        self._faults, self._counters = faults, counters
        self._sessions = sessions
        self._requests = JobRequests(machines, jobs, sessions, faults, counters)

    def answer(self, request: Request) -> Reply:
        """The reply to a request to one of IBM's hosts."""
        host = request.host
        if host.endswith("iam.cloud.ibm.com"):
            return self._identity(request)
        if host.startswith(("api.global-search-tagging.", "globalcatalog.", "resource-controller.")):
            return self._directory(request)
        if request.path[:2] == ("api", "v1") and "quantum" in host:
            return self._runtime(request, request.path[2:])
        return error(404, 1000, NO_SUCH_PAGE)

    def _identity(self, request: Request) -> Reply:
        if request.method != "POST" or request.path != ("identity", "token"):
            return error(404, 1000, NO_SUCH_PAGE)
        self._counters.add("tokens")
        keys = parse_qs(request.body.decode(errors="replace")).get("apikey", [""])
        answer = self._account.token(keys[0])
        if answer is None:
            message = {"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."}
            return ok(message, 400)
        return ok(answer)

    def _directory(self, request: Request) -> Reply:
        if not self._authorized(request):
            return ok({"errors": [{"code": "unauthorized", "message": "The token is not valid."}]}, 401)
        plan = self._account.plan
        if request.path == ("v3", "resources", "search"):
            item = {
                "crn": INSTANCE,
                "name": INSTANCE_NAME,
                "service_plan_unique_id": f"emulator-plan-{plan}",
                "doc": {"extensions": [{"backends": sorted(self._machines)}]},
                "tags": [],
            }
            return ok({"items": [item], "limit": 100})
        if request.path == ("api", "v1", f"emulator-plan-{plan}"):
            price = {"open": "free", "premium": "subscription"}[plan]
            name = plan.capitalize()
            return ok({"overview_ui": {"en": {"display_name": name}}, "metadata": {"pricing": {"type": price}}})
        if request.path == ("v2", "resource_instances"):
            found = [{"crn": INSTANCE, "name": INSTANCE_NAME}]
            found = [each for each in found if request.first("name") in (None, each["name"])]
            return ok({"rows_count": len(found), "resources": found})
        return error(404, 1000, NO_SUCH_PAGE)

    def _authorized(self, request: Request) -> bool:
        good = self._account.accepts(request.headers.get("authorization", ""), self._faults.now.token_seconds)
        if not good:
            self._counters.add("unauthorized")
        return good

    def _runtime(self, request: Request, path: tuple[str, ...]) -> Reply:
        if (fault := self._fault(request, path)) is not None:
            return fault
        if not self._authorized(request):
            return error(401, 1201, "Invalid credentials.", "Check your credentials and try again.")
        if request.headers.get("service-crn") != INSTANCE:
            return error(403, 1200, "You are not authorized to perform this action.", "Check the instance (CRN).")
        routes: dict[str, Callable[[Request, tuple[str, ...]], Reply]] = {
            "backends": self._backends,
            "instances": self._instances,
            "jobs": self._requests.answer,
            "sessions": self._session_requests,
        }
        if not path or path[0] not in routes:
            return error(404, 1000, NO_SUCH_PAGE)
        try:
            return routes[path[0]](request, path[1:])
        except ValueError as problem:
            return error(400, 1221, f"The request is not valid: {problem}")
        except OSError as problem:
            print(f"qhybrid emulator: {problem}", file=sys.stderr)
            return error(507, 9999, "Internal error: the emulator cannot use its folder.")

    def _fault(self, request: Request, path: tuple[str, ...]) -> Reply | None:
        """What goes wrong with a request before it is looked at."""
        places: tuple[str, ...] = ()
        if path[:1] == ("jobs",):
            place = {(1, "POST"): "submit", (1, "GET"): "jobs", (2, "GET"): "poll"}.get((len(path), request.method))
            places = ("results",) if path[2:] == ("results",) else (place,) if place else ()
        if "submit" in places:
            self._counters.add("posted")
        if self._faults.take("close_connections", places):
            self._counters.add("closed")
            return CLOSED
        if self._faults.take("errors", places):
            self._counters.add("errors_5xx")
            return error(self._faults.now.error_status, 9999, "Internal error (a fault asked for).")
        if self._faults.take("rate_limit", places):
            self._counters.add("rate_limited")
            seconds = self._faults.now.retry_after
            headers = {} if seconds is None else {"Retry-After": f"{seconds:g}"}
            return error(429, 1202, "Too many requests received.", "Slow down and retry.", **headers)
        return None

    def _backends(self, request: Request, path: tuple[str, ...]) -> Reply:
        if request.method != "GET":
            return error(405, 1000, "Method not allowed.")
        if not path:
            return ok({"devices": [self._device(each) for each in self._machines.values()]})
        machine = self._machines.get(path[0])
        if machine is None:
            return error(404, 1007, f"Backend not found: {path[0]}", "Verify the backend name.")
        if path[1:] == ("configuration",):
            return ok(machine.configuration)
        if path[1:] == ("properties",):
            before = request.first("updated_before")
            return ok(machine.properties(before, self._faults.now.calibration_date))
        if path[1:] == ("status",):
            queue = self._jobs.pending(machine.name)
            version = machine.configuration.get("backend_version", "1.0.0")
            state = {"state": True, "status": "active", "message": "", "length_queue": queue}
            return ok(state | {"backend_version": version})
        return error(404, 1000, NO_SUCH_PAGE)

    def _device(self, machine: Machine) -> dict[str, object]:
        return {
            "name": machine.name,
            "status": {"name": "online", "reason": "available"},
            "qubits": machine.noise.n_qubits,
            "queue_length": self._jobs.pending(machine.name),
            "processor_type": machine.configuration.get("processor_type") or {"family": "unknown", "revision": "0"},
        }

    def _instances(self, request: Request, path: tuple[str, ...]) -> Reply:
        if request.method != "GET" or path != ("usage",):
            return error(404, 1000, NO_SUCH_PAGE)
        consumed = sum(each["usage"] or 0 for each in self._jobs.all())
        today = datetime.now(UTC)
        period = {"start_time": today.replace(day=1).isoformat(), "end_time": today.isoformat()}
        usage = {
            "instance_id": INSTANCE,
            "plan_id": f"emulator-plan-{self._account.plan}",
            "usage_consumed_seconds": consumed,
            "usage_period": period,
            "usage_limit_reached": False,
        }
        if self._account.plan == "open":
            usage["usage_limit_seconds"] = OPEN_PLAN_SECONDS
            usage["usage_limit_reached"] = consumed >= OPEN_PLAN_SECONDS
        return ok(usage)

    def _session_requests(self, request: Request, path: tuple[str, ...]) -> Reply:
        if not path and request.method == "POST":
            content = request.json()
            if content.get("mode") == "dedicated" and self._account.plan == "open":
                return error(
                    400, 1352, "You are not authorized to run a session when using the open plan.",
                    "Create an instance of a different plan type, or submit the job in job or batch mode.",
                )  # fmt: skip
            if (backend := content.get("backend")) not in self._machines:
                return error(404, 1007, f"Backend not found: {backend}", "Verify the backend name.")
            return ok(self._sessions.create(content))
        session = self._sessions.details(path[0]) if path else None
        if session is None:
            return error(404, 1212, f"Session not found: {path[0] if path else ''}")
        if path[1:] == () and request.method == "GET":
            return ok(session)
        if path[1:] == () and request.method == "PATCH":
            self._sessions.set_accepting(path[0], accepting=bool(request.json().get("accepting_jobs")))
            return Reply(204)
        if path[1:] == ("close",) and request.method == "DELETE":
            self._sessions.close(path[0])
            return Reply(204)
        return error(404, 1000, NO_SUCH_PAGE)
