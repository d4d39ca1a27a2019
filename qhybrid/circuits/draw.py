"""Draw a circuit in text or as a figure, and count what it is made of."""

import shutil
from typing import TYPE_CHECKING

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.diagram import DrawnGate, joint_words, lay_out, state_label, wire_ends

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_TEXT = 18
"""Characters of an angle's formula in a text diagram."""


def circuit_summary(circuit: Circuit) -> dict[str, object]:
    """Count what a circuit is made of.

    Args:
        circuit: What is counted.

    Returns:
        The counts by name, the observables as Pauli words. A circuit that starts from encoded amplitudes has in
        addition, under `expanded`, the counts with that state prepared by gates.
    """
    summary: dict[str, object] = {
        "qubits": circuit.n_qubits,
        "features": circuit.n_features,
        "encoding_angles": circuit.encoding_map.shape[0],
        "angles": circuit.n_angles,
        "weights": circuit.n_weights,
        "gates": len(circuit.gates),
        "two_qubit_gates": circuit.n_two_qubit_gates,
        "depth": circuit.depth,
        "observables": [str(word) for word in circuit.observables],
    }
    if circuit.n_amplitudes:
        summary["expanded"] = circuit_summary(circuit.expanded())
    return summary


def draw_text(circuit: Circuit, width: int | None = None) -> str:
    """Draw a circuit in box-drawing characters, a line for every qubit.

    Args:
        circuit: What is drawn.
        width: Characters in a line; a longer circuit continues in panels below. None takes the terminal's width.

    Returns:
        Lines without a final newline: the panels, then what the short names mean.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    diagram = lay_out(circuit, _LONGEST_TEXT)
    parts = [_column(circuit.n_qubits, column) for column in diagram.columns]
    if circuit.n_amplitudes:
        parts.insert(0, _state_box(circuit))
    parts[-1:] = [_beside(*parts[-1:], _measurement(circuit))]  # never a panel of wire ends alone
    margin = len(f"q{circuit.n_qubits - 1}: ")
    panels: list[list[list[str]]] = [[]]
    room = width - margin - len("«─") - len("──»")
    for part in parts:
        used = sum(len(each[1]) + 2 for each in panels[-1])
        if panels[-1] and used + len(part[1]) > room:
            panels.append([])
        panels[-1].append(part)
    blocks = []
    for index, panel in enumerate(panels):
        ends = {"continues": index > 0, "continued": index < len(panels) - 1}
        rows = [_line(row, panel, margin, **ends) for row in range(2 * circuit.n_qubits + 1)]
        blocks.append("\n".join(row for place, row in enumerate(rows) if row or 0 < place < len(rows) - 1))
    together = joint_words(circuit)
    legend = [*diagram.legend, *([f"also measured: {', '.join(together)}"] if together else [])]
    return "\n\n".join([*blocks, "\n".join(legend)] if legend else blocks)


def _line(row: int, panel: list[list[str]], margin: int, *, continues: bool, continued: bool) -> str:
    """One row of a panel: odd rows are the qubits' wires, even rows the space between them."""
    on_wire = row % 2 == 1
    label = f"q{row // 2}: ".ljust(margin) if on_wire else " " * margin
    start = ("«─" if continues else "──") if on_wire else "  "
    line = label + start + _beside(*panel)[row]
    return (line + ("──»" if on_wire and continued else "")).rstrip()


def _beside(*parts: list[str]) -> list[str]:
    """Parts of a diagram side by side, wires drawn through between them."""
    return [("──" if row % 2 else "  ").join(pieces) for row, pieces in enumerate(zip(*parts, strict=True))]


def _column(n_qubits: int, gates: tuple[DrawnGate, ...]) -> list[str]:
    """The rows of one column."""
    labels = {
        wire: symbol + (f"({gate.angle})" if wire in gate.angle_wires else "")
        for gate in gates
        for wire, symbol in gate.symbols.items()
    }
    width = max(len(label) for label in labels.values())
    centre = (width - 1) // 2
    rows = [("─" if row % 2 else " ") * width for row in range(2 * n_qubits + 1)]

    def put(row: int, label: str) -> None:
        start = centre - (len(label) - 1) // 2
        rows[row] = rows[row][:start] + label + rows[row][start + len(label) :]

    for gate in gates:
        for row in range(2 * min(gate.symbols) + 2, 2 * max(gate.symbols) + 1):
            put(row, "┼" if row % 2 else "│")
    for wire, label in labels.items():
        put(2 * wire + 1, label)
    return rows


def _state_box(circuit: Circuit) -> list[str]:
    """The rows of the box that prepares the initial amplitudes."""
    wires = circuit.amplitude_wires
    top, bottom = min(wires), max(wires)
    plain = wires == tuple(range(top, bottom + 1))
    state, features = state_label(circuit)
    digits = 0 if plain else len(str(len(wires) - 1)) + 1
    width = len(features) + 2 + digits + (len(state) + 1 if bottom == top else 0)
    rows = [("─" if row % 2 else " ") * (width + 2) for row in range(2 * circuit.n_qubits + 1)]
    rows[2 * top] = f"┌{'─' * width}┐"
    rows[2 * bottom + 2] = f"└{'─' * width}┘"
    for row in range(2 * top + 1, 2 * bottom + 2):
        rows[row] = f"│{' ' * width}│"
    for position, wire in enumerate(wires):
        bit = "" if plain else f"{position}"  # its place among the bits of an amplitude's index
        rows[2 * wire + 1] = f"┤{bit.ljust(width)}├"
    for wire in set(range(top, bottom + 1)) - set(wires):
        rows[2 * wire + 1] = f"┼{'─' * width}┼"
    middle = top + bottom + 1
    lines = [(middle - (bottom > top), state), (middle + 1 - (bottom == top), features)]
    if bottom == top:
        lines = [(middle, f"{state} {features}")]
    for row, text in lines:
        inside = rows[row][1 + digits : -1]
        start = 1 + digits + (len(inside) - len(text)) // 2
        rows[row] = rows[row][:start] + text + rows[row][start + len(text) :]
    return rows


def _measurement(circuit: Circuit) -> list[str]:
    """The ends of the wires: each measured one with the observables that are read from it alone."""
    ends = wire_ends(circuit)
    texts = ["┤ " + " ".join(ends[wire]) if wire in ends else "─" for wire in range(circuit.n_qubits)]
    width = max(len(text) for text in texts)
    return [" " * width if row % 2 == 0 else texts[row // 2].ljust(width) for row in range(2 * circuit.n_qubits + 1)]


def draw_figure(circuit: Circuit) -> "Figure":
    """Draw a circuit as a figure for print, as wide as a page at most; longer circuits continue in rows below.

    Args:
        circuit: What is drawn.

    Returns:
        A matplotlib figure, sized to its content; `figure.savefig(path)` writes it.
    """
    from qhybrid.circuits.figure import circuit_figure

    return circuit_figure(circuit)
