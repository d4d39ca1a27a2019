"""`qhybrid emulator`: a loopback QPU that the IBM client takes for the real one."""

import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from qhybrid.emulator.server import Emulator


def emulator(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND ...]", help="Run this under the emulator, and end with its exit code."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Machine: ibm_fez, a snapshot from `qhybrid ls noise-models`, a snapshot folder, or FakeName. "
            "Several: repeat it, or separate them by commas. ibm_fez without it."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: one that is free.")] = 0,
    state: Annotated[
        Path | None, typer.Option(help="Folder of its jobs and certificates; one in your data directory without it.")
    ] = None,
    plan: Annotated[str, typer.Option(help="Plan of the account: open (no sessions) or premium.")] = "open",
    queue_seconds: Annotated[float | None, typer.Option(min=0, help="Every job waits in the queue so long.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="Let something go wrong: NAME=VALUE, such as drop_submit=1 (the reply of the first submit is lost), "
            "slow_submit=2, errors=3 (so many 5xx in a row; errors_on=submit, poll, results, jobs or all), "
            "rate_limit=2, retry_after=5, slow_results=10, truncate_results=1, fail_jobs=1, cancel_jobs=1, "
            "token_seconds=60, close_connections=1, run_seconds=5, calibration_date=2026-01-31. May be repeated."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the shots; another every time without it.")] = None,
) -> None:
    """Rehearse a hardware run: a server on this machine that the unmodified IBM client takes for IBM's.

    Results are simulations with the noise of a calibration snapshot; nothing leaves the machine, nothing is charged.
    """
    from qhybrid.emulator.faults import Faults, with_faults
    from qhybrid.emulator.machines import DEFAULT_BACKEND
    from qhybrid.errors import InputError

    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise InputError("qhybrid emulator needs an extra: pip install 'qhybrid[emulator]'") from None
    from qhybrid.emulator.server import Emulator, Settings

    names = [name.strip() for each in backend or [DEFAULT_BACKEND] for name in each.split(",") if name.strip()]
    changes = dict(_fault(each) for each in fault or ())
    if queue_seconds is not None:
        changes["queue_seconds"] = queue_seconds
    settings = Settings(
        state=state or _default_state(), backends=names, port=port, plan=plan, seed=seed,
        faults=with_faults(Faults(), changes),
    )  # fmt: skip
    with _stopped_by_signals():
        server = Emulator(settings)
        try:
            if command:
                raise typer.Exit(_run(command, server))
            _explain(server)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("qhybrid emulator: stopped; its jobs stay in", settings.state, file=sys.stderr)
        finally:
            server.stop()


def _default_state() -> Path:
    from platformdirs import user_data_path

    return user_data_path("qhybrid") / "emulator"


def _fault(text: str) -> tuple[str, Any]:
    from qhybrid.errors import InputError

    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--fault {text}: NAME=VALUE is needed, such as drop_submit=1")
    try:
        return name.strip(), json.loads(value)
    except json.JSONDecodeError:
        return name.strip(), value.strip()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(command: Sequence[str], server: "Emulator") -> int:
    """Run a command under the emulator; returns its exit code."""
    import os

    from qhybrid.errors import InputError

    print(f"qhybrid emulator: {', '.join(server.machines)}, simulated; port {server.port}", file=sys.stderr)
    try:
        child = subprocess.Popen(list(command), env=os.environ | server.environment)
    except OSError as error:
        raise InputError(f"cannot run {command[0]!r}: {error.strerror or error}") from None
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        try:
            code = child.wait(10)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            child.kill()
            code = child.wait()
    return 128 - code if code < 0 else code


def _explain(server: "Emulator") -> None:
    """Say how to use it."""
    machines = ", ".join(server.machines)
    print(f"A loopback QPU listens on 127.0.0.1:{server.port}: {machines}. Results are simulations; nothing leaves")
    print("this machine. In another terminal paste these lines; the first two lead Qiskit's IBM client here, the")
    print("others are an account that exists only here:\n")
    for name, value in server.environment.items():
        print(f"export {name}={shlex.quote(value)}")
    first = server.machines[0]
    print(f"\nThen use the IBM client as ever: qhybrid submit RUN --backend {first} --shots 1024")
    print(f"Counters: curl -s http://127.0.0.1:{server.port}/emulator/counters")
    print('Faults while it runs: POST JSON such as {"drop_submit": 1} to /emulator/faults there')
    print(f"Jobs are kept in {server.settings.state}. Ctrl-C ends it.", flush=True)
