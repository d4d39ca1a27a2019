"""What a layout needs to know of a machine: which qubits are joined, and how good everything is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qiskit.circuit.delay import Delay
from qiskit.transpiler import InstructionProperties, Target
from qiskit.utils.units import apply_prefix

from qhybrid.circuits.gates import VIRTUAL_GATES

MAX_ERROR = 1 - 1e-12


@dataclass(frozen=True, eq=False)
class Machine:
    """A transpiler target as arrays, Q qubits. Fidelities are logarithms; -inf is what cannot be used.

    Args:
        target: Its gates without two-qubit gates that take an angle (see `cut`).
        usable: Qubits that can be measured and rotated, shape (Q,).
        readout: Log fidelity of the readout, shape (Q,).
        gate1q: Mean log fidelity of the pulses on a qubit, shape (Q,).
        gate2q: Log fidelity of the best two-qubit gate of a pair, in either direction, shape (Q, Q).
        seconds1q: Median duration of a pulse.
        seconds2q: Median duration of a two-qubit gate.
        t1: Seconds, shape (Q,), inf where there is no relaxation.
        t2: Seconds, shape (Q,).
    """

    target: Target
    usable: NDArray[np.bool_]
    readout: NDArray[np.float64]
    gate1q: NDArray[np.float64]
    gate2q: NDArray[np.float64]
    seconds1q: float
    seconds2q: float
    t1: NDArray[np.float64]
    t2: NDArray[np.float64]

    @classmethod
    def of(cls, target: Target) -> "Machine":
        """Read a target."""
        n = target.num_qubits
        readout, gate2q = np.full(n, -np.inf), np.full((n, n), -np.inf)
        pulses: list[list[float]] = [[] for _ in range(n)]
        seconds: dict[int, list[float]] = {1: [], 2: []}
        rotated = np.zeros(n, dtype=bool)
        for name, on in gates(target):
            fidelity, duration = log_fidelity(target, name, on), gate_seconds(target, name, on)
            if name == "measure":
                readout[on[0]] = fidelity
            elif len(on) == 1:
                rotated[on[0]] = True
                if name not in VIRTUAL_GATES:
                    pulses[on[0]].append(fidelity)
                    seconds[1].append(duration)
            else:
                gate2q[on] = gate2q[on[::-1]] = max(fidelity, gate2q[on])
                seconds[2].append(duration)
        usable = rotated & np.isfinite(readout)
        gate2q[~usable] = gate2q[:, ~usable] = -np.inf
        times = [relaxation_times(target, qubit) for qubit in range(n)]
        return cls(
            target=target,
            usable=usable,
            readout=readout,
            gate1q=np.array([np.mean(each) if each else 0.0 for each in pulses]),
            gate2q=gate2q,
            seconds1q=float(np.median(seconds[1])) if seconds[1] else 0.0,
            seconds2q=float(np.median(seconds[2])) if seconds[2] else 0.0,
            t1=np.array([t1 for t1, _ in times]),
            t2=np.array([t2 for _, t2 in times]),
        )

    def waiting(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log fidelity of many short waits on each qubit, their sums (N,) in seconds -> (N, Q)."""
        return -np.outer(seconds, 1 / (3 * self.t2) + 1 / (6 * self.t1))

    def largest_group(self) -> int:
        """Qubits in the largest group that two-qubit gates connect."""
        joined = np.isfinite(self.gate2q) | np.diag(self.usable)
        while True:
            wider = (joined.astype(float) @ joined) > 0
            if (wider == joined).all():
                return int(joined.sum(axis=1).max())
            joined = wider

    def cut(self, qubits: Sequence[int]) -> Target:
        """The target of some qubits only, numbered in this order."""
        whole, place = self.target, {qubit: index for index, qubit in enumerate(qubits)}
        properties = whole.qubit_properties
        result = Target(
            description=whole.description,
            num_qubits=len(qubits),
            dt=whole.dt,
            granularity=whole.granularity,
            min_length=whole.min_length,
            pulse_alignment=whole.pulse_alignment,
            acquire_alignment=whole.acquire_alignment,
            qubit_properties=[properties[q] for q in qubits] if properties else None,
        )
        kept: dict[str, dict[tuple[int, ...], InstructionProperties | None]] = {}
        for name, on in gates(whole):
            if all(q in place for q in on):
                kept.setdefault(name, {})[tuple(place[q] for q in on)] = whole[name][on]
        for name in ("delay", "reset"):
            if name in whole.operation_names:
                kept[name] = {(index,): None for index in range(len(qubits))}
        for name, entries in sorted(kept.items()):
            result.add_instruction(whole.operation_from_name(name), entries, name=name)
        return result


def gates(target: Target) -> list[tuple[str, tuple[int, ...]]]:
    """Gates that circuits are laid out with, and the measurement: name and qubits, sorted.

    Two-qubit gates with an angle are left out: where machines have them the angle is limited (RZZ to [0, pi/2] among
    IBM's fractional gates), which the angle of a slot need not keep, least of all a shifted one.
    """
    return sorted(
        (name, on)
        for name in target.operation_names
        if name not in ("delay", "reset", "barrier", "id")
        for on in target[name] or ()
        if on is not None and (len(on) == 1 or (len(on) == 2 and not target.operation_from_name(name).params))
    )


def log_fidelity(target: Target, name: str, on: tuple[int, ...]) -> float:
    """Of a gate or a measurement; 0 where no error is known."""
    properties = target[name][on]
    return math.log1p(-min((properties.error or 0.0) if properties else 0.0, MAX_ERROR))


def gate_seconds(target: Target, name: str, on: tuple[int, ...]) -> float:
    """Duration of a gate; 0 where none is known."""
    properties = target[name][on]
    return float((properties.duration or 0.0) if properties else 0.0)


def delay_seconds(delay: Delay, dt: float | None) -> float:
    """Duration of a delay in a time unit or in dt, of which a machine without a clock (None) makes nothing."""
    value = float(delay.duration)
    return value * (dt or 0.0) if delay.unit == "dt" else float(apply_prefix(value, delay.unit))


def relaxation_times(target: Target, qubit: int) -> tuple[float, float]:
    """(T1, T2) in seconds, inf where there is no relaxation."""
    properties = target.qubit_properties[qubit] if target.qubit_properties else None
    t1 = getattr(properties, "t1", None) or math.inf
    return t1, min(getattr(properties, "t2", None) or math.inf, 2 * t1)
