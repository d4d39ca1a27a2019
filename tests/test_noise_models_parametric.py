"""Parametric noise models are Aer's channels; what is unphysical is an error of one line."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.quantum_info import PTM, SuperOp, average_gate_fidelity
from qiskit_aer.noise import (
    amplitude_damping_error,
    depolarizing_error,
    phase_amplitude_damping_error,
    phase_damping_error,
    thermal_relaxation_error,
)

from qhybrid import catalog
from qhybrid.errors import InputError
from qhybrid.noise_models.couplings import coupling_map
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.qiskit_forms import quantum_error
from qhybrid.noise_models.spec import load_noise_model

BASE = {"kind": "parametric", "coupling": "line", "qubits": 3}
PARAMETRIC = ["amplitude_damping", "depolarizing", "phase_damping", "readout", "thermal"]


def ptm(channel: Any) -> np.ndarray:
    """Pauli transfer matrix by Qiskit; a permutation-symmetric basis for the channels compared here."""
    return np.real(PTM(SuperOp(channel)).data)


def channel(model: NoiseModel, name: str, *qubits: int) -> np.ndarray:
    noise = model.gate_noise(name, qubits)
    assert noise is not None
    return noise.channel


@given(p1=st.floats(0, 1), p2=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_depolarizing_is_aers(p1: float, p2: float) -> None:
    model = load_noise_model(BASE | {"depolarizing": {"gates1q": p1, "gates2q": p2}})
    for names, p, n in ((("sx", 0), p1, 1), (("cz", 1, 2), p2, 2)):
        noise = model.gate_noise(names[0], names[1:])
        assert (noise is None) == (p == 0)
        ours = np.eye(4**n) if noise is None else noise.channel
        np.testing.assert_allclose(ours, ptm(depolarizing_error(p, n)), atol=1e-12)


@given(gamma=st.floats(1e-6, 1), dephasing=st.floats(1e-6, 1))
@settings(max_examples=25, deadline=None)
def test_damping_is_aers(gamma: float, dephasing: float) -> None:
    """From 1e-6 on: of Kraus operators smaller than 1e-4, Qiskit drops some."""
    amplitude = load_noise_model(BASE | {"amplitude_damping": {"gates1q": gamma, "gates2q": gamma}})
    phase = load_noise_model(BASE | {"phase_damping": {"gates1q": dephasing, "gates2q": dephasing}})
    for model, error in ((amplitude, amplitude_damping_error(gamma)), (phase, phase_damping_error(dephasing))):
        np.testing.assert_allclose(channel(model, "x", 0), ptm(error), atol=1e-12)
        np.testing.assert_allclose(channel(model, "cz", 1, 0), np.kron(ptm(error), ptm(error)), atol=1e-12)


def test_amplitude_and_phase_damping_together_are_aers() -> None:
    """Aer's joint channel damps phases by sqrt(1 - a - b); one after the other by sqrt((1 - a)(1 - b'))."""
    a, b = 0.03, 0.05
    model = load_noise_model(BASE | {"amplitude_damping": {"gates1q": a}, "phase_damping": {"gates1q": b / (1 - a)}})
    np.testing.assert_allclose(channel(model, "x", 0), ptm(phase_amplitude_damping_error(a, b)), atol=1e-12)


def test_thermal_relaxation_is_aers_for_the_duration_of_each_gate() -> None:
    model = load_noise_model(
        BASE | {"thermal": {"t1_us": 90, "t2_us": 70}, "durations": {"gates1q_ns": 50.5, "gates2q_ns": 300}}
    )
    single = [ptm(thermal_relaxation_error(90e-6, 70e-6, t)) for t in (50.5e-9, 300e-9)]
    np.testing.assert_allclose(channel(model, "sx", 2), single[0], atol=1e-12)
    np.testing.assert_allclose(channel(model, "cz", 0, 1), np.kron(single[1], single[1]), atol=1e-12)
    assert model.idle_noise(0, 1e-6) is None
    idle = load_noise_model(BASE | {"thermal": {"t1_us": 90, "t2_us": 70, "idle": True}}).idle_noise(1, 1e-6)
    assert idle is not None
    np.testing.assert_allclose(idle.channel, ptm(thermal_relaxation_error(90e-6, 70e-6, 1e-6)), atol=1e-12)
    alone = load_noise_model(BASE | {"thermal": {"t1_us": 90}})
    assert np.all(alone.t2 == 2 * alone.t1)


def test_all_kinds_together_act_in_the_documented_order() -> None:
    model = load_noise_model(
        BASE
        | {
            "depolarizing": {"gates1q": 0.02, "gates2q": 0.04},
            "amplitude_damping": {"gates1q": 0.01, "gates2q": 0.02},
            "phase_damping": {"gates1q": 0.03, "gates2q": 0.05},
            "thermal": {"t1_us": 50, "t2_us": 30},
        }
    )
    for n, time, p, a, b, on in ((1, 40e-9, 0.02, 0.01, 0.03, (0,)), (2, 200e-9, 0.04, 0.02, 0.05, (2, 1))):
        relaxed = (
            ptm(thermal_relaxation_error(50e-6, 30e-6, time))
            @ ptm(amplitude_damping_error(a))
            @ ptm(phase_damping_error(b))
        )
        relaxed = relaxed if n == 1 else np.kron(relaxed, relaxed)
        expected = relaxed @ ptm(depolarizing_error(p, n))
        np.testing.assert_allclose(channel(model, "sx" if n == 1 else "cz", *on), expected, atol=1e-12)


def test_the_error_of_a_gate_is_its_average_infidelity() -> None:
    model = load_noise_model(
        BASE
        | {"depolarizing": {"gates1q": 0.02, "gates2q": 0.04}, "amplitude_damping": {"gates1q": 0.1, "gates2q": 0.2}}
    )
    for name, qubits in (("sx", (0,)), ("cz", (0, 1))):
        noise = model.gate_noise(name, qubits)
        assert noise is not None
        expected = 1 - average_gate_fidelity(quantum_error(noise))
        assert model.gates[name, qubits].error == pytest.approx(expected, abs=1e-12)
        assert model.target()[name][qubits].error == pytest.approx(expected, abs=1e-12)


def test_virtual_gates_have_neither_noise_nor_duration() -> None:
    model = load_noise_model(
        BASE | {"basis_gates": ["rz", "p", "s", "sx", "ecr"], "depolarizing": {"gates1q": 0.1, "gates2q": 0.1}}
    )
    for name in ("rz", "p", "s"):
        assert model.gate_noise(name, (0,)) is None
        assert (model.gates[name, (0,)].error, model.gates[name, (0,)].duration) == (0, 0)
    assert model.gate_noise("ecr", (2, 1)) is not None
    assert model.gate_noise("ecr", (0, 2)) is None


def test_readout_by_probabilities_and_by_matrix() -> None:
    by_numbers = load_noise_model(BASE | {"readout": {"p1_given_0": 0.02, "p0_given_1": 0.05}})
    by_matrix = load_noise_model(BASE | {"readout": {"confusion": [[0.98, 0.02], [0.05, 0.95]]}})
    np.testing.assert_allclose(by_numbers.readout_matrix(1), [[0.98, 0.05], [0.02, 0.95]])
    np.testing.assert_array_equal(by_numbers.readout_matrix(1), by_matrix.readout_matrix(1))
    probabilities = by_matrix.aer((0, 1))._local_readout_errors[(0,)].probabilities
    np.testing.assert_allclose(probabilities, [[0.98, 0.02], [0.05, 0.95]])


@pytest.mark.parametrize(
    ("name", "n_qubits", "n_edges"),
    [("line", 5, 4), ("ring", 5, 5), ("ring", 2, 1), ("full", 5, 10), ("grid", 9, 12), ("grid", 7, 8), ("line", 1, 0)],
)
def test_couplings(name: Any, n_qubits: int, n_edges: int) -> None:
    coupling = coupling_map(name, n_qubits)
    assert len(set(coupling.edges)) == len(coupling.edges) == n_edges
    assert all(0 <= a < b < n_qubits for a, b in coupling.edges)
    assert len(set(coupling.coordinates)) == n_qubits


@pytest.mark.parametrize("name", ["line", "ring", "grid", "heavy-hex", "full"])
@pytest.mark.parametrize("n_qubits", [1, 2, 6, 13, 27, 64])
def test_every_coupling_is_connected(name: Any, n_qubits: int) -> None:
    coupling = coupling_map(name, n_qubits)
    reached = {0}
    for _ in range(n_qubits):
        reached |= {q for edge in coupling.edges if reached & set(edge) for q in edge}
    assert reached == set(range(n_qubits))
    if name == "heavy-hex":
        degrees = np.bincount(np.ravel(coupling.edges), minlength=n_qubits) if coupling.edges else [0]
        assert max(degrees) <= 3


def test_156_qubits_in_heavy_hex_are_a_heron() -> None:
    fez = load_noise_model("ibm_fez")
    theirs = {tuple(sorted(q)) for _, q in fez.gates if len(q) == 2} | set(fez.faulty_edges)
    mine = coupling_map("heavy-hex", 156)
    assert fez.coordinates is not None
    at = {(column - 1, row - 1): q for q, (column, row) in enumerate(fez.coordinates)}
    mirrored = [at[15 - column, row] for column, row in mine.coordinates]
    assert {tuple(sorted((mirrored[a], mirrored[b]))) for a, b in mine.edges} == theirs


@pytest.mark.parametrize("name", PARAMETRIC)
def test_the_shipped_models_have_only_their_kind_of_noise(name: str) -> None:
    model = load_noise_model(name)
    assert catalog.entries("noise_models")[name].suffix == ".toml"
    parts = {"depolarizing": {"gates1q", "gates2q"}, "thermal": {"thermal", "idle"}, "readout": {"readout"}}
    for part in ("gates1q", "gates2q", "thermal", "readout", "idle"):
        alone = model.with_parts([part])
        noisy = {
            "gates1q": alone.gate_noise("sx", (0,)),
            "gates2q": alone.gate_noise("cz", (0, 1)),
            "thermal": alone.gate_noise("cz", (0, 1)),
            "readout": any(alone.readout_error(0)) or None,
            "idle": alone.idle_noise(0, 1e-6),
        }[part]
        assert (noisy is not None) == (part in parts.get(name, {"thermal"}))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"noise": 1}, "unknown key 'noise'"),
    "unknown key in a table": (
        {"depolarizing": {"gate1q": 0.1}},
        "unknown key 'depolarizing.gate1q'; did you mean 'gates1q'",
    ),
    "negative": ({"depolarizing": {"gates1q": -0.1}}, "key 'depolarizing.gates1q' is -0.1"),
    "above one": ({"amplitude_damping": {"gates2q": 1.1}}, "key 'amplitude_damping.gates2q' is 1.1"),
    "nan": ({"phase_damping": {"gates2q": math.nan}}, "key 'phase_damping.gates2q' is nan"),
    "inf": ({"thermal": {"t1_us": math.inf, "t2_us": 1}}, "key 'thermal.t1_us' is inf"),
    "t2": ({"thermal": {"t1_us": 10, "t2_us": 21}}, "t2_us = 21 is more than twice t1_us = 10"),
    "t1 zero": ({"thermal": {"t1_us": 0}}, "key 'thermal.t1_us' is 0"),
    "t1 missing": ({"thermal": {"t2_us": 3}}, "key 'thermal.t1_us': field required"),
    "duration": ({"durations": {"gates1q_ns": -1}}, "key 'durations.gates1q_ns' is -1"),
    "readout": ({"readout": {"p1_given_0": 2}}, "key 'readout.p1_given_0' is 2"),
    "sum": ({"readout": {"confusion": [[0.9, 0.2], [0.1, 0.9]]}}, r"row 0 of confusion, \[0.9, 0.2\], sums to 1.1"),
    "negative entry": ({"readout": {"confusion": [[1.1, -0.1], [0, 1]]}}, "row 0 of confusion, .* has a negative"),
    "both": ({"readout": {"confusion": [[1, 0], [0, 1]], "p1_given_0": 0.1}}, "either confusion or p1_given_0"),
    "three rows": ({"readout": {"confusion": [[1, 0], [0, 1], [0, 1]]}}, "key 'readout.confusion'"),
    "coupling": ({"coupling": "star"}, "key 'coupling' is 'star'"),
    "no qubits": ({"qubits": 0}, "key 'qubits' is 0"),
    "too many": ({"qubits": 10**6}, "key 'qubits' is 1000000"),
    "full": ({"coupling": "full", "qubits": 500}, "coupling full allows at most 100 qubits"),
    "columns": ({"columns": 2}, "columns belong to a grid or a heavy-hex"),
    "gate": ({"basis_gates": ["rz", "sx", "czz"]}, "basis_gates has 'czz'; did you mean 'cz'"),
    "no pairs": ({"basis_gates": ["rz", "sx"]}, "basis_gates rz, sx: one of cx, cz, ecr is needed"),
    "kind": ({"kind": "parametrik"}, "key 'kind' is 'parametrik'; did you mean 'parametric'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line(case: str) -> None:
    change, message = BAD[case]
    with pytest.raises(InputError, match=message) as error:
        load_noise_model(BASE | change)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("noise model: ")
