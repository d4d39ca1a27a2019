"""Sampler and estimator jobs on Aer, with the noise of a machine."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.primitives.containers import (
    BitArray,
    DataBin,
    PrimitiveResult,
    PubResult,
    SamplerPubResult,
)
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.transpiler import Target
from qiskit_aer import AerSimulator

from qhybrid.emulator.estimation import Readings, bases, estimate, rotated
from qhybrid.emulator.isa import CutCircuit, JobFailure, check_isa, cut
from qhybrid.emulator.machines import Machine

DEFAULT_SHOTS = 4096
DEFAULT_PRECISION = 0.015625
EXACT_QUBITS = 10
"""Up to here the noise is simulated by density matrices, which are faster; beyond, by a random trajectory a shot."""
MAX_QUBITS = 24
MAX_EXECUTIONS = 10_000_000
"""IBM's limit of a sampler job (https://quantum.cloud.ibm.com/docs/guides/job-limits)."""
MAX_OPERATIONS = 2**20
"""Operations, over all circuits, in one call of Aer (see `devices/aer.py`)."""
REPETITION_DELAY = 250e-6
JOB_OVERHEAD = 2.0
"""Seconds: what a made-up bill says for every job and between two shots."""


@dataclass(frozen=True)
class Outcome:
    """What a job gave.

    Args:
        result: For the client.
        circuits: Circuits that ran, one for each parameter set and measurement basis.
        shots: Shots of all of them.
        quantum_seconds: A made-up bill.
    """

    result: PrimitiveResult
    circuits: int
    shots: int
    quantum_seconds: float


@dataclass
class _Bill:
    circuits: int = 0
    shots: int = 0
    seconds: float = JOB_OVERHEAD

    def add(self, circuits: int, shots: int, seconds: float) -> None:
        self.circuits += circuits
        self.shots += circuits * shots
        self.seconds += circuits * shots * (seconds + REPETITION_DELAY)


def run_job(machine: Machine, program: str, params: dict[str, Any], seed: int | None = None) -> Outcome:
    """Run a job.

    Args:
        machine: Whose noise there is.
        program: `sampler` or `estimator`.
        params: As the client sent it, decoded.
        seed: None: another every time.

    Raises:
        JobFailure: The machine cannot run it.
    """
    target = machine.noise.target()
    generator = np.random.default_rng(seed)
    bill = _Bill()
    run_pub = _sampler_pub if program == "sampler" else _estimator_pub
    results = [run_pub(machine, target, pub, params.get("options") or {}, generator, bill) for pub in params["pubs"]]
    metadata: dict[str, Any] = {"version": 2, "qhybrid_emulator": f"simulated with the noise of {machine.noise.name}"}
    if program == "estimator":
        metadata["resilience_level"] = params.get("resilience_level")
        metadata["resilience_simulated"] = False
    return Outcome(PrimitiveResult(results, metadata=metadata), bill.circuits, bill.shots, round(bill.seconds, 3))


def check_params(machine: Machine, program: str, params: dict[str, Any]) -> str | None:
    """What is wrong with a job before it is accepted; None: nothing.

    Args:
        machine: Where it is to run.
        program: `sampler` or `estimator`.
        params: As the client sent it, decoded.
    """
    pubs = params.get("pubs")
    if not isinstance(pubs, list) or not pubs:
        return "params.pubs: a job needs at least one PUB"
    if program != "sampler":
        return None
    options, executions = params.get("options") or {}, 0
    for pub in pubs:
        shots = _shots(pub, options)
        if not 1 <= shots <= machine.max_shots:
            return f"The number of shots ({shots}) is not in the range 1 to {machine.max_shots} of {machine.name}"
        executions += shots * _rows(pub)
    if executions > MAX_EXECUTIONS:
        return f"The job has {executions} executions (parameter sets times shots); the maximum is {MAX_EXECUTIONS}"
    return None


def _rows(pub: list[Any]) -> int:
    """Parameter sets of a PUB."""
    values = np.asarray(pub[1]) if len(pub) > 1 and pub[1] is not None else np.zeros(0)
    return max(1, int(np.prod(values.shape[:-1])))


def _shots(pub: list[Any], options: dict[str, Any]) -> int:
    own = pub[2] if len(pub) > 2 else None
    return int(own or options.get("default_shots") or DEFAULT_SHOTS)


def _sampler_pub(
    machine: Machine,
    target: Target,
    pub: list[Any],
    options: dict[str, Any],
    generator: np.random.Generator,
    bill: _Bill,
) -> SamplerPubResult:
    coerced = SamplerPub.coerce(tuple(pub[:2]), _shots(pub, options))
    circuit, shots = coerced.circuit, coerced.shots
    check_isa(circuit, target)
    small = cut(circuit, machine.noise, target)
    rows = coerced.parameter_values.as_array(circuit.parameters)
    rows = rows.reshape(math.prod(coerced.shape), circuit.num_parameters)
    outcomes = sample(small, rows, shots, generator)  # (rows, shots, bits)
    bill.add(len(rows), shots, small.seconds)
    fields = {}
    for register in circuit.cregs:
        bits = outcomes[..., [circuit.find_bit(bit).index for bit in register]]
        array = BitArray.from_bool_array(bits, order="little")
        fields[register.name] = array.reshape(coerced.shape)
    metadata = {"circuit_metadata": circuit.metadata or {}}
    return SamplerPubResult(DataBin(**fields, shape=coerced.shape), metadata=metadata)


