"""Summaries count what is there, and maps show every qubit and every edge."""

from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PatchCollection

from qhybrid.noise_models.layout import stress_layout
from qhybrid.noise_models.map import machine_map
from qhybrid.noise_models.spec import load_noise_model
from qhybrid.noise_models.summary import Summary

SMALL: dict[str, Any] = {"kind": "parametric", "coupling": "grid", "qubits": 6, "depolarizing": {"gates2q": 0.1}}
NAMES = ["ibm_brisbane", "ibm_fez", "ibm_kyoto", "thermal", "fake:FakeNighthawk", "fake:FakeLima", "fake:FakeArmonk"]


def test_a_summary_holds_the_medians_of_the_snapshot() -> None:
    model = load_noise_model("ibm_torino")
    summary = Summary(model)
    errors = {tuple(sorted(on)): each.error for (name, on), each in model.gates.items() if name == "cz"}
    assert summary.edge_errors == errors
    assert summary.spreads["two-qubit gate error"].median == pytest.approx(np.median(list(errors.values())))
    t1 = summary.spreads["T1 [us]"]
    assert (t1.low, t1.median, t1.high) == pytest.approx(tuple(np.percentile(model.t1 * 1e6, [10, 50, 90])))
    assert summary.two_qubit_gate == "cz"
    assert summary.basis_gates == ("cz", "rz", "sx", "x")
    assert summary.age_days is not None
    assert summary.age_days > 200
    assert summary.as_dict()["remarks"][-1].startswith("simulated noise is a best case")


def test_a_summary_leaves_out_what_a_model_does_not_have() -> None:
    summary = Summary(load_noise_model(SMALL))
    assert "T1 [us]" not in summary.spreads
    assert summary.age_days is None
    assert summary.spreads["two-qubit gate error"].median == pytest.approx(0.075)  # (1 - 1/4) p
    assert Summary(load_noise_model("fake:FakeArmonk")).two_qubit_gate == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_map_has_every_qubit_and_every_edge(name: str) -> None:
    model = load_noise_model(name)
    summary = Summary(model)
    figure = machine_map(summary)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == [str(q) for q in range(model.n_qubits)]
    (circles,) = (each for each in axes.collections if isinstance(each, PatchCollection))
    assert len(circles.get_paths()) == model.n_qubits
    lines = [len(each.get_segments()) for each in axes.collections if isinstance(each, LineCollection)]
    assert lines == [len(summary.edge_errors)] * 2 + [len(model.faulty_edges)]
    width, _ = figure.get_size_inches()
    assert width <= 7.11
    words = {text.get_text() for text in figure.texts}
    assert model.name in words
    assert any((model.date or "parametric")[:10] in each for each in words)
    crosses = [line for line in axes.lines if line.get_marker() != "x"]
    assert len(crosses) == 2 * len(model.faulty_qubits)
    legend = [text.get_text() for each in figure.legends for text in each.get_texts()]
    assert legend == [
        *([f"faulty qubit ({len(model.faulty_qubits)})"] if model.faulty_qubits else []),
        *([f"faulty edge ({len(model.faulty_edges)})"] if model.faulty_edges else []),
    ]


def test_circles_do_not_touch_and_darker_is_worse() -> None:
    model = load_noise_model("ibm_fez")
    summary = Summary(model)
    (circles,) = (each for each in machine_map(summary).axes[0].collections if isinstance(each, PatchCollection))
    boxes = [path.get_extents() for path in circles.get_paths()]
    centres = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + np.eye(len(centres)) * 9
    assert distances.min() > 1.2 * boxes[0].width
    brightness = circles.get_facecolor()[:, :3] @ (0.299, 0.587, 0.114)
    order = np.argsort([summary.readout_errors[q] for q in range(model.n_qubits)])
    assert np.all(np.diff(brightness[order]) <= 1e-9)


@pytest.mark.parametrize("name", ["fake:FakeBrooklyn", "fake:FakeGuadalupe", "fake:FakeYorktown"])
def test_a_layout_without_coordinates_keeps_neighbours_near(name: str) -> None:
    model = load_noise_model(name)
    assert model.coordinates is None
    edges = list(Summary(model).edge_errors)
    places = stress_layout(model.n_qubits, edges)
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    lengths = [distances[a, b] for a, b in edges]
    assert 0.6 < min(lengths) <= max(lengths) < 1.6
    others = distances[~np.eye(model.n_qubits, dtype=bool)]
    assert others.min() > 0.6
    assert np.ptp(places[:, 0]) >= np.ptp(places[:, 1]) * 0.99
    np.testing.assert_array_equal(places, stress_layout(model.n_qubits, edges))


def test_a_layout_of_several_pieces_is_finite() -> None:
    assert np.isfinite(stress_layout(5, [(0, 1), (2, 3)])).all()
    assert np.isfinite(stress_layout(2, [])).all()
    assert stress_layout(1, []).shape == (1, 2)
