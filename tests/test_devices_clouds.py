"""PennyLane plug-ins of other clouds: Braket's local simulator for real, the others up to where an account is needed.

Amazon's SDK pins a cloudpickle that the newest joblib does not take, so it is not in the extra `test`: without it the
tests of the local simulator are skipped. No test reaches a cloud: credentials are hidden from all of them.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from dense_simulation import circuit_of, expectations, random_rows

from qhybrid.circuits.spec import load_circuit
from qhybrid.conformance import run_conformance
from qhybrid.devices.pennylane import PennyLaneDevice
from qhybrid.devices.plugins import is_analytic, missing_plugin, reason
from qhybrid.devices.spec import device_spec, load_device
from qhybrid.errors import InputError, QHybridError
from qhybrid.layer import QuantumLayer

BRAKET = find_spec("braket") is not None
IONQ = find_spec("pennylane_ionq") is not None
needs_braket = pytest.mark.skipif(not BRAKET, reason="needs pip install 'qhybrid[braket]'")
needs_ionq = pytest.mark.skipif(not IONQ, reason="needs pip install 'qhybrid[ionq]'")
forks = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

MACHINES = ["braket.ionq", "braket.iqm", "braket.rigetti"]
PROFILES = [*MACHINES, "braket.local.qubit", "ionq.qpu", "ionq.simulator"]
ENTANGLED = [("ry", (0,)), ("cx", (0, 1)), ("rx", (1,)), ("rzz", (1, 2)), ("sdg", (2,)), ("h", (2,)), ("crx", (0, 2))]
WORDS = ["Z0", "X1 Y2", "Y0", "Z0 Z1 Z2"]


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the credentials of whoever runs it, or asks the network for some."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
                 "AWS_DEFAULT_REGION", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                 "AWS_CONTAINER_CREDENTIALS_FULL_URI", "IONQ_API_KEY", "PENNYLANE_IONQ_API_KEY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize("name", PROFILES)
def test_each_profile_starts_or_says_what_is_missing(name: str) -> None:
    extra = "braket" if name.startswith("braket") else "ionq"
    installed = BRAKET if extra == "braket" else IONQ
    assert f"pip install 'qhybrid[{extra}]'" in device_spec(name)[0].description
    if installed and name == "braket.local.qubit":
        assert load_device(name).name == name
        return
    with pytest.raises(InputError) as caught:
        load_device(name)
    asked = {"braket": "needs AWS credentials", "ionq": "set IONQ_API_KEY"}[extra]
    assert (asked if installed else f"pip install 'qhybrid[{extra}]'") in str(caught.value)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_braket
def test_aws_keys_without_a_region_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "marked-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "marked-secret")
    with pytest.raises(InputError) as caught:
        load_device("braket.iqm")
    assert str(caught.value) == "device 'braket.iqm' needs an AWS region: set AWS_REGION, for example to us-east-1"


@pytest.mark.parametrize("name", [each for each in PROFILES if each != "braket.local.qubit"])
def test_profiles_of_clouds_sample(name: str) -> None:
    spec, _ = device_spec(name)
    assert spec.shots == 1000
    assert not is_analytic(spec.options["device"], spec.options)


def test_only_plugins_with_an_extra_name_one() -> None:
    assert missing_plugin("mine", "strawberryfields.fock") is None
    with pytest.raises(InputError, match=r"^unknown device 'braqet\.local\.qubit'"):
        PennyLaneDevice("braqet.local.qubit")


def test_a_device_file_holds_no_credential() -> None:
    with pytest.raises(InputError, match=r"options\.api_key: a credential does not belong in a device file") as caught:
        PennyLaneDevice("mine", device="lightning.qubit", api_key="marked-secret")
    assert "marked-secret" not in str(caught.value)


def test_reasons_are_one_line_without_keys_and_account_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IONQ_API_KEY", "marked-secret")
    assert reason(ValueError("401 for marked-secret\nsecond line")) == "401 for ***"
    denied = reason(RuntimeError("User: arn:aws:iam::123456789012:user/somebody is not authorized"))
    assert denied == "User: arn:aws:iam::*** is not authorized"
    assert reason(ValueError()) == "ValueError"


def test_sampling_is_exact_or_the_devices() -> None:
    with pytest.raises(InputError, match=r"unknown sampling 'exakt'; did you mean 'exact'"):
        PennyLaneDevice("lightning.qubit", sampling="exakt")


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit"])
def test_simulators_may_take_shots_of_their_own_with_a_seed(name: str) -> None:
    circuit = circuit_of(ENTANGLED, WORDS, 3)
    rows = random_rows(circuit, 3, 0)
    device = PennyLaneDevice(name, sampling="device")
    program = device.prepare(circuit)
    first, again, other = (device.run(program, torch.tensor(rows), shots=500, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)
    assert (np.abs(first.values.numpy() - expectations(circuit, rows)) < 5 * np.sqrt(1 / 500)).all()


class Batches:
    """Counts the calls of Braket's batch interface and of its interface for one circuit, and lets them through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from braket.devices import LocalSimulator

        self.sizes: list[int] = []
        self.alone = 0
        run, run_batch = LocalSimulator.run, LocalSimulator.run_batch

        def counted_batch(simulator: Any, circuits: Any, **options: Any) -> Any:
            self.sizes.append(len(circuits))
            return run_batch(simulator, circuits, **options)

        def counted(simulator: Any, *args: Any, **options: Any) -> Any:
            self.alone += 1
            return run(simulator, *args, **options)

        monkeypatch.setattr(LocalSimulator, "run_batch", counted_batch)
        monkeypatch.setattr(LocalSimulator, "run", counted)


