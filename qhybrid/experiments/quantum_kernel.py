"""The fidelity kernel of a circuit on any device, a whole matrix of it in one call."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.inverse import all_zeros_probability, overlap_circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.statevector import StatevectorDevice
from qhybrid.errors import InputError
from qhybrid.layer import Noise, QuantumLayer

Floats = NDArray[np.float64]

NEGATIVE = 1e-10
"""Eigenvalues below minus this times the largest count as negative; between the two there is rounding."""


@dataclass(frozen=True)
class KernelMatrix:
    """Values of a kernel, shape (A, B), and their standard errors."""

    values: Floats
    stderr: Floats


class FidelityKernel:
    """k(x, y) = |<phi(y)|phi(x)>|^2, the overlap of the states that a circuit makes of two samples (arXiv 1804.11326).

    The circuit's encoder runs forwards with x and backwards with y (`overlap_circuit`); k is the probability that all
    qubits are then 0. Trainable weights of a circuit are 0: the kernel is of its encoder, and nothing is trained. All
    pairs of a matrix are one call of the device. `qhybrid.statevector` without shots computes the states instead, one a
    sample, and their products: the same values.

    Args:
        circuit: Catalog name, path, dict or `Circuit`.
        device: As in `QuantumLayer`, and so on.
        shots: For every pair.
        noise: As in `QuantumLayer`.
        noise_scale: As in `QuantumLayer`.
        noise_parts: As in `QuantumLayer`.
        layout_seeds: As in `QuantumLayer`.
        backend: As in `QuantumLayer`.
        seed: Of the shots.

    Raises:
        InputError: As in `QuantumLayer` and `overlap_circuit`.
    """

    def __init__(
        self,
        circuit: str | dict[str, Any] | Circuit,
        device: str = "qhybrid.statevector",
        *,
        shots: int | None = None,
        noise: Noise | None = None,
        noise_scale: float = 1.0,
        noise_parts: Iterable[str] | None = None,
        layout_seeds: int | None = None,
        backend: str | None = None,
        seed: int = 0,
    ) -> None:
        self.circuit = load_circuit(circuit)
        self.layer = QuantumLayer(
            overlap_circuit(self.circuit),
            device,
            shots=shots,
            noise=noise,
            noise_scale=noise_scale,
            noise_parts=noise_parts,
            layout_seeds=layout_seeds,
            backend=backend,
            seed=seed,
        )
        self.calls = 0
        """Number of matrices so far, which seeds the next one's shots."""

    @property
    def by_states(self) -> bool:
        """Whether the kernel is computed from states instead of overlap circuits."""
        return isinstance(self.layer.device, StatevectorDevice) and self.layer.shots is None

    def gram(self, samples: Floats) -> KernelMatrix:
        """All pairs of one set of samples.

        Only pairs above the diagonal are run, N (N - 1) / 2 circuits. A sample's kernel with itself is 1 by definition
        and not run: noise would make it smaller, as it does the others.

        Args:
            samples: Shape (N, n_features).

        Returns:
            Symmetric, shape (N, N). Noise and shots may give it negative eigenvalues: see `PositiveGram`.

        Raises:
            InputError: The samples have another width, or are not finite.
        """
        if self.by_states:
            return self.rectangle(samples, samples)
        angles, n = self._angles(samples), len(samples)
        rows, columns = torch.triu_indices(n, n, offset=1)
        values, stderr = np.eye(n), np.zeros((n, n))
        for whole, part in zip((values, stderr), self._overlaps(angles, angles, rows, columns), strict=True):
            whole[rows, columns] = whole[columns, rows] = part
        return KernelMatrix(values, stderr)

    def rectangle(self, samples: Floats, others: Floats) -> KernelMatrix:
        """All pairs of a sample of one set and a sample of another, A x B circuits.

        Args:
            samples: Shape (A, n_features).
            others: Shape (B, n_features).

        Returns:
            Shape (A, B).

        Raises:
            InputError: As in `gram`.
        """
        if self.by_states:
            left, right = self._states(samples), self._states(others)
            values = (left @ right.conj().T).abs().square().clamp(0, 1).numpy(force=True)
            return KernelMatrix(values, np.zeros_like(values))
        shape = (len(samples), len(others))
        rows, columns = (index.flatten() for index in torch.meshgrid(*map(torch.arange, shape), indexing="ij"))
        found = self._overlaps(self._angles(samples), self._angles(others), rows, columns)
        return KernelMatrix(*(each.reshape(shape) for each in found))

    def _overlaps(self, left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> tuple[Floats, Floats]:
        """Kernel and standard error of pairs of rows of two tables of angles, in one call of the device."""
        layer, n_angles = self.layer, left.shape[1]
        angle_map = torch.from_numpy(layer.circuit.encoding_map)
        angles = (left @ angle_map[:n_angles])[rows]
        angles += (right @ angle_map[n_angles:])[columns]
        self.calls += 1
        seed = int(np.random.SeedSequence([layer.seed, self.calls]).generate_state(1, np.uint64)[0])
        found = layer.device.run(layer.program, angles, shots=layer.shots, seed=seed) if len(angles) else None
        values = np.zeros(0) if found is None else all_zeros_probability(found.values.detach()).double().numpy()
        if layer.shots is None:
            return values, np.zeros_like(values)
        # Of a share of shots, with one pseudo-count on either side: no share is certain from shots that all agree.
        share = (values * layer.shots + 1) / (layer.shots + 2)
        return values, np.sqrt(share * (1 - share) / layer.shots)

    def _angles(self, samples: Floats) -> Tensor:
        """The angles of the expanded circuit, (N, P)."""
        return self._parameters(self.circuit.expanded(), samples)

    def _states(self, samples: Floats) -> Tensor:
        device = self.layer.device
        assert isinstance(device, StatevectorDevice)
        return device.states(device.prepare(self.circuit), self._parameters(self.circuit, samples))

    def _parameters(self, circuit: Circuit, samples: Floats) -> Tensor:
        if samples.ndim != 2 or samples.shape[1] != circuit.n_features:
            raise InputError(
                f"samples of shape {samples.shape}: the kernel of circuit {circuit.name!r} reads (N, "
                f"{circuit.n_features})"
            )
        if not np.isfinite(samples).all():
            bad = int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])
            raise InputError(f"samples of a kernel contain NaN or infinity in row {bad}")
        rows = torch.from_numpy(np.asarray(samples, dtype=np.float64))
        with torch.no_grad():
            return circuit.parameters(rows, rows.new_zeros(circuit.n_weights))


