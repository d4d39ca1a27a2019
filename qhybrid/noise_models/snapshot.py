"""Calibration snapshots of machines: the configuration and properties that IBM publishes, as JSON.

Where a snapshot says more than physics allows, it is clipped, and what cannot be used is left out; the model says both.
"""

import importlib.util
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from qhybrid import catalog
from qhybrid.errors import InputError, did_you_mean
from qhybrid.noise_models.model import GateCalibration, GateNoise, NoiseModel

FAULTY_ERROR = 0.999
"""A gate with this error is one that the machine could not calibrate: it is not used."""
MIN_KEPT = 1e-9
"""Smallest 1 - p of a depolarizing channel, so that its rate is finite."""
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "ps": 1e-12, "": 1.0}


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
            raise ValueError(f"{self.name} is in {self.unit!r}: allowed units of time are {', '.join(_SECONDS)[:-2]}")
        return self.value * _SECONDS[self.unit]


class Gate(BaseModel):
    """A gate on certain qubits."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    gate: str
    qubits: tuple[int, ...]
    parameters: tuple[Quantity, ...] = ()


class Properties(BaseModel):
    """`props_<machine>.json`: what was calibrated."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    last_update_date: str
    qubits: tuple[tuple[Quantity, ...], ...]
    gates: tuple[Gate, ...]


class GateConfiguration(BaseModel):
    """Where a gate exists."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    coupling_map: tuple[tuple[int, ...], ...] | None = None


class Configuration(BaseModel):
    """`conf_<machine>.json`: what the machine is."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    backend_name: str
    n_qubits: int = Field(ge=1)
    basis_gates: tuple[str, ...]
    gates: tuple[GateConfiguration, ...] = ()
    dt: float | None = Field(default=None, gt=0)
    """Nanoseconds."""
    timing_constraints: dict[str, int] = {}
    coords: tuple[tuple[float, float], ...] | None = None


def packaged_snapshots() -> dict[str, Path]:
    """The snapshots that come with the IBM client: name of the fake backend's class -> folder."""
    spec = importlib.util.find_spec("qiskit_ibm_runtime")
    if spec is None or spec.origin is None:
        raise InputError("snapshots of machines come with the package qiskit-ibm-runtime, which is not installed")
    root = Path(spec.origin).parent / "fake_provider" / "backends"
    folders = [
        path for path in sorted(root.iterdir()) if list(path.glob("conf_*.json")) and list(path.glob("props_*.json"))
    ]
    return {f"Fake{path.name.capitalize()}": path for path in folders}


def find_packaged(fake: str) -> Path:
    """The folder of a packaged snapshot.

    Args:
        fake: Name of a class of `qiskit_ibm_runtime.fake_provider`, with or without the V2 that some have.
    """
    found = packaged_snapshots()
    if (name := fake.removesuffix("V2")) not in found:
        raise InputError(f"there is no packaged snapshot {fake!r}; {did_you_mean(fake, found)}")
    return found[name]


def read_snapshot(path: Path, *, name: str | None = None, description: str = "") -> NoiseModel:
    """Read a snapshot.

    Args:
        path: A folder that holds one `conf_*.json` and one `props_*.json`, or one of these two files.
        name: What to call it; None: as the machine.
        description: One line for people.

    Raises:
        InputError: A file is missing or damaged, or a number in it is none.
    """
    conf_path, props_path = _pair(path)
    configuration = catalog.parse(Configuration, _load(conf_path), str(conf_path))
    properties = catalog.parse(Properties, _load(props_path), str(props_path))
    try:
        return _build(configuration, properties, name or configuration.backend_name, description)
    except ValueError as error:
        raise InputError(f"{props_path}: {error}") from None


def _pair(path: Path) -> tuple[Path, Path]:
    folder = path if path.is_dir() else path.parent
    if path.is_file():
        machine = path.stem.removeprefix("conf_").removeprefix("props_")
        pair = folder / f"conf_{machine}.json", folder / f"props_{machine}.json"
        missing = [each for each in pair if not each.is_file()]
        if missing:
            raise InputError(f"{path}: a snapshot is a pair of files; {missing[0].name!r} is missing beside it")
        return pair
    found = []
    for prefix in ("conf", "props"):
        files = sorted(folder.glob(f"{prefix}_*.json"))
        if len(files) != 1:
            raise InputError(
                f"{folder}: a snapshot folder holds one {prefix}_*.json; this one has {len(files) or 'none'}"
            )
        found.append(files[0])
    return found[0], found[1]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a snapshot is a JSON object, not a {type(content).__name__}")
    return content


