"""What a drawn circuit shows, in text and in a figure alike: gates in columns, and their angles as formulas."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qhybrid.circuits.circuit import Circuit, Gate
from qhybrid.circuits.encoders import AngleEncoder, IQPEncoder

Role = Literal["encoding", "trainable", "both", "fixed"]
_SYMBOLS = "φχψω"
_CONTROLLED = {"cx": "⊕", "cy": "Y", "cz": "●", "cp": "P", "crx": "RX", "cry": "RY", "crz": "RZ"}
_NAMES = {"sdg": "S†", "tdg": "T†", "sx": "√X", "swap": "x"}


@dataclass(frozen=True)
class DrawnGate:
    """A gate in a column.

    Args:
        symbols: Wire -> what stands on it: "●" a control, "⊕" a target, "x" a swap, else the letters of a box.
        angle: Formula of its angle, None for a fixed gate.
        angle_wires: Wires on which the formula stands beside the letters.
        role: What its angle depends on.
    """

    symbols: dict[int, str]
    angle: str | None
    angle_wires: tuple[int, ...]
    role: Role


@dataclass(frozen=True)
class Diagram:
    """A circuit laid out.

    Args:
        columns: Gates side by side in time; those of one column do not overlap, their connections included.
        legend: What the short names of angles mean, a line each.
    """

    columns: tuple[tuple[DrawnGate, ...], ...]
    legend: tuple[str, ...]


def lay_out(circuit: Circuit, longest: int) -> Diagram:
    """Put every gate in the earliest column in which its wires, and those between them, are free.

    Args:
        circuit: What is drawn.
        longest: Characters that an angle's formula may have; if one is longer, all are written in short names.
    """
    formulas, legend = angle_formulas(circuit, longest)
    columns: list[list[DrawnGate]] = []
    free = [0] * circuit.n_qubits
    for gate in circuit.gates:
        span = range(min(gate.wires), max(gate.wires) + 1)
        column = max(free[wire] for wire in span)
        for wire in span:
            free[wire] = column + 1
        if column == len(columns):
            columns.append([])
        columns[column].append(_drawn(circuit, gate, formulas))
    return Diagram(tuple(tuple(column) for column in columns), legend)


def _drawn(circuit: Circuit, gate: Gate, formulas: list[str]) -> DrawnGate:
    first, last = gate.wires[0], gate.wires[-1]
    letters = _NAMES.get(gate.name, gate.name.upper())
    symbols = dict.fromkeys(gate.wires, letters)
    if gate.name in _CONTROLLED:
        symbols = {first: "●", last: _CONTROLLED[gate.name]}
    if gate.slot is None:
        return DrawnGate(symbols, None, (), "fixed")
    reads = bool(np.any(circuit.encoding_map[:, gate.slot])), bool(np.any(circuit.weight_map[:, gate.slot]))
    roles: dict[tuple[bool, bool], Role] = {(True, False): "encoding", (False, True): "trainable", (True, True): "both"}
    named = (last,) if gate.name in _CONTROLLED else (min(gate.wires),)
    return DrawnGate(symbols, formulas[gate.slot], named, roles.get(reads, "fixed"))


def state_label(circuit: Circuit) -> tuple[str, str]:
    """What stands on the box of the initial state: the state, and how many features it is made of."""
    assert circuit.amplitudes is not None
    encoder = circuit.amplitudes
    start = f" from x{encoder.first}" if encoder.first else ""
    padded = f", padded with {encoder.padding:g}" if encoder.n_features < 2**encoder.n_qubits else ""
    return "|x⟩", f"{encoder.n_features} features{start}{padded}"


def wire_ends(circuit: Circuit) -> dict[int, list[str]]:
    """Every measured wire with the observables that are read from it alone."""
    ends: dict[int, list[str]] = {wire: [] for word in circuit.observables for wire, _ in word.factors}
    for word in circuit.observables:
        if len(word.factors) == 1:
            ends[word.factors[0][0]].append(f"⟨{word}⟩")
    return ends


def joint_words(circuit: Circuit) -> list[str]:
    """The observables that are read from several wires (or none)."""
    return [f"⟨{word}⟩" for word in circuit.observables if len(word.factors) != 1]


def angle_formulas(circuit: Circuit, longest: int) -> tuple[list[str], tuple[str, ...]]:
    """The angle of every slot as a formula in features x0, weights θ0 and constants.

    Args:
        circuit: Whose angles.
        longest: As in `lay_out`.

    Returns:
        P formulas, and the lines of a legend: of the encoding angles φ0, of angles too long to write beside a gate
        (α0), of those that prepare a state (β0).
    """
    n_prepared = 2 ** len(circuit.amplitude_wires) - 1 if circuit.prepares_by_gates else 0
    legend: list[str] = []
    if n_prepared:
        legend.append(f"β0 ... β{n_prepared - 1}: angles of the multiplexed rotations that prepare |x⟩")
    formulas = _all_formulas(circuit, n_prepared, {})
    if max((len(formula) for formula in formulas), default=0) > longest:
        short = _short_names(circuit.encoders)
        for (scale, squash), symbol in short.items():
            legend.append(f"{symbol}i = {_term(scale, _squashed(squash, 'xi'))}")
        formulas = _all_formulas(circuit, n_prepared, short)
    for slot, formula in enumerate(formulas):
        if len(formula) > longest:
            formulas[slot] = f"α{slot}"
            legend.append(f"α{slot} = {formula}")
    return formulas, tuple(legend)


Form = tuple[float, str]


def _short_names(encoders: Iterable[AngleEncoder | IQPEncoder]) -> dict[Form, str]:
    """A Greek letter for each way in which features are scaled and squashed (none for plain features)."""
    forms = dict.fromkeys((each.scale, each.squash) for each in encoders if (each.scale, each.squash) != (1.0, "none"))
    return dict(zip(forms, _SYMBOLS, strict=False))


def _all_formulas(circuit: Circuit, n_prepared: int, short: dict[Form, str]) -> list[str]:
    """The formulas of all slots, with the encoding angles called by short names where there are any."""
    encoded = [part for encoder in circuit.encoders for part in _encoding_angles(encoder, short)]
    formulas = []
    for slot in range(circuit.n_angles):
        column = circuit.encoding_map[:, slot]
        if np.any(column[:n_prepared]):
            formulas.append(f"β{slot}")
            continue
        terms = [_term(column[n_prepared + i] * encoded[i][0], encoded[i][1]) for i in _nonzero(column[n_prepared:])]
        weights = circuit.weight_map[:, slot]
        terms += [_term(weights[i], f"θ{i}") for i in _nonzero(weights)]
        if circuit.offset[slot] or not terms:
            terms.append(number(circuit.offset[slot]))
        formulas.append(" + ".join(terms).replace("+ -", "- "))
    return formulas


def _encoding_angles(encoder: AngleEncoder | IQPEncoder, short: dict[Form, str]) -> list[tuple[float, str]]:
    """(factor, name) of each encoding angle."""
    symbol = short.get((encoder.scale, encoder.squash))
    scale = 1.0 if symbol else encoder.scale
    names = [
        f"{symbol}{index}" if symbol else _squashed(encoder.squash, f"x{index}")
        for index in range(encoder.first, encoder.first + encoder.n_features)
    ]
    angles = [(scale, name) for name in names]
    if isinstance(encoder, IQPEncoder):
        angles += [(scale**2, f"{names[i]}·{names[j]}") for i, j in encoder.pairs]
    return angles


def _squashed(squash: str, feature: str) -> str:
    return feature if squash == "none" else f"{squash} {feature}"


def _term(factor: float, name: str) -> str:
    if factor in (1, -1):
        return name if factor == 1 else f"-{name}"
    return f"{number(factor)}·{name}"


def number(value: float) -> str:
    """A number as people write it: multiples of π and of its square as such, others with four digits."""
    for power, symbol in ((1, "π"), (2, "π²")):
        fraction = Fraction(value / np.pi**power).limit_denominator(16)
        if fraction and abs(float(fraction) * np.pi**power - value) < 1e-12 * abs(value):
            top = {1: "", -1: "-"}.get(fraction.numerator, str(fraction.numerator))
            return f"{top}{symbol}" + (f"/{fraction.denominator}" if fraction.denominator > 1 else "")
    return f"{value:.4g}"


def _nonzero(values: NDArray[np.float64]) -> list[int]:
    return [int(index) for index in np.flatnonzero(values)]


def as_math(formula: str) -> str:
    """A formula of this file in TeX's notation, as matplotlib reads it."""
    greek = {"θ": r"\theta", "φ": r"\varphi", "χ": r"\chi", "ψ": r"\psi", "ω": r"\omega", "α": r"\alpha", "β": r"\beta"}
    text = re.sub(r"([xθφχψωαβXYZ])(\d+|i\b)", lambda m: f"{greek.get(m[1], m[1])}_{{{m[2]}}}", formula)
    text = re.sub(r"(\d*π²?/\d+)·", r"(\1)·", text)
    text = text.replace("tanh ", r"\tanh\,").replace("arctan ", r"\arctan\,").replace("sigmoid ", r"\mathrm{sigmoid}\,")
    text = text.replace("π²", r"\pi^2").replace("π", r"\pi ").replace("·", r"\,").replace("...", r"\,\ldots\,")
    text = text.replace("⟨", r"\langle ").replace("⟩", r"\rangle")
    return f"${text}$"
