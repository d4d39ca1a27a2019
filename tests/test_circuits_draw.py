"""Drawn circuits: what stands in the text, in the figure and in the summary."""

import io
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhybrid import catalog
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.diagram import angle_formulas, as_math, lay_out, number
from qhybrid.circuits.draw import circuit_summary, draw_figure, draw_text
from qhybrid.circuits.spec import load_circuit

SHIPPED = tuple(catalog.entries("circuits"))


def circuit_of(*blocks: dict[str, Any], qubits: int = 3, observables: tuple[str, ...] = ("Z0",)) -> Circuit:
    return load_circuit({"qubits": qubits, "observables": list(observables), "blocks": list(blocks)})


def texts(circuit: Circuit) -> list[str]:
    return [text.get_text() for axes in draw_figure(circuit).axes for text in axes.texts]


def test_the_default_circuit_reads_as_in_a_paper() -> None:
    assert draw_text(load_circuit("angle_4q"), 100).splitlines() == [
        "q0: ──RY(π·tanh x0 + θ0)──●──RY(θ4)────────────●───────────┤ ⟨Z0⟩",
        "                          │                    │",
        "q1: ──RY(π·tanh x1 + θ1)──⊕────●─────RY(θ5)────⊕─────●─────┤ ⟨Z1⟩",
        "                               │                     │",
        "q2: ──RY(π·tanh x2 + θ2)───────⊕───────●─────RY(θ6)──⊕──●──┤ ⟨Z2⟩",
        "                                       │                │",
        "q3: ──RY(π·tanh x3 + θ3)───────────────⊕─────RY(θ7)─────⊕──┤ ⟨Z3⟩",
    ]


def test_an_initial_state_is_a_box_over_its_wires() -> None:
    circuit = circuit_of({"encode": "amplitude", "wires": [1, 2], "features": 3}, {"entangle": "chain", "gate": "cz"})
    assert draw_text(circuit, 100).splitlines() == [
        "q0: ─────────────────────────────────●─────┤ ⟨Z0⟩",
        "      ┌───────────────────────────┐  │",
        "q1: ──┤            |x⟩            ├──●──●───",
        "      │                           │     │",
        "q2: ──┤ 3 features, padded with 0 ├─────●───",
        "      └───────────────────────────┘",
    ]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_panels_keep_to_the_width_and_hold_every_gate(name: str, width: int) -> None:
    circuit = load_circuit(name)
    text = draw_text(circuit, width)
    assert max(len(line) for line in text.splitlines()) <= width
    slots = [gate.slot for gate in circuit.gates if gate.slot is not None]
    assert len(re.findall(r"(?:R[XYZ]+|P)\(", text)) == len(slots)
    assert text.count("⊕") == sum(gate.name == "cx" for gate in circuit.gates)
    for wire in range(circuit.n_qubits):
        assert f"q{wire}: ──" in text
    for word in circuit.observables:
        assert text.count(f"⟨{word}⟩") == 1


def test_the_width_of_the_terminal_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = load_circuit("reupload_4q")
    monkeypatch.setenv("COLUMNS", "60")
    assert draw_text(circuit) == draw_text(circuit, 60) != draw_text(circuit, 120)


def test_long_formulas_get_short_names_with_a_legend() -> None:
    text = draw_text(load_circuit("iqp_4q"), 100)
    assert "RZ(φ0)" in text
    assert "RZZ(φ0·φ1)" in text
    assert text.endswith("\n\nφi = π/2·tanh xi")


def test_formulas_too_long_for_any_name_are_listed() -> None:
    blocks = [{"encode": "angle", "first": 100 * i, "scale": 0.1234 * (i + 1)} for i in range(5)]
    formulas, legend = angle_formulas(circuit_of(*blocks, {"rotate": "Y"}, qubits=1), 12)
    assert formulas == ["α0"]
    assert legend[-1].startswith("α0 = φ0 + χ100 + ψ200 + ω300 + 0.617·x400 + θ0")
    assert "χi = 0.2468·xi" in legend


def test_the_angles_of_a_prepared_state_are_explained() -> None:
    text = draw_text(load_circuit("sda_qec_4q").expanded(), 100)
    assert "RY(β14)" in text
    assert text.endswith("β0 ... β14: angles of the multiplexed rotations that prepare |x⟩")


