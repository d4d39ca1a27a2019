"""The encoder of a circuit followed by its own inverse: how much the states of two samples overlap."""

from functools import cache
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor

from qhybrid.circuits.builder import CircuitBuilder
from qhybrid.circuits.circuit import Circuit, Gate
from qhybrid.circuits.encoders import AngleEncoder
from qhybrid.circuits.gates import FIXED, ComplexMatrix, n_wires
from qhybrid.circuits.observables import PauliWord
from qhybrid.errors import InputError

MAX_QUBITS = 8
"""Most qubits of an overlap circuit: it has 2^n - 1 observables."""


def overlap_circuit(circuit: Circuit) -> Circuit:
    """U(y)^dagger U(x): all qubits end in 0 with the probability |<phi(y)|phi(x)>|^2 (Havlicek et al., 1804.11326).

    U is the part of the circuit that encodes features: gates behind the last that reads one cancel against their
    inverses and are left out. The observables are all words of Z on the qubits that a gate acts on, 2^k - 1 of them,
    measured together; `all_zeros_probability` makes the probability of them.

    Args:
        circuit: Any. One that begins with amplitude encoding prepares its state by gates.

    Returns:
        A circuit without weights. Its 2 P features are the angles of x and then those of y, as
        `circuit.expanded().parameters` gives them for any weights.

    Raises:
        InputError: The circuit has more than `MAX_QUBITS` qubits.
    """
    if circuit.n_qubits > MAX_QUBITS:
        raise InputError(
            f"circuit {circuit.name!r} has {circuit.n_qubits} qubits; overlaps of states are measured on at most "
            f"{MAX_QUBITS}"
        )
    expanded = circuit.expanded()
    n_angles, gates = expanded.n_angles, encoder_gates(expanded)
    builder = CircuitBuilder(circuit.n_qubits)
    builder.encode(AngleEncoder(0, 2 * n_angles))
    for gate in gates:
        if gate.slot is None:
            builder.fixed(gate.name, gate.wires)
        else:
            builder.rotation(gate.name, gate.wires, **_angle(expanded, gate.slot, gate.slot, 1.0))
    for gate in reversed(gates):
        if gate.slot is None:
            for name in inverse_gates(gate.name):
                builder.fixed(name, gate.wires)
        else:
            builder.rotation(gate.name, gate.wires, **_angle(expanded, gate.slot, n_angles + gate.slot, -1.0))
    wires = sorted({wire for gate in gates for wire in gate.wires})
    words = [
        PauliWord(tuple((wire, "Z") for wire, read in zip(wires, chosen, strict=True) if read))
        for chosen in product((False, True), repeat=len(wires))
    ]
    return builder.circuit(
        f"{circuit.name}-overlap",
        tuple(words[1:]),
        description=f"{circuit.name} of one sample, then its inverse of another",
        source="Havlicek et al., Nature 567, 209 (2019)",
    )


def encoder_gates(circuit: Circuit) -> tuple[Gate, ...]:
    """The gates of a circuit but for those behind which no gate on their wires reads a feature."""
    kept: list[Gate] = []
    wires: set[int] = set()
    for gate in reversed(circuit.gates):
        reads = gate.slot is not None and bool(np.any(circuit.encoding_map[:, gate.slot]))
        if reads or wires & set(gate.wires):
            kept.append(gate)
            wires |= set(gate.wires)
    return tuple(reversed(kept))


@cache
def inverse_gates(name: str) -> tuple[str, ...]:
    """Fixed gates that together undo a fixed gate, exactly, in the order of time: `s` -> `sdg`, `sx` -> `x`, `sx`.

    Raises:
        InputError: No two fixed gates undo it.
    """
    matrix = FIXED[name]
    names = [other for other in FIXED if n_wires(other) == n_wires(name)]
    for length in (1, 2):
        for found in product(names, repeat=length):
            if _is_identity([matrix, *(FIXED[other] for other in found)]):
                return found
    raise InputError(f"no fixed gates undo gate {name!r}")


def all_zeros_probability(expectation_values: Tensor) -> Tensor:
    """The probability that all k qubits are 0: the mean of all 2^k words of Z, the empty one included.

    Args:
        expectation_values: Of the observables of `overlap_circuit`, shape (B, 2^k - 1).

    Returns:
        Shape (B,), within [0, 1].
    """
    probability: Tensor = (1 + expectation_values.sum(dim=1)) / (1 + expectation_values.shape[1])
    return probability.clamp(0, 1)


def _angle(circuit: Circuit, slot: int, row: int, sign: float) -> dict[str, Any]:
    """A rotation's angle: read from a feature of the overlap circuit, or constant where it is."""
    if np.any(circuit.encoding_map[:, slot]) or np.any(circuit.weight_map[:, slot]):
        return {"encoding": {row: sign}}
    return {"offset": sign * float(circuit.offset[slot])}


def _is_identity(matrices: list[ComplexMatrix]) -> bool:
    whole = np.eye(len(matrices[0]), dtype=complex)
    for matrix in matrices:
        whole = matrix @ whole
    return bool(np.allclose(whole, np.eye(len(whole))))
