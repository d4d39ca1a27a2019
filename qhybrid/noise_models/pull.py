"""Calibrations of live machines, saved as snapshot folders.

The client finds the account itself, saved or in its environment variables; nothing here reads, prints or stores it.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from qhybrid.errors import InputError, QHybridError, did_you_mean

_SECRETS = re.compile(r"crn:\S+|(?i:bearer)\s+\S+|https?://\S+|[A-Za-z0-9_\-]{24,}(\.[A-Za-z0-9_\-]+)*")


def pull_snapshot(backend: str, root: Path, *, date: str | None = None, replace: bool = False) -> Path:
    """Fetch a machine's calibration from IBM and save it.

    Args:
        backend: Name of the machine.
        root: Folder of noise models.
        date: The calibration in force then, ISO 8601, a day (its end) or a minute, local time unless it says otherwise;
            None: the latest.
        replace: Replace the folder if it is there.

    Returns:
        The new folder, `<root>/<backend>_<day of the calibration>`.

    Raises:
        InputError: The date is none, there is no account or no such machine, or the folder is there.
        QHybridError: IBM cannot be reached or refuses.
    """
    when = None if date is None else _moment(date)
    with _client_errors(backend):
        from qiskit.providers.exceptions import QiskitBackendNotFoundError
        from qiskit_ibm_runtime import QiskitRuntimeService

        service = QiskitRuntimeService()
        try:
            machine = service.backend(backend)
        except QiskitBackendNotFoundError:
            names = [each.name for each in service.backends()]
            raise InputError(f"your account has no machine {backend!r}; {did_you_mean(backend, names)}") from None
        properties = machine.properties(datetime=when)
        configuration = machine.configuration()
    if properties is None:
        raise InputError(
            f"{backend} has no calibration{f' of {date}' if date else ''}: it is a simulator, or too young"
        )
    return write_snapshot(configuration, properties, root, to_the_minute="T" in (date or ""), replace=replace)


def write_snapshot(
    configuration: Any, properties: Any, root: Path, *, to_the_minute: bool = False, replace: bool = False
) -> Path:
    """Save a machine's configuration and properties as a snapshot folder, whole or not at all.

    Args:
        configuration: The client's `QasmBackendConfiguration`.
        properties: The client's `BackendProperties`.
        root: Folder of noise models.
        to_the_minute: Put the minute of the calibration (UTC) into the folder's name, not only its day.
        replace: Replace the folder if it is there.

    Returns:
        The new folder.

    Raises:
        InputError: The folder is there, or cannot be written.
    """
    name = re.sub(r"[^A-Za-z0-9_\-]", "_", str(configuration.backend_name))
    calibrated = properties.last_update_date.astimezone(UTC)
    folder = root / f"{name}_{calibrated:{'%Y-%m-%dT%H%M' if to_the_minute else '%Y-%m-%d'}}"
    if folder.exists() and not replace:
        raise InputError(f"{folder} is there already; --force replaces it")
    files = {
        f"conf_{name}.json": json.dumps(configuration.to_dict(), default=_plain, indent=1, allow_nan=False),
        f"props_{name}.json": json.dumps(properties.to_dict(), default=_plain, indent=1, allow_nan=False),
    }
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
        try:
            temporary.chmod(0o755)
            for file, text in files.items():
                (temporary / file).write_text(text + "\n", encoding="utf-8")
            if folder.exists():
                _swap(temporary, folder)
            else:
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None
    return folder


def _swap(new: Path, old: Path) -> None:
    """Put a new folder in the place of an old one, which comes back if that fails."""
    aside = old.with_name(f".{old.name}.{os.getpid()}.old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    shutil.rmtree(aside)


def _moment(date: str) -> datetime:
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        raise InputError(f"date {date!r}: allowed are YYYY-MM-DD and YYYY-MM-DDTHH:MM") from None
    if "T" not in date and " " not in date:
        return datetime.combine(moment, time.max)
    return moment.astimezone().replace(tzinfo=None)  # the client takes every time for a local one


def _plain(value: Any) -> Any:
    """What JSON does not know, as IBM's own files hold it: complex numbers as pairs, times in ISO 8601."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, complex):
        return [value.real, value.imag]
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} is not JSON")


@contextmanager
def _client_errors(backend: str) -> Iterator[None]:
    """Errors of the client in one line, without what could be a credential."""
    try:
        yield
    except QHybridError:
        raise
    except Exception as error:  # the client raises its own kinds, those of requests and those of urllib3
        kind = type(error).__name__
        if kind == "AccountNotFoundError":
            raise InputError(
                "no IBM account: save one with QiskitRuntimeService.save_account, or set QISKIT_IBM_TOKEN and "
                "QISKIT_IBM_INSTANCE"
            ) from None
        reason = without_secrets(str(error)).strip("'\"")
        if kind == "InvalidAccountError":
            raise QHybridError(f"IBM cannot be reached, or refuses the account: {reason}") from None
        raise QHybridError(f"cannot get the calibration of {backend}: {kind}: {reason}") from None


def without_secrets(message: str) -> str:
    """The first 300 characters of a message on one line, addresses and whatever could be a credential blanked."""
    for name in ("QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE", "QISKIT_IBM_URL"):
        if secret := os.environ.get(name):
            message = message.replace(secret, "***")
    return " ".join(_SECRETS.sub("***", message).split())[:300]
