"""The unmodified IBM client against the loopback QPU."""

from collections.abc import Iterator

import numpy as np
import pytest
from loopback import emulated
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ClassicalRegister, Parameter, QuantumRegister
from qiskit.providers.exceptions import QiskitBackendNotFoundError
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_ibm_runtime import (
    Batch,
    EstimatorV2,
    IBMBackend,
    IBMInputValueError,
    IBMRuntimeError,
    QiskitRuntimeService,
    RuntimeJobFailureError,
    RuntimeJobMaxTimeoutError,
    SamplerV2,
    Session,
)
from qiskit_ibm_runtime.fake_provider import FakeBrisbane, FakeManilaV2

from qhybrid.emulator.running import RunningEmulator

pytestmark = pytest.mark.filterwarnings("ignore:The RuntimeOptions class is deprecated")  # the client's own
A = Parameter("a")
ANGLES = np.array([[0.3], [1.1], [2.4]])


@pytest.fixture(scope="module")
def emulator() -> Iterator[RunningEmulator]:
    with emulated(backends=["ibm_brisbane", "FakeManila"], seed=7) as running:
        yield running


@pytest.fixture(scope="module")
def service(emulator: RunningEmulator) -> QiskitRuntimeService:
    return QiskitRuntimeService()


@pytest.fixture(scope="module")
def backend(service: QiskitRuntimeService) -> IBMBackend:
    return service.backend("ibm_brisbane")


@pytest.fixture(scope="module")
def isa(backend: IBMBackend) -> QuantumCircuit:
    """Two entangled qubits, read into two registers, the second one's bits the other way round."""
    qubits, left, right = QuantumRegister(3), ClassicalRegister(1, "left"), ClassicalRegister(2, "right")
    circuit = QuantumCircuit(qubits, left, right)
    circuit.ry(A, 0)
    circuit.cx(0, 1)
    circuit.x(2)
    circuit.measure(0, left[0])
    circuit.measure(1, right[1])
    circuit.measure(2, right[0])
    return transpile(circuit, backend, optimization_level=1, seed_transpiler=1)


def test_counts_are_those_of_the_snapshots_noise(service: QiskitRuntimeService) -> None:
    """Aer's own noise model, idle noise included, of the whole machine, against a circuit without delays."""
    backend, fake = service.backend("ibmq_manila"), FakeManilaV2()
    qubits, left, right = QuantumRegister(3), ClassicalRegister(1, "left"), ClassicalRegister(2, "right")
    circuit = QuantumCircuit(qubits, left, right)
    circuit.x(2)
    circuit.barrier()
    for _ in range(20):  # qubit 2 waits
        circuit.cx(0, 1)
        circuit.barrier(0, 1)
    circuit.ry(A, 0)
    circuit.cx(0, 1)
    circuit.barrier()
    circuit.measure(0, left[0])
    circuit.measure(1, right[1])
    circuit.measure(2, right[0])
    settings = {"optimization_level": 0, "initial_layout": [3, 4, 1]}
    isa = transpile(circuit, backend, **settings)
    shots = 10_000
    data = SamplerV2(backend).run([(isa, ANGLES.reshape(3, 1, 1), shots)]).result()[0].data
    assert (data.shape, data.left.num_bits, data.right.num_bits) == ((3, 1), 1, 2)
    scheduled = transpile(circuit, fake, scheduling_method="alap", **settings)
    simulator = AerSimulator(noise_model=AerNoiseModel.from_backend(fake), method="density_matrix", seed_simulator=5)
    bound = [scheduled.assign_parameters(angle) for angle in ANGLES]
    reference = simulator.run(bound, shots=20 * shots).result()
    for row in range(3):
        left_bits, right_bits = data.left.get_bitstrings((row, 0)), data.right.get_bitstrings((row, 0))
        both = [f"{b} {a}" for a, b in zip(left_bits, right_bits, strict=True)]
        expected = reference.get_counts(row)
        for outcome in {*both, *expected}:
            probability = expected.get(outcome, 0) / (20 * shots)
            sigma = np.sqrt(max(probability * (1 - probability), 1 / shots) / shots)
            assert abs(both.count(outcome) / shots - probability) < 5 * 1.05**0.5 * sigma, (row, outcome)


