"""Machines as Aer's own, uncut noise models see them, and the values of circuits there."""

import functools
import warnings

import numpy as np
import qiskit_ibm_runtime.fake_provider as fakes
from numpy.typing import NDArray
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel as AerNoiseModel

from qhybrid import catalog
from qhybrid.circuits.spec import load_circuit
from qhybrid.circuits.transpile import IsaCircuit

MACHINES = {"ibm_brisbane": "FakeBrisbane", "ibm_torino": "FakeTorino", "ibm_fez": "FakeFez"}
SMALL = [name for name in catalog.entries("circuits") if load_circuit(name).n_qubits <= 6]


@functools.cache
def full_noise(machine: str) -> AerNoiseModel:
    """Aer's own, uncut noise model of a machine, with its pass for waiting qubits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of qiskit-aer, on T2 > 2 T1
        return AerNoiseModel.from_backend(getattr(fakes, MACHINES[machine])())


def independent_values(
    machine: str, isa_circuits: tuple[IsaCircuit, ...], rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expectation values (B, M) by Aer's density matrix with the uncut noise model on the bound ISA circuits."""
    noise = full_noise(machine)
    words = isa_circuits[0].circuit.observables
    circuits, measured = [], {}
    for isa in isa_circuits:
        for circuit in isa.bound(rows):
            bits = {
                circuit.find_bit(each.clbits[0]).index: circuit.find_bit(each.qubits[0]).index
                for each in circuit.data
                if each.operation.name == "measure"
            }
            measured[isa] = [bits[bit] for bit in range(len(bits))]
            circuit.remove_final_measurements()
            circuit.save_probabilities(measured[isa])  # the first qubit is the least significant bit
            circuits.append(circuit)
    results = iter(AerSimulator(method="density_matrix", noise_model=noise).run(circuits).result().results)
    values = np.empty((len(rows), len(words)))
    for isa, qubits in measured.items():
        for row in range(len(rows)):
            table = np.asarray(next(results).data.probabilities).reshape((2,) * len(qubits)).transpose()
            for axis, qubit in enumerate(qubits):  # axis i is the i-th wire of the basis
                confusion = noise._local_readout_errors[(qubit,)].probabilities  # [true, read]
                table = np.moveaxis(np.tensordot(table, confusion, axes=(axis, 0)), -1, axis)
            for member in isa.basis.members:
                signed = table
                for wire, _ in words[member].factors:
                    axis = isa.basis.wires.index(wire)
                    signed = np.moveaxis(np.moveaxis(signed, axis, -1) * [1.0, -1.0], -1, axis)
                values[row, member] = signed.sum()
    return values
