"""A noise model: what every gate, every wait and every readout of a machine does wrong, as rates.

The rates follow Aer's `NoiseModel.from_backend`: a gate's calibrated infidelity is thermal relaxation for its duration
preceded by as much depolarizing noise as is missing. Rates can be scaled by any factor and taken apart, which keeps
the channels physical: depolarizing shrinks by exp(-rate), relaxation by exp(-t / T1) and exp(-t / T2).
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import InputError, did_you_mean
from qhybrid.noise_models.channels import Matrix, depolarizing_channel, relaxation_channel, tensor

if TYPE_CHECKING:
    from qiskit.transpiler import Target
    from qiskit_aer.noise import NoiseModel as AerNoiseModel

PARTS = ("gates1q", "gates2q", "thermal", "readout", "idle")
"""What a noise model consists of: depolarizing noise of gates on one and on two qubits, relaxation during gates,
readout errors, relaxation of waiting qubits."""
BEST_CASE = "simulated noise is a best case: crosstalk, leakage, drift and coherent errors are not in it"
MAX_SCALE = 1000.0


@dataclass(frozen=True)
class GateNoise:
    """The noise that follows a gate: depolarizing on all its qubits, then relaxation of each.

    Args:
        depolarizing: Rate, -ln(1 - p).
        relaxation: (t / T1, t / T2) of each of its qubits.
    """

    depolarizing: float
    relaxation: tuple[tuple[float, float], ...]

    @property
    def channel(self) -> Matrix:
        """Pauli transfer matrix, shape (4**n, 4**n), the gate's first qubit the most significant."""
        relaxed = tensor(relaxation_channel(*each) for each in self.relaxation)
        return relaxed @ depolarizing_channel(self.depolarizing, len(self.relaxation))