def test_expectation_values_broadcast_and_come_with_their_errors(backend: IBMBackend) -> None:
    circuit = QuantumCircuit(2)
    circuit.ry(A, 0)
    circuit.cx(0, 1)
    isa = transpile(circuit, backend, optimization_level=1, seed_transpiler=1)
    words = [SparsePauliOp(["XX", "ZI", "II"], [2.0, -1.0, 0.5]), SparsePauliOp("YY"), SparsePauliOp("IZ")]
    observables = [[word.apply_layout(isa.layout)] for word in words]
    estimator = EstimatorV2(backend, options={"resilience_level": 2})
    job = estimator.run([(isa, observables, ANGLES)], precision=0.01)
    result = job.result()
    data = result[0].data
    assert data.evs.shape == data.stds.shape == (3, 3)
    sine, cosine = np.sin(ANGLES[:, 0]), np.cos(ANGLES[:, 0])
    ideal = np.array([2 * sine - cosine + 0.5, -sine, cosine])
    assert np.all(abs(data.evs - ideal) < 0.25 + 5 * data.stds)  # noise shrinks them
    assert np.all(data.evs[2] * np.sign(ideal[2]) < abs(ideal[2]) + 5 * data.stds[2])
    expected = np.sqrt(1 - data.evs[1] ** 2) * 0.01
    np.testing.assert_allclose(data.stds[1], expected, rtol=0.02)
    assert result.metadata["resilience_level"] == 2
    assert result.metadata["resilience_simulated"] is False
    assert "not simulated" in job.logs()


def test_circuits_without_parameters(backend: IBMBackend) -> None:
    circuit = QuantumCircuit(127)
    circuit.x(3)
    result = (
        EstimatorV2(backend).run([(circuit, ["I" * 123 + "ZIII", {"I" * 123 + "ZIII": -2.0, "I" * 127: 1.0}])]).result()
    )
    np.testing.assert_allclose(result[0].data.evs, [-1, 3], atol=0.2)
    circuit.measure_all()
    data = SamplerV2(backend).run([(circuit.copy_empty_like(), None, 7)]).result()[0].data
    assert data.meas.get_counts() == {"0" * 127: 7}


def test_the_machine_is_that_of_the_snapshot(service: QiskitRuntimeService, backend: IBMBackend) -> None:
    fake = FakeBrisbane()
    assert backend.num_qubits == 127
    assert set(backend.coupling_map) == set(fake.coupling_map)
    properties = backend.properties()
    assert properties.t1(5) == pytest.approx(fake.properties().t1(5))
    assert backend.status().operational
    assert backend.status().pending_jobs == 0
    assert {each.name for each in service.backends()} == {"ibm_brisbane", "ibmq_manila"}
    assert service.least_busy(min_num_qubits=100).name == "ibm_brisbane"
    assert backend.properties(datetime=properties.last_update_date.replace(year=2020)) is None
    later = backend.properties(datetime=properties.last_update_date.replace(year=2026))
    assert later.last_update_date == properties.last_update_date


def test_a_machine_that_is_not_there(service: QiskitRuntimeService) -> None:
    with pytest.raises(QiskitBackendNotFoundError):
        service.backend("ibm_nowhere")


def test_circuits_that_are_not_isa_fail_on_the_machine(service: QiskitRuntimeService, backend: IBMBackend) -> None:
    """The client checks its own circuits, so the request is made by hand."""
    for gate in ("h", "ecr"):
        circuit = QuantumCircuit(127, 1)
        getattr(circuit, gate)(*((0,) if gate == "h" else (0, 90)))
        circuit.measure(0, 0)
        job = service._run(
            "sampler", {"pubs": [(circuit, None, 10)], "version": 2, "options": {}}, {"backend": backend}
        )
        with pytest.raises(RuntimeJobFailureError, match=rf"1517; The instruction {gate} on qubits \(0,"):
            job.result(timeout=20)
        assert job.errored()
        assert "not supported by the target" in job.error_message()


def test_limits_are_refused_before_anything_is_queued(
    emulator: RunningEmulator, backend: IBMBackend, isa: QuantumCircuit
) -> None:
    before = emulator.counters()
    with pytest.raises(IBMRuntimeError, match="100001"):
        SamplerV2(backend).run([(isa, [0.1], 100_001)])
    with pytest.raises(IBMRuntimeError, match="10100000 executions"):
        SamplerV2(backend).run([(isa, np.zeros((101, 1)), 100_000)])
    assert emulator.counters()["accepted"] == before["accepted"]


