"""What a device is: capabilities, programs, estimates, a tracker, and the contract between them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.errors import InputError, did_you_mean
from qhybrid.noise_models.model import NoiseModel

if TYPE_CHECKING:
    from qhybrid.circuits.transpile import IsaCircuit

MAX_SHOTS = 10**8
LAYOUT_SEEDS = 16
"""Transpiler seeds tried for each circuit unless another number is given."""


@dataclass(frozen=True)
class Capabilities:
    """What a device can do.

    Args:
        diff_methods: Gradient methods it supports, the best first.
        analytic: Exact expectation values (`shots=None`).
        shots: Estimates from a finite number of shots.
        noise: Takes a noise model.
        asynchronous: A run is a job that can be submitted and collected later.
        state_preparation: Starts from a given state vector; otherwise the state is prepared by gates.
        max_qubits: Largest circuit it takes.
    """

    diff_methods: tuple[str, ...] = ("parameter-shift", "spsa")
    analytic: bool = True
    shots: bool = True
    noise: bool = False
    asynchronous: bool = False
    state_preparation: bool = False
    max_qubits: int = 24


@dataclass(frozen=True, eq=False)
class Program:
    """A circuit made ready for one device: validated, compiled, laid out, once.

    Args:
        circuit: The circuit that the columns of `run` belong to.
        compiled: The device's own form of it.
        decomposed: It runs in the gates of a machine, with noise between the parts of what was one gate.
    """

    circuit: Circuit
    compiled: Any
    decomposed: bool = False


@dataclass(frozen=True, eq=False)
class Estimates:
    """Expectation values with their shot noise.

    Args:
        values: Shape (B, M), in [-1, 1].
        stderr: Standard errors, shape (B, M); zero where the values are exact.
    """

    values: Tensor
    stderr: Tensor

    @classmethod
    def exact(cls, values: Tensor) -> "Estimates":
        """Estimates without shot noise."""
        return cls(values, torch.zeros_like(values))


@dataclass
class Tracker:
    """What was spent on a device so far."""

    batches: int = 0
    """Calls of `run`."""
    circuits: int = 0
    """Circuits executed: rows of angles times measurement bases."""
    shots: int = 0
    """Shots taken, over all circuits."""
    transpilations: int = 0
    """Circuits compiled or transpiled."""
    jobs: int = 0
    """Jobs sent to a machine; a local simulator counts a run as one."""
    qpu_seconds: float | None = None
    """Seconds that machines report as used; None: no machine has reported any."""

    def count(self, *, circuits: int, shots: int | None) -> None:
        """Count one call of `run`."""
        self.batches += 1
        self.jobs += 1
        self.circuits += circuits
        self.shots += circuits * (shots or 0)

    def to_dict(self) -> dict[str, float]:
        """The counts by name, without what was not counted."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Device(ABC):
    """Turns a batch of angles into a batch of expectation values.

    A driver subclasses this, or offers the same attributes and the two methods.

    Args:
        name: The name that the user gave.
    """

    capabilities: Capabilities

    def __init__(self, name: str) -> None:
        self.name = name
        self.tracker = Tracker()

    @abstractmethod
    def prepare(self, circuit: Circuit) -> Program:
        """Validate and compile a circuit, once.

        Raises:
            InputError: The device cannot run it; says why.
        """

    @abstractmethod
    def run(self, program: Program, angles: Tensor, *, shots: int | None, seed: int | None) -> Estimates:
        """Run a whole batch: one call is one job.

        Args:
            program: From `prepare`.
            angles: Shape (B, P) in radians. On a device with `state_preparation`, a circuit that starts from an
                encoded state has its S amplitudes (a unit vector) in the leading columns: (B, S + P).
            shots: Shots for every row and measurement basis; None means exact.
            seed: Of the shot draws; None draws a fresh one.

        Returns:
            Values and standard errors, shape (B, M), in the order of the circuit's observables.
        """


