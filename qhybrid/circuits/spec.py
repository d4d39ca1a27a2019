"""The circuit file: its format, and how it becomes a Circuit.

qubits = 4
observables = ["Z0", "Z1", "Z2", "Z3"]

[[blocks]]
encode = "angle"
axis = "Y"
scale = "pi"
squash = "tanh"

[[blocks]]
repeat = 2
blocks = [{ rotate = "Y" }, { entangle = "chain" }]
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from qhybrid import catalog
from qhybrid.circuits.builder import CircuitBuilder
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.encoders import SQUASHINGS, AmplitudeEncoder, AngleEncoder, IQPEncoder
from qhybrid.circuits.fourier import add_fourier_transform
from qhybrid.circuits.gates import ALIASES, FIXED, ROTATIONS, n_wires
from qhybrid.circuits.observables import PauliWord
from qhybrid.errors import InputError, did_you_mean

_PI = re.compile(r"(?P<sign>-?)(?:(?P<factor>\d+(?:\.\d*)?) ?\*? ?)?pi(?: ?/ ?(?P<divisor>\d+(?:\.\d*)?))?")
MAX_QUBITS = 24


def _angle(value: Any) -> Any:
    """Read a number, or a multiple of pi such as "pi", "2*pi", "pi/2"."""
    match = _PI.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        size = float(match["factor"] or 1) * math.pi / float(match["divisor"] or 1)
        return -size if match["sign"] else size
    return value


Angle = Annotated[float, BeforeValidator(_angle), Field(allow_inf_nan=False)]
Squash = Literal["none", "tanh", "sigmoid", "arctan"]
Pattern = Literal["chain", "ring", "all"]
assert set(SQUASHINGS) == {"none", "tanh", "sigmoid", "arctan"}


class Block(BaseModel):
    """A piece of a circuit."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OnWires(Block):
    """A piece of a circuit that acts on chosen qubits."""

    wires: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Qubits it acts on, in this order; None means all of them."""


class Encode(OnWires):
    """Turn features into angles, or into the amplitudes of the initial state."""

    encode: Literal["angle", "amplitude", "iqp"]
    """`angle`: a rotation by each feature; `amplitude`: the features are the initial state; `iqp`: Hadamards, then
    RZ(x_i) and RZZ(x_i x_j)."""
    axis: Literal["X", "Y", "Z"] = "Y"
    """Rotation axis of `angle`."""
    scale: Angle = 1.0
    """Radians for a (squashed) feature of 1, of `angle` and `iqp`; a number or a multiple of pi such as "pi/2"."""
    squash: Squash = "none"
    """What bounds a feature before it is scaled, of `angle` and `iqp`."""
    pattern: Pattern = "all"
    """Which pairs of features `iqp` multiplies."""
    first: int = Field(default=0, ge=0)
    """Index of the first feature it reads."""
    features: int | None = Field(default=None, ge=1)
    """How many features `amplitude` reads; None means 2**(number of wires)."""
    padding: float = Field(default=0.0, allow_inf_nan=False)
    """What `amplitude` puts where features are missing, before normalisation."""

    @model_validator(mode="after")
    def _check(self) -> "Encode":
        belongs = {
            "angle": {"axis", "scale", "squash"},
            "amplitude": {"features", "padding"},
            "iqp": {"scale", "squash", "pattern"},
        }[self.encode] | {"encode", "wires", "first"}
        for key in sorted(self.model_fields_set - belongs):
            raise InputError(f"encode = {self.encode!r} has no key {key!r} (allowed: {', '.join(sorted(belongs))})")
        return self


class Rotate(OnWires):
    """Trainable rotations, one weight each: wire by wire, on each wire the axes in turn."""

    rotate: str = Field(pattern="^[XYZP]+$")
    """Axes in the order of time: "Y", or "ZYZ" for a general rotation; "P" is the phase of |1>."""


class Entangle(OnWires):
    """A two-qubit gate on pairs of neighbours in the list of wires; a rotation takes a weight for each pair, or an
    angle."""

    entangle: Pattern
    """`chain`: 0-1, 1-2, ...; `ring`: the chain closed; `all`: every pair."""
    gate: str = "cx"
    """Any two-qubit gate of the circuit language."""
    angle: Angle | None = None
    """Fixed angle of a rotation, in radians or as a multiple of pi; None: a weight for each pair."""
    range: int = Field(default=1, ge=1)
    """How far apart in the list of wires the partners of a ring are."""

    @field_validator("gate")
    @classmethod
    def _check_gate(cls, name: str) -> str:
        name = ALIASES.get(name.lower(), name.lower())
        allowed = [gate for gate in (*FIXED, *ROTATIONS) if n_wires(gate) == 2]
        if name not in allowed:
            raise InputError(f"unknown two-qubit gate {name!r}; {did_you_mean(name, [*allowed, *ALIASES])}")
        return name

    @model_validator(mode="after")
    def _check_range_and_angle(self) -> "Entangle":
        if self.range != 1 and self.entangle != "ring":
            raise InputError(f"range is only for entangle = 'ring', not {self.entangle!r}")
        if self.angle is not None and self.gate not in ROTATIONS:
            turning = ", ".join(gate for gate in ROTATIONS if n_wires(gate) == 2)
            raise InputError(f"gate {self.gate!r} takes no angle (allowed with an angle: {turning})")
        return self


class Apply(OnWires):
    """A gate without an angle on every qubit."""

    apply: str
    """Any such gate on one qubit, "h" for example."""

    @field_validator("apply")
    @classmethod
    def _check_gate(cls, name: str) -> str:
        allowed = [gate for gate in FIXED if n_wires(gate) == 1]
        if name.lower() not in allowed:
            raise InputError(f"unknown one-qubit gate {name!r}; {did_you_mean(name, allowed)}")
        return name.lower()


class Fourier(OnWires):
    """The quantum Fourier transform of the listed qubits, the first the most significant bit (see `fourier`)."""

    qft: Literal["forward", "inverse"]
    """The transform or its inverse."""
    swaps: bool = True
    """Bring its result into the order of the wires; without swaps it is in reverse order, as the inverse takes it."""


class Repeat(Block):
    """Blocks in turn, several times, with weights of their own each time and the same features."""

    repeat: int = Field(ge=1, le=1000)
    """How many times."""
    blocks: tuple["AnyBlock", ...] = Field(min_length=1)
    """What is repeated."""


_BLOCKS: dict[str, type[Block]] = {
    "encode": Encode,
    "rotate": Rotate,
    "entangle": Entangle,
    "apply": Apply,
    "qft": Fourier,
    "repeat": Repeat,
}


def _block(value: Any) -> Any:
    """Pick the model of a block by the key that names its kind."""
    if isinstance(value, Block):
        return value
    if not isinstance(value, dict):
        raise InputError(f"a block is a table such as {{ rotate = 'Y' }}, not {value!r}")
    kinds = [key for key in value if key in _BLOCKS]
    if len(kinds) != 1:
        near = did_you_mean(str(next(iter(value), "")), _BLOCKS)
        raise InputError(f"a block needs exactly one of the keys {', '.join(_BLOCKS)}; {near}")
    return catalog.parse(_BLOCKS[kinds[0]], value, f"{kinds[0]} block")


AnyBlock = Annotated[Encode | Rotate | Entangle | Apply | Fourier | Repeat, BeforeValidator(_block)]
Repeat.model_rebuild()


class CircuitSpec(BaseModel):
    """A circuit file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    """One line for people."""
    source: str = ""
    """Where it was published."""
    qubits: int = Field(ge=1, le=MAX_QUBITS, strict=True)
    """Number of qubits."""
    observables: tuple[str, ...] = Field(min_length=1)
    """Pauli words, such as "Z0" or "Z0 Z1"; one output of the layer each."""
    blocks: tuple[AnyBlock, ...] = Field(min_length=1)
    """The circuit in the order of time."""

    @model_validator(mode="after")
    def _check_wires(self) -> "CircuitSpec":
        for block in _flat(self.blocks):
            if isinstance(block, OnWires) and block.wires is not None:
                outside = [wire for wire in block.wires if wire >= self.qubits]
                if outside:
                    raise InputError(f"wire {outside[0]} is outside the circuit (0 to {self.qubits - 1})")
                if len(set(block.wires)) < len(block.wires):
                    raise InputError(f"wires {list(block.wires)} name a qubit twice")
        return self