def test_jobs_are_found_tagged_billed_and_deleted(
    emulator: RunningEmulator, service: QiskitRuntimeService, backend: IBMBackend, isa: QuantumCircuit
) -> None:
    sampler = SamplerV2(backend, options={"environment": {"job_tags": ["one", "both"]}})
    jobs = [sampler.run([(isa, [0.1], 100)]) for _ in range(3)]
    for job in jobs:
        job.result()
    ids = [job.job_id() for job in reversed(jobs)]
    assert [job.job_id() for job in service.jobs(job_tags=["both", "one"])] == ids
    assert [job.job_id() for job in service.jobs(job_tags=["one"], limit=1, skip=1)] == ids[1:2]
    assert [job.job_id() for job in service.jobs(job_tags=["one"], descending=False)] == ids[::-1]
    assert service.jobs(job_tags=["one"], pending=True) == []
    assert service.jobs(job_tags=["one"], program_id="estimator") == []
    assert service.jobs(job_tags=["none"]) == []
    assert jobs[0].usage() > 2
    assert jobs[0].metrics()["executions"] == 100
    assert jobs[0].update_tags(["new"]) == ["new"]
    again = service.job(ids[0])
    assert again.result()[0].data.left.num_shots == 100
    assert again.inputs["pubs"][0][2] == 100
    service.delete_job(ids[0])
    assert len(service.jobs(job_tags=["one"])) == 1
    assert service.usage()["usage_consumed_seconds"] >= jobs[0].usage()


def test_the_result_of_a_private_job_is_read_once(backend: IBMBackend, isa: QuantumCircuit) -> None:
    job = SamplerV2(backend, options={"environment": {"private": True}}).run([(isa, [0.1], 10)])
    assert job.result()[0].data.left.num_shots == 10
    assert job.result() is None


def test_cancelling_and_running_too_long(emulator: RunningEmulator, backend: IBMBackend, isa: QuantumCircuit) -> None:
    emulator.set_faults(queue_seconds=30)
    try:
        job = SamplerV2(backend).run([(isa, [0.1], 10)])
        assert job.status() == "QUEUED"
        assert backend.status().pending_jobs == 1
        job.cancel()
        assert job.cancelled()
    finally:
        emulator.set_faults(queue_seconds=0)
    long = SamplerV2(backend, options={"max_execution_time": 3}).run([(isa, [0.1], 20_000)])
    with pytest.raises(RuntimeJobMaxTimeoutError, match="1305"):
        long.result()


def test_batches_run_and_sessions_need_another_plan(backend: IBMBackend, isa: QuantumCircuit) -> None:
    with Batch(backend) as batch:
        job = SamplerV2(batch).run([(isa, [0.1], 10)])
        job.result()
        assert batch.status() == "In progress, accepting new jobs"
    assert batch.status() == "Closed"
    assert job.session_id == batch.session_id
    batch._active = True  # else the client refuses by itself
    with pytest.raises(IBMRuntimeError, match="Session has been closed"):
        SamplerV2(batch).run([(isa, [0.1], 10)])
    with pytest.raises(Exception, match="not authorized to run a session when using the open plan"):
        Session(backend)


def test_sessions_on_the_premium_plan(isa: QuantumCircuit, emulator: RunningEmulator) -> None:
    with emulated(backends=["ibm_brisbane"], plan="premium"):
        machine = QiskitRuntimeService().backend("ibm_brisbane")
        with Session(machine) as session:
            SamplerV2(session).run([(isa, [0.1], 10)]).result()
            assert session.details()["mode"] == "dedicated"
        assert session.status() == "Closed"
        assert session.usage() > 0


def test_a_wrong_instance_or_token_is_refused(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", emulator.environment["QISKIT_IBM_INSTANCE"].replace("us-east", "eu-de"))
    with pytest.raises(IBMInputValueError, match="does not have access"):
        QiskitRuntimeService()
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "some-other-token-that-nobody-knows")
    with pytest.raises(Exception, match="valid API token"):
        QiskitRuntimeService()