def _estimator_pub(
    machine: Machine,
    target: Target,
    pub: list[Any],
    options: dict[str, Any],
    generator: np.random.Generator,
    bill: _Bill,
) -> PubResult:
    own = pub[3] if len(pub) > 3 else None
    precision = float(own or options.get("default_precision") or DEFAULT_PRECISION)
    shots = int(options.get("default_shots") or math.ceil(1 / precision**2)) if not own else math.ceil(1 / precision**2)
    coerced = EstimatorPub.coerce(tuple(pub[:3]), precision)
    circuit = coerced.circuit
    check_isa(circuit, target)
    if circuit.num_clbits:
        raise JobFailure("An estimator circuit may not hold measurements or classical bits.", 8004)
    shape = coerced.shape
    if any(set(word) - set("IXYZ") for observable in np.ravel(coerced.observables) for word in observable):
        raise JobFailure("Observables alphabet is limited to I, X, Y, Z.", 8004)
    table = np.broadcast_to(np.asarray(coerced.observables, dtype=object), shape).reshape(-1)
    given = coerced.parameter_values.shape
    rows = coerced.parameter_values.as_array(circuit.parameters).reshape(math.prod(given), circuit.num_parameters)
    index = np.broadcast_to(np.arange(len(rows)).reshape(given), shape).reshape(-1)
    measured = bases(table)
    also = {qubit for basis in measured for qubit in basis}
    small = cut(circuit, machine.noise, target, also)
    readings: list[Readings] = []
    for basis in measured:
        outcomes = sample(rotated(small, basis), rows, shots, generator)
        readings.append(Readings(basis, outcomes))
        bill.add(len(rows), shots, small.seconds)
    evs, stds = np.empty(len(table)), np.empty(len(table))
    for position, (observable, row) in enumerate(zip(table, index, strict=True)):
        evs[position], stds[position] = estimate(observable, int(row), readings)
    data = DataBin(evs=evs.reshape(shape), stds=stds.reshape(shape), ensemble_standard_error=stds.reshape(shape),
                   shape=shape)  # fmt: skip
    metadata = {"shots": shots, "target_precision": precision, "circuit_metadata": circuit.metadata or {}}
    return PubResult(data, metadata=metadata)


def sample(
    small: CutCircuit, rows: NDArray[np.float64], shots: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw shots.

    Args:
        small: With P parameters and C classical bits.
        rows: Parameter values, (R, P).
        shots: For each row.
        generator: Of random numbers.

    Returns:
        Classical bits of each shot, (R, shots, C), the circuit's first bit first.

    Raises:
        JobFailure: The circuit is too large to simulate.
    """
    circuit = small.circuit
    if circuit.num_qubits > MAX_QUBITS:
        raise JobFailure(
            f"The circuit uses {circuit.num_qubits} qubits; the qhybrid emulator simulates at most {MAX_QUBITS}.", 8004
        )
    outcomes = np.zeros((len(rows), shots, circuit.num_clbits), dtype=bool)
    if not len(rows) or "measure" not in circuit.count_ops():
        return outcomes
    method = "density_matrix" if circuit.num_qubits <= EXACT_QUBITS else "statevector"
    simulator = AerSimulator(method=method, noise_model=small.noise)
    length = max(1, MAX_OPERATIONS // max(1, len(circuit.data)))
    for start in range(0, len(rows), length):
        piece = rows[start : start + length]
        for offset, counts in enumerate(_counts(simulator, circuit, piece, shots, generator)):
            words = np.array(list(counts), dtype=np.int64 if circuit.num_clbits < 63 else object)
            table = ((words[:, None] >> np.arange(circuit.num_clbits)) & 1).astype(bool)
            order = generator.permutation(np.repeat(np.arange(len(words)), list(counts.values())))
            outcomes[start + offset] = table[order]
    return outcomes


def _counts(
    simulator: AerSimulator,
    circuit: QuantumCircuit,
    rows: NDArray[np.float64],
    shots: int,
    generator: np.random.Generator,
) -> list[dict[int, int]]:
    """Outcome as an integer -> how often, for each row."""
    binding = dict(zip(circuit.parameters, rows.T.tolist(), strict=True))
    result = simulator.run(
        circuit,
        parameter_binds=[binding] if binding else None,
        shots=shots,
        seed_simulator=int(generator.integers(2**62)),
        max_parallel_experiments=0,  # as many as there are cores
    ).result()
    if not result.success:
        raise JobFailure(f"Simulation failed: {result.status}", 9999)
    counts = [{int(word, 16): number for word, number in each.data.counts.items()} for each in result.results]
    return counts if binding else counts * len(rows)
