"""The files of a calibration snapshot: the configuration and the properties of a machine, as IBM publishes them."""

import importlib.util
import json
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from qhybrid import catalog
from qhybrid.errors import InputError, did_you_mean

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "ps": 1e-12}


class Quantity(BaseModel):
    """A calibrated number."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    name: str
    value: float
    unit: str = ""

    @property
    def seconds(self) -> float:
        """A time in seconds."""
        if self.unit not in _SECONDS:
            raise ValueError(f"{self.name} is in {self.unit!r}: allowed units of time are {', '.join(_SECONDS)}")
        return self.value * _SECONDS[self.unit]


class Gate(BaseModel):
    """A gate on certain qubits."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    gate: str
    qubits: tuple[int, ...]
    parameters: tuple[Quantity, ...] = ()

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """Its parameters by their names."""
        return {each.name: each for each in self.parameters}


class Properties(BaseModel):
    """`props_<machine>.json`: what was calibrated."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    last_update_date: str
    qubits: tuple[tuple[Quantity, ...], ...]
    gates: tuple[Gate, ...]

    @field_validator("last_update_date")
    @classmethod
    def _is_a_date(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value


class Timing(BaseModel):
    """What schedules must keep to, in units of dt, as Qiskit's `Target` takes it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    acquire_alignment: int = Field(default=1, ge=1)
    granularity: int = Field(default=1, ge=1)
    min_length: int = Field(default=1, ge=1)
    pulse_alignment: int = Field(default=1, ge=1)


class Configuration(BaseModel):
    """`conf_<machine>.json`: what the machine is."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    backend_name: str
    n_qubits: int = Field(ge=1)
    basis_gates: tuple[str, ...]
    dt: float | None = Field(default=None, gt=0)
    """Nanoseconds."""
    timing_constraints: Timing = Timing()
    coords: tuple[tuple[float, float], ...] | None = None


def packaged_snapshots() -> dict[str, Path]:
    """The snapshots that come with the IBM client: name of the fake backend's class -> its `conf_*.json`."""
    spec = importlib.util.find_spec("qiskit_ibm_runtime")
    if spec is None or spec.origin is None:
        raise InputError("snapshots of machines come with the package qiskit-ibm-runtime, which is not installed")
    root = Path(spec.origin).parent / "fake_provider" / "backends"
    found = {}
    for configuration in sorted(root.glob("*/conf_*.json")):
        if _other(configuration, "props").is_file():
            found[f"Fake{configuration.parent.name.capitalize()}"] = configuration
    return found


def find_packaged(fake: str) -> Path:
    """The configuration file of a packaged snapshot, its properties beside it.

    Args:
        fake: Name of a class of `qiskit_ibm_runtime.fake_provider`, with or without the V2 that some have.

    Raises:
        InputError: There is no such snapshot.
    """
    found = packaged_snapshots()
    if (name := fake.removesuffix("V2").removesuffix("Backend")) not in found:
        raise InputError(f"there is no packaged snapshot {fake!r}; {did_you_mean(fake, found)}")
    return found[name]


def read_files(files: tuple[Path, Path]) -> tuple[Configuration, Properties]:
    """Read the pair of files of a snapshot, as `find_files` gives it.

    Raises:
        InputError: One is damaged.
    """
    configuration, properties = files
    return (
        catalog.parse(Configuration, _load(configuration), str(configuration)),
        catalog.parse(Properties, _load(properties), str(properties)),
    )


def find_files(path: Path) -> tuple[Path, Path]:
    """The files of a snapshot: configuration and properties.

    Args:
        path: A folder that holds one `conf_*.json` and one `props_*.json`, or one of these two files.

    Raises:
        InputError: A file is missing.
    """
    if path.is_file():
        if not path.name.startswith(("conf_", "props_")):
            raise InputError(
                f"{path}: neither a .toml file nor one of a snapshot: conf_<machine>.json or props_<machine>.json"
            )
        pair = _other(path, "conf"), _other(path, "props")
        missing = [each for each in pair if not each.is_file()]
        if missing:
            raise InputError(f"{path}: a snapshot is a pair of files; {missing[0].name!r} is missing beside it")
        return pair
    if not path.is_dir():
        raise InputError(f"snapshot {str(path)!r} does not exist")
    found = []
    for prefix in ("conf", "props"):
        files = sorted(path.glob(f"{prefix}_*.json"))
        if len(files) != 1:
            raise InputError(
                f"{path}: a snapshot folder holds one {prefix}_*.json; this one has {len(files) or 'none'}"
            )
        found.append(files[0])
    return found[0], found[1]


def _other(path: Path, prefix: str) -> Path:
    """The file of the same machine that starts with `conf` or `props`."""
    return path.with_name(f"{prefix}_{path.name.split('_', 1)[1]}")


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a snapshot is a JSON object, not a {type(content).__name__}")
    return content
