"""The proxy and the TLS server behind it, on 127.0.0.1 only."""

import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from qhybrid.emulator.accounts import DUMMY_TOKEN, INSTANCE, PLANS, Account
from qhybrid.emulator.api import Api
from qhybrid.emulator.certificates import HOSTS, make_certificates
from qhybrid.emulator.counters import Counters
from qhybrid.emulator.faults import Faults, FaultState
from qhybrid.emulator.jobs import Jobs
from qhybrid.emulator.lock import FolderLock
from qhybrid.emulator.machines import DEFAULT_BACKEND, Machine, load_machines
from qhybrid.emulator.messages import CLOSED, Reply, Request, error, ok
from qhybrid.emulator.sessions import Sessions
from qhybrid.errors import InputError, QHybridError, did_you_mean

ADDRESS = "127.0.0.1"
MAX_BODY = 50_000_000
"""IBM's limit of a job (https://quantum.cloud.ibm.com/docs/guides/job-limits)."""
IDLE_SECONDS = 300


@dataclass(frozen=True)
class Settings:
    """How to run the emulator.

    Args:
        state: Folder of its jobs and certificates.
        backends: Machines, as `load_machines` takes them.
        port: 0: any that is free.
        plan: `open` or `premium`; sessions need the latter.
        api_key: The only one that is accepted.
        seed: Of the shots; None: another every time.
        faults: What goes wrong, from the start.
    """

    state: Path
    backends: Sequence[str] = (DEFAULT_BACKEND,)
    port: int = 0
    plan: str = "open"
    api_key: str = field(default=DUMMY_TOKEN, repr=False)
    seed: int | None = None
    faults: Faults = field(default_factory=Faults)


class Emulator:
    """A running emulator. One at a time has a state folder.

    Raises:
        InputError: A machine or the plan is unknown, or the state folder cannot be written.
        QHybridError: The port is taken, or another emulator has the state folder.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.plan not in PLANS:
            raise InputError(f"unknown plan {settings.plan!r}; {did_you_mean(settings.plan, PLANS)}")
        self.settings = settings
        machines = load_machines(settings.backends)
        try:
            settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = FolderLock(settings.state)
        except BlockingIOError:
            raise QHybridError(f"another emulator uses {settings.state}; give --state another folder") from None
        except OSError as problem:
            raise InputError(f"--state {settings.state}: {problem.strerror or problem}") from None
        try:
            self._start(machines)
        except BaseException:
            self._lock.release()
            raise

    def _start(self, machines: dict[str, Machine]) -> None:
        settings = self.settings
        self.counters = Counters(settings.state)
        self.faults = FaultState(settings.faults)
        self._requests = _Requests()
        try:
            self._proxy = _Proxy((ADDRESS, settings.port), _ProxyHandler)
        except (OSError, OverflowError) as problem:
            raise QHybridError(f"port {settings.port} on {ADDRESS}: {problem}") from None
        self.bundle, context = make_certificates(settings.state)
        self._jobs = Jobs(settings.state, machines, self.faults, self.counters, settings.seed)
        account = Account(settings.state, settings.api_key, settings.plan)
        sessions = Sessions(settings.state, self._jobs)
        self._proxy.emulator, self._proxy.context = self, context
        self._api = Api(account, machines, self._jobs, sessions, self.faults, self.counters)
        self.machines = tuple(machines)
        self.port: int = self._proxy.server_address[1]
        self._thread = threading.Thread(target=self._proxy.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables under which the client talks to this server and to nothing else of IBM's."""
        return environment(self.port, self.bundle, self.settings.api_key)

    def stop(self) -> None:
        """Close all connections; jobs that are not done stay on disk and go on with the next emulator."""
        self._proxy.shutdown()
        self._thread.join()
        self._proxy.server_close()
        self._proxy.close_connections()
        self.faults.end()
        self._requests.end()
        self._jobs.stop()
        self._lock.release()

    def answer(self, request: Request) -> Reply:
        """The reply of one of IBM's hosts."""
        return self._requests.answered(request, self._api.answer)

    def control(self, request: Request) -> Reply:
        """The reply of the emulator itself, over plain HTTP: counters, faults, jobs."""
        if request.path == ("emulator", "counters") and request.method == "GET":
            return ok(self.counters.as_dict())
        if request.path == ("emulator", "faults") and request.method == "GET":
            return ok(self.faults.as_dict())
        if request.path == ("emulator", "jobs") and request.method == "GET":
            return ok({"jobs": self._jobs.all()})
        if request.path == ("emulator", "faults") and request.method == "POST":
            if request.headers.get("content-type") != "application/json":  # no web page can send that by itself
                return ok({"error": "Content-Type: application/json is needed"}, 415)
            try:
                self.faults.set(request.json())
            except (ValueError, QHybridError) as problem:
                return ok({"error": str(problem)}, 400)
            return ok(self.faults.as_dict())
        return ok({"error": "allowed: GET /emulator/counters, /emulator/jobs; GET or POST /emulator/faults"}, 404)


