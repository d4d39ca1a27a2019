"""What can go wrong on purpose."""

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from qhybrid.errors import InputError, did_you_mean

PLACES = ("all", "submit", "poll", "results", "jobs")
"""Kinds of requests that a fault can hit: all of the runtime API's, `POST /jobs`, `GET /jobs/ID`, its results, the
list of jobs."""


@dataclass(frozen=True)
class Faults:
    """Faults that are still to come. Counts go down as they happen; 0 or None is none.

    Args:
        drop_submit: The n-th `POST /jobs` from now is accepted, and the connection closed without a reply.
        drop_submits: So many in a row, from the n-th on.
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
    from datetime import datetime

    kinds = {each.name: each.type for each in fields(Faults)}
    for name, value in changes.items():
        if name not in kinds:
            raise InputError(f"unknown fault {name!r}; {did_you_mean(name, kinds)}")
        kind = str(kinds[name])
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        right = (
            ("None" in kind and value is None)
            or ("float" in kind and number)
            or ("int" in kind and number and isinstance(value, int))
            or ("str" in kind and isinstance(value, str))
        )
        if not right or (name.endswith("_on") and value not in PLACES):
            allowed = f"allowed: {', '.join(PLACES)}" if name.endswith("_on") else f"a {kind} that is not negative"
            raise InputError(f"fault {name} = {value!r}: {allowed}")
        if name == "calibration_date" and value is not None:
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise InputError(f"fault calibration_date = {value!r}: an ISO 8601 date is needed") from None
    return replace(faults, **changes)


class FaultState:
    """The faults of a running server, counted down by its threads."""

    def __init__(self, faults: Faults) -> None:
        self._lock = threading.Lock()
        self._faults = faults

    @property
    def now(self) -> Faults:
        """Those still to come."""
        return self._faults

    def set(self, changes: dict[str, Any]) -> None:
        """Set some of them anew."""
        with self._lock:
            self._faults = with_faults(self._faults, changes)

    def take(self, name: str, places: Iterator[str] | tuple[str, ...] = ()) -> bool:
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
