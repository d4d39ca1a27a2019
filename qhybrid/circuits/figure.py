"""A circuit as a matplotlib figure for print. Coordinates are inches, so that boxes fit the text in them."""

from functools import cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Arc, Circle, Rectangle
from matplotlib.textpath import TextPath

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.diagram import Diagram, DrawnGate, as_math, joint_words, lay_out, state_label, wire_ends

# Tints of Okabe and Ito's palette, which all common forms of colour blindness can tell apart (jfly.uni-koeln.de/color).
FILLS = {"encoding": "#BFE0F5", "trainable": "#FBDDA6", "fixed": "#FFFFFF"}
INK = "#1A1A1A"
PAGE = 7.1
"""Widest row, inches: two columns of a journal."""
WIRE, BOX, METER, GAP, MARGIN = 0.46, 0.35, 0.27, 0.12, 0.08
"""Distance of wires, height of a box and of a meter, distance of columns, white around everything; inches."""
LARGE, SMALL = 9.5, 7.5
"""Font sizes, points."""
LONGEST = 8
"""Characters of an angle's formula that still fit in a box."""
MAX_PIXELS = 60000
"""Highest image; matplotlib draws none of 2**16 pixels."""
LINE: dict[str, Any] = {"color": INK, "linewidth": 0.8, "solid_capstyle": "butt"}
_LETTERS = {"S†": r"$S^\dagger$", "T†": r"$T^\dagger$", "√X": r"$\sqrt{X}$"}


