"""Submitted circuits checked against a machine, given the machine's waiting times, and cut to the qubits in use."""

from collections.abc import Iterable
from dataclasses import dataclass

from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, ControlFlowOp
from qiskit.transpiler import PassManager, Target
from qiskit.transpiler.passes import ALAPScheduleAnalysis, PadDelay
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_aer.noise import QuantumError
from qiskit_aer.noise.noise_model import QuantumErrorLocation

from qhybrid.circuits.transpile_machine import delay_seconds
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.qiskit_forms import quantum_error

SILENT = ("barrier", "delay")


class JobFailure(Exception):
    """The machine cannot run a job; the code is one of IBM's registry (https://quantum.cloud.ibm.com/docs/errors)."""

    def __init__(self, message: str, code: int = 1517) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, eq=False)
class CutCircuit:
    """A circuit on the qubits that it uses, with their noise.

    Args:
        circuit: On k qubits, without a global phase; waiting qubits relax where it says so by reference.
        qubits: Physical qubits, in the order of the circuit's.
        noise: Aer's noise model of these qubits.
        seconds: How long one shot takes on the machine.
    """

    circuit: QuantumCircuit
    qubits: tuple[int, ...]
    noise: AerNoiseModel
    seconds: float


def check_isa(circuit: QuantumCircuit, target: Target) -> None:
    """Check that a machine can run a circuit as it stands.

    Raises:
        JobFailure: It has more qubits than the machine, or a gate that the machine does not have there.
    """
    if target.num_qubits is not None and circuit.num_qubits > target.num_qubits:
        raise JobFailure(
            f"The circuit has {circuit.num_qubits} qubits but the target system requires {target.num_qubits} qubits."
        )
    for instruction in circuit.data:
        name = instruction.operation.name
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        if isinstance(instruction.operation, ControlFlowOp):
            raise JobFailure(f"{name}: the qhybrid emulator does not simulate dynamic circuits.", 8004)
        if name != "barrier" and not target.instruction_supported("sx" if name == "id" else name, qubits):
            raise JobFailure(
                f"The instruction {name} on qubits {qubits} is not supported by the target system. Transpile your "
                "circuits for the target before submitting a primitive query. For example, you can use the following "
                "code block given an IBMBackend object `backend`: from qiskit.transpiler import "
                "generate_preset_pass_manager; pm = generate_preset_pass_manager(optimization_level=1, "
                "backend=backend); isa_circuits = pm.run(circuits)."
            )


def cut(circuit: QuantumCircuit, noise: NoiseModel, target: Target, also: Iterable[int] = ()) -> CutCircuit:
    """Schedule a circuit as late as possible, as the machine does, and leave out the qubits that it does not use.

    Args:
        circuit: Checked; delays that it has stay.
        noise: Of the machine.
        target: Likewise.
        also: Physical qubits to keep although nothing happens on them.
    """
    active = {
        circuit.find_bit(qubit).index
        for instruction in circuit.data
        if instruction.operation.name not in SILENT
        for qubit in instruction.qubits
    }
    used = tuple(sorted(active | set(also)))
    place = {qubit: index for index, qubit in enumerate(used)}
    scheduled = _schedule(circuit, target) if noise.idle and noise.dt else circuit
    body = QuantumCircuit(len(used))
    for register in circuit.cregs:
        body.add_register(register)
    body.add_bits([bit for bit in circuit.clbits if bit not in body.clbits])
    model = noise.aer(used)
    waits: dict[tuple[int, float], QuantumError | None] = {}
    for instruction in scheduled.data:
        operation, name = instruction.operation, instruction.operation.name
        on = [scheduled.find_bit(qubit).index for qubit in instruction.qubits]
        if name in (*SILENT, "id"):
            for qubit in on if name != "barrier" else []:
                if qubit not in place:
                    continue
                seconds = delay_seconds(operation, noise.dt) if name == "delay" else _length(noise, "sx", qubit)
                key = (qubit, seconds)
                if key not in waits:
                    relaxation = noise.idle_noise(qubit, seconds)
                    waits[key] = None if relaxation is None else quantum_error(relaxation)
                if (error := waits[key]) is not None:
                    body.append(QuantumErrorLocation(error), [place[qubit]])
            continue
        clbits = [body.clbits[scheduled.find_bit(bit).index] for bit in instruction.clbits]
        body.append(CircuitInstruction(operation, [body.qubits[place[qubit]] for qubit in on], clbits))
    for error in waits.values():
        if error is not None:
            model.add_all_qubit_quantum_error(error, error.id)
    return CutCircuit(body, used, model, _duration(circuit, noise))


def _schedule(circuit: QuantumCircuit, target: Target) -> QuantumCircuit:
    passes = PassManager([ALAPScheduleAnalysis(target=target), PadDelay(target=target)])
    scheduled: QuantumCircuit = passes.run(circuit)
    return scheduled


def _length(noise: NoiseModel, name: str, *qubits: int) -> float:
    calibration = noise.gates.get((name, qubits))
    return 0.0 if calibration is None else calibration.duration


def _duration(circuit: QuantumCircuit, noise: NoiseModel) -> float:
    """Seconds of the longest chain of operations."""
    ends = [0.0] * circuit.num_qubits
    for instruction in circuit.data:
        on = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        name = instruction.operation.name
        if name == "measure":
            seconds = float(noise.readout_duration[on[0]])
        elif name == "delay":
            seconds = delay_seconds(instruction.operation, noise.dt)
        else:
            seconds = _length(noise, name, *on)
        start = max((ends[qubit] for qubit in on), default=0.0)
        for qubit in on:
            ends[qubit] = start + seconds
    return max(ends, default=0.0)