@forks
@needs_braket
@pytest.mark.parametrize("sampling", ["exact", "device"])
def test_a_batch_is_one_call_of_brakets_batch_interface(monkeypatch: pytest.MonkeyPatch, sampling: str) -> None:
    circuit = circuit_of(ENTANGLED, WORDS, 3)
    rows = random_rows(circuit, 7, 0)
    exact = expectations(circuit, rows)
    device = PennyLaneDevice("braket.local.qubit", sampling=sampling)
    program = device.prepare(circuit)
    batches = Batches(monkeypatch)
    values = device.run(program, torch.tensor(rows)).values
    np.testing.assert_allclose(values, exact, atol=1e-10)
    estimates = device.run(program, torch.tensor(rows), shots=1000, seed=3)
    sigma = np.sqrt(np.maximum(1 - exact**2, 4 / 1000) / 1000)
    assert (np.abs(estimates.values.numpy() - exact) < 5 * sigma).all()
    assert batches.alone == 0
    assert len(batches.sizes) == 2
    assert all(size % 7 == 0 for size in batches.sizes)
    assert device.tracker.jobs == 2


@forks
@needs_braket
def test_the_local_simulator_draws_the_shots_of_every_statevector_device() -> None:
    circuit = load_circuit({"qubits": 3, "observables": ["Z0", "X1 Y2", "Y0"], "blocks": [
        {"encode": "angle"}, {"entangle": "ring"}, {"encode": "angle", "axis": "X"}]})  # fmt: skip
    rows = torch.tensor(random_rows(circuit, 4, 0))
    here, reference = load_device("braket.local.qubit"), load_device("qhybrid.statevector")
    ours = here.run(here.prepare(circuit), rows, shots=333, seed=5)
    theirs = reference.run(reference.prepare(circuit), rows, shots=333, seed=5)
    torch.testing.assert_close(ours.values, theirs.values)
    torch.testing.assert_close(ours.stderr, theirs.stderr)


@forks
@needs_braket
def test_a_gradient_step_is_one_call_too(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = QuantumLayer("angle_4q", PennyLaneDevice("braket.local.qubit")).double()
    reference = layer.with_device("qhybrid.statevector")
    x = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batches = Batches(monkeypatch)
    (gradient,) = torch.autograd.grad(layer(x).sum(), layer.weights)
    assert (len(batches.sizes), batches.alone) == (1, 0)
    (wanted,) = torch.autograd.grad(reference(x).sum(), reference.weights)
    torch.testing.assert_close(gradient, wanted, atol=1e-10, rtol=0)


@forks
@needs_braket
def test_the_local_simulator_passes_conformance() -> None:
    failed = [check for check in run_conformance("braket.local.qubit", [load_circuit("angle_4q")]) if not check.passed]
    assert not failed


@pytest.mark.filterwarnings("ignore:You are running a noise-free circuit on the density matrix simulator")
@forks
@needs_braket
def test_a_device_file_sets_any_option_of_the_plugin(tmp_path: Any) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('driver = "pennylane"\n[options]\ndevice = "braket.local.qubit"\nbackend = "braket_dm"\n')
    device = load_device(str(file))
    circuit = circuit_of(ENTANGLED, WORDS, 3)
    rows = random_rows(circuit, 2, 0)
    np.testing.assert_allclose(
        device.run(device.prepare(circuit), torch.tensor(rows), shots=None, seed=None).values,
        expectations(circuit, rows), atol=1e-10)  # fmt: skip
    file.write_text('driver = "pennylane"\n[options]\ndevice = "braket.local.qubit"\nbackend = "nonsense"\n')
    with pytest.raises(InputError, match=r"device 'mine' does not start here: .*braket_sv"):
        load_device(str(file))


@needs_ionq
def test_a_batch_is_one_job_of_ionq(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent to IonQ's plug-in up to its HTTP request, which is kept here; a dry run has no results."""
    import pennylane_ionq.api_client as client

    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(client.ResourceManager, "create", lambda manager, **job: sent.append(job))
    monkeypatch.setenv("IONQ_API_KEY", "marked-secret")
    device = PennyLaneDevice("ionq.simulator", dry_run=True)
    circuit = load_circuit("angle_4q")
    with pytest.raises(QHybridError, match=r"^device 'ionq\.simulator' gave 0 values where 20 were asked for$"):
        device.run(device.prepare(circuit), torch.zeros(5, 8, dtype=torch.float64), shots=100)
    assert [(len(job["input"]["circuits"]), job["shots"]) for job in sent] == [(5, 100)]