def circuit_figure(circuit: Circuit) -> Figure:
    """Draw a circuit (see `qhybrid.circuits.draw.draw_figure`)."""
    diagram = lay_out(circuit, LONGEST)
    labels = [_wire_label(circuit, wire) for wire in range(circuit.n_qubits)]
    start = MARGIN + max(_width(label, LARGE) for label in labels) + GAP
    rows = _rows(circuit, diagram, PAGE - start - MARGIN)
    legend = _legend_lines(circuit, diagram)
    row_height = WIRE * circuit.n_qubits + GAP
    key_height = 0.2 * (len(legend) + 1)
    key_width = MARGIN * 2 + max(0.75 * len(_roles(diagram, circuit)), *(_width(line, SMALL) for line in legend), 0)
    width = max(start + max(sum(widths) for _, widths in rows) + MARGIN, key_width)
    height = MARGIN * 2 + row_height * len(rows) + key_height
    figure = Figure(figsize=(width, height), dpi=min(200, int(MAX_PIXELS / height)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    for index, row in enumerate(rows):
        corner = (start, height - MARGIN - row_height * index - WIRE / 2)
        _draw_row(axes, circuit, labels, row, corner, continues=index > 0, continued=index < len(rows) - 1)
    _draw_key(axes, _roles(diagram, circuit), legend, key_height)
    return figure


Part = tuple[DrawnGate, ...] | str
"""A column of gates, "state" or "measurement"."""
Row = tuple[list[Part], list[float]]
"""Parts side by side, and their widths."""


def _rows(circuit: Circuit, diagram: Diagram, room: float) -> list[Row]:
    """Cut the columns into rows that fit on a page, with their widths; the measurement never stands alone."""
    parts: list[tuple[Part, float]] = [(column, _column_width(column) + GAP) for column in diagram.columns]
    if circuit.n_amplitudes:
        state = max(_width(text, size) for text, size in zip(state_label(circuit), (LARGE, SMALL), strict=True))
        parts.insert(0, ("state", state + 2 * GAP + GAP))
    ends = [" ".join(as_math(word) for word in words) for words in wire_ends(circuit).values()]
    last = BOX + GAP / 2 + max(_width(end, LARGE) for end in ends) if ends else GAP
    rows: list[Row] = [([], [])]
    for index, (part, width) in enumerate(parts):
        reserved = last if index == len(parts) - 1 else 0.0
        if rows[-1][0] and sum(rows[-1][1]) + width + reserved > room:
            rows.append(([], []))
        rows[-1][0].append(part)
        rows[-1][1].append(width)
    rows[-1][0].append("measurement")
    rows[-1][1].append(last)
    return rows


def _draw_row(
    axes: Axes,
    circuit: Circuit,
    labels: list[str],
    row: Row,
    corner: tuple[float, float],
    *,
    continues: bool,
    continued: bool,
) -> None:
    """One row of the circuit, its first wire starting at `corner`."""
    (parts, widths), (start, top), ends = row, corner, wire_ends(circuit)
    end = start + sum(widths)
    for wire in range(circuit.n_qubits):
        y = top - WIRE * wire
        last = end - widths[-1] + METER if parts[-1] == "measurement" else end
        axes.plot([start - GAP / 2, last], [y, y], zorder=1, **LINE)
        label = f"$q_{{{wire}}}$" if continues else labels[wire]
        _text(axes, start - GAP, y + 0.01, label, LARGE, ha="right")
        for x, broken in ((start - GAP / 2, continues), (end, continued)):
            if broken:  # dots where the wire goes on in another row
                axes.plot([x - GAP / 3, x + GAP / 3], [y, y], color="white", linewidth=2, zorder=1.5)
                axes.plot([x - GAP / 3, x + GAP / 3], [y, y], color=INK, linewidth=0.8, linestyle=":", zorder=1.6)
    x = start
    for part, width in zip(parts, widths, strict=True):
        if part == "state":
            _draw_state(axes, circuit, x, width - GAP, top)
        elif part == "measurement":
            for wire, words in ends.items():
                _draw_meter(axes, x, top - WIRE * wire, " ".join(as_math(word) for word in words))
        else:
            for gate in part:
                _draw_gate(axes, gate, x + (width - GAP) / 2, top)  # type: ignore[arg-type]
        x += width


def _draw_gate(axes: Axes, gate: DrawnGate, x: float, top: float) -> None:
    """A gate centred at x, the first wire at height `top`."""
    heights = {wire: top - WIRE * wire for wire in gate.symbols}
    if len(heights) > 1:
        axes.plot([x, x], [min(heights.values()), max(heights.values())], zorder=2, **LINE)
    for wire, symbol in gate.symbols.items():
        y = heights[wire]
        if symbol == "●":
            axes.add_patch(Circle((x, y), 0.04, color=INK, linewidth=0, zorder=3))
        elif symbol == "⊕":
            axes.add_patch(Circle((x, y), 0.085, facecolor="white", edgecolor=INK, linewidth=0.8, zorder=3))
            axes.plot([x - 0.085, x + 0.085], [y, y], zorder=4, **LINE)
            axes.plot([x, x], [y - 0.085, y + 0.085], zorder=4, **LINE)
        elif symbol == "x":
            for slope in (1, -1):
                axes.plot([x - 0.06, x + 0.06], [y - 0.06 * slope, y + 0.06 * slope], zorder=3, **LINE)
        else:
            _draw_box(axes, gate, wire, x, y)


def _draw_box(axes: Axes, gate: DrawnGate, wire: int, x: float, y: float) -> None:
    """A box with the gate's letters and, under them, its angle."""
    width = _box_width(gate, wire)
    left, bottom = x - width / 2, y - BOX / 2
    if gate.role == "both":
        for side, fill in enumerate((FILLS["encoding"], FILLS["trainable"])):
            half = Rectangle((left + side * width / 2, bottom), width / 2, BOX, facecolor=fill, linewidth=0, zorder=3)
            axes.add_patch(half)
    fill = FILLS.get(gate.role, "none")
    axes.add_patch(Rectangle((left, bottom), width, BOX, facecolor=fill, edgecolor=INK, linewidth=0.8, zorder=3.5))
    named = gate.angle is not None and wire in gate.angle_wires
    _text(axes, x, y + (0.072 if named else 0), _letters(gate.symbols[wire]), LARGE)
    if named:
        _text(axes, x, y - 0.088, as_math(gate.angle or ""), SMALL)


def _draw_state(axes: Axes, circuit: Circuit, x: float, width: float, top: float) -> None:
    """The box of the encoded initial state; wires that it does not prepare pass in front."""
    wires = circuit.amplitude_wires
    first, last = min(wires), max(wires)
    bottom = top - WIRE * last - BOX / 2
    height = WIRE * (last - first) + BOX
    box = Rectangle((x, bottom), width, height, facecolor=FILLS["encoding"], edgecolor=INK, linewidth=0.8, zorder=3)
    axes.add_patch(box)
    for wire in range(first, last + 1):
        if wire not in wires:
            axes.plot([x, x + width], [top - WIRE * wire] * 2, zorder=3.5, **LINE)
    if wires != tuple(range(first, last + 1)):
        for place, wire in enumerate(wires):  # its place among the bits of an amplitude's index
            _text(axes, x + 0.03, top - WIRE * wire, str(place), SMALL, ha="left")
    middle = bottom + height / 2
    state, features = state_label(circuit)
    _text(axes, x + width / 2, middle + 0.072, as_math(state), LARGE)
    _text(axes, x + width / 2, middle - 0.088, features, SMALL)


def _draw_meter(axes: Axes, x: float, y: float, words: str) -> None:
    """A meter, and right of it what is read from it."""
    box = Rectangle((x, y - METER / 2), METER, METER, facecolor="white", edgecolor=INK, linewidth=0.8, zorder=3)
    axes.add_patch(box)
    dial = Arc((x + METER / 2, y - 0.055), 0.19, 0.19, theta1=15, theta2=165, color=INK, linewidth=0.8, zorder=4)
    axes.add_patch(dial)
    axes.plot([x + METER / 2, x + METER / 2 + 0.075], [y - 0.055, y + 0.085], zorder=4, **LINE)
    _text(axes, x + BOX, y + 0.01, words, LARGE, ha="left")


def _draw_key(axes: Axes, roles: list[str], legend: list[str], height: float) -> None:
    """What the colours and the short names mean."""
    y = MARGIN + height - 0.12
    x = MARGIN
    for role in roles:
        patch = Rectangle((x, y - 0.055), 0.11, 0.11, facecolor=FILLS[role], edgecolor=INK, linewidth=0.6)
        axes.add_patch(patch)
        _text(axes, x + 0.16, y, role, SMALL, ha="left")
        x += 0.16 + _width(role, SMALL) + 0.18
    for index, line in enumerate(legend):
        _text(axes, MARGIN, y - 0.2 * (index + 1), line, SMALL, ha="left")


def _roles(diagram: Diagram, circuit: Circuit) -> list[str]:
    """The colours that a key has to explain."""
    used = {
        gate.role
        for column in diagram.columns
        for gate in column
        if gate.angle is not None or not set(gate.symbols.values()) <= {"●", "⊕", "x"}
    }
    if circuit.n_amplitudes or "both" in used:
        used.add("encoding")
    if "both" in used:
        used.add("trainable")
    return [role for role in FILLS if role in used]


def _legend_lines(circuit: Circuit, diagram: Diagram) -> list[str]:
    lines = []
    for line in diagram.legend:
        formula, colon, words = line.partition(": ")
        lines.append(as_math(formula) + colon + words.replace("|x⟩", as_math("|x⟩")))
    together = joint_words(circuit)
    return [*lines, *(["also measured: " + ", ".join(as_math(word) for word in together)] if together else [])]


def _wire_label(circuit: Circuit, wire: int) -> str:
    prepared = circuit.n_amplitudes and wire in circuit.amplitude_wires
    return f"$q_{{{wire}}}$" if prepared else f"$q_{{{wire}}}\\;\\,|0\\rangle$"


def _column_width(column: tuple[DrawnGate, ...]) -> float:
    return max(_box_width(gate, wire) for gate in column for wire in gate.symbols)


def _box_width(gate: DrawnGate, wire: int) -> float:
    symbol = gate.symbols[wire]
    if symbol in ("●", "⊕", "x"):
        return 0.17
    width = _width(_letters(symbol), LARGE)
    if gate.angle is not None and wire in gate.angle_wires:
        width = max(width, _width(as_math(gate.angle), SMALL))
    return max(0.3, width + 0.1)


def _letters(symbol: str) -> str:
    """A gate's letters in TeX's notation."""
    if symbol in _LETTERS:
        return _LETTERS[symbol]
    return f"$R_{{{symbol[1:]}}}$" if symbol[0] == "R" else f"${symbol}$"


def _font(size: float) -> FontProperties:
    return FontProperties(family="STIXGeneral", math_fontfamily="stix", size=size)


@cache
def _width(text: str, size: float) -> float:
    """Width of a text, inches."""
    return float(TextPath((0, 0), text, prop=_font(size)).get_extents().width) / 72 if text.strip() else 0.0


def _text(axes: Axes, x: float, y: float, text: str, size: float, *, ha: str = "center") -> None:
    axes.text(x, y, text, fontproperties=_font(size), color=INK, ha=ha, va="center_baseline", zorder=5)