@dataclass(frozen=True)
class PositiveGram:
    """A Gram matrix without negative eigenvalues, which a support vector machine needs.

    Noise and shots break what a kernel is. The negative eigenvalues are set to 0 ("spectrum clip"), which gives the
    nearest positive semi-definite matrix: the product P K of the measured one with the projector P on the eigenvectors
    that are left. Rows of other samples are multiplied by the same P, so that they are treated as the training samples
    were (Chen et al., J. Mach. Learn. Res. 10 (2009) 747, section 3).

    Args:
        values: Shape (N, N).
        projector: P, shape (N, N); None: nothing was negative.
        n_negative: Eigenvalues that were set to 0.
        removed: Their share of the sum of all absolute eigenvalues.
    """

    values: Floats
    projector: Floats | None
    n_negative: int
    removed: float

    @classmethod
    def of(cls, gram: Floats) -> "PositiveGram":
        """The positive part of a symmetric matrix (N, N)."""
        levels, vectors = np.linalg.eigh(gram)
        negative = levels < -NEGATIVE * levels.max()
        if not negative.any():
            return cls(gram, None, 0, 0.0)
        kept = vectors[:, ~negative]
        values = (kept * levels[~negative]) @ kept.T
        removed = float(np.abs(levels[negative]).sum() / np.abs(levels).sum())
        return cls((values + values.T) / 2, kept @ kept.T, int(negative.sum()), removed)

    def rows(self, values: Floats) -> Floats:
        """Kernel values of other samples with the N ones, (A, N), treated like the matrix."""
        return values if self.projector is None else values @ self.projector