def test_joint_observables_are_listed_below() -> None:
    text = draw_text(circuit_of({"encode": "angle"}, observables=("Z0 Z1", "X2", "Y2")), 100)
    assert text.splitlines()[-1] == "also measured: ⟨Z0 Z1⟩"
    assert "┤ ⟨X2⟩ ⟨Y2⟩" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.pi, "π"),
        (-np.pi / 2, "-π/2"),
        (3 * np.pi / 4, "3π/4"),
        (np.pi**2 / 4, "π²/4"),
        (2.0, "2"),
        (0.12345, "0.1235"),
    ],
)
def test_numbers_are_multiples_of_pi_where_they_are(value: float, text: str) -> None:
    assert number(value) == text


def test_formulas_become_tex() -> None:
    assert as_math("π/2·tanh x12 + θ3") == r"$(\pi /2)\,\tanh\,x_{12} + \theta_{3}$"
    assert as_math("⟨Z0 X1⟩") == r"$\langle Z_{0} X_{1}\rangle$"


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    wires=st.permutations(range(5)),
    pattern=st.sampled_from(["chain", "ring", "all"]),
    gate=st.sampled_from(["cx", "cz", "swap", "crx", "rzz", "cp"]),
)
def test_gates_of_a_column_never_overlap_and_keep_their_order(wires: list[int], pattern: str, gate: str) -> None:
    block = {"entangle": pattern, "gate": gate, "wires": wires}
    circuit = circuit_of({"encode": "angle"}, block, {"rotate": "ZX"}, qubits=5)
    columns = lay_out(circuit, 18).columns
    assert sum(len(column) for column in columns) == len(circuit.gates)
    for column in columns:
        spans = [set(range(min(drawn.symbols), max(drawn.symbols) + 1)) for drawn in column]
        assert sum(len(span) for span in spans) == len(set().union(*spans))
    for wire in range(5):
        drawn_on_wire = [tuple(drawn.symbols) for column in columns for drawn in column if wire in drawn.symbols]
        assert [set(on) for on in drawn_on_wire] == [set(each.wires) for each in circuit.gates if wire in each.wires]


def test_roles_say_what_an_angle_depends_on() -> None:
    circuit = circuit_of({"encode": "angle"}, {"rotate": "YZ"}, {"entangle": "chain"}, {"encode": "iqp"}, qubits=2)
    roles = {(gate.name, drawn.role) for column in lay_out(circuit, 18).columns for drawn in column
             for gate in circuit.gates if set(gate.wires) == set(drawn.symbols)}  # fmt: skip
    assert {("ry", "both"), ("rz", "trainable"), ("cx", "fixed"), ("rzz", "encoding")} <= roles


@pytest.mark.parametrize("name", SHIPPED)
def test_the_figure_shows_every_qubit_gate_and_observable(name: str) -> None:
    circuit = load_circuit(name)
    shown = texts(circuit)
    assert sum(text.startswith(("$R_", "$P$")) for text in shown) >= sum(
        gate.slot is not None for gate in circuit.gates
    )
    for wire in range(circuit.n_qubits):
        assert any(text.startswith(f"$q_{{{wire}}}") for text in shown)
    for word in circuit.observables:
        assert shown.count(as_math(f"⟨{word}⟩")) == 1
    assert "trainable" in shown
    assert "encoding" in shown


@pytest.mark.parametrize("name", ["angle_4q", "sda_qec_8q", "iqp_4q"])
def test_the_figure_fits_a_page_and_everything_fits_the_figure(name: str) -> None:
    figure = draw_figure(load_circuit(name))
    width, height = figure.get_size_inches()
    assert width <= 7.2
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    assert file.getvalue().startswith(b"\x89PNG")
    for text in figure.axes[0].texts:
        box = text.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def test_the_summary_counts_the_circuit_and_its_expansion() -> None:
    summary = circuit_summary(load_circuit("sda_qec"))
    expanded = summary.pop("expanded")
    assert summary == {
        "qubits": 8, "features": 256, "encoding_angles": 0, "angles": 8, "weights": 8, "gates": 14,
        "two_qubit_gates": 6, "depth": 7, "observables": ["Z0", "Z1", "Z2", "Z3"]}  # fmt: skip
    assert isinstance(expanded, dict)
    assert (expanded["angles"], expanded["two_qubit_gates"]) == (255 + 8, 254 + 6)
    assert "expanded" not in circuit_summary(load_circuit("angle_4q"))
