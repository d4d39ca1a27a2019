"""Mitigation as a pair: the runs to make for a batch of angles, and their results combined to estimates."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from qhybrid.circuits.circuit import Circuit, Gate
from qhybrid.circuits.observables import MeasurementBasis, PauliWord
from qhybrid.devices.base import Device, Estimates, MachineDevice, NoisyDevice, Program
from qhybrid.devices.mitigation_combine import Tally, calibrated, combine
from qhybrid.devices.mitigation_readout import Confusion, WordReading
from qhybrid.devices.mitigation_spec import Mitigation
from qhybrid.errors import InputError

if TYPE_CHECKING:
    from qhybrid.circuits.transpile import IsaCircuit


@dataclass(frozen=True, eq=False)
class Run:
    """A call of the device.

    Args:
        program: What runs.
        angles: Shape (B, P).
        shots: For every row and measurement basis; None: exact.
    """

    program: Program
    angles: Tensor
    shots: int | None


@dataclass(frozen=True)
class Cost:
    """What a batch costs with mitigation.

    Args:
        circuits: Circuits executed, calibration included.
        shots: Shots, calibration included; 0 where the device computes exactly.
        unmitigated: Shots of the same batch without mitigation.
    """

    circuits: int
    shots: int
    unmitigated: int

    @property
    def factor(self) -> float:
        """Shots per shot without mitigation."""
        return self.shots / self.unmitigated if self.unmitigated else float("nan")


@dataclass(eq=False)
class MitigatedProgram:
    """A circuit with what its mitigation runs.

    Args:
        mitigation: What is done.
        circuit: The circuit itself.
        isa: Its ISA circuits, not folded; none on a device without a machine.
        main: Reads all words at all multiples of the noise, in one call.
        readings: What is read in each measurement basis.
        calibration: Prepares 0 and 1; None where nothing is to be calibrated.
        known: The readout where it is known without calibration, or once it is kept.
        tally: How often the extrapolation failed; shared with the program at other noise scales.
    """

    mitigation: Mitigation
    circuit: Circuit
    isa: "tuple[IsaCircuit, ...]"
    main: Program
    readings: tuple[WordReading, ...]
    calibration: Program | None
    known: Confusion | None
    tally: Tally = field(default_factory=Tally)

    def construct(self, angles: Tensor, shots: int | None) -> list[Run]:
        """The runs that a batch takes: one, and the calibration of the readout before it, unless that is known.

        Args:
            angles: Shape (B, P).
            shots: For every row, measurement basis and multiple of the noise; None: exact.
        """
        runs = [Run(self.main, angles, shots)]
        if self.calibration is None or self.known is not None:
            return runs
        turns = [0.0] if self.isa else [0.0, torch.pi]
        rows = torch.tensor(turns)[:, None].expand(-1, self.calibration.circuit.n_angles)
        calibration_shots = None if shots is None else self.mitigation.calibration_shots
        return [Run(self.calibration, rows.to(angles), calibration_shots), *runs]

    def combine(self, results: Sequence[Estimates], shots: int | None) -> Estimates:
        """Mitigated estimates.

        Args:
            results: Of the runs that `construct` gave, in their order.
            shots: As given there.

        Returns:
            As of `mitigation_combine.combine`.
        """
        confusion = self.known if len(results) == 1 else self.calibrated(results[0])
        return combine(self.mitigation, self.readings, results[-1].values, shots, confusion, self.tally)

    def calibrated(self, result: Estimates) -> Confusion:
        """The readout from the result of its calibration."""
        return calibrated(self.readings, result)

    def cost(self, n_rows: int, shots: int | None) -> Cost:
        """What a batch costs.

        Args:
            n_rows: Rows of angles.
            shots: For every row, measurement basis and multiple of the noise.
        """
        plain = n_rows * len(self.readings)
        circuits = plain * len(self.mitigation.factors)
        calibration = 2 if self.calibration is not None and self.known is None else 0
        taken = calibration * self.mitigation.calibration_shots if shots else 0
        return Cost(circuits + calibration, circuits * (shots or 0) + taken, plain * (shots or 0))


def mitigated_program(device: Device, mitigation: Mitigation, circuit: Circuit) -> MitigatedProgram:
    """Prepare a circuit for a device, with what its mitigation runs beside it.

    Args:
        device: Where it runs.
        mitigation: What is done.
        circuit: The circuit.

    Raises:
        InputError: The device has not what the mitigation needs.
    """
    base = device.prepare(circuit) if isinstance(device, MachineDevice) else None
    isa = device.isa_circuits(base) if base is not None and isinstance(device, MachineDevice) else ()
    if mitigation.zne and not isa:
        raise InputError(
            f"zne folds the gates of a machine, and {device.name} lays out no circuit on one: give a noise model "
            "(--noise ibm_brisbane) or take qiskit.remote"
        )
    places = [[each.qubits[place] for place in each.measured.values()] for each in isa] or [
        list(basis.wires) for basis in circuit.bases
    ]
    readings = tuple(
        WordReading(basis, circuit.observables, mitigation.readout, qubits)
        for basis, qubits in zip(circuit.bases, places, strict=True)
    )
    known = None
    if mitigation.readout and mitigation.calibration == "model":
        known = model_confusion(device, [qubit for reading in readings for qubit in reading.qubits], bool(isa))
    calibration = None
    if mitigation.readout and known is None:
        calibration = _calibration(device, isa, readings)
    composite = _composite(circuit, readings, mitigation)
    if isinstance(device, MachineDevice) and isa:
        main = device.program_of(_folded(isa, composite, mitigation))
    else:
        main = device.prepare(composite)
    return MitigatedProgram(mitigation, circuit, isa, main, readings, calibration, known)


def rescaled(device: NoisyDevice, program: MitigatedProgram, factor: float) -> MitigatedProgram:
    """The same with the rates of the device's noise model times a factor."""
    known = program.known
    if program.mitigation.calibration == "model" and known is not None:
        known = model_confusion(device, list(known.place), machine=True, factor=factor)
    calibration = program.calibration
    if calibration is not None and program.isa:
        calibration = device.rescaled(calibration, factor)
    return replace(program, main=device.rescaled(program.main, factor), calibration=calibration, known=known)


