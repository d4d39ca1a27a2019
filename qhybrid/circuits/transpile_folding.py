"""ISA circuits made of other ISA circuits, on the same qubits: with folded gates, and to calibrate the readout.

Folding keeps what a circuit does and multiplies its noise: a gate G becomes G G^-1 G, after the transpilation, so that
nothing cancels it (Giurgica-Tiron et al., arXiv 2005.10921). Waiting times are filled anew.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Operation
from qiskit.circuit.library import RZGate, SXGate
from qiskit.transpiler import Target, generate_preset_pass_manager

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import MeasurementBasis
from qhybrid.circuits.transpile import IsaCircuit
from qhybrid.circuits.transpile_machine import Machine
from qhybrid.circuits.transpile_report import report
from qhybrid.errors import InputError

FOLDINGS = ("local", "global")
"""What is folded: every two-qubit gate on its own, or the circuit as a whole, one-qubit gates and waits included."""


def folded(isa: IsaCircuit, factor: int, folding: str) -> IsaCircuit:
    """An ISA circuit whose noise is a multiple.

    Args:
        isa: The circuit.
        factor: Odd, at least 1; 1 gives the circuit back.
        folding: One of `FOLDINGS`.

    Raises:
        InputError: The machine has no inverse of one of its gates.
    """
    if factor == 1:
        return isa
    body = _body(isa)
    result = body.copy_empty_like()
    target = Machine.of(isa.target).cut(isa.qubits)
    if folding == "global":
        inverse = body.copy_empty_like()
        for each in reversed(body.data):
            for gate in _inverse(each.operation, target):
                inverse.append(gate, each.qubits)
        parts = [body, *[inverse, body] * ((factor - 1) // 2)]
        result.data = [each for part in parts for each in part.data]
    else:
        for each in body.data:
            result.append(each)
            for _ in range((factor - 1) // 2 if len(each.qubits) == 2 else 0):
                for gate in (*_inverse(each.operation, target), each.operation):
                    result.append(gate, each.qubits)
    result.measure(list(isa.measured.values()), range(len(isa.measured)))
    return _placed(result, isa, target)


def basis_states(
    isa: IsaCircuit, circuit: Circuit, qubits: Sequence[int], *, bits: Sequence[int]
) -> tuple[IsaCircuit, ...]:
    """Circuits that prepare all of some qubits in 0 or in 1 and measure them.

    Args:
        isa: Of the machine on which it is done.
        circuit: Its bases are measured, one in each of the circuits; wire k of it is on the k-th qubit.
        qubits: Physical qubits.
        bits: What is prepared, one 0 or 1 for each basis.
    """
    ascending = tuple(sorted(qubits))
    target = Machine.of(isa.target).cut(ascending)
    places = [ascending.index(qubit) for qubit in qubits]
    translate = generate_preset_pass_manager(
        optimization_level=1, target=target, initial_layout=list(range(len(places)))
    )
    found = []
    for bit, basis in zip(bits, circuit.bases, strict=True):
        small = QuantumCircuit(len(places), len(places), name=circuit.name)
        if bit:
            small.x(places)
        small.measure(places, range(len(places)))
        model = replace(
            isa,
            circuit=circuit,
            basis=basis,
            qubits=ascending,
            measured=dict(enumerate(places)),
            layout=dict(enumerate(qubits)),
        )
        found.append(_placed(translate.run(small), model, target))
    return tuple(found)


def relabelled(isa: IsaCircuit, circuit: Circuit, basis: MeasurementBasis) -> IsaCircuit:
    """The same ISA circuit, its measurement read as that of another basis of the same wires."""
    assert basis.wires == isa.basis.wires
    return replace(isa, circuit=circuit, basis=basis)


def _body(isa: IsaCircuit) -> QuantumCircuit:
    """The gates of an ISA circuit on its own qubits only."""
    place = {isa.isa.qubits[qubit]: index for index, qubit in enumerate(isa.qubits)}
    small = QuantumCircuit(len(isa.qubits), len(isa.measured), name=isa.isa.name)
    for each in isa.isa.data:
        if each.operation.name not in ("delay", "measure"):
            small.append(each.operation, [place[qubit] for qubit in each.qubits])
    return small


def _inverse(gate: Operation, target: Target) -> list[Operation]:
    """A gate's inverse in the gates of the machine, up to a phase."""
    if gate.name == "sx":
        return [RZGate(np.pi), SXGate(), RZGate(np.pi)]
    inverse = gate.inverse()
    if inverse.name not in target.operation_names:
        raise InputError(f"zne: the machine has no inverse of its gate {gate.name!r}, so that it cannot be folded")
    return [inverse]


def _placed(small: QuantumCircuit, isa: IsaCircuit, target: Target) -> IsaCircuit:
    """A circuit on the qubits of an ISA circuit, scheduled as that is, put on the machine.

    Args:
        small: On as many qubits.
        isa: Gives everything else.
        target: Of these qubits.
    """
    if isa.scheduled:
        passes = generate_preset_pass_manager(
            optimization_level=0,
            target=target,
            initial_layout=list(range(len(isa.qubits))),
            scheduling_method="alap",
        )
        small = passes.scheduling.run(small)
    small.data = [each for each in small.data if each.name != "barrier"]
    n_bits = len(isa.measured)
    whole = QuantumCircuit(QuantumRegister(isa.isa.num_qubits, "q"), ClassicalRegister(n_bits, "c"), name=small.name)
    whole.compose(small, list(isa.qubits), range(n_bits), inplace=True, copy=False)
    return replace(isa, isa=whole, report=report(small, target, isa.report.seed))