def _flat(blocks: tuple[Any, ...]) -> list[Block]:
    """All blocks, those inside repeats too."""
    found: list[Block] = []
    for block in blocks:
        found += [block, *_flat(block.blocks)] if isinstance(block, Repeat) else [block]
    return found


def build(spec: CircuitSpec, name: str) -> Circuit:
    """Turn a validated description into a circuit.

    Raises:
        InputError: The blocks cannot follow each other as written (amplitude encoding after a gate, for example).
    """
    builder = CircuitBuilder(spec.qubits)
    for block in spec.blocks:
        _add(builder, block)
    observables = tuple(PauliWord.parse(text, spec.qubits) for text in spec.observables)
    return builder.circuit(name, observables, description=spec.description, source=spec.source)


def _add(builder: CircuitBuilder, block: Block) -> None:
    """Add one block's gates."""
    if isinstance(block, Repeat):
        for _ in range(block.repeat):
            for inner in block.blocks:
                _add(builder, inner)
        return
    wires = getattr(block, "wires", None) or tuple(range(builder.n_qubits))
    if isinstance(block, Encode) and block.encode == "amplitude":
        count = block.features or 2 ** len(wires)
        if count > 2 ** len(wires):
            raise InputError(f"{count} features do not fit in the 2^{len(wires)} amplitudes of {len(wires)} qubits")
        builder.prepare(AmplitudeEncoder(block.first, count, len(wires), block.padding), wires)
    elif isinstance(block, Encode) and block.encode == "iqp":
        pairs = _pairs(block.pattern, len(wires))
        rows = builder.encode(IQPEncoder(block.first, len(wires), pairs, block.scale, block.squash))
        for wire in wires:
            builder.fixed("h", (wire,))
        for wire, row in zip(wires, rows, strict=False):
            builder.rotation("rz", (wire,), encoding={row: 1.0})
        for (i, j), row in zip(pairs, rows[len(wires) :], strict=True):
            builder.rotation("rzz", (wires[i], wires[j]), encoding={row: 1.0})
    elif isinstance(block, Encode):
        rows = builder.encode(AngleEncoder(block.first, len(wires), block.scale, block.squash))
        for wire, row in zip(wires, rows, strict=True):
            builder.rotation(f"r{block.axis.lower()}", (wire,), encoding={row: 1.0})
    elif isinstance(block, Rotate):
        for wire in wires:
            for axis in block.rotate:
                name = "p" if axis == "P" else f"r{axis.lower()}"
                builder.rotation(name, (wire,), weights={builder.new_weight(): 1.0})
    elif isinstance(block, Entangle):
        for i, j in _pairs(block.entangle, len(wires), block.range):
            pair = (wires[i], wires[j])
            if block.angle is not None:
                builder.rotation(block.gate, pair, offset=block.angle)
            elif block.gate in ROTATIONS:
                builder.rotation(block.gate, pair, weights={builder.new_weight(): 1.0})
            else:
                builder.fixed(block.gate, pair)
    elif isinstance(block, Apply):
        for wire in wires:
            builder.fixed(block.apply, (wire,))
    elif isinstance(block, Fourier):
        add_fourier_transform(builder, wires, inverse=block.qft == "inverse", swaps=block.swaps)