@dataclass(frozen=True)
class GateCalibration:
    """What is known of a gate on certain qubits.

    Args:
        error: Average gate infidelity, relaxation included.
        duration: Seconds; 0 for a virtual gate.
        noise: What it does, at scale 1.
    """

    error: float
    duration: float
    noise: GateNoise


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """A machine's noise. Faulty qubits and edges are not in it, so that no circuit is laid over them.

    Args:
        name: What tables and files call it.
        n_qubits: Qubits of the machine, working or not.
        gates: (name, qubits) -> calibration, for every gate that may be used. Virtual gates have error 0.
        readout: (P(1 | 0), P(0 | 1)) of each qubit, shape (n_qubits, 2); NaN where a qubit cannot be measured.
        t1: Seconds, shape (n_qubits,); inf where there is no relaxation.
        t2: Seconds, shape (n_qubits,), at most 2 * t1.
        readout_duration: Seconds, shape (n_qubits,).
        dt: Seconds; what durations on the machine are multiples of. None where there is no such clock.
        idle: Whether waiting qubits relax: circuits are then scheduled as late as possible (ALAP), whatever parts are
            on.
        date: When the machine was calibrated, ISO 8601; None for a parametric model.
        description: One line for people.
        remarks: What was clipped or excluded, and what else must be said with a result.
        faulty_qubits: Qubits that cannot be used.
        faulty_edges: Pairs of qubits whose two-qubit gate cannot be used.
        coordinates: Position (column, row) of each qubit on a map; None where it is not known.
        timing: The machine's timing constraints in units of dt, as Qiskit's `Target` takes them.
        scale: Factor on all rates.
        parts: Which of `PARTS` are on.
    """

    name: str
    n_qubits: int
    gates: Mapping[tuple[str, tuple[int, ...]], GateCalibration]
    readout: NDArray[np.float64]
    t1: NDArray[np.float64]
    t2: NDArray[np.float64]
    readout_duration: NDArray[np.float64]
    dt: float | None = None
    idle: bool = True
    date: str | None = None
    description: str = ""
    remarks: tuple[str, ...] = ()
    faulty_qubits: tuple[int, ...] = ()
    faulty_edges: tuple[tuple[int, int], ...] = ()
    coordinates: tuple[tuple[float, float], ...] | None = None
    timing: Mapping[str, int] = field(default_factory=dict)
    scale: float = 1.0
    parts: frozenset[str] = frozenset(PARTS)

    def scaled(self, factor: float) -> "NoiseModel":
        """The same model with all rates times a factor.

        Raises:
            InputError: The factor is negative, not finite or beyond `MAX_SCALE`.
        """
        if not 0 <= factor <= MAX_SCALE:
            raise InputError(f"noise scale {factor}: allowed are numbers from 0 to {MAX_SCALE:g}")
        return replace(self, scale=self.scale * factor)

    def with_parts(self, parts: Iterable[str]) -> "NoiseModel":
        """The same model with some of its parts only.

        Raises:
            InputError: There is no such part.
        """
        chosen = frozenset(parts)
        for part in sorted(chosen - set(PARTS)):
            raise InputError(f"unknown noise part {part!r}; {did_you_mean(part, PARTS)}")
        return replace(self, parts=self.parts & chosen)

    @property
    def label(self) -> str:
        """Name, scale and parts, as in `ibm_torino x0.5 (gates2q, readout)`."""
        scale = "" if self.scale == 1 else f" x{self.scale:g}"
        parts = "" if self.parts == frozenset(PARTS) else f" ({', '.join(p for p in PARTS if p in self.parts)})"
        return f"{self.name}{scale}{parts}"

    def gate_noise(self, name: str, qubits: tuple[int, ...]) -> GateNoise | None:
        """The noise after a gate, scaled, of the parts that are on; None where there is none."""
        calibration = self.gates.get((name, qubits))
        if calibration is None:
            return None
        noise = calibration.noise
        depolarizes = ("gates1q" if len(qubits) == 1 else "gates2q") in self.parts
        depolarizing = self.scale * noise.depolarizing if depolarizes else 0.0
        factor = self.scale if "thermal" in self.parts else 0.0
        relaxation = tuple((factor * a, factor * b) for a, b in noise.relaxation)
        if depolarizing == 0 and not any(any(each) for each in relaxation):
            return None
        return GateNoise(depolarizing, relaxation)

    def idle_noise(self, qubit: int, seconds: float) -> GateNoise | None:
        """The noise of a qubit that waits, scaled; None where there is none."""
        if not self.idle or "idle" not in self.parts or seconds <= 0 or self.scale == 0:
            return None
        rates = (self.scale * seconds / self.t1[qubit], self.scale * seconds / self.t2[qubit])
        return GateNoise(0.0, (rates,)) if any(rates) else None

    def readout_error(self, qubit: int) -> tuple[float, float]:
        """(P(1 | 0), P(0 | 1)) of a qubit, scaled.

        The confusion matrix is taken as exp(G) and scaled to exp(scale * G), a stochastic matrix at any factor. One
        that is no such exponential (worse than a coin) is mixed with the identity up to factor 1, and stays as it is
        beyond.
        """
        flip0, flip1 = (float(each) for each in self.readout[qubit])
        lost = flip0 + flip1
        if "readout" not in self.parts or self.scale == 0 or lost == 0:
            return (0.0, 0.0)
        if self.scale == 1:
            return (flip0, flip1)
        grown = -math.expm1(self.scale * math.log1p(-lost)) / lost if lost < 1 else min(self.scale, 1.0)
        return (min(flip0 * grown, 1.0), min(flip1 * grown, 1.0))

    def readout_matrix(self, qubit: int) -> Matrix:
        """Confusion matrix of a qubit, [read, true], shape (2, 2)."""
        flip0, flip1 = self.readout_error(qubit)
        return np.array([[1 - flip0, flip1], [flip0, 1 - flip1]])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that changes a result, scale and parts included."""
        content = json.dumps([self._machine_content(), self.scale, sorted(self.parts)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def machine_fingerprint(self) -> str:
        """Hash of everything that changes a layout: the machine, whatever the scale and the parts."""
        content = json.dumps(self._machine_content(), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _machine_content(self) -> list[Any]:
        gates = [
            [name, list(qubits), c.error, c.duration, c.noise.depolarizing, c.noise.relaxation]
            for (name, qubits), c in sorted(self.gates.items())
        ]
        arrays = [np.nan_to_num(each, nan=-1, posinf=-2).tolist() for each in (self.readout, self.t1, self.t2)]
        durations = np.nan_to_num(self.readout_duration, nan=-1).tolist()
        return [self.n_qubits, gates, arrays, durations, self.dt, self.idle, dict(self.timing)]

    def provenance(self) -> dict[str, Any]:
        """What a result must say about its noise."""
        return {
            "name": self.name,
            "date": self.date,
            "scale": self.scale,
            "parts": [part for part in PARTS if part in self.parts],
            "fingerprint": self.fingerprint,
            "remarks": [*self.remarks, BEST_CASE],
        }

    def target(self) -> "Target":
        """The machine as Qiskit's transpiler sees it: usable gates and qubits with their errors and durations."""
        from qhybrid.noise_models.qiskit_forms import target

        return target(self)

    def aer(self, qubits: tuple[int, ...]) -> "AerNoiseModel":
        """Aer's form of the gate noise and readout errors, cut to some qubits, which it numbers from 0.

        Args:
            qubits: Physical qubits, in the order of their new numbers.
        """
        from qhybrid.noise_models.qiskit_forms import aer_noise_model

        return aer_noise_model(self, qubits)
