"""Device `qiskit.remote`: what is wrong is said in one line, before anything is sent."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from loopback import emulated, in_haste

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.base import Program
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime import RuntimeDevice
from qhybrid.devices.spec import load_device
from qhybrid.emulator.running import RunningEmulator
from qhybrid.errors import InputError, QHybridError


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with emulated(backends=["ibm_fez", "ibm_lima"], seed=7, state=tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_haste(monkeypatch, tmp_path / "data")


@pytest.fixture
def device(emulator: RunningEmulator) -> RuntimeDevice:
    return RuntimeDevice(backend="ibm_fez", layout_seeds=2, timeout=8.0)


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    return load_circuit("angle_4q")


@pytest.fixture
def program(device: RuntimeDevice, circuit: Circuit) -> Program:
    return device.prepare(circuit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "ibm_fes"}, "no backend 'ibm_fes'; did you mean 'ibm_fez'"),
        ({"backend": "ibm_brisbane"}, "no backend 'ibm_brisbane' .IBM had one, and may have retired it"),
        ({}, "give a backend; allowed: ibm_fez, ibmq_lima"),
        ({"backend": "ibm_fez", "instance": "crn:v1:bluemix:public:quantum-computing:us-east:a/x:y::"}, "no such inst"),
        ({"backend": "ibm_fez", "instance": "mine"}, "no such instance"),
    ],
)  # fmt: skip
def test_machines_that_are_not_there(
    emulator: RunningEmulator, circuit: Circuit, options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "instance" in options:
        monkeypatch.delenv("QISKIT_IBM_INSTANCE")
    with pytest.raises(InputError, match=message) as caught:
        load_device("qiskit.remote", options=options).prepare(circuit)
    assert "\n" not in str(caught.value)
    assert not Ledger().find()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"primitive": "sampling"}, "unknown primitive 'sampling'; did you mean 'sampler'"),
        ({"mode": "jobs"}, "unknown mode 'jobs'; did you mean 'job'"),
        ({"resilience_level": 1}, "resilience_level is an option of the estimator"),
        ({"primitive": "estimator", "resilience_level": 7}, "resilience_level"),
        ({"options": {"twirlin": {}}}, r"no option 'options.twirlin'; did you mean 'twirling'"),
        ({"options": {"twirling": {"enable_gate": True}}}, r"did you mean 'enable_gates'"),
        ({"options": {"twirling": 3}}, "a table of options is needed"),
        ({"options": {"dynamical_decoupling": {"sequence_type": "XZ"}}}, "sequence_type"),
        ({"options": {"default_shots": 10}}, "options.default_shots: set shots"),
        ({"job_tags": "one"}, "a list of words"),
        ({"channel": "local"}, "unknown channel 'local'"),
        ({"max_execution_time": 0}, "above 0"),
        ({"token": "x"}, "unknown key 'options.token'"),
        ({"backnd": "x"}, "did you mean 'backend'"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_device("qiskit.remote", options=options)
    assert "\n" not in str(caught.value)


def test_wrong_shots_and_angles_send_nothing(device: RuntimeDevice, program: Program) -> None:
    rows = torch.zeros(1, program.circuit.n_angles)
    for shots, message in ((None, "no exact values"), (0, "shots = 0"), (10**7, "ibm_fez takes at most 100000")):
        with pytest.raises(InputError, match=message):
            device.submit(program, rows, shots=shots)
    with pytest.raises(InputError, match="angles must be finite"):
        device.submit(program, rows * float("nan"), shots=10)
    assert not device.ledger.find()
    assert device.run(program, rows[:0], shots=10).values.shape == (0, 4)


def test_a_circuit_larger_than_the_machine(emulator: RunningEmulator) -> None:
    with pytest.raises(InputError, match="'sda_qec' has 8 qubits; ibmq_lima has 5"):
        RuntimeDevice(backend="ibmq_lima").prepare(load_circuit("sda_qec").expanded())


def test_no_account_says_how_to_get_one(circuit: Circuit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("QISKIT_IBM")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(
        "qiskit_ibm_runtime.accounts.management._DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(tmp_path / "none.json")
    )
    with pytest.raises(InputError, match=r"no IBM account: .*save_account.*qhybrid emulator"):
        RuntimeDevice(backend="ibm_fez").prepare(circuit)


def test_a_wrong_key_is_refused_in_one_line(
    emulator: RunningEmulator, circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "WRONGtokenWRONGtokenWRONGtokenWRONGtoken")
    with pytest.raises(InputError, match="IBM refuses the account") as caught:
        RuntimeDevice(backend="ibm_fez").prepare(circuit)
    assert "WRONGtoken" not in str(caught.value)


def test_what_fails_on_the_machine_is_said_with_its_reason(
    device: RuntimeDevice, program: Program, emulator: RunningEmulator
) -> None:
    for fault, word in (("fail_jobs", "failed"), ("cancel_jobs", "was cancelled")):
        emulator.set_faults(**{fault: 1})
        with pytest.raises(QHybridError, match=rf"job \w+ on ibm_fez {word}: .+") as caught:
            device.run(program, torch.zeros(1, program.circuit.n_angles), shots=10)
        assert "\n" not in str(caught.value)
