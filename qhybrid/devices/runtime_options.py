"""Options of the Runtime primitives, checked before anything is sent."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from qiskit_ibm_runtime.options import EstimatorOptions, SamplerOptions

from qhybrid.errors import InputError, did_you_mean

OURS = {
    "job_tags": "the device's option job_tags",
    "max_execution_time": "the device's option max_execution_time",
    "default_shots": "shots",
    "default_precision": "shots",
    "seed_estimator": "nothing: a machine has no seed",
}
"""Options of the primitives that the device sets itself."""


def check_options(device: str, primitive: str, options: Mapping[str, Any]) -> None:
    """Check options of a primitive by their names and, with the client's own checks, by their values.

    Args:
        device: Name, for errors.
        primitive: `sampler` or `estimator`.
        options: As a device file gives them, sub-options as tables.

    Raises:
        InputError: One is unknown, set elsewhere, or has a value that is not allowed.
    """
    kind = EstimatorOptions if primitive == "estimator" else SamplerOptions
    _check_names(device, primitive, kind(), options, "options")
    try:
        kind(**options)
    except Exception as error:  # pydantic's, and the client's own
        problems: list[Any] = getattr(error, "errors", list)()
        said = f"{'.'.join(map(str, problems[0]['loc']))}: {problems[0]['msg']}" if problems else str(error)
        raise InputError(f"{device}: options of the {primitive}: {' '.join(said.split())}") from None


def _check_names(device: str, primitive: str, level: Any, options: Mapping[str, Any], where: str) -> None:
    allowed = [each.name for each in dataclasses.fields(level) if not each.name.startswith("_")]
    for key, value in options.items():
        if key in OURS:
            raise InputError(f"{device}: {where}.{key}: set {OURS[key]}")
        if key not in allowed:
            names = [name for name in allowed if name not in OURS]
            raise InputError(f"{device}: the {primitive} has no option '{where}.{key}'; {did_you_mean(key, names)}")
        below = getattr(level, key)
        if dataclasses.is_dataclass(below):
            if not isinstance(value, Mapping):
                raise InputError(f"{device}: {where}.{key} = {value!r}: a table of options is needed")
            _check_names(device, primitive, below, value, f"{where}.{key}")


def check_positive(device: str, **options: float | None) -> None:
    """Raise an InputError unless options are numbers above 0, or None."""
    for key, value in options.items():
        if value is not None and not (isinstance(value, int | float) and 0 < value < float("inf")):
            raise InputError(f"{device}: {key} = {value!r}: a number above 0 is needed")
