"""Failures of IBM's client as ours: one line each, without secrets; passing, final, or about the account."""

import json
from collections.abc import Iterator

from requests import RequestException
from urllib3.exceptions import HTTPError

from qhybrid.errors import InputError, QHybridError
from qhybrid.noise_models.pull import without_secrets

NO_ACCOUNT = (
    "no IBM account: save one with QiskitRuntimeService.save_account, or set QISKIT_IBM_TOKEN and QISKIT_IBM_INSTANCE "
    "(API keys: https://quantum.cloud.ibm.com); `qhybrid emulator` needs none"
)
INSTANCES = "the saved account, QISKIT_IBM_INSTANCE or the option `instance` (https://quantum.cloud.ibm.com/instances)"
PASSING = {401, 408, 425, 429, *range(500, 600)}
"""HTTP states that another attempt may change; 401 is a token that has expired, which is then asked for anew."""


class Unreachable(QHybridError):
    """A call failed in a way that passes.

    Args:
        message: One line, without secrets.
        status: The HTTP state; None where no reply came, so that nobody knows what the service did.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class Missing(QHybridError):
    """The service does not know a job."""


class Ended(QHybridError):
    """A job cannot be cancelled any more."""


def translated(error: Exception, what: str, *, was_open: bool) -> QHybridError:
    """A failure of the client, of requests or of urllib3 as one of ours.

    Args:
        error: The failure.
        what: Was tried, as in `send the job`.
        was_open: The account was accepted before.
    """
    kind, status = type(error).__name__, status_of(error)
    reason = without_secrets(" ".join(str(error).split()).strip("'\""))
    if kind == "AccountNotFoundError":
        return InputError(NO_ACCOUNT)
    if not was_open and status in (400, 401, 403):
        return InputError(f"IBM refuses the account ({status}): is the API key right? ({NO_ACCOUNT})")
    if not was_open and "instance" in reason.lower() and status is None and not _is_connection(error):
        return InputError(f"your IBM account has no such instance; check it in {INSTANCES}")
    if status == 409 and "cancel" in what:
        return Ended(f"the job has ended ({reason})")
    if status in PASSING or (status is None and _is_connection(error)):
        said = f"HTTP {status}" if status else "no reply"
        return Unreachable(f"cannot {what} at IBM now ({said})", status)
    return QHybridError(f"cannot {what}: IBM refuses it: {reason}")


def status_of(error: BaseException) -> int | None:
    """The HTTP state behind an error; None: there was no reply."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        for status in (getattr(each, "status_code", None), getattr(response, "status_code", None)):
            if isinstance(status, int) and status > 0:
                return status
        if type(each).__name__ == "IBMNotAuthorizedError":
            return 401
    return None


def _is_connection(error: BaseException) -> bool:
    """Whether an error is about the line rather than about what was asked: also a reply that is cut short."""
    return any(isinstance(each, (RequestException, HTTPError, OSError, json.JSONDecodeError)) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
