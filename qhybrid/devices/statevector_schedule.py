"""Which steps a circuit becomes: its gates collected into as few tensor operations as possible."""

import numpy as np

from qhybrid.circuits.circuit import Circuit, Gate
from qhybrid.circuits.gates import FIXED, ComplexMatrix, rotation_matrix
from qhybrid.devices.statevector_steps import WALL_WIRES, Diagonal, FixedWall, Monomial, RyWall, Step

DIAGONAL_WIRES = 8
"""Most wires that the rotations of one diagonal step act on."""
Placed = tuple[Step, set[int]]
"""A step and the wires that it touches."""


def schedule(circuit: Circuit) -> list[Step]:
    """Collect a circuit's gates into steps; a gate moves to the earliest step of its kind that it commutes back to.

    Rotations by constant angles (`Circuit.constants`) are fixed gates: a Fourier transform of four qubits becomes
    one matrix.
    """
    placed: list[Placed] = []
    for whole in circuit.gates:
        for gate in _elementary(whole):
            matrix = FIXED[gate.name] if gate.slot is None else None
            if gate.slot in circuit.constants:
                matrix = rotation_matrix(gate.name, circuit.constants[gate.slot])
            step = _home(placed, gate, matrix, circuit.n_qubits)
            wires = next(wires for other, wires in placed if other is step)
            _add(step, gate, matrix)
            wires.update(gate.wires)
    steps = _joined(placed, circuit.n_qubits)
    for step in steps:
        step.close()
    return steps


def _elementary(gate: Gate) -> list[Gate]:
    """Write a gate in RY, diagonal rotations and fixed gates."""
    into: tuple[str, ...]
    out: tuple[str, ...]
    if gate.name == "rx":
        targets, into, out, core = gate.wires, ("s",), ("sdg",), "ry"
    elif gate.name in ("rxx", "crx"):
        into, out = ("h",), ("h",)
        targets, core = (gate.wires, "rzz") if gate.name == "rxx" else (gate.wires[1:], "crz")
    elif gate.name in ("ryy", "cry"):
        into, out = ("sdg", "h"), ("h", "s")
        targets, core = (gate.wires, "rzz") if gate.name == "ryy" else (gate.wires[1:], "crz")
    else:
        return [gate]
    before = [Gate(name, (wire,)) for wire in targets for name in into]
    after = [Gate(name, (wire,)) for wire in targets for name in out]
    return [*before, Gate(core, gate.wires, gate.slot), *after]


def _home(placed: list[Placed], gate: Gate, matrix: ComplexMatrix | None, n: int) -> Step:
    """The earliest step that a gate can join, or a new one at the end; `matrix` is that of a fixed gate."""
    kind: type[RyWall] | type[Diagonal] | type[Monomial] | type[FixedWall]
    if matrix is None:
        kind = RyWall if gate.name == "ry" else Diagonal
    else:
        kind = Monomial if np.count_nonzero(matrix) == len(matrix) else FixedWall
    found: Step | None = None
    for step, wires in reversed(placed):
        touched = not wires.isdisjoint(gate.wires)
        if isinstance(step, kind) and not (isinstance(step, RyWall) and touched):
            fits = not isinstance(step, Diagonal) or len(wires | set(gate.wires)) <= DIAGONAL_WIRES
            found = step if fits else found
        if touched:
            break
    if found is None:
        found = kind(n)
        placed.append((found, set()))
    return found


def _add(step: Step, gate: Gate, matrix: ComplexMatrix | None) -> None:
    """Put a gate behind those that a step already has."""
    if isinstance(step, RyWall):
        assert gate.slot is not None
        step.slots[gate.wires[0]] = gate.slot
    elif isinstance(step, Diagonal):
        step.wires = tuple(sorted({*step.wires, *gate.wires}))
        step.gates.append(gate)
    else:
        assert matrix is not None
        step.gates.append((matrix, gate.wires))


def _joined(placed: list[Placed], n: int) -> list[Step]:
    """The steps, stretches of fixed ones on few neighbouring wires as one matrix where that is less work."""
    steps: list[Step] = []
    stretch: list[FixedWall | Monomial] = []
    touched: set[int] = set()

    def close() -> None:
        if len(stretch) > 2 or (len(stretch) == 2 and n <= WALL_WIRES):
            steps.append(FixedWall(n, [gate for step in stretch for gate in step.gates]))
        else:
            steps.extend(stretch)
        stretch.clear()
        touched.clear()

    for step, wires in placed:
        together = touched | wires
        if not isinstance(step, FixedWall | Monomial) or max(together) - min(together) >= WALL_WIRES:
            close()
        if not isinstance(step, FixedWall | Monomial):
            steps.append(step)
            continue
        stretch.append(step)
        touched |= wires
    close()
    return steps
