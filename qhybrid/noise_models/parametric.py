"""Noise models made of a few parameters on a coupling map.

kind = "parametric"
description = "Depolarizing noise on a 4 x 4 grid"
coupling = "grid"
qubits = 16

[depolarizing]
gates1q = 0.001
gates2q = 0.01
"""

import math
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qhybrid.circuits.gates import VIRTUAL_GATES
from qhybrid.errors import did_you_mean
from qhybrid.noise_models.channels import MIN_KEPT, average_infidelity
from qhybrid.noise_models.couplings import CouplingName, coupling_map
from qhybrid.noise_models.machine_gates import ENTANGLERS, N_QUBITS
from qhybrid.noise_models.model import GateCalibration, GateNoise, NoiseModel

MAX_QUBITS = 1000
LONGEST_NS = 1e9
PICOSECOND = 1e-12
"""The clock of these machines: durations are multiples of it, as schedules need."""
MAX_FULL = 100
"""Largest machine on which every pair of qubits is coupled."""
SUM_TOLERANCE = 1e-9


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GateRates(_Table):
    """A probability for each gate."""

    gates1q: float = Field(default=0.0, ge=0, le=1)
    """Of a gate on one qubit; virtual gates (rotations about Z) have none."""
    gates2q: float = Field(default=0.0, ge=0, le=1)
    """Of a gate on two qubits: for damping, on each of the two."""


class Thermal(_Table):
    """Relaxation during gates."""

    t1_us: float = Field(ge=1e-3)
    t2_us: float | None = Field(default=None, ge=1e-3)
    """At most 2 T1; None: 2 T1, no dephasing besides what the decay brings."""
    idle: bool = False
    """Whether waiting qubits relax as well; circuits are then scheduled as late as possible (ALAP)."""

    @model_validator(mode="after")
    def _physical(self) -> "Thermal":
        if self.t2_us is not None and self.t2_us > 2 * self.t1_us:
            raise ValueError(f"t2_us = {self.t2_us:g} is more than twice t1_us = {self.t1_us:g}, which no qubit has")
        return self


class Durations(_Table):
    """How long things take. They enter relaxation and schedules; the other kinds of noise do not depend on them."""

    gates1q_ns: float = Field(default=40.0, ge=0, le=LONGEST_NS)
    gates2q_ns: float = Field(default=200.0, ge=0, le=LONGEST_NS)
    readout_ns: float = Field(default=1000.0, ge=0, le=LONGEST_NS)