def model_confusion(device: Device, qubits: Sequence[int], machine: bool, factor: float = 1.0) -> Confusion:
    """The readout errors of a device's noise model, whose rates are times a factor."""
    noise = device.noise if isinstance(device, NoisyDevice) else None
    if noise is None or not machine:
        raise InputError(
            f"calibration = 'model': {device.name} has no noise model that says its readout errors; "
            "calibration = 'circuits' measures them"
        )
    scaled = noise.scaled(factor)
    return Confusion.of({qubit: scaled.readout_error(qubit) for qubit in dict.fromkeys(qubits)})


def _composite(circuit: Circuit, readings: Sequence[WordReading], mitigation: Mitigation) -> Circuit:
    """The circuit with all words as observables, once for each multiple of the noise."""
    words: list[PauliWord] = []
    bases = []
    for _ in mitigation.factors:
        for reading in readings:
            members = tuple(range(len(words), len(words) + len(reading.words) - 1))
            words += reading.observables
            bases.append(MeasurementBasis(reading.basis.paulis, members))
    name = f"{circuit.name} ({mitigation.label})"
    return replace(circuit, name=name, observables=tuple(words), grouping=tuple(bases), _tensors={})


def _folded(isa: "Sequence[IsaCircuit]", composite: Circuit, mitigation: Mitigation) -> "tuple[IsaCircuit, ...]":
    from qhybrid.circuits.transpile_folding import folded, relabelled

    folding = mitigation.zne.folding if mitigation.zne else "local"
    circuits = [folded(each, factor, folding) for factor in mitigation.factors for each in isa]
    return tuple(relabelled(each, composite, basis) for each, basis in zip(circuits, composite.bases, strict=True))


def _calibration(device: Device, isa: "Sequence[IsaCircuit]", readings: Sequence[WordReading]) -> Program:
    """Prepares 0 and 1 on all qubits that are read, and reads them.

    On a machine these are two circuits on the same physical qubits; elsewhere one with an angle, its rows 0 and pi.
    """
    qubits = list(dict.fromkeys(qubit for reading in readings for qubit in reading.qubits))
    listed = " ".join(map(str, qubits))
    numbers = np.zeros((0, 0))
    blank: dict[str, Any] = {"n_features": 0, "encoders": (), "encoding_map": numbers}
    if isinstance(device, MachineDevice) and isa:
        n = len(qubits)
        words = tuple(PauliWord(((wire, "Z"),)) for wire in range(n))
        paulis = tuple((wire, "Z") for wire in range(n))
        bases = tuple(MeasurementBasis(paulis, tuple(range(bit * n, bit * n + n))) for bit in (0, 1))
        circuit = Circuit(
            name=f"readout of {listed}", n_qubits=n, gates=(), observables=words * 2, grouping=bases,
            weight_map=numbers, offset=np.zeros(0), **blank,
        )  # fmt: skip
        from qhybrid.circuits.transpile_folding import basis_states

        return device.program_of(basis_states(isa[0], circuit, qubits, bits=(0, 1)))
    flips = tuple(Gate("ry", (wire,), slot=index) for index, wire in enumerate(qubits))
    words = tuple(PauliWord(((wire, "Z"),)) for wire in qubits)
    circuit = Circuit(
        name=f"readout of {listed}", n_qubits=max(qubits) + 1, gates=flips, observables=words,
        weight_map=np.zeros((0, len(qubits))), offset=np.zeros(len(qubits)),
        **blank | {"encoding_map": np.zeros((0, len(qubits)))},
    )  # fmt: skip
    return device.prepare(circuit)
