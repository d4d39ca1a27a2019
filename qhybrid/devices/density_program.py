"""A circuit compiled for `qhybrid.density`: which engine runs it, in which pieces, and its gradient as one node."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import MeasurementBasis
from qhybrid.devices.density_blocks import block_plan
from qhybrid.devices.density_elements import Channel, Element, gates, needed, readout_channel, simplified, written_out
from qhybrid.devices.density_sectors import SectorProgram
from qhybrid.devices.density_sweep import SweepProgram
from qhybrid.devices.density_walls import Word, wall_count
from qhybrid.devices.sampling import basis_rotation
from qhybrid.devices.statevector_program import FewThreads
from qhybrid.errors import InputError
from qhybrid.noise_models.model import NoiseModel

if TYPE_CHECKING:
    from qhybrid.circuits.transpile import IsaCircuit

SECTOR_QUBITS = 4
"""Most qubits of a dense program: its maps are 4**n x 4**n."""
SECTOR_WALLS = 12
"""Most walls of turns of a dense program; more are faster block by block."""
SECTOR_COST = 2**19
"""Largest number of multiplications a row of a dense program (measured; more are faster block by block)."""
CACHE_ELEMENTS = 2**17
"""Components simulated at a time: what stays in a core's cache."""
SINGLE_THREAD_ELEMENTS = 2**16
"""Up to this many components in a batch one thread is used."""
FREE_SHARE = 0.8
"""Largest part of the free memory that is taken."""
SMALL_BYTES = 2**26
"""Needs below this are not compared with the free memory."""

Engine = SectorProgram | SweepProgram


@dataclass(frozen=True)
class Settings:
    """How programs of a device are run.

    Args:
        name: Of the device, for errors.
        dtype: float64 or float32.
        memory: Bytes that may be used.
    """

    name: str
    dtype: torch.dtype
    memory: int


@dataclass(eq=False)
class Reading:
    """One circuit with what is read at its end.

    Args:
        basis: The measurement basis; None: all observables of an ideal circuit are read from one state.
        elements: Without what turns the basis into Z.
        place: Wire -> place where it is at the end.
        n_places: Number of qubits.
        members: Indices of the observables that are read.
    """

    basis: MeasurementBasis | None
    elements: list[Element]
    place: dict[int, int]
    n_places: int
    members: tuple[int, ...]