class Readout(_Table):
    """Errors of the readout: two probabilities, or the confusion matrix."""

    p1_given_0: float = Field(default=0.0, ge=0, le=1)
    p0_given_1: float = Field(default=0.0, ge=0, le=1)
    confusion: tuple[tuple[float, float], tuple[float, float]] | None = None
    """[[P(0|0), P(1|0)], [P(0|1), P(1|1)]], a row for each true state, as in Qiskit's `ReadoutError`."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Readout":
        if self.confusion is None:
            return self
        if {"p1_given_0", "p0_given_1"} & self.model_fields_set:
            raise ValueError("give either confusion or p1_given_0 and p0_given_1, not both")
        for state, row in enumerate(self.confusion):
            if min(row) < 0 or abs(sum(row) - 1) > SUM_TOLERANCE:
                raise ValueError(f"row {state} of confusion, {list(row)}, sums to {sum(row):g} or has a negative "
                                 "number: a row holds P(0 | true) and P(1 | true), which sum to 1")  # fmt: skip
        return self

    @property
    def flips(self) -> tuple[float, float]:
        """P(1 | 0) and P(0 | 1)."""
        if self.confusion is not None:
            return self.confusion[0][1], self.confusion[1][0]
        return self.p1_given_0, self.p0_given_1


class ParametricSpec(_Table):
    """A noise model made of parameters.

    After a gate comes depolarizing noise, then damping and relaxation, which commute with each other.
    """

    kind: Literal["parametric"]
    description: str = ""
    """One line for people."""
    coupling: CouplingName
    qubits: int = Field(ge=1, le=MAX_QUBITS)
    columns: int | None = Field(default=None, ge=1, le=MAX_QUBITS)
    """Qubits in a row of a grid or a heavy-hex lattice; None: about as wide as high."""
    basis_gates: tuple[str, ...] = ("rz", "sx", "x", "cz")
    """Qiskit's names of the machine's gates, one of cx, cz and ecr among them."""
    depolarizing: GateRates = GateRates()
    """Probability p of rho -> (1 - p) rho + p 1 / d."""
    amplitude_damping: GateRates = GateRates()
    """Probability gamma of |1> -> |0>, of each of the gate's qubits."""
    phase_damping: GateRates = GateRates()
    """Probability lambda: coherences shrink by sqrt(1 - lambda), of each of the gate's qubits."""
    thermal: Thermal | None = None
    durations: Durations = Durations()
    readout: Readout = Readout()

    @model_validator(mode="after")
    def _possible(self) -> "ParametricSpec":
        for gate in self.basis_gates:
            if gate not in N_QUBITS:
                raise ValueError(f"basis_gates has {gate!r}; {did_you_mean(gate, N_QUBITS)}")
        if self.qubits > 1 and not set(ENTANGLERS) & set(self.basis_gates):
            raise ValueError(f"basis_gates {', '.join(self.basis_gates)}: one of {', '.join(ENTANGLERS)} is needed")
        if self.coupling == "full" and self.qubits > MAX_FULL:
            raise ValueError(f"coupling full allows at most {MAX_FULL} qubits, not {self.qubits}")
        if self.columns is not None and self.coupling not in ("grid", "heavy-hex"):
            raise ValueError(f"columns belong to a grid or a heavy-hex lattice; the coupling is {self.coupling}")
        return self

    def open(self, name: str) -> NoiseModel:
        """The noise model that this describes, under a name."""
        coupling = coupling_map(self.coupling, self.qubits, self.columns)
        both_ways = [*coupling.edges, *((b, a) for a, b in coupling.edges)]
        gates: dict[tuple[str, tuple[int, ...]], GateCalibration] = {}
        for gate in self.basis_gates:
            calibration = self._calibration(gate)
            places = [(q,) for q in range(self.qubits)] if N_QUBITS[gate] == 1 else both_ways
            gates |= {(gate, qubits): calibration for qubits in places}
        t1, t2 = self._times()
        return NoiseModel(
            name=name,
            n_qubits=self.qubits,
            gates=gates,
            readout=np.tile(self.readout.flips, (self.qubits, 1)),
            t1=np.full(self.qubits, t1),
            t2=np.full(self.qubits, t2),
            readout_duration=np.full(self.qubits, _seconds(self.durations.readout_ns)),
            dt=PICOSECOND,
            idle=self.thermal is not None and self.thermal.idle,
            description=self.description,
            coordinates=coupling.coordinates,
        )

    def _times(self) -> tuple[float, float]:
        """T1 and T2 in seconds."""
        if self.thermal is None:
            return math.inf, math.inf
        t1 = self.thermal.t1_us
        return t1 * 1e-6, (2 * t1 if self.thermal.t2_us is None else self.thermal.t2_us) * 1e-6

    def _calibration(self, gate: str) -> GateCalibration:
        if gate in VIRTUAL_GATES:
            return GateCalibration(0.0, 0.0, GateNoise(0.0, ((0.0, 0.0),)))
        n_qubits = N_QUBITS[gate]
        key = f"gates{n_qubits}q"
        duration = _seconds(getattr(self.durations, f"{key}_ns"))
        damped = _rate(getattr(self.amplitude_damping, key))
        dephased = _rate(getattr(self.phase_damping, key))
        t1, t2 = self._times()
        relaxation = (duration / t1 + damped, duration / t2 + damped / 2 + dephased / 2)
        noise = GateNoise(_rate(getattr(self.depolarizing, key)), (relaxation,) * n_qubits)
        return GateCalibration(average_infidelity(noise.channel), duration, noise)


def _seconds(nanoseconds: float) -> float:
    return round(1000 * nanoseconds) * PICOSECOND


def _rate(probability: float) -> float:
    """-ln(1 - p), so that probabilities of noise that acts twice add up."""
    return -math.log1p(-probability) if probability < 1 else -math.log(MIN_KEPT)