def _pairs(pattern: Pattern, n: int, distance: int = 1) -> tuple[tuple[int, int], ...]:
    """Index pairs of a pattern on n wires (a ring of two is one pair, as in PennyLane)."""
    if n < 2:
        return ()
    if pattern == "all":
        return tuple((i, j) for i in range(n) for j in range(i + 1, n))
    if pattern == "chain" or (n == 2 and distance == 1):
        return tuple((i, i + 1) for i in range(n - 1))
    if distance % n == 0:
        raise InputError(f"a ring with range {distance} on {n} wires joins qubits to themselves")
    return tuple((i, (i + distance) % n) for i in range(n))


def load_circuit(source: str | Path | dict[str, Any] | Circuit) -> Circuit:
    """Load a circuit.

    Args:
        source: A catalog name (`"sda_qec"`), a path to a `.toml` or OpenQASM 3 `.qasm` file, the contents of such a
            TOML file as a dict, or a circuit, which is returned as it is.

    Returns:
        The circuit.

    Raises:
        InputError: There is no such circuit, or its description is wrong; says the file, the key and what is allowed.
    """
    if isinstance(source, Circuit):
        return source
    if isinstance(source, dict):
        return build(catalog.parse(CircuitSpec, source, "circuit"), "custom")
    path = catalog.find("circuits", str(source))
    if path.suffix == ".qasm":
        from qhybrid.circuits.qasm import read_qasm

        return read_qasm(path)
    spec = catalog.parse(CircuitSpec, catalog.load_toml(path), str(path))
    try:
        return build(spec, path.stem)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
