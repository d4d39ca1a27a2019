"""The conformance suite on every device that works here, and on devices that must fail it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qhybrid
from qhybrid import conformance
from qhybrid.circuits.spec import load_circuit
from qhybrid.conformance import conformance_circuits
from qhybrid.conformance_checks import CHECKS
from qhybrid.devices.spec import load_device
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.reference import random_circuit, reference_values

STATEVECTORS = ["qhybrid.statevector", "default.qubit", "lightning.qubit"]


@pytest.fixture(scope="module", params=STATEVECTORS)
def device(request: pytest.FixtureRequest) -> qhybrid.Device:
    return load_device(request.param)


@pytest.mark.parametrize("check", CHECKS)
def test_statevector_devices_conform_on_every_catalog_circuit(device: qhybrid.Device, check: str) -> None:
    assert CHECKS[check](device, conformance_circuits(device))


@pytest.mark.parametrize("check", CHECKS)
def test_a_density_matrix_plug_in_conforms_through_the_same_driver(check: str) -> None:
    circuits = [load_circuit("angle_4q"), random_circuit(np.random.default_rng(5), n_gates=6)]
    assert CHECKS[check](load_device("default.mixed"), circuits)


@pytest.fixture(scope="module", params=["qhybrid.density", "qiskit.aer"])
def simulator(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("noise", [None, "ibm_brisbane", pytest.param("ibm_torino", marks=pytest.mark.slow)])
@pytest.mark.parametrize("check", CHECKS)
def test_noise_simulators_conform_with_and_without_noise(simulator: str, noise: str | None, check: str) -> None:
    circuits = [load_circuit("angle_4q"), random_circuit(np.random.default_rng(5), n_gates=6)]
    device = load_device(simulator, noise=None if noise is None else load_noise_model(noise), layout_seeds=2)
    assert CHECKS[check](device, circuits)


def test_what_was_not_differentiated_is_said() -> None:
    device, small, large = load_device("qiskit.aer"), load_circuit("angle_4q"), load_circuit("sda_qec")
    for check in ("gradients", "gradients from shots"):
        found = CHECKS[check](device, [small, large])
        assert found.endswith("; parameter-shift not on 1 circuit with more than 64 angles")
        assert "not on" not in CHECKS[check](device, [small])


@pytest.mark.slow
@pytest.mark.parametrize("noise", [None, "ibm_brisbane", "ibm_torino", "ibm_fez", "fake:FakeAlmadenV2"])
def test_noise_simulators_conform_on_every_catalog_circuit(simulator: str, noise: str | None) -> None:
    found = list(conformance.run_conformance(simulator, noise=noise))
    assert [check for check in found if check.passed is False] == []


@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), n_qubits=st.integers(2, 5), n_gates=st.integers(1, 25))
def test_all_devices_agree_on_random_circuits(seed: int, n_qubits: int, n_gates: int) -> None:
    circuit = random_circuit(np.random.default_rng(seed), n_qubits, n_gates)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2, n_qubits, dtype=torch.float64, generator=generator)
    first = qhybrid.QuantumLayer(circuit, STATEVECTORS[0]).double()
    expected = reference_values(circuit, inputs, first.weights)
    gradients = []
    for name in STATEVECTORS:
        features = inputs.clone().requires_grad_()
        layer = first.with_device(name)
        values = layer(features)
        assert torch.allclose(values, expected, atol=1e-10, rtol=0)
        parts = torch.autograd.grad(values.square().sum(), [features, layer.weights], allow_unused=True)
        gradients.append([part for part in parts if part is not None])
    for other in gradients[1:]:
        for ours, theirs in zip(gradients[0], other, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-10, rtol=0)


WRONG = """
import qhybrid
from qhybrid.devices.statevector import StatevectorDevice


class Wrong(StatevectorDevice):
    def run(self, program, angles, *, shots=None, seed=None):
        estimates = super().run(program, angles, shots=shots, seed={seed})
        return qhybrid.Estimates(estimates.values * {factor}, estimates.stderr)
"""


@pytest.mark.parametrize(
    ("factor", "seed", "caught"), [("0.999", "seed", "values"), ("1", "3", "shots"), ("-1", "seed", "gradients")]
)
def test_a_wrong_device_is_caught(factor: str, seed: str, caught: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG.format(factor=factor, seed=seed))
    (tmp_path / "wrong.toml").write_text('driver = "./wrong.py:Wrong"\n')
    found = conformance.run_conformance(str(tmp_path / "wrong.toml"), [load_circuit("angle_4q")])
    assert caught in [check.name for check in found if check.passed is False]


def test_the_reference_is_right_where_the_answer_is_known() -> None:
    circuit = load_circuit(
        {"qubits": 2, "observables": ["Z0", "X1", "Z0 Z1"], "blocks": [{"encode": "angle"}, {"entangle": "chain"}]}
    )
    x = torch.tensor([[0.3, 1.1]], dtype=torch.float64)
    cos, sin = torch.cos(x), torch.sin(x)
    wanted = torch.stack([cos[:, 0], sin[:, 1], cos[:, 1]], dim=1)  # Z0 Z1 becomes Z1 before the CNOT
    weights = torch.zeros(0, dtype=torch.float64)
    assert torch.allclose(reference_values(circuit, x, weights), wanted, atol=1e-14)