@dataclass(eq=False)
class DensityProgram:
    """A circuit compiled for exact expectation values and for outcome probabilities, each when it is first wanted.

    Args:
        circuit: The circuit.
        settings: How it is run.
        isa: Its ISA circuits; none without noise.
        readings: What exact expectation values are read from.
        noisy_gates: For each ISA circuit, how many operations of each name have noise, "delay" included.
        rescaled: Programs of other noise scales, by scale.
    """

    circuit: Circuit
    settings: Settings
    isa: "tuple[IsaCircuit, ...]"
    readings: tuple[Reading, ...]
    noisy_gates: tuple[Counter[str], ...] = ()
    rescaled: dict[float, Any] = field(default_factory=dict)
    _engines: dict[str, list[Engine]] = field(default_factory=dict)

    def circuits_per_row(self, shots: int | None) -> int:
        """Circuits that one row takes: one for each basis, unless all observables are read from one ideal state."""
        return len(self.circuit.bases) if shots or self.isa else 1

    def expectations(self, angles: Tensor) -> Tensor:
        """(B, P) angles -> (B, M) exact expectation values, differentiable once."""
        if "exact" not in self._engines:
            self._engines["exact"] = [self._exact_engine(reading) for reading in self.readings]
        parts = [expectations(engine, angles, self.settings, self.circuit) for engine in self._engines["exact"]]
        if len(parts) == 1:
            return parts[0]
        order = [member for reading in self.readings for member in reading.members]
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return torch.cat(parts, dim=1)[:, inverse]

    @torch.no_grad()
    def probabilities(self, angles: Tensor) -> list[Tensor]:
        """(B, P) angles -> outcome probabilities over the measured wires of each basis, (B, 2**k)."""
        if "outcomes" not in self._engines:
            bases = self.circuit.bases
            readings = self.readings if self.isa else [self.readings[0]] * len(bases)
            self._engines["outcomes"] = [
                self._outcome_engine(reading, basis) for reading, basis in zip(readings, bases, strict=True)
            ]
        tables = []
        for engine in self._engines["outcomes"]:
            words = expectations(engine, angles, self.settings, self.circuit)
            tables.append(_hadamard(words.double()) / words.shape[1])
        return tables

    def _exact_engine(self, reading: Reading) -> Engine:
        words: list[Word] = []
        for member in reading.members:
            factors = self.circuit.observables[member].factors
            words.append(tuple((reading.place[wire], "Z" if reading.basis else pauli) for wire, pauli in factors))
        return engine(reading.elements, reading.n_places, words, self.circuit.n_angles)

    def _outcome_engine(self, reading: Reading, basis: MeasurementBasis) -> Engine:
        elements = reading.elements
        if reading.basis is None:
            elements = [*elements, *gates([(name, reading.place[wire]) for name, wire in basis_rotation(basis)])]
        places = [reading.place[wire] for wire in basis.wires]
        words: list[Word] = [
            tuple((place, "Z") for place, bit in zip(places, bits, strict=True) if bit)
            for bits in product((0, 1), repeat=len(places))
        ]
        return engine(elements, reading.n_places, words, self.circuit.n_angles)


def noisy_program(isa: "tuple[IsaCircuit, ...]", noise: NoiseModel, settings: Settings) -> DensityProgram:
    """Compile ISA circuits with the noise of their machine."""
    readings, counts = [], []
    for each in isa:
        elements, noisy = written_out(each.operations, noise, each.qubits)
        for place in each.measured.values():
            flips = noise.readout_error(each.qubits[place])
            if any(flips):
                elements.append(Channel((place,), readout_channel(*flips)))
        readings.append(Reading(each.basis, elements, each.measured, len(each.qubits), each.basis.members))
        counts.append(noisy)
    return DensityProgram(isa[0].circuit, settings, isa, tuple(readings), tuple(counts))


def ideal_program(circuit: Circuit, settings: Settings) -> DensityProgram:
    """Compile a circuit without noise."""
    from qhybrid.circuits.transpile import ideal_operations

    places = range(circuit.n_qubits)
    elements, _ = written_out(ideal_operations(circuit), None, places)
    members = tuple(range(circuit.n_observables))
    whole = Reading(None, elements, {place: place for place in places}, circuit.n_qubits, members)
    return DensityProgram(circuit, settings, (), (whole,))


def engine(elements: Sequence[Element], n_places: int, words: Sequence[Word], n_angles: int) -> Engine:
    """Compile a circuit into whichever program runs it faster."""
    measured = {place for word in words for place, _ in word}
    kept = simplified(needed(elements, measured))
    if n_places <= SECTOR_QUBITS and wall_count(kept) <= SECTOR_WALLS:
        dense = SectorProgram(kept, n_places, words, n_angles)
        if dense.cost <= SECTOR_COST:
            return dense
    return SweepProgram(block_plan(kept, words), n_angles)


