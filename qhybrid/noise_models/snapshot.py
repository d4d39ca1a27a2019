"""Calibration snapshots of machines as noise models.

Where a snapshot says more than physics allows, it is clipped, and what cannot be used is left out; the model says both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from qhybrid.errors import InputError
from qhybrid.noise_models.channels import MIN_KEPT, Matrix
from qhybrid.noise_models.machine_gates import N_QUBITS
from qhybrid.noise_models.model import GateCalibration, GateNoise, NoiseModel
from qhybrid.noise_models.snapshot_files import Configuration, Gate, Properties, Quantity, find_files, read_files

FAULTY_ERROR = 0.999
"""A gate with this error is one that the machine could not calibrate: it is not used."""
SHORTEST, LONGEST = 1e-9, 1.0
"""Seconds: times of decay below, or durations above, are damaged numbers."""
SHOWN = 6
"""Qubits or edges that a remark lists before it only counts."""


@dataclass
class _Reading:
    """What is found in the properties, and what has to be said about it."""

    t1: Matrix
    t2: Matrix
    readout: Matrix
    readout_duration: Matrix
    faulty_qubits: set[int] = field(default_factory=set)
    faulty_edges: set[tuple[int, int]] = field(default_factory=set)
    gates: dict[tuple[str, tuple[int, ...]], GateCalibration] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def read_snapshot(
    path: Path,
    *,
    name: str | None = None,
    description: str = "",
    asymmetric_readout: bool = False,
    assumed_gates2q_error: float | None = None,
) -> NoiseModel:
    """Read a snapshot; one whose files are as they were is not read again.

    Args:
        path: A folder that holds one `conf_*.json` and one `props_*.json`, or one of these two files.
        name: What to call it; None: as the machine.
        description: One line for people.
        asymmetric_readout: Take P(1 | 0) and P(0 | 1) apart instead of their mean, the `readout_error` that Aer's
            `NoiseModel.from_backend` uses for both.
        assumed_gates2q_error: Error of every two-qubit gate of a machine of which none is calibrated; None: such a
            machine has no two-qubit gates.

    Raises:
        InputError: A file is missing or damaged, or a number in it is none; an error is assumed although there are
            calibrated ones.
    """
    files = find_files(path)
    states = [file.stat() for file in files]
    versions = tuple((state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size) for state in states)
    return _read(files, versions, name, description, asymmetric_readout, assumed_gates2q_error)


@lru_cache(maxsize=64)
def _read(
    files: tuple[Path, Path],
    versions: tuple[tuple[int, ...], ...],
    name: str | None,
    description: str,
    asymmetric_readout: bool,
    assumed_error: float | None,
) -> NoiseModel:
    """Read the files of a snapshot in these `versions`: a study opens the noise of every one of its cells."""
    configuration, properties = read_files(files)
    try:
        return _build(
            configuration, properties, name or configuration.backend_name, description,
            asymmetric_readout, assumed_error,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"{files[1]}: {error}") from None


def _build(
    configuration: Configuration,
    properties: Properties,
    name: str,
    description: str,
    asymmetric_readout: bool,
    assumed_error: float | None,
) -> NoiseModel:
    n_qubits = configuration.n_qubits
    if len(properties.qubits) != n_qubits:
        raise ValueError(f"{len(properties.qubits)} qubits are calibrated, the machine has {n_qubits}")
    coordinates = configuration.coords or None
    if coordinates is not None and len(coordinates) != n_qubits:
        raise ValueError(f"the configuration has {len(coordinates)} coordinates for {n_qubits} qubits")
    reading = _read_qubits(properties, asymmetric=asymmetric_readout)
    used = [each for each in properties.gates if each.gate in configuration.basis_gates and each.gate in N_QUBITS]
    _read_gates(used, n_qubits, reading, assumed_error)
    for shared in (reading.readout, reading.t1, reading.t2, reading.readout_duration):
        shared.flags.writeable = False
    seconds_per_dt = None if configuration.dt is None else configuration.dt * 1e-9
    if seconds_per_dt is not None and seconds_per_dt < 1e-15:  # no clock ticks so fast: some old files are in seconds
        seconds_per_dt *= 1e9
        reading.remarks.append("dt read as seconds")
    return NoiseModel(
        name=name,
        n_qubits=n_qubits,
        gates=reading.gates,
        readout=reading.readout,
        t1=reading.t1,
        t2=reading.t2,
        readout_duration=reading.readout_duration,
        dt=seconds_per_dt,
        date=properties.last_update_date,
        description=description,
        remarks=tuple(reading.remarks),
        faulty_qubits=tuple(sorted(reading.faulty_qubits)),
        faulty_edges=tuple(sorted(reading.faulty_edges)),
        coordinates=coordinates,
        timing=configuration.timing_constraints.model_dump(),
    )


def _read_qubits(properties: Properties, *, asymmetric: bool) -> _Reading:
    n_qubits = len(properties.qubits)
    result = _Reading(np.full(n_qubits, np.inf), np.full(n_qubits, np.inf), np.zeros((n_qubits, 2)), np.zeros(n_qubits))
    clipped = []
    for qubit, quantities in enumerate(properties.qubits):
        values = {each.name: each for each in quantities}
        for key, times in (("T1", result.t1), ("T2", result.t2)):
            if key in values:
                times[qubit] = values[key].seconds
                if times[qubit] < SHORTEST:
                    raise ValueError(f"qubit {qubit}: {key} = {times[qubit]:g} s is less than {SHORTEST:g} s")
        if result.t2[qubit] > 2 * result.t1[qubit]:
            if "T2" in values:
                clipped.append(str(qubit))
            result.t2[qubit] = 2 * result.t1[qubit]
        apart = asymmetric and "prob_meas1_prep0" in values and "prob_meas0_prep1" in values
        keys = ("prob_meas1_prep0", "prob_meas0_prep1") if apart else ("readout_error", "readout_error")
        for column, key in enumerate(keys):
            result.readout[qubit, column] = flip = values[key].value if key in values else 0.0
            if not 0 <= flip <= 1:
                raise ValueError(f"qubit {qubit}: {key} = {flip} is no probability")
        if "readout_length" in values:
            result.readout_duration[qubit] = values["readout_length"].seconds
            if not 0 <= result.readout_duration[qubit] <= LONGEST:
                seconds = result.readout_duration[qubit]
                raise ValueError(f"qubit {qubit}: readout_length = {seconds:g} s is not between 0 and {LONGEST:g} s")
        if result.readout[qubit].max() >= FAULTY_ERROR or not _operational(values):
            result.faulty_qubits.add(qubit)
    if clipped:
        result.remarks.append(f"T2 clipped to 2 T1 on {_listed(clipped, 'qubit')}")
    return result


def _read_gates(gates: Sequence[Gate], n_qubits: int, reading: _Reading, assumed_error: float | None) -> None:
    for gate in gates:
        if len(set(gate.qubits)) != N_QUBITS[gate.gate] or not all(0 <= q < n_qubits for q in gate.qubits):
            number = N_QUBITS[gate.gate]
            raise ValueError(
                f"gate {gate.gate} is on qubits {list(gate.qubits)}: it takes {number} of 0 to {n_qubits - 1}"
            )
    for gate, error in zip(gates, _errors(gates, reading, assumed_error), strict=True):
        if error >= FAULTY_ERROR:
            if len(gate.qubits) == 1:
                reading.faulty_qubits.add(gate.qubits[0])
            else:
                reading.faulty_edges.add((min(gate.qubits), max(gate.qubits)))
            continue
        length = gate.quantities.get("gate_length")
        duration = length.seconds if length else 0.0
        if not 0 <= duration <= LONGEST:
            where = f"gate {gate.gate} on {list(gate.qubits)}"
            raise ValueError(f"{where}: gate_length = {duration:g} s is not between 0 and {LONGEST:g} s")
        noise = calibrated_noise(error, duration, [(reading.t1[q], reading.t2[q]) for q in gate.qubits])
        reading.gates[gate.gate, gate.qubits] = GateCalibration(error, duration, noise)
    _leave_out(gates, reading)


def _errors(gates: Sequence[Gate], reading: _Reading, assumed_error: float | None) -> list[float]:
    """The error of each gate, 1 where it does not work, and the assumed one where no two-qubit gate does."""
    errors = []
    for gate in gates:
        calibrated = gate.quantities.get("gate_error")
        error = calibrated.value if calibrated else 0.0
        if not 0 <= error <= 1:
            raise ValueError(f"gate {gate.gate} on {list(gate.qubits)}: gate_error = {error} is no probability")
        errors.append(error if _operational(gate.quantities) else 1.0)
    pairs = {index: frozenset(gate.qubits) for index, gate in enumerate(gates) if len(gate.qubits) == 2}
    working = sum(errors[index] < FAULTY_ERROR for index in pairs)
    if assumed_error is not None and (working or not pairs):
        raise ValueError(
            "assumed_gates2q_error is for machines without any calibrated two-qubit gate; "
            f"of this one's {len(pairs)}, {working} are calibrated"
        )
    if not pairs or working:
        return errors
    if assumed_error is None:
        reading.remarks.append("no two-qubit gate is calibrated, none can be used (see assumed_gates2q_error)")
        return errors
    edges = len(set(pairs.values()))
    reading.remarks.append(f"no two-qubit gate is calibrated: error {assumed_error:g} assumed on {edges} edges")
    return [assumed_error if index in pairs else error for index, error in enumerate(errors)]


def _operational(values: Mapping[str, Quantity]) -> bool:
    return "operational" not in values or bool(values["operational"].value)


def _leave_out(gates: Sequence[Gate], reading: _Reading) -> None:
    """Drop the gates of faulty qubits and edges, and say which these are."""
    if reading.faulty_qubits:
        reading.remarks.append(f"faulty, left out: {_listed([str(q) for q in sorted(reading.faulty_qubits)], 'qubit')}")
    if reading.faulty_edges:
        edges = [f"{a}-{b}" for a, b in sorted(reading.faulty_edges)]
        reading.remarks.append(f"faulty, left out: {_listed(edges, 'edge')}")
    for gate in gates:
        if len(gate.qubits) == 2 and reading.faulty_qubits & set(gate.qubits):
            reading.faulty_edges.add((min(gate.qubits), max(gate.qubits)))
    reading.gates = {
        (name, qubits): calibration
        for (name, qubits), calibration in reading.gates.items()
        if not reading.faulty_qubits & set(qubits) and tuple(sorted(qubits)) not in reading.faulty_edges
    }


def _listed(names: Sequence[str], what: str) -> str:
    """`qubits 3, 4`, or the first few and a count."""
    shown = ", ".join(names[:SHOWN])
    if len(names) > SHOWN:
        return f"{len(names)} {what}s: {shown}, ..."
    return f"{what}{'s' * (len(names) > 1)} {shown}"


def calibrated_noise(error: float, duration: float, times: Sequence[tuple[float, float]]) -> GateNoise:
    """Split a gate's infidelity into relaxation and depolarizing noise, as Aer's `NoiseModel.from_backend` does.

    With F the average fidelity of the relaxation alone, p = d (F - 1 + error) / (d F - 1) for dimension d.

    Args:
        error: Average gate infidelity. One that not even completely depolarizing noise reaches counts as that.
        duration: Seconds.
        times: (T1, T2) of each qubit, seconds.
    """
    relaxation = tuple((duration / t1, duration / t2) for t1, t2 in times)
    dimension = 2 ** len(times)
    entanglement_fidelity = math.prod((1 + 2 * math.exp(-b) + math.exp(-a)) / 4 for a, b in relaxation)
    fidelity = (dimension * entanglement_fidelity + 1) / (dimension + 1)
    if error <= 1 - fidelity or dimension * fidelity <= 1:
        return GateNoise(0.0, relaxation)
    probability = dimension * (error - 1 + fidelity) / (dimension * fidelity - 1)
    return GateNoise(-math.log(max(1 - probability, MIN_KEPT)), relaxation)
