"""Circuits laid out on machines, and what they compute there."""

from functools import lru_cache

import numpy as np
from dense_simulation import circuit_of
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector
from qiskit.transpiler import Target

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.transpile import IsaCircuit, isa_circuits
from qhybrid.noise_models.spec import load_noise_model


@lru_cache
def target_of(machine: str) -> Target:
    return load_noise_model(machine).target()


def laid_out(circuit: Circuit, machine: str, **options: object) -> tuple[IsaCircuit, ...]:
    options = {"schedule": True, "layout_seeds": 1, "cache": False, "machine": machine, **options}
    return isa_circuits(circuit, target_of(machine), **options)  # type: ignore[arg-type]


def values(isas: tuple[IsaCircuit, ...], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expectation values of the bound circuits by Qiskit's state vectors, (B, M)."""
    circuit = isas[0].circuit
    result = np.full((len(rows), circuit.n_observables), np.nan)
    for isa in isas:
        for b, bound in enumerate(isa.bound(rows)):
            state = Statevector(without_machine(isa, bound))
            for member in isa.basis.members:
                qubits = [isa.measured[wire] for wire, _ in circuit.observables[member].factors]
                p = state.probabilities(qubits)
                result[b, member] = sum(v * (-1) ** bin(i).count("1") for i, v in enumerate(p))
    return result


def without_machine(isa: IsaCircuit, bound: QuantumCircuit) -> QuantumCircuit:
    """The gates on the qubits in use; measurements must come last, and read what `measured` says."""
    small, done, read = QuantumCircuit(len(isa.qubits)), set(), {}
    for each in bound.data:
        on = [isa.qubits.index(bound.find_bit(q).index) for q in each.qubits]
        assert not done & set(on) or each.name == "delay"
        if each.name == "measure":
            done.update(on)
            read[bound.find_bit(each.clbits[0]).index] = on[0]
        elif each.name != "delay":
            small.append(each.operation, on)
    assert [read[bit] for bit in range(len(read))] == list(isa.measured.values())
    return small


def chain(n_qubits: int = 3) -> Circuit:
    """More than ten angles: alpha[10] stands before alpha[2] in the alphabet."""
    rotations = [(name, (wire,)) for name in ("ry", "rx", "ry", "rx") for wire in range(n_qubits)]
    entangled = [("cx", (wire, wire + 1)) for wire in range(n_qubits - 1)]
    return circuit_of([*rotations[:6], *entangled, *rotations[6:]], ["Z0", "X1 Z2"], n_qubits)
