"""A circuit on a machine, without Qiskit's types: its operations, what they cost, and what that means for a result."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["survives", "partly", "hardly"]

SURVIVES = 0.5
"""From this survival on, expectation values keep most of their signal."""
PARTLY = 0.1
"""Below this survival, expectation values carry almost no signal."""


@dataclass(frozen=True)
class Affine:
    """An angle in radians as `constant + sum of factor * angle[slot]`."""

    constant: float
    terms: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class IsaOperation:
    """One operation of an ISA circuit, or of an ideal circuit.

    Args:
        name: Qiskit's name of the gate, or "delay". Measurements are not operations: see `IsaCircuit.measured`.
        qubits: Places among `IsaCircuit.qubits`, in the gate's order.
        params: Its angles.
        seconds: Of a delay.
    """

    name: str
    qubits: tuple[int, ...]
    params: tuple[Affine, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class IsaReport:
    """What a circuit costs on a machine.

    Args:
        n_qubits: Physical qubits used.
        gates1q: Gates on one qubit, virtual RZ not counted.
        gates2q: Gates on two qubits.
        two_qubit_gate: Name of the machine's two-qubit gate; empty where the circuit has none.
        depth: Longest path, virtual RZ and delays not counted.
        seconds: Duration, readout included.
        survival: Product of the fidelities of all gates and waits and of the readout of the measured qubits: a
            rough estimate of the probability that nothing goes wrong. A qubit that waits in its ground state loses
            nothing.
        seed: The transpiler seed that was best.
    """

    n_qubits: int
    gates1q: int
    gates2q: int
    two_qubit_gate: str
    depth: int
    seconds: float
    survival: float
    seed: int

    @property
    def level(self) -> Level:
        """`survives` from a survival of `SURVIVES` on, `hardly` below `PARTLY`, `partly` between them."""
        if self.survival >= SURVIVES:
            return "survives"
        return "partly" if self.survival >= PARTLY else "hardly"

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, and `level`."""
        return asdict(self) | {"level": self.level}


_MEANING: dict[Level, str] = {
    "survives": "expectation values keep most of their signal",
    "partly": "expectation values keep a part of their signal",
    "hardly": "expectation values will carry almost no signal",
}


def worst(reports: Sequence[IsaReport]) -> IsaReport:
    """The report of the measurement basis with the lowest survival."""
    return min(reports, key=lambda report: report.survival)


def verdict(report: IsaReport, circuit: str, machine: str) -> str:
    """What a report means for a result, in one sentence.

    Args:
        report: Of the circuit on the machine.
        circuit: Its name.
        machine: Its name.

    Returns:
        Such as `angle_4q on ibm_torino: 6 CZ, success probability 93 %: expectation values keep most of their signal`.
    """
    count = f"{report.gates2q} {report.two_qubit_gate.upper()}" if report.gates2q else "no two-qubit gate"
    return f"{circuit} on {machine}: {count}, success probability {percent(report.survival)}: {meaning(report)}"


def meaning(report: IsaReport) -> str:
    """The last part of the verdict."""
    return _MEANING[report.level]


def percent(probability: float) -> str:
    """A probability as `93 %`, with one digit where it is small."""
    if probability >= 0.0095:
        return f"{100 * probability:.0f} %"
    return f"{100 * probability:.1g} %" if probability >= 1e-5 else "below 0.001 %"
