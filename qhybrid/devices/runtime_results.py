"""Raw results of Runtime jobs -> expectation values, from a ledger's row alone."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from qiskit_ibm_runtime import RuntimeDecoder

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import MeasurementBasis, PauliWord
from qhybrid.devices.base import Estimates
from qhybrid.devices.sampling import shot_error
from qhybrid.errors import QHybridError

REGISTER = "c"
"""Classical register of the ISA circuits; bit k is the k-th wire of the measurement basis."""


def layout_of(circuit: Circuit, primitive: str, n_rows: int) -> dict[str, Any]:
    """What turns the raw result of a job into expectation values, as JSON."""
    return {
        "primitive": primitive,
        "n_qubits": circuit.n_qubits,
        "rows": n_rows,
        "observables": [str(word) for word in circuit.observables],
        "bases": [
            {"paulis": [list(pair) for pair in basis.paulis], "members": list(basis.members)} for basis in circuit.bases
        ],
    }


def estimates(raw: str, layout: Mapping[str, Any], shots: int) -> Estimates:
    """Expectation values of a raw result.

    Args:
        raw: As the service sent it.
        layout: From `layout_of`.
        shots: Shots asked for; only the estimator's results need it, where they have no error of their own.

    Returns:
        Shape (B, M), float64. Mitigated values of the estimator may lie outside [-1, 1].

    Raises:
        QHybridError: The result is not one of such a job.
    """
    return _estimates(_decoded(raw, layout)[1], layout, shots)


def readout_estimates(raw: str, layout: Mapping[str, Any]) -> Estimates:
    """Expectation values of the circuits that calibrated the readout in a job.

    Args:
        raw: As the service sent it.
        layout: From `layout_of`, with such circuits under `readout`.

    Returns:
        Shape (1, M), float64.
    """
    readout = layout["readout"]
    return _estimates(_decoded(raw, layout)[0], readout, readout["shots"])


def _estimates(results: Sequence[Any], layout: Mapping[str, Any], shots: int) -> Estimates:
    words = [PauliWord.parse(word, layout["n_qubits"]) for word in layout["observables"]]
    values = np.empty((layout["rows"], len(words)))
    errors = np.empty_like(values)
    for basis, result in zip(bases_of(layout), results, strict=True):
        columns = list(basis.members)
        try:
            if layout["primitive"] == "sampler":
                bits = getattr(result.data, REGISTER)
                means = _means(bits.array.reshape(layout["rows"], -1, bits.array.shape[-1]), basis, words)
                values[:, columns], errors[:, columns] = means, shot_error(means, bits.num_shots)
            else:
                shape = (len(columns), layout["rows"])
                means, spread = (
                    np.asarray(each, float).reshape(shape).T for each in (result.data.evs, result.data.stds)
                )
                values[:, columns] = means
                errors[:, columns] = np.where(np.isfinite(spread), spread, shot_error(means.clip(-1, 1), shots))
        except (AttributeError, ValueError) as error:
            raise QHybridError(f"the result has another form than its job asked for: {error}") from None
    return Estimates(torch.from_numpy(values), torch.from_numpy(errors))


def counts(raw: str, layout: Mapping[str, Any]) -> list[tuple[MeasurementBasis, NDArray[np.int64]]]:
    """Counts of a sampler's raw result, for mitigation.

    Args:
        raw: As the service sent it.
        layout: From `layout_of`.

    Returns:
        For each measurement basis its counts, shape (B, 2**k), the first wire of `basis.wires` the most significant
        bit, as in `sampling.sample_expectations`.
    """
    found = []
    for basis, result in zip(bases_of(layout), _decoded(raw, layout)[1], strict=True):
        k = len(basis.wires)
        bits = np.unpackbits(getattr(result.data, REGISTER).array, axis=-1)[..., ::-1][..., :k]  # (B, shots, k)
        outcomes = bits.astype(np.int64) @ (1 << np.arange(k)[::-1])
        found.append((basis, np.stack([np.bincount(row, minlength=2**k) for row in outcomes])))
    return found


def bases_of(layout: Mapping[str, Any]) -> list[MeasurementBasis]:
    """The measurement bases of a job, in the order of its PUBs."""
    return [
        MeasurementBasis(tuple((wire, pauli) for wire, pauli in each["paulis"]), tuple(each["members"]))
        for each in layout["bases"]
    ]


def _decoded(raw: str, layout: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The results of the circuits that calibrated the readout, and of the others."""
    n_readout = len(layout["readout"]["bases"]) if "readout" in layout else 0
    n_pubs = n_readout + len(layout["bases"])
    try:
        decoded = json.loads(raw, cls=RuntimeDecoder)
        results = list(decoded)
    except Exception as error:  # the decoder raises whatever NumPy, zlib and Qiskit do
        raise QHybridError(f"the result cannot be read: {type(error).__name__}") from None
    if len(results) != n_pubs:
        raise QHybridError(f"the result has {len(results)} parts; its job had {n_pubs}")
    return results[:n_readout], results[n_readout:]


def _means(array: NDArray[np.uint8], basis: MeasurementBasis, words: Sequence[PauliWord]) -> NDArray[np.float64]:
    """Means (B, members) over shots, of bits in bytes (B, shots, bytes), the last byte the least significant."""
    place = {wire: bit for bit, wire in enumerate(basis.wires)}
    means = []
    for member in basis.members:
        mask = np.zeros(array.shape[-1], dtype=np.uint8)
        for wire, _ in words[member].factors:
            mask[-1 - place[wire] // 8] |= 1 << (place[wire] % 8)
        parity = np.bitwise_count(array & mask).sum(axis=-1) & 1
        means.append(1.0 - 2.0 * parity.mean(axis=-1))
    return np.stack(means, axis=1)