class _Requests:
    """Requests under way. None outlives its server, whose jobs and counters the next one reads from the disk."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._over = False

    def answered(self, request: Request, answer: Callable[[Request], Reply]) -> Reply:
        with self._changed:
            if self._over:
                return CLOSED
            self._under_way += 1
        try:
            return answer(request)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """Let no more in, and wait for those that are."""
        with self._changed:
            self._over = True
            self._changed.wait_for(lambda: not self._under_way)


def environment(port: int, bundle: Path, api_key: str = DUMMY_TOKEN) -> dict[str, str]:
    """Environment variables that lead the client to an emulator.

    Args:
        port: Where it listens.
        bundle: The certificate of its authority.
        api_key: That it accepts.
    """
    proxy = f"http://{ADDRESS}:{port}"
    return {
        "HTTPS_PROXY": proxy,
        "REQUESTS_CA_BUNDLE": str(bundle.resolve()),
        "QISKIT_IBM_TOKEN": api_key,
        "QISKIT_IBM_INSTANCE": INSTANCE,
        "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
        "QISKIT_IBM_URL": "https://cloud.ibm.com",
        "https_proxy": proxy,  # the lower case wins where both are set
        "NO_PROXY": "",
        "no_proxy": "",
    }


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    emulator: Emulator
    context: ssl.SSLContext

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without a look-up of the host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def keep(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def let_go(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def close_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                _shut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""
        problem = sys.exc_info()[1]
        if not isinstance(problem, OSError):
            super().handle_error(request, client_address)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and writes replies."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: _Proxy

    def reply_to(self, request: Request) -> Reply:
        raise NotImplementedError

    def _answer(self) -> None:
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            return self._send(error(413, 1000, "The body is too large, or its length is not known."))
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        path = tuple(part for part in parts.path.split("/") if part)
        headers = {name.lower(): value for name, value in self.headers.items()}
        host = headers.get("host", "").partition(":")[0]
        request = Request(self.command, host, path, parse_qs(parts.query), headers, body)
        return self._send(self.reply_to(request))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _send(self, reply: Reply) -> None:
        if not reply.status:
            self.close_connection = True
            _shut(self.connection)
            return
        self.send_response(reply.status)
        for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
        if reply.cut:
            self.close_connection = True
            _shut(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests carry what may be credentials."""


class _ApiHandler(_Handler):
    """Inside a tunnel: IBM's hosts."""

    def reply_to(self, request: Request) -> Reply:
        return self.server.emulator.answer(request)


class _ProxyHandler(_Handler):
    """The proxy itself."""

    def reply_to(self, request: Request) -> Reply:
        if self.path.startswith("http") or request.host not in (ADDRESS, "localhost"):
            self._refuse(request.host)
            return ok({"error": "the qhybrid emulator leads nowhere"}, 403)
        return self.server.emulator.control(request)

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        self.close_connection = True
        if host not in HOSTS or port != "443":
            self._refuse(host)
            self._send(ok({"error": "the qhybrid emulator leads to IBM's quantum services only"}, 403))
            return
        self.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            tunnel = self.server.context.wrap_socket(self.connection, server_side=True)
        except OSError:  # the client does not trust the certificate, or has gone
            return
        self.server.keep(tunnel)
        try:
            _ApiHandler(tunnel, self.client_address, self.server)
        finally:
            self.server.let_go(tunnel)

    def _refuse(self, host: str) -> None:
        self.server.emulator.counters.add("refused_hosts")
        shown = json.dumps(host)[1:-1]
        print(f"qhybrid emulator: refused to connect to {shown}: it leads to IBM's services only", file=sys.stderr)
