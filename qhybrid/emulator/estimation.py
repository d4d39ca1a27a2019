"""Expectation values from shots: which measurement bases observables need, and what their outcomes say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from qiskit.circuit import ClassicalRegister

from qhybrid.emulator.isa import CutCircuit

Basis = dict[int, str]
"""Physical qubit -> the axis that it is measured along."""


@dataclass(frozen=True, eq=False)
class Readings:
    """Shots in one basis.

    Args:
        basis: What was measured.
        outcomes: (R, shots, C): the bits of the basis' qubits, in its order.
    """

    basis: Basis
    outcomes: NDArray[np.bool_]


def axes(term: str) -> Basis:
    """The basis of a word of Pauli operators, its last letter for qubit 0."""
    return {qubit: letter for qubit, letter in enumerate(reversed(term)) if letter != "I"}


def bases(observables: Iterable[Mapping[str, float]]) -> list[Basis]:
    """Few bases, greedily found, of which every word fits into one."""
    terms = sorted({term for observable in observables for term in observable}, key=lambda t: (t.count("I"), t))
    found: list[Basis] = []
    for needed in map(axes, terms):
        if not needed:
            continue
        for basis in found:
            if _fits(needed, basis):
                basis.update(needed)
                break
        else:
            found.append(dict(needed))
    return found


def _fits(needed: Basis, basis: Basis) -> bool:
    return all(basis.get(qubit, axis) == axis for qubit, axis in needed.items())


def rotated(small: CutCircuit, basis: Basis) -> CutCircuit:
    """The circuit with a measurement in a basis at its end, by the machine's own gates."""
    circuit = small.circuit.copy()
    register = ClassicalRegister(len(basis), "basis")
    circuit.add_register(register)
    for bit, (qubit, axis) in enumerate(basis.items()):
        place = small.qubits.index(qubit)
        if axis == "X":
            circuit.rz(np.pi / 2, place)
        if axis in "XY":
            circuit.sx(place)
        circuit.measure(place, register[bit])
    return replace(small, circuit=circuit)


def estimate(observable: Mapping[str, float], row: int, readings: Sequence[Readings]) -> tuple[float, float]:
    """Expectation value of a sum of Pauli words, and its standard error.

    Args:
        observable: Word -> coefficient.
        row: Of the parameter values.
        readings: Shots in bases of which every word fits into one.
    """
    value, variance = 0.0, 0.0
    left = dict(observable)
    for term in [term for term in left if not axes(term)]:
        value += float(np.real(left.pop(term)))
    for reading in readings:
        here = [term for term in left if _fits_into(axes(term), reading.basis)]
        if not here:
            continue
        outcomes = reading.outcomes[row]
        places = {qubit: bit for bit, qubit in enumerate(reading.basis)}
        total = np.zeros(len(outcomes))
        for term in here:
            parity = np.bitwise_xor.reduce(outcomes[:, [places[qubit] for qubit in axes(term)]], axis=1)
            total += float(np.real(left.pop(term))) * (1 - 2 * parity.astype(float))
        value += float(total.mean())
        variance += float(total.var()) / len(outcomes)
    return value, float(np.sqrt(variance))


def _fits_into(needed: Basis, basis: Basis) -> bool:
    return all(basis.get(qubit) == axis for qubit, axis in needed.items())
