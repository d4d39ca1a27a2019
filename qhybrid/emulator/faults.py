"""What can go wrong on purpose."""

import math
import threading
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from qhybrid.errors import InputError, did_you_mean

PLACES = ("all", "submit", "poll", "results", "jobs")
"""Kinds of requests that a fault can hit: all of the runtime API's, `POST /jobs`, `GET /jobs/ID`, its results, the
list of jobs."""

TIMES = ("retry_after", "queue_seconds", "run_seconds", "slow_submit", "slow_results", "token_seconds")
MAY_BE_NONE = ("retry_after", "token_seconds")


@dataclass(frozen=True)
class Faults:
    """Faults that are still to come. Counts go down as they happen; 0 or None is none.

    Args:
        drop_submit: The n-th `POST /jobs` from now is accepted, and the connection closed without a reply.
        drop_submits: So many in a row, from the n-th on.
        drop_status: What these are answered with instead of nothing, as by a gateway, such as 504; 0: nothing.
        errors: So many requests in a row are answered with `error_status`.
        errors_on: One of `PLACES`.
        error_status: Such as 500 or 503.
        rate_limit: So many requests in a row are answered with 429.
        rate_limit_on: One of `PLACES`.
        retry_after: Seconds for the header `Retry-After` of these; None: they have none.
        close_connections: So many requests get no answer: the connection is closed.
        close_on: One of `PLACES`.
        queue_seconds: Every job waits so long before it runs.
        run_seconds: Every job runs so long at least.
        slow_submit: Seconds between the acceptance of a job and the reply.
        slow_results: Seconds before a result is sent.
        truncate_results: So many results are cut in the middle, their length announced as whole.
        truncate_silently: So many results are cut in the middle without a trace in the headers.
        fail_jobs: So many of the next jobs fail on the machine.
        cancel_jobs: So many of the next jobs are cancelled on the machine.
        token_seconds: A token is refused so long after it was issued, although it says an hour; None: the hour holds.
        calibration_date: The machines were calibrated once more then, ISO 8601; None: they were not.
    """

    drop_submit: int = 0
    drop_submits: int = 1
    drop_status: int = 0
    errors: int = 0
    errors_on: str = "all"
    error_status: int = 503
    rate_limit: int = 0
    rate_limit_on: str = "all"
    retry_after: float | None = None
    close_connections: int = 0
    close_on: str = "all"
    queue_seconds: float = 0.0
    run_seconds: float = 0.0
    slow_submit: float = 0.0
    slow_results: float = 0.0
    truncate_results: int = 0
    truncate_silently: int = 0
    fail_jobs: int = 0
    cancel_jobs: int = 0
    token_seconds: float | None = None
    calibration_date: str | None = None


def with_faults(faults: Faults, changes: dict[str, Any]) -> Faults:
    """Faults with some of them set anew.

    Raises:
        InputError: There is no such fault, or its value is of another kind.
    """
    names = [each.name for each in fields(Faults)]
    for name, value in changes.items():
        if name not in names:
            raise InputError(f"unknown fault {name!r}; {did_you_mean(name, names)}")
        if name.endswith("_on") and value not in PLACES:
            raise InputError(f"fault {name} = {value!r}; {did_you_mean(str(value), PLACES)}")
        if name in TIMES and not (value is None and name in MAY_BE_NONE) and not _is_number(value):
            raise InputError(f"fault {name} = {value!r}: seconds, 0 or more, are needed")
        if name not in TIMES and isinstance(getattr(Faults(), name), int) and not isinstance(value, int):
            raise InputError(f"fault {name} = {value!r}: a whole number is needed")
        if isinstance(value, int) and value < 0:
            raise InputError(f"fault {name} = {value!r}: 0 or more is needed")
        if name == "calibration_date" and value is not None:
            try:
                datetime.fromisoformat(value)
            except (ValueError, TypeError):
                raise InputError(f"fault calibration_date = {value!r}: an ISO 8601 date is needed") from None
    return replace(faults, **changes)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


class FaultState:
    """The faults of a running server, counted down by its threads."""

    def __init__(self, faults: Faults) -> None:
        self._lock = threading.Lock()
        self._faults = faults
        self._over = threading.Event()

    @property
    def now(self) -> Faults:
        """Those still to come."""
        return self._faults

    def set(self, changes: dict[str, Any]) -> None:
        """Set some of them anew."""
        with self._lock:
            self._faults = with_faults(self._faults, changes)

    def pause(self, seconds: float) -> None:
        """Wait, unless the server stops."""
        self._over.wait(seconds)

    def end(self) -> None:
        """End all pauses: the server stops."""
        self._over.set()

    def take(self, name: str, places: tuple[str, ...] = ()) -> bool:
        """Whether a fault happens now; counts it down.

        Args:
            name: A counted fault.
            places: Kinds of the request, if the fault has a place.
        """
        on = {"errors": "errors_on", "rate_limit": "rate_limit_on", "close_connections": "close_on"}.get(name)
        with self._lock:
            left = getattr(self._faults, name)
            if left <= 0 or (on is not None and getattr(self._faults, on) not in ("all", *places)):
                return False
            self._faults = replace(self._faults, **{name: left - 1})
            return True

    def take_drop(self) -> bool:
        """Whether the reply to this `POST /jobs` is lost; counts the submit."""
        with self._lock:
            faults = self._faults
            if faults.drop_submit <= 0:
                return False
            if faults.drop_submit > 1:
                self._faults = replace(faults, drop_submit=faults.drop_submit - 1)
                return False
            left = faults.drop_submits - 1
            self._faults = replace(faults, drop_submit=1 if left > 0 else 0, drop_submits=max(left, 1))
            return True

    def as_dict(self) -> dict[str, Any]:
        """Those still to come, as JSON has them."""
        return asdict(self._faults)
