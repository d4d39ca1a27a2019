"""Encoders (feature maps): torch functions from features to angles or amplitudes, every gradient finite."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SQUASHINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "arctan": torch.arctan,
}
"""Functions that bound a feature before it becomes an angle."""


@dataclass(frozen=True)
class AngleEncoder:
    """angle_i = scale * squash(x_i), one angle a feature.

    Args:
        first: Index of the first feature it reads.
        n_features: Number of features it reads.
        scale: Radians for a squashed feature of 1.
        squash: A name in `SQUASHINGS`.
    """

    first: int
    n_features: int
    scale: float = 1.0
    squash: str = "none"

    @property
    def n_angles(self) -> int:
        """Number of encoding angles."""
        return self.n_features

    def __call__(self, features: Tensor) -> Tensor:
        """(B, F) features -> (B, n_angles) encoding angles in radians."""
        return self.scale * SQUASHINGS[self.squash](features[:, self.first : self.first + self.n_features])


@dataclass(frozen=True)
class IQPEncoder:
    """The angles x_i and x_i x_j of an IQP circuit (Havlicek et al., arXiv 1804.11326; `qml.IQPEmbedding`).

    Args:
        first: Index of the first feature it reads.
        n_features: Number of features it reads, one a qubit.
        pairs: Index pairs (i, j) that are multiplied.
        scale: Factor on every feature before products are taken.
        squash: A name in `SQUASHINGS`.
    """

    first: int
    n_features: int
    pairs: tuple[tuple[int, int], ...]
    scale: float = 1.0
    squash: str = "none"

    @property
    def n_angles(self) -> int:
        """Number of encoding angles."""
        return self.n_features + len(self.pairs)

    def __call__(self, features: Tensor) -> Tensor:
        """(B, F) features -> (B, n_angles): the single angles, then those of the pairs."""
        x = self.scale * SQUASHINGS[self.squash](features[:, self.first : self.first + self.n_features])
        left, right = [i for i, _ in self.pairs], [j for _, j in self.pairs]
        return torch.cat([x, x[:, left] * x[:, right]], dim=1)


@dataclass(frozen=True)
class AmplitudeEncoder:
    """The features, padded and normalised, as the amplitudes of a state (sda_qec, Eq. 7 and 8).

    An all-zero vector has no normalised state: it becomes |0...0> with zero gradient.

    Args:
        first: Index of the first feature it reads.
        n_features: Number of features it reads, at most 2**n_qubits.
        n_qubits: Number of qubits; qubit 0 is the most significant bit of an amplitude's index.
        padding: Value of the amplitudes beyond the features, before normalisation.
    """

    first: int
    n_features: int
    n_qubits: int
    padding: float = 0.0

    def __call__(self, features: Tensor) -> Tensor:
        """(B, F) features -> (B, 2**n_qubits) amplitudes, unit vectors."""
        x = features[:, self.first : self.first + self.n_features]
        missing = 2**self.n_qubits - self.n_features
        if missing:
            x = torch.nn.functional.pad(x, (0, missing), value=self.padding)
        direction: Tensor = _Direction.apply(x)
        return direction


class _Direction(torch.autograd.Function):
    """x / |x|, (B, S), one node in torch's graph; a zero vector becomes e_0 and passes no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        direction = x / norm
        smallest, largest = (float(bound) for bound in norm.aminmax()) if len(x) else (1.0, 1.0)
        exponent = math.log2(torch.finfo(x.dtype).max) / 4
        if not (2**-exponent < smallest and largest < 2**exponent):
            direction, norm = _careful_direction(x)
        ctx.save_for_backward(direction, norm)
        return direction

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        direction, norm = ctx.saved_tensors
        along = (gradient * direction).sum(dim=1, keepdim=True)
        result: Tensor = (gradient - along * direction) / norm
        return result


def _careful_direction(x: Tensor) -> tuple[Tensor, Tensor]:
    """Direction and norm of vectors of any size; a zero vector points to e_0 and counts as infinitely long."""
    largest = x.abs().amax(dim=1, keepdim=True)
    zero = largest == 0
    largest = largest.masked_fill(zero, 1.0)
    scaled = x / largest  # keeps squares from over- and underflowing
    scaled[:, :1].masked_fill_(zero, 1.0)
    norm: Tensor = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / norm, (largest * norm).masked_fill(zero, torch.inf)


def multiplexer_angles(amplitudes: Tensor) -> Tensor:
    """Angles of the tree of multiplexed RY rotations that prepares a real vector (Mottonen et al., quant-ph/0407010).

    The node of a level that splits a norm r into (l, r') rotates by 2 atan2(r', l); the last level carries the signs.
    A node under which there is nothing (norm below the precision) has angle 0 and passes no gradient.

    Args:
        amplitudes: Unit vectors, shape (B, 2**n).

    Returns:
        Shape (B, 2**n - 1): level by level, in each level by the value of the control qubits.
    """
    empty = torch.finfo(amplitudes.dtype).eps ** 2
    levels = []
    values = amplitudes
    while values.shape[1] > 1:
        pairs = values.unflatten(1, (-1, 2))
        squares = pairs.square().sum(dim=2)
        hidden = squares <= empty
        safe = torch.where(hidden.unsqueeze(2), torch.ones_like(pairs), pairs)
        angle = 2 * torch.atan2(safe[:, :, 1], safe[:, :, 0])
        levels.append(torch.where(hidden, torch.zeros_like(angle), angle))
        norms = torch.sqrt(torch.where(hidden, torch.ones_like(squares), squares))
        values = torch.where(hidden, torch.zeros_like(norms), norms)
    return torch.cat(levels[::-1], dim=1)


def multiplexer_map(n_controls: int) -> NDArray[np.float64]:
    """The linear map from a multiplexed rotation's angles to those of its plain rotations (quant-ph/0407010, Eq. 3).

    Args:
        n_controls: Number of control qubits k.

    Returns:
        Shape (2**k, 2**k): row = control value, column = plain rotation in Gray-code order.
    """
    size = 2**n_controls
    gray = [i ^ (i >> 1) for i in range(size)]
    parity = np.array([[(b & g).bit_count() for g in gray] for b in range(size)])
    matrix: NDArray[np.float64] = (1.0 - 2.0 * (parity % 2)) / size
    return matrix


def gray_code_control(step: int, n_controls: int) -> int:
    """Which control (0 the most significant) drives the CNOT after plain rotation number `step`."""
    size = 2**n_controls
    here, after = step ^ (step >> 1), ((step + 1) % size) ^ (((step + 1) % size) >> 1)
    return n_controls - 1 - int(math.log2(here ^ after))
