"""Noisy circuits on a few qubits: dense maps between walls of turns, cut down to what can be reached and is read.

A wall of turns about Z multiplies X + iY of each turned qubit by a phase. In the basis of such products the wall is
diagonal, and components that share a phase form a sector. The circuit is then: a constant vector, phases, a real
matrix, phases, ..., a real matrix onto the observables. Within each sector only those components are kept that the
start can reach and the observables can see (a minimal realisation, as in control theory), which is exact.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from qhybrid.circuits.gates import ComplexMatrix
from qhybrid.devices.density_elements import Element
from qhybrid.devices.density_walls import Sector, Wall, Word, phase, sector_basis, stages
from qhybrid.devices.statevector_tensors import Constant
from qhybrid.noise_models.channels import Matrix

TOLERANCE = 1e-13
"""Components below this fraction of the largest are rounding errors."""


class SectorProgram:
    """Expectation values of Pauli words at the end of a noisy circuit.

    Args:
        elements: The circuit, in the order of time.
        n_places: Number of qubits.
        words: What is read at the end.
        n_angles: Number of angle slots, P.
    """

    def __init__(self, elements: Sequence[Element], n_places: int, words: Sequence[Word], n_angles: int) -> None:
        maps, walls = stages(elements, n_places, words)
        sectors = []
        for index, wall in enumerate(walls):
            basis, found = sector_basis(n_places, tuple(turn.qubit for turn in wall.turns))
            maps[index] = basis @ maps[index]
            maps[index + 1] = maps[index + 1] @ basis.T
            sectors.append(found)
        _keep_reachable(maps, sectors)
        _keep_visible(maps, sectors)
        if not all(sectors):  # nothing that the words see is ever there
            maps, walls, sectors = [np.zeros((len(words), 1))], [], []
        picks, phases = _paired(maps, walls, sectors)
        if walls:  # the start is constant: what it multiplies goes into the next map
            maps[1] = _real_columns(_complex_columns(maps[1]) * (maps[0][0::2, 0] + 1j * maps[0][1::2, 0]))
        table = np.zeros((n_angles, len(phases)))
        for column, (_, terms) in enumerate(phases):
            for slot, factor in terms.items():
                table[slot, column] = factor
        self.walls = [len(pick) for pick in picks]
        """Complex coordinates kept at each wall."""
        self._start = Constant(maps[0][:, 0].copy())
        self._maps = [Constant(np.ascontiguousarray(each.T)) for each in maps[1:]]
        runs = [pick == list(range(pick[0], pick[0] + len(pick))) for pick in picks]
        self._picks = [None if run else Constant(np.array(pick)) for run, pick in zip(runs, picks, strict=True)]
        self._slices = [(pick[0], len(pick)) for pick in picks]
        self._table = Constant(table)
        self._offset = Constant(np.array([constant for constant, _ in phases]))
        self._slopes = Constant(np.ascontiguousarray(table[:, [p for pick in picks for p in pick]].T))

    @property
    def cost(self) -> int:
        """Multiplications for each row."""
        return sum(each.values.size for each in self._maps)

    @property
    def largest(self) -> int:
        """Components of the largest state."""
        return 2 * max(self.walls, default=1)

    def elements_per_row(self, *, gradient: bool) -> int:
        """Real numbers held at a time for each row."""
        widths, factors = 2 * sum(self.walls), 4 * len(self._table.values.T)
        return 4 * widths + factors if gradient else 4 * self.largest + factors

    least_elements_per_row = elements_per_row

    def run(
        self, angles: Tensor, *, keep: bool, dtype: torch.dtype, allowed: int
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """(B, P) angles -> (B, words), and what `pull` needs if `keep`.

        Args:
            angles: Shape (B, P).
            keep: Whether a gradient will be wanted.
            dtype: float64 or float32.
            allowed: Real numbers that may be held for each row; `elements_per_row` are.
        """
        like = angles.new_empty(0, dtype=dtype)
        if not self._maps:
            return self._start.beside(like).expand(len(angles), -1), []
        phase = torch.addmm(self._offset.beside(angles), angles, self._table.beside(angles)).to(dtype)
        factors = torch.polar(torch.ones_like(phase), phase)
        saved: list[tuple[Tensor, Tensor]] = []
        values: Tensor | None = None
        for index, matrix in enumerate(self._maps):
            pick, (first, count) = self._picks[index], self._slices[index]
            factor = factors[:, first : first + count] if pick is None else factors.index_select(1, pick.beside(like))
            state = factor if values is None else torch.view_as_complex(values.view(len(angles), -1, 2)) * factor
            if keep:
                saved.append((state, factor))
            values = torch.view_as_real(state).reshape(len(angles), -1) @ matrix.beside(like)
        assert values is not None
        return values, saved

    def pull(self, angles: Tensor, saved: list[tuple[Tensor, Tensor]], cotangent: Tensor) -> Tensor:
        """Gradient of sum(cotangent * values) with respect to the angles, (B, P)."""
        if not saved:
            return torch.zeros_like(angles)
        slopes: list[Tensor] = []
        for index in range(len(saved) - 1, -1, -1):
            state, factor = saved[index]
            pulled = cotangent @ self._maps[index].beside(cotangent).T
            gradient = torch.view_as_complex(pulled.view(len(angles), -1, 2))
            slopes.append((gradient * state.conj()).imag)
            if index:
                cotangent = torch.view_as_real(gradient * factor.conj()).reshape(len(angles), -1)
        every = slopes[0] if len(slopes) == 1 else torch.cat(slopes[::-1], dim=1)
        return (every @ self._slopes.beside(every)).to(angles.dtype)


def _keep_reachable(maps: list[Matrix], sectors: list[list[Sector]]) -> None:
    """Cut every wall down to the components that the map before it reaches, up to the first that is reached whole."""
    for index in range(len(sectors)):
        allowed = TOLERANCE * float(np.linalg.norm(maps[index]))

        def frame(rows: ComplexMatrix, _: ComplexMatrix, allowed: float = allowed) -> ComplexMatrix:
            vectors, levels, _ = np.linalg.svd(rows, full_matrices=False)
            return vectors[:, levels > allowed]

        if not _cut(maps, sectors, index, frame):
            return


def _keep_visible(maps: list[Matrix], sectors: list[list[Sector]]) -> None:
    """Cut every wall down to the components that the map behind it sees, back to the first that is seen whole."""
    for index in range(len(sectors) - 1, -1, -1):
        allowed = TOLERANCE * float(np.linalg.norm(maps[index + 1]))

        def frame(_: ComplexMatrix, columns: ComplexMatrix, allowed: float = allowed) -> ComplexMatrix:
            vectors: ComplexMatrix
            _, levels, vectors = np.linalg.svd(columns, full_matrices=False)
            return vectors[levels > allowed].conj().T

        if not _cut(maps, sectors, index, frame):
            return


def _cut(
    maps: list[Matrix],
    sectors: list[list[Sector]],
    index: int,
    frame: Callable[[ComplexMatrix, ComplexMatrix], ComplexMatrix],
) -> bool:
    """Project each sector of one wall onto the columns of a frame; says whether anything was cut."""
    before: list[Matrix] = []
    after: list[Matrix] = []
    kept, start = [], 0
    for sector in sectors[index]:
        rows, columns = _as_complex(maps[index], maps[index + 1], sector, start)
        start += sector.width
        vectors = frame(rows, columns)
        if vectors.shape[1] < sector.size:
            rows, columns = vectors.conj().T @ rows, columns @ vectors
        before += [rows] if sector.is_real else [rows.real, rows.imag]
        after += [columns] if sector.is_real else [columns.real, -columns.imag]
        kept.append(Sector(sector.signs, vectors.shape[1]))
    changed = sum(each.size for each in kept) < sum(each.size for each in sectors[index])
    maps[index], maps[index + 1] = np.vstack(before), np.hstack(after)
    sectors[index] = [sector for sector in kept if sector.size]
    return changed


def _as_complex(before: Matrix, after: Matrix, sector: Sector, start: int) -> tuple[ComplexMatrix, ComplexMatrix]:
    """A sector's rows of the map before its wall and columns of the map behind it, which adds Re(columns @ z)."""
    size, rows, columns = sector.size, before[start : start + sector.width], after[:, start : start + sector.width]
    if sector.is_real:
        return rows, columns
    return rows[:size] + 1j * rows[size:], columns[:, :size] - 1j * columns[:, size:]


