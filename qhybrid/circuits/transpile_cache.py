"""ISA circuits that were found before, in memory and on disk.

One file an entry: a checksum, a line of JSON, then the circuits in Qiskit's QPY. A damaged file is as good as none,
and a folder that cannot be written is left alone: the layout is then searched again.
"""

import contextlib
import hashlib
import io
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import qiskit
from platformdirs import user_cache_dir
from qiskit import QuantumCircuit, qpy
from qiskit.transpiler import Target

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.isa import IsaReport
from qhybrid.storage import write_bytes

FORMAT = 3
"""Changes whenever a file, or what is searched, means something else."""
FOLDER_VARIABLE = "QHYBRID_CACHE"
"""Environment variable that moves the cache."""
IN_MEMORY = 64
"""Entries kept in memory."""


@dataclass(frozen=True, eq=False)
class Entry:
    """What is kept of an ISA circuit.

    Args:
        isa: Qiskit's circuit.
        qubits: Physical qubits used, ascending.
        measured: Classical bit -> place among `qubits`.
        layout: Wire -> physical qubit that it starts on.
        report: What it costs.
    """

    isa: QuantumCircuit
    qubits: tuple[int, ...]
    measured: tuple[int, ...]
    layout: dict[int, int]
    report: IsaReport


_memory: dict[str, list[Entry]] = {}


def folder() -> Path:
    """Where the files are: `QHYBRID_CACHE`, or the user's cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return (Path(chosen).expanduser() if chosen else Path(user_cache_dir("qhybrid"))) / "isa"


def key(circuit: Circuit, target: Target, schedule: bool, layout_seeds: int, optimization_level: int) -> str:
    """Hash of everything that a layout depends on: gates, observables, the machine, the search and the versions."""
    content = [
        FORMAT,
        qiskit.__version__,
        circuit.n_qubits,
        circuit.n_angles,
        [(gate.name, gate.wires, gate.slot) for gate in circuit.gates],
        [word.factors for word in circuit.observables],
        _machine(target),
        schedule,
        layout_seeds,
        optimization_level,
        *([list(circuit.constants.items())] if circuit.constants else []),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _machine(target: Target) -> list[Any]:
    instructions = []
    for name in sorted(target.operation_names):
        for on, properties in sorted((target[name] or {}).items(), key=lambda entry: entry[0] or ()):
            rates = (properties.error, properties.duration) if properties else None
            instructions.append((name, on, rates))
    times = [(getattr(q, "t1", None), getattr(q, "t2", None)) for q in target.qubit_properties or ()]
    clock = (target.dt, target.granularity, target.min_length, target.pulse_alignment, target.acquire_alignment)
    return [target.num_qubits, instructions, times, clock]


def load(key: str) -> list[Entry] | None:
    """An entry; None where there is none that can be read."""
    if key not in _memory:
        path = folder() / f"{key}.isa"
        try:
            found = _unpack(path.read_bytes())
        except Exception:  # whatever is wrong with a file, the layout can be searched again
            return None
        _remember(key, found)
    return _memory[key]


def store(key: str, entries: Sequence[Entry]) -> None:
    """Keep an entry in memory, and on disk if that is possible."""
    _remember(key, list(entries))
    with contextlib.suppress(OSError):
        write_bytes(folder() / f"{key}.isa", _pack(entries), durable=False)


def forget() -> None:
    """Empty the memory; the files stay."""
    _memory.clear()


def _remember(key: str, entries: list[Entry]) -> None:
    _memory[key] = entries
    while len(_memory) > IN_MEMORY:
        _memory.pop(next(iter(_memory)))


def _pack(entries: Sequence[Entry]) -> bytes:
    described = [
        {
            "qubits": entry.qubits,
            "measured": entry.measured,
            "layout": sorted(entry.layout.items()),
            "report": asdict(entry.report),
        }
        for entry in entries
    ]
    circuits = io.BytesIO()
    qpy.dump([entry.isa for entry in entries], circuits)
    content = json.dumps(described).encode() + b"\n" + circuits.getvalue()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _unpack(data: bytes) -> list[Entry]:
    checksum, _, content = data.partition(b"\n")
    if checksum.decode() != hashlib.sha256(content).hexdigest():
        raise ValueError("damaged")
    described, _, circuits = content.partition(b"\n")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ParameterVector")  # some slots were optimised away
        isa = qpy.load(io.BytesIO(circuits))
    return [
        Entry(
            isa=circuit,
            qubits=tuple(each["qubits"]),
            measured=tuple(each["measured"]),
            layout=dict(each["layout"]),
            report=IsaReport(**each["report"]),
        )
        for circuit, each in zip(isa, json.loads(described), strict=True)
    ]