def expectations(engine: Engine, angles: Tensor, settings: Settings, circuit: Circuit) -> Tensor:
    """Run a batch in pieces that fit into the memory.

    Args:
        engine: From `engine`.
        angles: Shape (B, P).
        settings: With the memory limit.
        circuit: Its name, for errors.

    Returns:
        Shape (B, words), in the dtype of the angles; differentiable once.

    Raises:
        InputError: Not even one row fits.
    """
    gradient = torch.is_grad_enabled() and angles.requires_grad
    size = torch.finfo(settings.dtype).bits // 8
    limit = _limit(angles, len(angles) * size * engine.elements_per_row(gradient=gradient), settings) // size
    least = engine.least_elements_per_row(gradient=gradient)
    if least > limit:
        what = "one row with its gradient" if gradient else "one row"
        raise InputError(
            f"{settings.name}: {what} of circuit {circuit.name!r} needs {size * least / 1e9:.2g} GB; "
            f"{size * limit / 1e9:.2g} GB may be used (the option memory_gb, and the memory that is free)"
        )
    with FewThreads(small=len(angles) * engine.largest <= SINGLE_THREAD_ELEMENTS):
        if not gradient:
            return _values(engine, angles, settings.dtype, limit)
        values: Tensor = _Expectations.apply(angles, engine, settings.dtype, limit)
        return values


class _Expectations(torch.autograd.Function):
    """One node for the whole circuit: keeps all states where they fit, else runs each piece again on the way back."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, engine: Engine, dtype: torch.dtype, limit: int) -> Tensor:
        ctx.save_for_backward(angles)
        ctx.engine, ctx.dtype, ctx.limit, ctx.kept = engine, dtype, limit, None
        if len(angles) * engine.elements_per_row(gradient=True) > limit:
            return _values(engine, angles, dtype, limit)
        rows = _rows(engine, angles)
        ran = [engine.run(part, keep=True, dtype=dtype, allowed=limit) for part in angles.split(rows)]
        ctx.kept = [kept for _, kept in ran]
        return _joined([values for values, _ in ran]).to(angles.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        (angles,) = ctx.saved_tensors
        engine, dtype = ctx.engine, ctx.dtype
        rows = _rows(engine, angles)
        if ctx.kept is None:
            rows = max(1, min(rows, ctx.limit // engine.elements_per_row(gradient=True)))
        small = len(angles) * engine.largest <= SINGLE_THREAD_ELEMENTS
        parts = zip(angles.split(rows), cotangent.to(dtype).split(rows), strict=True)
        gradients = []
        with FewThreads(small=small):
            for index, (part, pulled) in enumerate(parts):
                if ctx.kept is None:
                    _, kept = engine.run(part, keep=True, dtype=dtype, allowed=ctx.limit // len(part))
                else:
                    kept = ctx.kept[index]
                gradients.append(engine.pull(part, kept, pulled))
        return _joined(gradients), None, None, None


def _values(engine: Engine, angles: Tensor, dtype: torch.dtype, limit: int) -> Tensor:
    rows = min(_rows(engine, angles), limit // engine.elements_per_row(gradient=False))
    with torch.no_grad():
        parts = angles.detach().split(max(1, rows))
        ran = [engine.run(part, keep=False, dtype=dtype, allowed=limit)[0] for part in parts]
    return _joined(ran).to(angles.dtype)


def _rows(engine: Engine, angles: Tensor) -> int:
    """Rows simulated at a time, if the memory allows: on a CPU what stays in the cache, on a GPU all."""
    return len(angles) if angles.is_cuda else max(1, CACHE_ELEMENTS // engine.largest)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _limit(angles: Tensor, wanted: int, settings: Settings) -> int:
    """Bytes that may be used, no more than a share of what is free."""
    if wanted <= min(SMALL_BYTES, settings.memory):
        return settings.memory
    free = torch.cuda.mem_get_info(angles.device)[0] if angles.is_cuda else psutil.virtual_memory().available
    return min(settings.memory, int(FREE_SHARE * free))


def _hadamard(table: Tensor) -> Tensor:
    """Walsh-Hadamard transform of each row, (B, 2**k)."""
    batch, size = table.shape
    half = 1
    while half < size:
        pair = table.view(batch, -1, 2, half)
        table = torch.stack([pair[:, :, 0] + pair[:, :, 1], pair[:, :, 0] - pair[:, :, 1]], dim=2)
        table, half = table.view(batch, size), 2 * half
    return table
