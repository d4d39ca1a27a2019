"""Places for the qubits of a machine whose map is not known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STEPS = 300


def stress_layout(n_qubits: int, edges: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Lay qubits out so that their distances resemble their numbers of steps along edges.

    Classical scaling (Torgerson 1952) as a start, then stress majorisation with weights 1 / d**2 (Gansner, Koren and
    North, Graph Drawing 2004). No random numbers: the same edges give the same map.

    Args:
        n_qubits: How many.
        edges: Pairs of qubits, wanted at a distance of 1.

    Returns:
        (column, row) of each qubit, shape (n_qubits, 2), the longer side horizontal.
    """
    if n_qubits == 1:
        return np.zeros((1, 2))
    steps = _steps(n_qubits, edges)
    centring = np.eye(n_qubits) - 1 / n_qubits
    values, vectors = np.linalg.eigh(-0.5 * centring @ steps**2 @ centring)
    places = vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 1e-6))
    places += 1e-3 * np.stack([np.cos(np.arange(n_qubits)), np.sin(np.arange(n_qubits))], axis=1)  # parts equal points
    weights = 1 / (steps + np.eye(n_qubits)) ** 2 - np.eye(n_qubits)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    solve = np.linalg.pinv(laplacian)
    for _ in range(STEPS):
        distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
        pull = -weights * steps / np.maximum(distances, 1e-9)
        np.fill_diagonal(pull, 0)
        np.fill_diagonal(pull, -pull.sum(axis=1))
        places = solve @ (pull @ places)
    _, _, axes = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)
    return np.asarray((places - places.mean(axis=0)) @ axes.T, dtype=np.float64)


def _steps(n_qubits: int, edges: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Number of edges between each two qubits; a little more than the most where there is no way."""
    steps = np.full((n_qubits, n_qubits), np.inf)
    np.fill_diagonal(steps, 0)
    for a, b in edges:
        steps[a, b] = steps[b, a] = 1
    for via in range(n_qubits):
        steps = np.minimum(steps, steps[:, [via]] + steps[[via]])
    most = steps[np.isfinite(steps)].max()
    steps[np.isinf(steps)] = most + 2
    return steps
