"""Runs a plan of blocks: one pass over the state for each block, and the same back for the gradient."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from qhybrid.devices.density_blocks import BlockPlan, Factor, Step
from qhybrid.devices.statevector_tensors import Constant


@dataclass(eq=False)
class Swept:
    """What the way back needs.

    Args:
        leaf: The angles, (B, P), that `matrices` were made from by autograd.
        matrices: Of each step, (B, rows, columns), or (rows, columns) where it has no turns.
        states: States before the first step of each segment, (B, components).
        inside: States before each step, its axes in front; only where there is a single segment.
    """

    leaf: Tensor
    matrices: list[Tensor]
    states: list[Tensor]
    inside: list[Tensor]


class SweepProgram:
    """Expectation values of Pauli words at the end of a noisy circuit.

    Args:
        plan: How the circuit is run.
        n_angles: Number of angle slots, P.
    """

    def __init__(self, plan: BlockPlan, n_angles: int) -> None:
        self.plan = plan
        self._picks = Constant(plan.picks)
        table = np.zeros((n_angles, len(plan.turns)))
        for column, (_, terms) in enumerate(plan.turns):
            for slot, coefficient in terms:
                table[slot, column] = coefficient
        self._table = Constant(table)
        self._offset = Constant(np.array([constant for constant, _ in plan.turns]))
        # Factors of one shape are made in one go: (shape, turns) -> their numbers.
        self._factors = [factor for step in plan.steps for factor in step.factors]
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, factor in enumerate(self._factors):
            if factor.turns:
                groups.setdefault(factor.terms.shape, []).append(number)
        self._groups = [(numbers, *self._stacked(numbers)) for numbers in groups.values()]
        self._constants = {n: Constant(f.terms[0]) for n, f in enumerate(self._factors) if not f.turns}
        self.largest = max(max(step.elements) for step in plan.steps)
        """Components of the largest state."""

    def elements_per_row(self, *, gradient: bool) -> int:
        """Real numbers held at a time for each row, with all states kept if a gradient is wanted."""
        return self._elements(1) if gradient else 3 * self.largest + self._matrix_elements

    def least_elements_per_row(self, *, gradient: bool) -> int:
        """The same with the least that a gradient can do with: states kept at segments only."""
        if not gradient:
            return self.elements_per_row(gradient=False)
        return min(self._elements(2**power) for power in range(len(self.plan.steps).bit_length()))

    def run(self, angles: Tensor, *, keep: bool, dtype: torch.dtype, allowed: int) -> tuple[Tensor, Swept | None]:
        """(B, P) angles -> (B, words), and what `pull` needs if `keep`.

        Args:
            angles: Shape (B, P).
            keep: Whether a gradient will be wanted.
            dtype: float64 or float32.
            allowed: Real numbers that may be held for each row.
        """
        segments = 1
        while keep and self._elements(segments) > allowed and segments < len(self.plan.steps):
            segments *= 2
        with torch.set_grad_enabled(keep):
            leaf = angles.detach().requires_grad_(keep)
            matrices = self._matrices(leaf, dtype)
        with torch.no_grad():
            plain = [matrix.detach() for matrix in matrices]
            state = torch.ones(len(angles), 1, dtype=dtype, device=angles.device)
            states, inside = [], list[Tensor]()
            for first, last in self._segments(segments):
                states.append(state)
                state = self._forward(state, plain, first, last, inside if keep and segments == 1 else None)
            values = state.index_select(1, self._picks.beside(state))
        return values, Swept(leaf, matrices, states, inside) if keep else None

    def pull(self, angles: Tensor, swept: Swept, cotangent: Tensor) -> Tensor:
        """Gradient of sum(cotangent * values) with respect to the angles, (B, P)."""
        steps = self.plan.steps
        plain = [matrix.detach() for matrix in swept.matrices]
        size = steps[-1].elements[1]
        gradient = torch.zeros(len(angles), size, dtype=cotangent.dtype, device=cotangent.device)
        gradient.index_add_(1, self._picks.beside(cotangent), cotangent)
        found: dict[int, Tensor] = {}
        spans = self._segments(len(swept.states))
        for (first, last), state in zip(reversed(spans), reversed(swept.states), strict=True):
            inside = swept.inside
            if not inside:
                inside = []
                self._forward(state, plain, first, last, inside)
            for index in range(last - 1, first - 1, -1):
                step, before = steps[index], inside[index - first]
                pulled = gradient.view(len(angles), step.rows, -1)
                if swept.matrices[index].requires_grad:
                    found[index] = pulled @ before.transpose(1, 2)
                if index:
                    gradient = _back(plain[index].transpose(-2, -1) @ pulled, step)
        if not found:
            return torch.zeros_like(angles)
        outputs = [swept.matrices[index] for index in found]
        # Kept, for a second way back through the same values (retain_graph).
        return torch.autograd.grad(outputs, swept.leaf, list(found.values()), retain_graph=True)[0]

    def _forward(
        self, state: Tensor, matrices: list[Tensor], first: int, last: int, inside: list[Tensor] | None
    ) -> Tensor:
        """The state behind some steps; those before each step are added to `inside`."""
        for step, matrix in zip(self.plan.steps[first:last], matrices[first:last], strict=True):
            axes = (0, *(axis + 1 for axis in step.order))
            front = state.view(-1, *step.shape).permute(axes).reshape(len(state), step.columns, -1)
            if inside is not None:
                inside.append(front)
            state = (matrix @ front).view(len(state), -1)
        return state

    def _matrices(self, angles: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """The matrix of every step, for every row where it has turns."""
        like = angles.new_empty(0, dtype=dtype)
        made = {number: constant.beside(like) for number, constant in self._constants.items()}
        if self._groups:
            turned = torch.addmm(self._offset.beside(angles), angles, self._table.beside(angles))
            waves = torch.stack([torch.ones_like(turned), torch.cos(turned), torch.sin(turned)], dim=2).to(dtype)
            for numbers, index, terms in self._groups:
                shape = self._factors[numbers[0]].terms.shape
                every = waves.index_select(1, index.beside(like)).view(len(angles), len(numbers), -1, 3)
                products = every[:, :, 0]
                for turn in range(1, every.shape[2]):
                    products = (products.unsqueeze(3) * every[:, :, turn].unsqueeze(2)).flatten(2)
                stacked = torch.bmm(products.transpose(0, 1), terms.beside(like))
                made.update(zip(numbers, stacked.view(len(numbers), len(angles), *shape[1:]).unbind(0), strict=True))
        matrices, number = [], 0
        for step in self.plan.steps:
            matrix = made[number]
            for later in range(number + 1, number + len(step.factors)):
                matrix = made[later] @ matrix
            matrices.append(matrix)
            number += len(step.factors)
        return matrices

    def _stacked(self, numbers: list[int]) -> tuple[Constant, Constant]:
        """Turns of some factors of one shape, (F r,), and their terms, (F, 3**r, rows columns)."""
        chosen: list[Factor] = [self._factors[number] for number in numbers]
        terms = np.stack([factor.terms.reshape(len(factor.terms), -1) for factor in chosen])
        return Constant(np.array([turn for factor in chosen for turn in factor.turns])), Constant(terms)

    def _segments(self, count: int) -> list[tuple[int, int]]:
        """The steps cut into segments of about equally many components."""
        sizes = list(accumulate(step.elements[0] for step in self.plan.steps))
        cuts = [int(np.searchsorted(sizes, sizes[-1] * index / count)) for index in range(count)] + [len(sizes)]
        cuts[0] = 0
        return list(pairwise(cuts))

    @property
    def _matrix_elements(self) -> int:
        return 2 * sum(int(factor.terms[0].size) + len(factor.terms) for factor in self._factors if factor.turns)

    def _elements(self, segments: int) -> int:
        """Real numbers held for each row on the way back, with so many segments."""
        sizes = [step.elements[0] for step in self.plan.steps]
        spans = self._segments(segments)
        inside = max(sum(sizes[first:last]) for first, last in spans)
        at_cuts = sum(sizes[first] for first, _ in spans if first < len(sizes)) if segments > 1 else 0
        return inside + at_cuts + 3 * self.largest + 2 * self._matrix_elements


def _back(gradient: Tensor, step: Step) -> Tensor:
    """A gradient with the step's axes in front, as it was before the step: (B, components)."""
    shape = [step.shape[axis] for axis in step.order]
    inverse = sorted(range(len(step.order)), key=step.order.__getitem__)
    axes = (0, *(axis + 1 for axis in inverse))
    return gradient.view(len(gradient), *shape).permute(axes).reshape(len(gradient), -1)
