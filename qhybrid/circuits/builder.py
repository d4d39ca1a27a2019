"""Put a circuit together gate by gate: slots, encoding angles and weights are numbered on the way."""

from collections.abc import Mapping

import numpy as np

from qhybrid.circuits.circuit import Circuit, Gate
from qhybrid.circuits.encoders import AmplitudeEncoder, AngleEncoder, IQPEncoder
from qhybrid.circuits.gates import n_wires
from qhybrid.circuits.observables import PauliWord
from qhybrid.errors import InputError

MAX_GATES = 10**5
"""Most gates, and most weights: repeats inside repeats grow beyond any memory before anybody notices."""


class CircuitBuilder:
    """Collects gates in the order of time.

    A rotation about the same axis on the same wires as the gate just before it adds to that gate's angle instead of
    becoming a gate of its own: `RY(x) RY(w)` is one rotation by x + w, exact and cheaper on hardware.

    Args:
        n_qubits: Number of qubits.
    """

    def __init__(self, n_qubits: int) -> None:
        self.n_qubits = n_qubits
        self._gates: list[Gate] = []
        self._last: dict[int, int] = {}  # wire -> index of the last gate on it
        self._encoders: list[AngleEncoder | IQPEncoder] = []
        self._amplitudes: AmplitudeEncoder | None = None
        self._amplitude_wires: tuple[int, ...] = ()
        self._n_weights = 0
        self._slots: list[tuple[dict[int, float], dict[int, float], float]] = []

    def new_weight(self) -> int:
        """Number of the next trainable weight."""
        self._n_weights += 1
        _check_count(self._n_weights, "weights")
        return self._n_weights - 1

    def encode(self, encoder: AngleEncoder | IQPEncoder) -> range:
        """Register an encoder (once, however often it is used).

        Returns:
            Indices of its encoding angles.
        """
        if encoder not in self._encoders:
            self._encoders.append(encoder)
        before = self._encoders[: self._encoders.index(encoder)]
        start = sum(other.n_angles for other in before)
        return range(start, start + encoder.n_angles)

    def prepare(self, encoder: AmplitudeEncoder, wires: tuple[int, ...]) -> None:
        """Start from encoded amplitudes instead of |0...0>.

        Raises:
            InputError: Something stands before it in the circuit.
        """
        if self._gates or self._amplitudes:
            raise InputError("amplitude encoding prepares the initial state: it must be the first block, and only once")
        self._amplitudes, self._amplitude_wires = encoder, wires

    def fixed(self, name: str, wires: tuple[int, ...]) -> None:
        """Add a gate without an angle."""
        self._add(Gate(name, wires))

    def rotation(
        self,
        name: str,
        wires: tuple[int, ...],
        *,
        encoding: Mapping[int, float] | None = None,
        weights: Mapping[int, float] | None = None,
        offset: float = 0.0,
    ) -> None:
        """Add a rotation by offset + sum of factor * encoding angle + sum of factor * weight.

        Args:
            name: A key of `gates.ROTATIONS`.
            wires: Qubits it acts on.
            encoding: Encoding angle's index -> factor.
            weights: Weight's index -> factor.
            offset: Constant angle in radians.
        """
        before = {self._last.get(wire) for wire in wires}
        index = before.pop() if len(before) == 1 else None
        previous = self._gates[index] if index is not None else None
        if previous is None or (previous.name, previous.wires) != (name, wires) or previous.slot is None:
            previous = Gate(name, wires, slot=len(self._slots))
            self._slots.append(({}, {}, 0.0))
            self._add(previous)
        assert previous.slot is not None
        old_encoding, old_weights, old_offset = self._slots[previous.slot]
        for total, new in ((old_encoding, encoding or {}), (old_weights, weights or {})):
            for key, factor in new.items():
                total[key] = total.get(key, 0.0) + factor
        self._slots[previous.slot] = (old_encoding, old_weights, old_offset + offset)

    def circuit(
        self, name: str, observables: tuple[PauliWord, ...], *, description: str = "", source: str = ""
    ) -> Circuit:
        """The finished circuit.

        Raises:
            InputError: It reads no feature.
        """
        readers: list[AngleEncoder | IQPEncoder | AmplitudeEncoder] = [*self._encoders]
        if self._amplitudes:
            readers.append(self._amplitudes)
        if not readers:
            raise InputError("the circuit encodes no feature; add an encode block")
        n_angles, n_encoding = len(self._slots), sum(encoder.n_angles for encoder in self._encoders)
        encoding_map, weight_map = np.zeros((n_encoding, n_angles)), np.zeros((self._n_weights, n_angles))
        for slot, (encoding, weights, _) in enumerate(self._slots):
            for row, factor in encoding.items():
                encoding_map[row, slot] = factor
            for row, factor in weights.items():
                weight_map[row, slot] = factor
        return Circuit(
            name=name,
            n_qubits=self.n_qubits,
            n_features=max(reader.first + reader.n_features for reader in readers),
            gates=tuple(self._gates),
            observables=observables,
            encoders=tuple(self._encoders),
            encoding_map=encoding_map,
            weight_map=weight_map,
            offset=np.array([offset for _, _, offset in self._slots], dtype=float),
            amplitudes=self._amplitudes,
            amplitude_wires=self._amplitude_wires,
            description=description,
            source=source,
        )

    def _add(self, gate: Gate) -> None:
        assert len(gate.wires) == n_wires(gate.name)
        self._gates.append(gate)
        _check_count(len(self._gates), "gates")
        for wire in gate.wires:
            self._last[wire] = len(self._gates) - 1


def _check_count(count: int, what: str) -> None:
    if count > MAX_GATES:
        raise InputError(f"the circuit has more than {MAX_GATES} {what}")