def _build(configuration: Configuration, properties: Properties, name: str, description: str) -> NoiseModel:
    n_qubits = configuration.n_qubits
    if len(properties.qubits) != n_qubits:
        raise ValueError(f"{len(properties.qubits)} qubits are calibrated, the machine has {n_qubits}")
    remarks: dict[str, list[str]] = defaultdict(list)
    t1, t2, readout, readout_duration, faulty = _qubits(properties, remarks)
    gates: dict[tuple[str, tuple[int, ...]], GateCalibration] = {}
    faulty_edges: set[tuple[int, int]] = set()
    for entry in properties.gates:
        if entry.gate not in configuration.basis_gates or entry.gate in ("id", "reset", "delay", "measure"):
            continue
        if not entry.qubits or max(entry.qubits) >= n_qubits or min(entry.qubits) < 0:
            raise ValueError(
                f"gate {entry.gate} is on qubits {list(entry.qubits)}; the machine has 0 to {n_qubits - 1}"
            )
        values = {each.name: each for each in entry.parameters}
        error = values["gate_error"].value if "gate_error" in values else 0.0
        duration = values["gate_length"].seconds if "gate_length" in values else 0.0
        if error < 0 or duration < 0:
            raise ValueError(f"gate {entry.gate} on {list(entry.qubits)} has a negative error or duration")
        working = values["operational"].value if "operational" in values else 1
        if error >= FAULTY_ERROR or not working:
            if len(entry.qubits) == 1:
                faulty.add(entry.qubits[0])
            else:
                faulty_edges.add((min(entry.qubits), max(entry.qubits)))
            continue
        times = [(t1[q], t2[q]) for q in entry.qubits]
        noise = calibrated_noise(error, duration, times)
        gates[entry.gate, entry.qubits] = GateCalibration(error, duration, noise)
    gates = {
        key: each
        for key, each in gates.items()
        if not faulty & set(key[1]) and tuple(sorted(key[1])) not in faulty_edges
    }
    if faulty:
        remarks["faulty qubits, left out"] = [str(q) for q in sorted(faulty)]
    if faulty_edges:
        remarks["edges with error 1.0, left out"] = [f"{a}-{b}" for a, b in sorted(faulty_edges)]
    coordinates = configuration.coords if configuration.coords and len(configuration.coords) == n_qubits else None
    return NoiseModel(
        name=name,
        n_qubits=n_qubits,
        gates=gates,
        readout=readout,
        t1=t1,
        t2=t2,
        readout_duration=readout_duration,
        dt=None if configuration.dt is None else configuration.dt * 1e-9,
        date=properties.last_update_date,
        description=description,
        remarks=tuple(f"{what}: {', '.join(where)}" for what, where in remarks.items()),
        faulty_qubits=tuple(sorted(faulty)),
        faulty_edges=tuple(sorted(faulty_edges)),
        coordinates=coordinates,
        timing=configuration.timing_constraints,
    )


def _qubits(
    properties: Properties, remarks: dict[str, list[str]]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], set[int]]:
    n_qubits = len(properties.qubits)
    t1, t2 = np.full(n_qubits, np.inf), np.full(n_qubits, np.inf)
    readout, duration = np.zeros((n_qubits, 2)), np.zeros(n_qubits)
    faulty: set[int] = set()
    for qubit, quantities in enumerate(properties.qubits):
        values = {each.name: each for each in quantities}
        for key, times in (("T1", t1), ("T2", t2)):
            if key in values:
                times[qubit] = values[key].seconds
                if times[qubit] <= 0:
                    raise ValueError(f"qubit {qubit}: {key} = {values[key].value} must be positive")
        if "T2" not in values:
            t2[qubit] = 2 * t1[qubit]
        elif t2[qubit] > 2 * t1[qubit]:
            remarks["T2 clipped to 2 T1 on qubits"].append(str(qubit))
            t2[qubit] = 2 * t1[qubit]
        if "readout_error" in values:
            flip = values["readout_error"].value
            if not 0 <= flip <= 1:
                raise ValueError(f"qubit {qubit}: readout_error = {flip} is no probability")
            readout[qubit] = flip
        if "readout_length" in values:
            duration[qubit] = values["readout_length"].seconds
        if readout[qubit, 0] >= FAULTY_ERROR or ("operational" in values and not values["operational"].value):
            faulty.add(qubit)
    return t1, t2, readout, duration, faulty


def calibrated_noise(error: float, duration: float, times: Sequence[tuple[float, float]]) -> GateNoise:
    """Split a gate's infidelity into relaxation and depolarizing noise, as Aer's `NoiseModel.from_backend` does.

    With F the average fidelity of the relaxation alone, p = d (F - 1 + error) / (d F - 1) for dimension d.

    Args:
        error: Average gate infidelity.
        duration: Seconds.
        times: (T1, T2) of each qubit, seconds.
    """
    relaxation = tuple((duration / t1, duration / t2) for t1, t2 in times)
    dimension = 2 ** len(times)
    entanglement_fidelity = math.prod((1 + 2 * math.exp(-b) + math.exp(-a)) / 4 for a, b in relaxation)
    fidelity = (dimension * entanglement_fidelity + 1) / (dimension + 1)
    if error <= 1 - fidelity:
        return GateNoise(0.0, relaxation)
    probability = dimension * (error - 1 + fidelity) / (dimension * fidelity - 1)
    return GateNoise(-math.log(max(1 - probability, MIN_KEPT)), relaxation)