class MachineDevice(Device):
    """A device that runs a circuit in the gates of a machine, on the physical qubits of its choice."""

    @property
    @abstractmethod
    def machine(self) -> str | None:
        """Name of the machine; None: there is none, and circuits run as they are."""

    @abstractmethod
    def isa_circuits(self, program: Program) -> "tuple[IsaCircuit, ...]":
        """The ISA circuits of a program, one for each measurement basis; none without a machine."""

    def program_of(self, isa: "tuple[IsaCircuit, ...]") -> Program:
        """A program of ISA circuits as they are: no new layout, no optimisation. Mitigation needs it.

        Args:
            isa: All of one circuit, one for each of its measurement bases.

        Raises:
            InputError: The device cannot run circuits that it has not laid out itself.
        """
        raise InputError(f"{self.name} runs no ISA circuits but its own")


class NoisyDevice(MachineDevice):
    """A device that simulates a machine's noise.

    Its driver takes the keywords `noise` and `layout_seeds`; `prepare` lays the circuit out on the machine once, and
    `rescaled` changes the strength of the noise without doing that again.

    Args:
        name: The name that the user gave.
        noise: The noise model; None: ideal gates.
        layout_seeds: Transpiler seeds tried for each circuit.
    """

    def __init__(self, name: str, *, noise: NoiseModel | None = None, layout_seeds: int = LAYOUT_SEEDS) -> None:
        super().__init__(name)
        self.noise = noise
        self.layout_seeds = layout_seeds

    @property
    def machine(self) -> str | None:
        return None if self.noise is None else self.noise.name

    def lay_out(self, circuit: Circuit) -> "tuple[IsaCircuit, ...]":
        """The circuit on the noise model's machine, one ISA circuit for each measurement basis."""
        from qhybrid.circuits.transpile import isa_circuits

        assert self.noise is not None
        machine = self.noise
        return isa_circuits(
            circuit, machine.target(), schedule=machine.idle, layout_seeds=self.layout_seeds, machine=machine.name
        )

    @abstractmethod
    def rescaled(self, program: Program, factor: float) -> Program:
        """The same program with the rates of the device's noise model times a factor."""


class AdjointDevice(Device):
    """A device that differentiates its own circuits by the adjoint method (Jones and Gacon, arXiv 2009.02823)."""

    @abstractmethod
    def run_with_adjoint(
        self, program: Program, angles: Tensor, columns: NDArray[np.bool_]
    ) -> tuple[Estimates, Callable[[Tensor], Tensor]]:
        """Run a batch and keep what its gradient needs.

        Args:
            program: From `prepare`.
            angles: As in `run`.
            columns: Which columns of `angles` need a gradient, shape (S + P,).

        Returns:
            The exact estimates, and a function from a cotangent (B, M) to the gradient (B, S + P), zero in
            the columns that need none.
        """


def check_shots(shots: int | None) -> None:
    """Raise an InputError unless shots is None or a whole number in range."""
    if shots is None:
        return
    if isinstance(shots, bool) or not isinstance(shots, int) or not 1 <= shots <= MAX_SHOTS:
        raise InputError(
            f"shots = {shots!r}: allowed are whole numbers from 1 to {MAX_SHOTS}, or None for exact values"
        )


def check_choice(device: str, option: str, given: str, allowed: Collection[str]) -> None:
    """Raise an InputError unless an option of a device is one of those allowed."""
    if given not in allowed:
        raise InputError(f"{device}: unknown {option} {given!r}; {did_you_mean(str(given), allowed)}")


def check_size(device: str, circuit: Circuit, max_qubits: int) -> None:
    """Raise an InputError if a circuit is too large for a device."""
    if circuit.n_qubits > max_qubits:
        raise InputError(f"circuit {circuit.name!r} has {circuit.n_qubits} qubits; {device} takes at most {max_qubits}")
