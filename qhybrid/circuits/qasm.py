"""OpenQASM 3 files as circuits: inputs `x[i]` or `x0` are features, `theta[i]` or `theta0` are weights.

Inputs are `float[64]`, `angle`, or arrays of them. A line `// observables: Z0, Z0 Z1` names the observables (Z on every
qubit otherwise); a first comment line is the description. Any gate that Qiskit can write in the gates of the circuit
language will do; final measurements are ignored.
"""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from openqasm3 import ast
from openqasm3.parser import QASM3ParsingError, parse
from openqasm3.visitor import QASMTransformer
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterExpression
from qiskit_qasm3_import import convert

from qhybrid.circuits.builder import CircuitBuilder
from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.encoders import AngleEncoder
from qhybrid.circuits.gates import FIXED, ROTATIONS
from qhybrid.circuits.observables import PauliWord
from qhybrid.circuits.spec import MAX_QUBITS
from qhybrid.errors import InputError

_INPUT = re.compile(r"_?(?P<kind>x|theta)_?(?P<index>\d*)_?")
_OBSERVABLES = re.compile(r"^\s*//\s*observables\s*:\s*(.+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*//\s*(?!observables)(.+)$", re.MULTILINE)
_PLACE = re.compile(r"^(?:line |L)?(\d+)[,:]C?(\d+):? ")
_MAX_INPUTS = 4096
_LOOPS = (ast.ForInLoop, ast.WhileLoop)
_IGNORED = ("barrier", "measure", "id")