def _paired(
    maps: list[Matrix], walls: list[Wall], sectors: list[list[Sector]]
) -> tuple[list[list[int]], list[tuple[float, dict[int, float]]]]:
    """Order the coordinates of each wall as (real, imaginary) pairs, real components paired with each other.

    Returns:
        Number of the phase of each pair of each wall, and constant and terms of each phase; phase 0 is zero.
    """
    phases: list[tuple[float, dict[int, float]]] = [(0.0, {})]
    picks = []
    for index, (wall, found) in enumerate(zip(walls, sectors, strict=True)):
        order: list[int] = []
        pick: list[int] = []
        start = 0
        for sector in found:
            rows = list(range(start, start + sector.width))
            start += sector.width
            if sector.is_real:
                order += rows + [-1] * (sector.size % 2)
                pick += [0] * ((sector.size + 1) // 2)
            else:
                order += [row for pair in zip(rows[: sector.size], rows[sector.size :], strict=True) for row in pair]
                pick += [len(phases)] * sector.size
                phases.append(phase(wall, sector.signs))
        chosen = np.array(order)
        maps[index] = np.where(chosen[:, None] >= 0, maps[index][chosen], 0.0)
        maps[index + 1] = np.where(chosen >= 0, maps[index + 1][:, chosen], 0.0)
        picks.append(pick)
    return picks, phases


def _complex_columns(matrix: Matrix) -> ComplexMatrix:
    return matrix[:, 0::2] - 1j * matrix[:, 1::2]


def _real_columns(matrix: ComplexMatrix) -> Matrix:
    return np.stack([matrix.real, -matrix.imag], axis=2).reshape(len(matrix), -1)
