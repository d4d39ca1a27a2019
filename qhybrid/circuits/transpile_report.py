"""What an ISA circuit costs: gates, depth, time, and the estimate of its survival."""

import math

from qiskit import QuantumCircuit
from qiskit.transpiler import Target

from qhybrid.circuits.gates import VIRTUAL_GATES
from qhybrid.circuits.isa import IsaReport
from qhybrid.circuits.transpile_machine import delay_seconds, gate_seconds, log_fidelity, relaxation_times

NOT_IN_DEPTH = (*VIRTUAL_GATES, "barrier", "delay", "measure")


def report(isa: QuantumCircuit, target: Target, seed: int) -> IsaReport:
    """Count a circuit.

    Args:
        isa: In the gates of the target and on its qubits, scheduled or not, measured.
        target: Of the qubits in use only.
        seed: Of the transpiler.
    """
    log_survival, gates1q, names2q = 0.0, 0, []
    index = {qubit: number for number, qubit in enumerate(isa.qubits)}
    busy = dict.fromkeys(index.values(), 0.0)
    excited: set[int] = set()  # a qubit in its ground state loses nothing by waiting
    for each in isa.data:
        on = tuple(index[q] for q in each.qubits)
        name = each.operation.name
        if name == "barrier":
            continue
        if name == "delay":
            seconds = delay_seconds(each.operation, target.dt)
            if on[0] in excited:
                log_survival += math.log(_waiting_fidelity(target, on[0], seconds))
        else:
            seconds = gate_seconds(target, name, on)
            log_survival += log_fidelity(target, name, on)
            if name not in VIRTUAL_GATES:
                excited.update(on)
            if name == "measure":
                excited.discard(on[0])
            elif len(on) == 2:
                names2q.append(name)
            elif name not in VIRTUAL_GATES or seconds:
                gates1q += 1
        end = max(busy[q] for q in on) + seconds
        busy.update(dict.fromkeys(on, end))
    return IsaReport(
        n_qubits=isa.num_qubits,
        gates1q=gates1q,
        gates2q=len(names2q),
        two_qubit_gate=max(sorted(set(names2q)), key=names2q.count) if names2q else "",
        depth=isa.depth(lambda each: each.operation.name not in NOT_IN_DEPTH),
        seconds=max(busy.values(), default=0.0),
        survival=math.exp(log_survival),
        seed=seed,
    )


def _waiting_fidelity(target: Target, qubit: int, seconds: float) -> float:
    """Average fidelity of a qubit that relaxes for a time."""
    t1, t2 = relaxation_times(target, qubit)
    entanglement_fidelity = (1 + 2 * math.exp(-seconds / t2) + math.exp(-seconds / t1)) / 4
    return (2 * entanglement_fidelity + 1) / 3