def read_qasm(path: Path) -> Circuit:
    """Read an OpenQASM 3 file.

    Args:
        path: The file.

    Returns:
        A circuit whose features are angles in radians, without scaling or squashing.

    Raises:
        InputError: The file is not OpenQASM 3, an angle is not an affine function of the inputs, or a statement has no
            place in such a circuit (reset, control flow, measurement in the middle).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None
    if not text.strip():
        raise InputError(f"{path}: is empty")
    imported = _import(path, text)
    try:
        return _build(imported, path.stem, text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _import(path: Path, text: str) -> QuantumCircuit:
    """Let Qiskit read a file, quietly: the grammar's complaints go to stderr, and into the error here."""
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            return convert(_ScalarInputs().visit(parse(text)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except QASM3ParsingError as error:
        guess = "syntax error (a bracket, semicolon or quotation mark missing?)"
        said = complaints.getvalue().strip() or str(error).strip() or guess
        raise InputError(f"{path}: not valid OpenQASM 3: {_place(said.splitlines()[0])}") from None
    except Exception as error:  # Qiskit's importer has no one class for what it cannot read
        said = getattr(error, "message", None) or str(error).strip() or type(error).__name__
        raise InputError(f"{path}: cannot be read as a circuit: {_place(said.splitlines()[0])}") from None


def _place(message: str) -> str:
    """Write the place that a message starts with, such as "3,32:" or "L3:C32:", in words."""
    message = "".join(letter if letter.isprintable() else "?" for letter in message)
    return _PLACE.sub(r"line \1, column \2: ", message, count=1)


class _ScalarInputs(QASMTransformer):  # type: ignore[misc]
    """Rewrites `input array[float[64], 2] x` into inputs x0, x1 and `x[1]` into x1, which the importer can read."""

    def __init__(self) -> None:
        self._arrays: dict[str, int] = {}
        self._n_qubits = 0

    def visit_Program(self, node: ast.Program) -> ast.Program:
        statements: list[Any] = []
        for statement in node.statements:
            if isinstance(statement, ast.IODeclaration) and isinstance(statement.type, ast.ArrayType):
                name = statement.identifier.name
                dimensions = statement.type.dimensions
                if len(dimensions) != 1 or not isinstance(dimensions[0], ast.IntegerLiteral):
                    raise InputError(f"input array {name!r} must have one dimension of constant size")
                if dimensions[0].value > _MAX_INPUTS:
                    raise InputError(f"input array {name!r} has {dimensions[0].value} elements (at most {_MAX_INPUTS})")
                self._arrays[name] = dimensions[0].value
                for index in range(dimensions[0].value):
                    identifier = ast.Identifier(f"{name}{index}")
                    statements.append(ast.IODeclaration(statement.io_identifier, statement.type.base_type, identifier))
            elif isinstance(statement, _LOOPS):
                raise InputError(
                    "a loop has no place in a circuit of gates and final measurements; write the gates out"
                )
            else:
                if isinstance(statement, ast.QubitDeclaration):
                    self._n_qubits += getattr(statement.size, "value", 1)
                statements.append(self.visit(statement))
        if self._n_qubits > MAX_QUBITS:
            raise InputError(f"{self._n_qubits} qubits are declared (at most {MAX_QUBITS})")
        node.statements = statements
        return node

    def visit_IndexExpression(self, node: ast.IndexExpression) -> Any:
        name = getattr(node.collection, "name", None)
        if name not in self._arrays:
            return self.generic_visit(node)
        index = node.index[0] if isinstance(node.index, list) and len(node.index) == 1 else None
        if not isinstance(index, ast.IntegerLiteral) or index.value >= self._arrays[name]:
            raise InputError(f"index of input {name!r} must be a whole number from 0 to {self._arrays[name] - 1}")
        return ast.Identifier(f"{name}{index.value}")


def _build(imported: QuantumCircuit, name: str, text: str) -> Circuit:
    """Turn Qiskit's circuit into ours."""
    if not imported.num_qubits:
        raise InputError("no qubit is declared")
    ended: set[int] = set()
    for instruction in imported.data:
        touched = {imported.find_bit(qubit).index for qubit in instruction.qubits}
        kind = instruction.operation.name
        if kind not in _IGNORED and ended & touched:
            raise InputError(f"gate {kind!r} follows the measurement of a qubit; only final measurements are ignored")
        if kind == "measure":
            ended |= touched
        if kind in ("reset", "if_else", "while_loop", "for_loop", "switch_case", "delay"):
            raise InputError(f"{kind!r} has no place in a circuit of gates and final measurements")
    gates = transpile(
        imported.remove_final_measurements(inplace=False), basis_gates=[*FIXED, *ROTATIONS], optimization_level=0
    )
    inputs = _inputs(gates)
    n_features = 1 + max((index for kind, index in inputs.values() if kind == "x"), default=-1)
    n_weights = 1 + max((index for kind, index in inputs.values() if kind == "theta"), default=-1)
    for kind, count in (("x", n_features), ("theta", n_weights)):
        missing = set(range(count)) - {index for each, index in inputs.values() if each == kind}
        if missing:
            raise InputError(f"input {kind}{min(missing)} is missing or unused: number {kind}0 to {kind}{count - 1}")
    builder = CircuitBuilder(gates.num_qubits)
    if n_features:
        builder.encode(AngleEncoder(0, n_features))
    for _ in range(n_weights):
        builder.new_weight()
    for instruction in gates.data:
        operation = instruction.operation
        wires = tuple(gates.find_bit(qubit).index for qubit in instruction.qubits)
        if operation.name in ROTATIONS:
            builder.rotation(operation.name, wires, **_affine(operation.params[0], inputs))
        elif operation.name in FIXED:
            builder.fixed(operation.name, wires)
        elif operation.name not in _IGNORED:
            raise InputError(f"{operation.name!r} has no place in a circuit of gates and final measurements")
    words = _OBSERVABLES.search(text)
    named = [word.strip() for word in words[1].split(",")] if words else [f"Z{i}" for i in range(gates.num_qubits)]
    observables = tuple(PauliWord.parse(word, gates.num_qubits) for word in named)
    comment = _COMMENT.search(text)
    return builder.circuit(name, observables, description=comment[1].strip() if comment else "", source="OpenQASM 3")


def _inputs(gates: QuantumCircuit) -> dict[str, tuple[str, int]]:
    """Qiskit parameter's name -> ("x" or "theta", index)."""
    found: dict[str, tuple[str, int]] = {}
    for parameter in gates.parameters:
        match = _INPUT.fullmatch(parameter.name)
        if not match:
            raise InputError(
                f"input {parameter.name!r} is neither a feature (x0, x[0]) nor a weight (theta0, theta[0])"
            )
        key = (match["kind"], int(match["index"] or 0))
        if key[1] >= _MAX_INPUTS:
            raise InputError(f"input {parameter.name!r}: its number must be below {_MAX_INPUTS}")
        if key in found.values():
            raise InputError(f"input {parameter.name!r} and another one are both {key[0]}{key[1]}")
        found[parameter.name] = key
    return found


def _affine(angle: Any, inputs: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """An angle as factors of features and weights and an offset."""
    if not isinstance(angle, ParameterExpression):
        return {"offset": float(angle)}
    maps: dict[str, dict[int, float]] = {"x": {}, "theta": {}}
    for parameter in angle.parameters:
        slope = angle.gradient(parameter)
        if isinstance(slope, ParameterExpression) and slope.parameters:
            raise InputError(f"angle {angle} is not an affine function of the inputs")
        kind, index = inputs[parameter.name]
        maps[kind][index] = float(slope.numeric() if isinstance(slope, ParameterExpression) else slope)
    offset = angle.bind(dict.fromkeys(angle.parameters, 0.0))
    return {"encoding": maps["x"], "weights": maps["theta"], "offset": float(offset.numeric())}
