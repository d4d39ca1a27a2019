"""QuantumLayer: a circuit with weights on a device, as a torch module."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.base import Device, Estimates, MachineDevice, NoisyDevice, Program, check_shots
from qhybrid.devices.spec import device_spec, load_device
from qhybrid.errors import InputError, QHybridError
from qhybrid.gradients import SAMPLED_METHODS, choose_diff_method, expectation_values
from qhybrid.noise_models.model import NoiseModel
from qhybrid.noise_models.spec import load_noise_model

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

Noise = str | dict[str, Any] | NoiseModel
"""A noise model: catalog name, `fake:FakeName`, path, dict of a file's keys, or an open one."""


class QuantumLayer(nn.Module):
    """A parametrised circuit as a layer: (..., F) features in, (..., M) expectation values out.

    A drop-in for `qml.qnn.TorchLayer` on any device. A whole batch is one call of the device. The circuit is computed
    in double precision whatever the dtype of the features; the result has the dtype that features and weights promote
    to.

    Args:
        circuit: Catalog name, path to a `.toml` or `.qasm` file, dict, or `Circuit`.
        device: Name of a device, or an open `Device`, which is then shared.
        diff_method: "backprop", "adjoint", "parameter-shift", "spsa", or "best" for what the device is best at.
        shots: Shots for every circuit; None means exact (or the default in the device's file).
        noise: Noise model that the device simulates: catalog name such as "ibm_brisbane", path, dict, or `NoiseModel`;
            None means none.
        noise_scale: Factor on all of its rates.
        noise_parts: Which parts of it are on, of gates1q, gates2q, thermal, readout, idle; None means all.
        layout_seeds: Transpiler seeds tried for the layout on the noise model's machine; None: the device's default.
        backend: Machine of a device that has several, such as "ibm_fez" of `qiskit.remote`; None: that in its file.
        mitigation: How errors are mitigated, such as "readout,zne" (see devices/README.md), or a dict of the keys of
            `Mitigation`; "none": not at all; None: as the device's file says.
        seed: Of the initial weights (uniform in [0, 2 pi)) and of the shots: the n-th call of two layers of one seed
            draws the same shots.

    Raises:
        InputError: Circuit, device, method, shots or noise are wrong or do not fit together.
    """

    _device: Device | None
    _program: Program | None
    _given: Device | None

    def __init__(
        self,
        circuit: str | dict[str, Any] | Circuit = "angle_4q",
        device: str | Device = "lightning.qubit",
        *,
        diff_method: str = "best",
        shots: int | None = None,
        noise: Noise | None = None,
        noise_scale: float = 1.0,
        noise_parts: Iterable[str] | None = None,
        layout_seeds: int | None = None,
        backend: str | None = None,
        mitigation: str | dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.circuit = load_circuit(circuit)
        generator = torch.Generator().manual_seed(seed)
        weights = 2 * np.pi * torch.rand(self.circuit.n_weights, generator=generator, dtype=torch.float64)
        self.weights = nn.Parameter(weights.to(torch.get_default_dtype()))
        """The trainable angles in radians, shape (W,), in the order of the gates."""
        self.seed = seed
        self.calls = 0
        """Number of calls so far, which seeds the next one's shots."""
        self._set_noise(noise, noise_scale, noise_parts, layout_seeds)
        self._backend, self._mitigation = backend, mitigation
        self._set_device(device, diff_method, shots)

    @property
    def n_features(self) -> int:
        """Number of features, F."""
        return self.circuit.n_features

    @property
    def n_observables(self) -> int:
        """Number of expectation values, M."""
        return self.circuit.n_observables

    @property
    def device(self) -> Device:
        """The device, with its `tracker` of what was spent."""
        if self._device is None:  # after a copy or a load: devices hold handles that cannot be copied
            self._device = self._opened(self._device_name)
        return self._device

    @property
    def program(self) -> Program:
        """The circuit prepared for the device, once; its noise rescaled by `noise_factor`."""
        device = self.device
        if self._program is None:
            circuit = self.circuit if device.capabilities.state_preparation else self.circuit.expanded()
            self._program = device.prepare(circuit)
        if self.noise_factor == 1:
            return self._program
        if not isinstance(device, NoisyDevice) or device.noise is None:
            raise InputError(f"{device.name} simulates no noise that could be scaled by {self.noise_factor:g}")
        return device.rescaled(self._program, self.noise_factor)

    def with_device(
        self,
        device: str | Device,
        *,
        diff_method: str = "best",
        shots: int | None = None,
        noise: Noise | None = None,
        noise_scale: float = 1.0,
        noise_parts: Iterable[str] | None = None,
        layout_seeds: int | None = None,
        backend: str | None = None,
        mitigation: str | dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> "QuantumLayer":
        """The same circuit and the same weights (shared, not copied) on another device.

        Args:
            device: As in the constructor.
            diff_method: As in the constructor.
            shots: As in the constructor.
            noise: As in the constructor.
            noise_scale: As in the constructor.
            noise_parts: As in the constructor.
            layout_seeds: As in the constructor.
            backend: As in the constructor.
            mitigation: As in the constructor.
            seed: Of the shots; None keeps this layer's.
        """
        other = QuantumLayer.__new__(QuantumLayer)
        nn.Module.__init__(other)
        other.circuit, other.weights = self.circuit, self.weights
        other.seed, other.calls = self.seed if seed is None else seed, 0
        other._set_noise(noise, noise_scale, noise_parts, layout_seeds)
        other._backend, other._mitigation = backend, mitigation
        other._set_device(device, diff_method, shots)
        return other.train(self.training)

    def forward(self, features: Tensor) -> Tensor:
        """Expectation values, differentiable in the features and in the weights.

        Args:
            features: Shape (..., F), any real dtype.

        Returns:
            Shape (..., M).

        Raises:
            InputError: The width is wrong, or a feature is NaN or infinite.
        """
        rows, weights, dtype = self._inputs(features)
        angles = self._angles(rows, weights)
        columns = self.program.circuit.columns_that_depend_on(
            features=features.requires_grad, weights=self.weights.requires_grad
        )
        values = expectation_values(
            self.device,
            self.program,
            angles,
            diff_method=self.diff_method,
            columns=columns,
            shots=self.shots,
            seed=self._next_seed(),
        )
        return values.to(dtype).reshape(*features.shape[:-1], self.n_observables)

    @torch.no_grad()
    def estimate(self, features: Tensor) -> Estimates:
        """Expectation values with their standard errors, without gradients.

        Args:
            features: Shape (..., F).

        Returns:
            Values and standard errors, shape (..., M); the errors are zero where the device is exact.
        """
        rows, weights, dtype = self._inputs(features)
        angles = self._angles(rows, weights)
        if len(angles):
            estimates = self.device.run(self.program, angles, shots=self.shots, seed=self._next_seed())
        else:
            estimates = Estimates.exact(angles.new_zeros(0, self.n_observables))
        shape = (*features.shape[:-1], self.n_observables)
        return Estimates(estimates.values.to(dtype).reshape(shape), estimates.stderr.to(dtype).reshape(shape))

    @torch.no_grad()
    def angles(self, features: Tensor) -> Tensor:
        """What the device is given for a batch of features.

        Args:
            features: Shape (B, F).

        Returns:
            Shape (B, S + P), float64: the amplitudes of the initial state where the device prepares it, and the angles
            in radians.
        """
        rows, weights, _ = self._inputs(features)
        return self._angles(rows, weights)

    def isa_circuits(self, features: Tensor) -> "list[QuantumCircuit]":
        """The Qiskit circuits of a batch, angles filled in, exactly as they are simulated or submitted.

        Args:
            features: Shape (..., F).

        Returns:
            One circuit for each row and measurement basis, the bases of a row side by side.

        Raises:
            InputError: The device runs no circuits of a machine: it has no noise model, for example.
        """
        device = self.device
        found = device.isa_circuits(self.program) if isinstance(device, MachineDevice) else ()
        if not found:
            raise InputError(f"{device.name} lays out no circuit on a machine: give a noise model")
        angles = self.angles(features).numpy(force=True)
        bound = [isa.bound(angles) for isa in found]
        return [circuit for row in zip(*bound, strict=True) for circuit in row]

    def extra_repr(self) -> str:
        """What `print(layer)` shows."""
        shots = "exact" if self.shots is None else f"{self.shots} shots"
        return (
            f"{self.circuit.name}, {self._device_name}, {self.diff_method}, {shots}, {self.circuit.n_weights} weights"
        )

    def _set_noise(
        self, noise: Noise | None, scale: float, parts: Iterable[str] | None, layout_seeds: int | None
    ) -> None:
        if noise is None and (scale != 1 or parts is not None):
            raise InputError("a noise scale or noise parts are given without a noise model")
        model = None if noise is None else load_noise_model(noise).scaled(scale)
        if model is not None and parts is not None:
            model = model.with_parts(parts)
        self.noise = model
        """The noise model in use, scaled, of the parts that are on."""
        self.noise_factor = 1.0
        """Further factor on the rates of the noise, which may change from call to call."""
        self._layout_seeds = layout_seeds

    def _opened(self, name: str) -> Device:
        return load_device(
            name,
            noise=self.noise,
            layout_seeds=self._layout_seeds,
            backend=self._backend,
            mitigation=self._mitigation,
        )

    def _set_device(self, device: str | Device, diff_method: str, shots: int | None) -> None:
        check_shots(shots)
        if isinstance(device, str):
            spec, _ = device_spec(device)
            opened = self._opened(device)
            shots = spec.shots if shots is None else shots
            if diff_method == "best" and (shots is None or spec.diff_method in SAMPLED_METHODS):
                diff_method = spec.diff_method
            self._device_name, self._given = device, None
        else:
            opened = device
            self._device_name, self._given = device.name, device
            if self.noise is not None:
                raise InputError(f"{device.name} is open already: give it its noise model when you make it")
            if self._backend is not None or self._mitigation is not None:
                what = "mitigation" if self._backend is None else "backend"
                raise InputError(f"{device.name} is open already: give it its {what} when you make it")
            self.noise = getattr(device, "noise", None)
        if shots is None and not opened.capabilities.analytic:
            raise InputError(f"{opened.name} has no exact expectation values; give shots, for example shots = 1024")
        if shots is not None and not opened.capabilities.shots:
            raise InputError(f"{opened.name} takes no finite shots (shots = {shots})")
        self._device = opened
        self._program = None
        self.diff_method = choose_diff_method(opened, diff_method, shots)
        """The gradient method in use, "best" resolved."""
        self.shots = shots
        """Shots for every circuit; None means exact."""
        _ = self.program  # a circuit that does not fit is an error now, not in the middle of a training

    def _inputs(self, features: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
        """Features as (B, F) and weights in double precision, and the dtype of the result."""
        if features.dim() == 0 or features.shape[-1] != self.n_features:
            got = tuple(features.shape)
            raise InputError(f"features of shape {got}: circuit {self.circuit.name!r} reads (..., {self.n_features})")
        if not features.is_floating_point():
            features = features.to(self.weights.dtype)
        dtype = torch.promote_types(features.dtype, self.weights.dtype)
        return features.reshape(-1, self.n_features).double(), self.weights.double(), dtype

    def _angles(self, rows: Tensor, weights: Tensor) -> Tensor:
        """What the device is given, (B, S + P)."""
        angles = self.program.circuit.parameters(rows, weights)
        # Two sums find out in the usual case; a sum may overflow where nothing in it is infinite.
        with torch.no_grad():
            total = float(angles.sum() + rows.sum())
        if not math.isfinite(total) and not bool(torch.isfinite(angles).all() and torch.isfinite(rows).all()):
            bad = torch.nonzero(~torch.isfinite(rows).all(dim=1))
            if len(bad):
                raise InputError(f"features contain NaN or infinity in row {int(bad[0])}")
            if not bool(torch.isfinite(weights).all()):
                raise QHybridError("the weights of the quantum layer are NaN or infinite: has the training diverged?")
            raise InputError(f"features as large as {float(rows.abs().max()):.1e} give angles that are not finite")
        return angles

    def _next_seed(self) -> int | None:
        self.calls += 1
        if self.shots is None and self.diff_method != "spsa":
            return None  # nothing is drawn
        return int(np.random.SeedSequence([self.seed, self.calls]).generate_state(1, np.uint64)[0])

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._given is None:
            state["_device"] = None
        state["_program"] = None
        return state
