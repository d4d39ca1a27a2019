"""A circuit: gates with angle slots, observables, and the affine map from features and weights to the angles."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.encoders import (
    AmplitudeEncoder,
    AngleEncoder,
    IQPEncoder,
    gray_code_control,
    multiplexer_angles,
    multiplexer_map,
)
from qhybrid.circuits.gates import n_wires
from qhybrid.circuits.observables import MeasurementBasis, PauliWord, measurement_bases


@dataclass(frozen=True)
class Gate:
    """A gate on wires; a rotation carries in addition the index of its own angle slot.

    Args:
        name: OpenQASM 3 name, a key of `gates.FIXED` or `gates.ROTATIONS`.
        wires: Qubits it acts on, controls first.
        slot: Index of its angle among the circuit's angles, None for a fixed gate.
    """

    name: str
    wires: tuple[int, ...]
    slot: int | None = None


@dataclass(frozen=True, eq=False)
class Circuit:
    """Batch of angles in, batch of expectation values out.

    The angles are `encoding @ encoding_map + weights @ weight_map + offset`, with the encoding angles computed from
    the features by the encoders. A circuit with `amplitudes` starts from that state instead of |0...0>; `expanded()`
    turns the preparation into gates with angles, which every device can run.

    Args:
        name: What tables and files call it.
        n_qubits: Number of qubits; qubit 0 is the most significant bit of a basis state's index.
        n_features: Number of features, F.
        gates: In the order of time.
        observables: Pauli words, M of them.
        encoders: Features -> encoding angles, their outputs side by side (E in all).
        encoding_map: Shape (E, P).
        weight_map: Shape (W, P); weights are numbered in the order of the gates.
        offset: Constant angles in radians, shape (P,).
        amplitudes: Encoder of the initial state, None for |0...0>.
        amplitude_wires: Wires of that state, the most significant first.
        prepares_by_gates: The initial state is prepared by the first gates, the angles of whose multiplexers
            are the first rows of `encoding_map`.
        grouping: Which observables are measured together; empty: as `measurement_bases` groups them.
        description: One line for people.
        source: Where it was published.
    """

    name: str
    n_qubits: int
    n_features: int
    gates: tuple[Gate, ...]
    observables: tuple[PauliWord, ...]
    encoders: tuple[AngleEncoder | IQPEncoder, ...]
    encoding_map: NDArray[np.float64]
    weight_map: NDArray[np.float64]
    offset: NDArray[np.float64]
    amplitudes: AmplitudeEncoder | None = None
    amplitude_wires: tuple[int, ...] = ()
    prepares_by_gates: bool = False
    grouping: tuple[MeasurementBasis, ...] = ()
    description: str = ""
    source: str = ""
    _tensors: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=dict, repr=False
    )

    @property
    def n_angles(self) -> int:
        """Number of angle slots, P."""
        return len(self.offset)

    @property
    def n_weights(self) -> int:
        """Number of trainable weights, W."""
        return len(self.weight_map)

    @property
    def n_observables(self) -> int:
        """Number of expectation values, M."""
        return len(self.observables)

    @cached_property
    def bases(self) -> tuple[MeasurementBasis, ...]:
        """The measurement bases, each measured with its own shots."""
        return self.grouping or measurement_bases(self.observables)

    @property
    def n_amplitudes(self) -> int:
        """Number of leading columns that hold an initial state instead of angles, S (0 for most circuits)."""
        return 2 ** len(self.amplitude_wires) if self.amplitudes and not self.prepares_by_gates else 0

    @property
    def n_columns(self) -> int:
        """S + P, the columns of what a device is given."""
        return self.n_amplitudes + self.n_angles

    @property
    def depth(self) -> int:
        """Length of the longest path through the gates (state preparation not counted unless expanded)."""
        at = [0] * self.n_qubits
        for gate in self.gates:
            layer = 1 + max(at[wire] for wire in gate.wires)
            for wire in gate.wires:
                at[wire] = layer
        return max(at, default=0)

    @property
    def n_two_qubit_gates(self) -> int:
        """Number of gates on two wires."""
        return sum(n_wires(gate.name) == 2 for gate in self.gates)

    @cached_property
    def constants(self) -> dict[int, float]:
        """Angle slot -> radians, of the angles that depend on neither features nor weights.

        A machine's circuit is laid out with these filled in, which leaves its compiler more to simplify, and
        `qhybrid.statevector` joins them with fixed gates; rows of angles hold the same. A circuit that reads no feature
        has none: all of its angles come with the rows.
        """
        if not self.n_features:
            return {}
        moving = self.columns_that_depend_on(features=True, weights=True)[self.n_amplitudes :]
        return {int(slot): float(self.offset[slot]) for slot in np.flatnonzero(~moving)}

    @cached_property
    def slot_gates(self) -> tuple[Gate, ...]:
        """The rotation of each angle slot."""
        gates = sorted((gate for gate in self.gates if gate.slot is not None), key=lambda gate: gate.slot or 0)
        return tuple(gates)

    def parameters(self, features: Tensor, weights: Tensor) -> Tensor:
        """What a device is given for a batch.

        Args:
            features: Shape (B, F).
            weights: Shape (W,), the dtype and device of the features.

        Returns:
            Shape (B, S + P): S amplitudes of the initial state, then P angles in radians. Differentiable.
        """
        encoding_map, weight_map, offset = self._maps(features)
        parts = [encoder(features) for encoder in self.encoders]
        state = self.amplitudes(features) if self.amplitudes else None
        if state is not None and self.prepares_by_gates:
            parts.insert(0, multiplexer_angles(state))
        constant = torch.addmv(offset, weight_map.T, weights) if self.n_weights else offset
        if parts:
            encoding = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            angles = torch.addmm(constant, encoding, encoding_map)
        else:
            angles = constant.expand(features.shape[0], -1)
        return angles if state is None or self.prepares_by_gates else torch.cat([state, angles], dim=1)

    def columns_that_depend_on(self, *, features: bool, weights: bool) -> NDArray[np.bool_]:
        """Which of the S + P columns can pass a gradient to the features, the weights or both.

        Returns:
            Shape (S + P,).
        """
        return self._dependence[features, weights]

    @cached_property
    def _dependence(self) -> dict[tuple[bool, bool], NDArray[np.bool_]]:
        """Which columns depend on the features, the weights, both or neither, by (features, weights)."""
        state = np.ones(self.n_amplitudes, dtype=bool)
        of_features = np.concatenate([state, np.any(self.encoding_map != 0, axis=0)])
        of_weights = np.concatenate([~state, np.any(self.weight_map != 0, axis=0)])
        return {(f, w): (of_features & f) | (of_weights & w) for f in (False, True) for w in (False, True)}

    def amplitude_index(self) -> NDArray[np.int64]:
        """Index in the whole state (2**n_qubits) of each amplitude of the initial state; [0] where it is |0...0>."""
        wires, n = self.amplitude_wires, self.n_qubits
        local = np.arange(2 ** len(wires))
        index = np.zeros_like(local)
        for position, wire in enumerate(wires):
            index |= ((local >> (len(wires) - 1 - position)) & 1) << (n - 1 - wire)
        return index

    def expanded(self) -> "Circuit":
        """The same circuit with its initial state prepared by RY and CX gates (itself if there is none to prepare)."""
        if self.n_amplitudes == 0:
            return self
        gates: list[Gate] = []
        blocks: list[NDArray[np.float64]] = []
        for level, target in enumerate(self.amplitude_wires):
            blocks.append(multiplexer_map(level))
            for step in range(2**level):
                gates.append(Gate("ry", (target,), slot=2**level - 1 + step))
                if level:
                    gates.append(Gate("cx", (self.amplitude_wires[gray_code_control(step, level)], target)))
        n_new = self.n_amplitudes - 1
        n_encoding = self.encoding_map.shape[0]
        encoding_map = np.zeros((n_new + n_encoding, n_new + self.n_angles))
        row = 0
        for block in blocks:
            encoding_map[row : row + len(block), row : row + len(block)] = block
            row += len(block)
        encoding_map[n_new:, n_new:] = self.encoding_map
        later = [gate if gate.slot is None else replace(gate, slot=gate.slot + n_new) for gate in self.gates]
        return replace(
            self,
            gates=(*gates, *later),
            encoding_map=encoding_map,
            weight_map=np.hstack([np.zeros((self.n_weights, n_new)), self.weight_map]),
            offset=np.concatenate([np.zeros(n_new), self.offset]),
            prepares_by_gates=True,
            _tensors={},
        )

    def _maps(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three constant matrices as tensors beside `like`, made once for each device and dtype."""
        key = (like.device, like.dtype)
        if key not in self._tensors:
            encoding_map, weight_map, offset = (
                torch.as_tensor(matrix, device=like.device, dtype=like.dtype)
                for matrix in (self.encoding_map, self.weight_map, self.offset)
            )
            self._tensors[key] = (encoding_map, weight_map, offset)
        return self._tensors[key]

    def __deepcopy__(self, memo: dict[int, object]) -> "Circuit":
        return self  # nothing in it changes

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_tensors": {}}
