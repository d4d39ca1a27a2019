"""Noise stays physical at any scale and in any parts, and scales and parts compose."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid.errors import InputError
from qhybrid.noise_models.channels import average_infidelity, pauli_words, relaxation_channel, tensor
from qhybrid.noise_models.model import PARTS, NoiseModel
from qhybrid.noise_models.spec import load_noise_model

BRISBANE = load_noise_model("ibm_brisbane")
EVERYTHING = load_noise_model(
    {
        "kind": "parametric",
        "coupling": "line",
        "qubits": 2,
        "depolarizing": {"gates1q": 0.3, "gates2q": 1.0},
        "amplitude_damping": {"gates1q": 0.2, "gates2q": 0.4},
        "phase_damping": {"gates1q": 0.1, "gates2q": 1.0},
        "thermal": {"t1_us": 0.5, "t2_us": 1.0, "idle": True},
        "readout": {"p1_given_0": 0.2, "p0_given_1": 0.3},
    }
)
MODELS = [BRISBANE, EVERYTHING]
scales = st.floats(0, 1000)
parts = st.sets(st.sampled_from(PARTS))
models = st.sampled_from(MODELS)


def choi(channel: np.ndarray) -> np.ndarray:
    """Choi matrix of a Pauli transfer matrix R: sum of R[i, j] P_j^T (x) P_i / d**2, trace 1."""
    words = pauli_words(round(np.log2(len(channel)) / 2))
    size = words.shape[-1]
    return np.einsum("ij,jba,icd->acbd", channel, words, words).reshape(size**2, size**2) / size**2


def channels(model: NoiseModel, qubit: int) -> list[np.ndarray]:
    """Every kind of channel of a model around a qubit."""
    found = [model.gate_noise(name, on) for name, on in model.gates if on[0] == qubit]
    noise = [each for each in (*found, model.idle_noise(qubit, 1e-6)) if each is not None]
    return [each.channel for each in noise]


@given(model=models, scale=scales, chosen=parts, qubit=st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_scaled_channels_are_completely_positive_and_trace_preserving(
    model: NoiseModel, scale: float, chosen: set[str], qubit: int
) -> None:
    noisy = model.scaled(scale).with_parts(chosen)
    for channel in channels(noisy, qubit):
        assert np.linalg.eigvalsh(choi(channel)).min() >= -1e-12
        np.testing.assert_allclose(channel[0], np.eye(len(channel))[0], atol=1e-14)
    matrix = noisy.readout_matrix(qubit)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-14)


@given(
    t1=st.floats(1.1, 1e3), ratio=st.floats(1e-3, 2), flips=st.tuples(st.floats(0, 1), st.floats(0, 1)), scale=scales
)
@settings(max_examples=60, deadline=None)
def test_any_relaxation_and_any_readout_error_stay_physical(
    t1: float, ratio: float, flips: tuple[float, float], scale: float
) -> None:
    model = load_noise_model(
        {
            "kind": "parametric",
            "coupling": "line",
            "qubits": 1,
            "thermal": {"t1_us": t1, "t2_us": t1 * ratio, "idle": True},
            "readout": {"p1_given_0": flips[0], "p0_given_1": flips[1]},
        }
    ).scaled(scale)
    for channel in channels(model, 0):
        assert np.linalg.eigvalsh(choi(channel)).min() >= -1e-12
    matrix = model.readout_matrix(0)
    assert matrix.min() >= 0
    assert matrix.max() <= 1


@pytest.mark.parametrize("model", MODELS)
def test_scale_zero_and_no_parts_are_the_identity(model: NoiseModel) -> None:
    for silent in (model.scaled(0), model.with_parts([])):
        assert channels(silent, 0) == []
        assert silent.readout_error(0) == (0, 0)
        assert silent.aer((0, 1)).is_ideal()


@given(model=models, a=scales, b=scales)
@settings(max_examples=30, deadline=None)
def test_scaling_is_a_semigroup(model: NoiseModel, a: float, b: float) -> None:
    twice, once = model.scaled(a).scaled(b), model.scaled(a * b) if a * b <= 1000 else None
    if once is None:
        return
    assert twice.scale == once.scale
    assert twice.fingerprint == once.fingerprint
    for one, other in zip(channels(twice, 0), channels(once, 0), strict=True):
        np.testing.assert_array_equal(one, other)


@given(a=st.floats(0, 5), b=st.floats(0, 5))
@settings(max_examples=30, deadline=None)
def test_scales_add_up_when_noise_acts_in_turn(a: float, b: float) -> None:
    """N(a) then N(b) is N(a + b): for relaxation, depolarizing and readout apart, which do not commute."""
    for kind in (["gates2q"], ["thermal"]):
        model = BRISBANE.with_parts(kind)
        noise = [model.scaled(scale).gate_noise("ecr", (1, 0)) for scale in (a, b, a + b)]
        first, second, both = (np.eye(16) if each is None else each.channel for each in noise)
        np.testing.assert_allclose(second @ first, both, atol=1e-12)
    readout = [EVERYTHING.scaled(scale).readout_matrix(0) for scale in (a, b, a + b)]
    np.testing.assert_allclose(readout[1] @ readout[0], readout[2], atol=1e-12)


@given(model=models, scale=scales)
@settings(max_examples=20, deadline=None)
def test_the_parts_make_the_whole(model: NoiseModel, scale: float) -> None:
    model = model.scaled(scale)
    assert model.with_parts(PARTS).fingerprint == model.fingerprint
    for name, qubits in [key for key in model.gates if key[1][0] == 0]:
        whole = model.gate_noise(name, qubits)
        depolarizing = model.with_parts([f"gates{len(qubits)}q"]).gate_noise(name, qubits)
        relaxing = model.with_parts(["thermal"]).gate_noise(name, qubits)
        identity = np.eye(4 ** len(qubits))
        first, second, both = (identity if each is None else each.channel for each in (depolarizing, relaxing, whole))
        np.testing.assert_allclose(second @ first, both, atol=1e-14)
    assert model.with_parts(["readout"]).readout_error(0) == model.readout_error(0)
    assert model.with_parts(["idle"]).idle_noise(0, 1e-6) == model.idle_noise(0, 1e-6)


def test_parts_taken_away_stay_away_and_are_said() -> None:
    model = BRISBANE.scaled(0.5).with_parts(["gates2q", "readout"]).with_parts(["readout", "idle"])
    assert model.parts == {"readout"}
    assert model.label == "ibm_brisbane x0.5 (readout)"
    assert model.provenance()["parts"] == ["readout"]
    assert model.machine_fingerprint == BRISBANE.machine_fingerprint
    assert model.fingerprint != BRISBANE.fingerprint


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf"), 1000.1])
def test_a_scale_that_is_none_is_one_line(factor: float) -> None:
    with pytest.raises(InputError, match=r"noise scale .*: allowed are numbers from 0 to 1000"):
        BRISBANE.scaled(factor)


def test_an_unknown_part_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown noise part 'gate2q'; did you mean 'gates2q'\?"):
        BRISBANE.with_parts(["gate2q"])


def test_results_say_the_date_and_the_best_case() -> None:
    provenance: dict[str, Any] = BRISBANE.provenance()
    assert provenance["date"].startswith("2025-02-26")
    assert provenance["remarks"][-1].startswith("simulated noise is a best case")


def test_average_infidelity_of_known_channels() -> None:
    assert average_infidelity(np.eye(4)) == 0
    completely = np.zeros((4, 4))
    completely[0, 0] = 1
    assert average_infidelity(completely) == pytest.approx(0.5)  # half of all states survive by luck
    half = relaxation_channel(0.3, 0.2)
    both = tensor([half, half])
    entanglement = np.trace(half) / 4
    assert average_infidelity(both) == pytest.approx(1 - (4 * entanglement**2 + 1) / 5)
