"""IBM's service through the official client: every call once, every failure either passing or final.

The client repeats requests by itself, a lost reply to a submission included, which would run the job twice; that is
switched off for jobs here. It also keeps its account to itself: no credential is read, and no error text shows one.
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qiskit.providers.exceptions import QiskitBackendNotFoundError
from qiskit_ibm_runtime import Batch, EstimatorV2, QiskitRuntimeService, SamplerV2, Session
from requests.adapters import HTTPAdapter

from qhybrid.devices.runtime_errors import Ended, Missing, Unreachable, status_of, translated
from qhybrid.errors import InputError, QHybridError, did_you_mean
from qhybrid.noise_models.pull import without_secrets
from qhybrid.noise_models.snapshot_files import packaged_snapshots

logging.getLogger("qiskit_ibm_runtime").setLevel(logging.ERROR)  # names instances and plans at every start

TIMEOUT = (10.0, 120.0)
"""Seconds to connect, and to wait for a byte of the reply."""
FINISHED = {"COMPLETED": "done", "FAILED": "failed", "CANCELLED": "cancelled"}
RAN_TOO_LONG = 1305
"""IBM's reason code of a job that was cancelled at its `max_execution_time`."""


class Client:
    """A connection to IBM's service, opened when it is first used.

    Args:
        instance: Name or CRN; None: as the account says.
        channel: `ibm_quantum_platform`; None: as the account says.
    """

    def __init__(self, instance: str | None = None, channel: str | None = None) -> None:
        self._instance = instance
        self._channel = channel
        self._service: QiskitRuntimeService | None = None
        self._was_open = False
        self._backends: dict[str, Any] = {}
        self.notes: list[str] = []
        """Warnings of the client."""

    def backend(self, name: str | None) -> Any:
        """The client's backend of a machine.

        Raises:
            InputError: The account has none of that name; lists those that it has.
        """
        if self._service is not None and name in self._backends:
            return self._backends[name]
        with self._call("find the machine"):
            found = {each["name"] for api in self._apis() for each in api.list_backends()}
            if name is None:
                raise InputError(f"qiskit.remote: give a backend; {did_you_mean('', found)}")
            if name not in found:
                known = {path.parent.name for path in packaged_snapshots().values()}
                retired = " (IBM had one, and may have retired it)" if name.removeprefix("ibm_") in known else ""
                raise InputError(f"your account has no backend {name!r}{retired}; {did_you_mean(name, found)}")
            try:
                self._backends[name] = self._open().backend(name)
            except QiskitBackendNotFoundError:  # it is there: the client keeps quiet about calls of its own that fail
                self._service = None
                raise Unreachable("cannot find the machine at IBM now", None) from None
            return self._backends[name]

    def target(self, backend: Any) -> Any:
        """Qiskit's target of a machine as it is calibrated."""
        with self._call("get the calibration"):
            return backend.target

    def calibration(self, backend: Any, *, refresh: bool = False) -> str | None:
        """Date of a machine's calibration, ISO 8601; None: it has none."""
        with self._call("get the calibration"):
            properties = backend.properties(refresh=refresh)
            return None if properties is None else str(properties.last_update_date.isoformat())

    def queue_length(self, backend: Any) -> int | None:
        """Jobs that wait for a machine; None: it does not say."""
        with self._call("ask for the queue"):
            pending = backend.status().pending_jobs
            return None if pending is None else int(pending)

    def find(self, tag: str) -> list[dict[str, Any]]:
        """The service's jobs with a tag, the oldest first."""
        with self._call("look for a job"):
            found = {
                each["id"]: each for api in self._apis() for each in api.jobs_get(limit=20, job_tags=[tag])["jobs"]
            }
            return sorted(found.values(), key=lambda each: str(each.get("created", "")))

    def job(self, job_id: str) -> dict[str, Any]:
        """What the service says of a job.

        Raises:
            Missing: It knows no such job.
        """
        found: dict[str, Any] = self._of_job(job_id, "ask for a job", lambda api: api.job_get(job_id))
        return found

    def result(self, job_id: str) -> str:
        """The raw result of a job that is done, whole."""
        with self._call("fetch a result"):
            text: str = self._of_job(job_id, "fetch a result", lambda api: api.job_results(job_id))
            try:
                json.loads(text)
            except ValueError:
                raise Unreachable("the result came back cut short", None) from None
            return text

    def usage(self, job_id: str) -> float | None:
        """QPU seconds that the service reports for a job; None: it does not say."""
        metrics = self._of_job(job_id, "ask for the usage", lambda api: api.job_metadata(job_id))
        usage = metrics.get("usage") or {}
        seconds = usage.get("quantum_seconds", usage.get("seconds"))
        return None if seconds is None else float(seconds)

    def queue_position(self, job_id: str) -> int | None:
        """Place of a job in its queue, from 1; None: it waits no longer, or the service does not say."""
        metrics = self._of_job(job_id, "ask for the queue", lambda api: api.job_metadata(job_id))
        position = metrics.get("position_in_queue")
        return None if position is None else int(position)

    def cancel(self, job_id: str) -> None:
        """Cancel a job; one that has ended already is left as it is."""
        with contextlib.suppress(Ended):
            self._of_job(job_id, "cancel a job", lambda api: api.job_cancel(job_id))

    def send(
        self,
        backend: Any,
        primitive: str,
        pubs: Sequence[Any],
        *,
        tags: Sequence[str],
        options: Mapping[str, Any],
        mode: str,
        session_id: str | None,
        shots: int,
    ) -> tuple[str, str | None]:
        """Send a job, once.

        Args:
            backend: From `backend`.
            primitive: `sampler` or `estimator`.
            pubs: Primitive unified blocs.
            tags: The job's tags.
            options: Of the primitive.
            mode: `job`, `batch` or `session`.
            session_id: Of the session or batch to send it in; None, or where that takes no more jobs: open one.
            shots: Of each circuit; the PUBs of the sampler carry them, too.

        Returns:
            IBM's id of the job, and of the session or batch.
        """
        with self._call("send the job"):
            self._open()
            where: Any = backend
            session_id = session_id if self._takes_jobs(session_id) else None
            opens = mode != "job" and session_id is None
            if mode != "job":
                where = (Batch if mode == "batch" else Session)(backend, create_new=opens)
                if session_id is not None:
                    where._session_id = session_id
                session_id = where.session_id
            environment = {**options.get("environment", {}), "job_tags": list(tags)}
            settings = {**options, "environment": environment}
            try:
                if primitive == "estimator":
                    job = EstimatorV2(where, options={**settings, "default_shots": shots}).run(pubs)
                else:
                    job = SamplerV2(where, options=settings).run(pubs)
            except BaseException:
                if opens:  # nobody would know of it, and it is billed
                    with contextlib.suppress(Exception):
                        where.close()
                raise
            return job.job_id(), session_id

    def close(self, backend: Any, mode: str, session_id: str) -> None:
        """Close a session or batch: its jobs go on to their end, new ones are refused. One that has ended is left."""
        if not self._takes_jobs(session_id):
            return
        with self._call("close the session"):
            where = (Batch if mode == "batch" else Session)(backend, create_new=False)
            where._session_id = session_id
            where.close()

    def _takes_jobs(self, session_id: str | None) -> bool:
        """Whether a session or batch is open: each ends at its longest time, whoever uses it."""
        if session_id is None:
            return False
        try:
            details = self._of_job(session_id, "ask for the session", lambda api: api.session_details(session_id))
        except Missing:
            return False
        return bool(details["accepting_jobs"])

    def _of_job(self, identity: str, what: str, ask: Any) -> Any:
        """Ask in every instance of the account for a job or session."""
        with self._call(what):
            for api in self._apis():
                try:
                    return ask(api)
                except Exception as error:
                    if status_of(error) != 404:
                        raise
        raise Missing(f"IBM does not know the job or session {identity}")

    def _open(self) -> QiskitRuntimeService:
        if self._service is None:
            self._service = QiskitRuntimeService(instance=self._instance, channel=self._channel)
        for api in (self._service._active_api_client, *self._service._api_clients.values()):
            session = api._session
            prefix = f"{session.base_url}/jobs"
            if prefix not in session.adapters:
                session.mount(prefix, HTTPAdapter(max_retries=0))
                session._timeout = TIMEOUT
        self._was_open = True
        return self._service

    def _apis(self) -> list[Any]:
        """The client's connections to the instances of the account, the active one first."""
        service = self._open()
        active = service._active_api_client
        others = [api for name, api in service._api_clients.items() if name != active._instance]
        return [api for api in (active, *others) if api._instance] or [active]

    @contextlib.contextmanager
    def _call(self, what: str) -> Iterator[None]:
        """Failures of the client as our errors in one line, and its warnings as notes."""
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                yield
        except (QHybridError, KeyboardInterrupt):
            raise
        except Exception as error:  # the client raises its own kinds, those of requests and those of urllib3
            if status_of(error) == 401:
                self._service, self._backends = None, {}  # a new one asks for a new token
            raise translated(error, what, was_open=self._was_open) from None
        finally:
            for each in said:
                note = without_secrets(str(each.message))
                if issubclass(each.category, UserWarning) and "API Key" not in note and note not in self.notes:
                    self.notes.append(note)


def state_of(job: Mapping[str, Any]) -> str:
    """The ledger's word for a job's state."""
    state = job.get("state") or {}
    word = str(state.get("status") or job.get("status") or "queued").upper()
    if word == "CANCELLED" and state.get("reason_code", state.get("reasonCode")) == RAN_TOO_LONG:
        return "failed"
    return FINISHED.get(word, "running" if word == "RUNNING" else "queued")


def reason_of(job: Mapping[str, Any]) -> str:
    """Why a job failed or was cancelled, in IBM's words, on one line."""
    state = job.get("state") or {}
    code = state.get("reason_code", state.get("reasonCode"))
    reason = without_secrets(str(state.get("reason") or "")) or "IBM gives no reason"
    return f"{reason} (code {code})" if code else reason
