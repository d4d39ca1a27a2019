"""PennyLane devices by their own names: `default.qubit`, `lightning.*`, and any other that is installed."""

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import pennylane as qml
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.devices.base import AdjointDevice, Capabilities, Estimates, Program, check_choice, check_shots, check_size
from qhybrid.devices.pennylane_tapes import TapeFactory
from qhybrid.devices.plugins import check_credentials, is_analytic, missing_plugin, reason
from qhybrid.devices.sampling import sample_expectations, shot_error
from qhybrid.errors import InputError, QHybridError, did_you_mean

_STATEVECTOR_DEVICES = ("default.qubit", "lightning.qubit", "lightning.kokkos", "lightning.gpu")
SAMPLING = ("exact", "device")
_SINGLE_THREAD_QUBITS = 12
"""Up to this size Lightning runs on one thread: waking its OpenMP pool costs more than the circuit, and hundreds of
times more where other programs use the cores."""


class PennyLaneDevice(AdjointDevice):
    """A device of PennyLane or of one of its plug-ins.

    A batch is one call of the device's `execute`. Plug-ins that send batches to a cloud only when told to (Braket's
    `parallel`) are told to.

    Args:
        name: The name that the user gave.
        device: PennyLane's name of the device; None means `name`.
        sampling: "exact" draws shots from the exact outcome probabilities of a statevector simulator, so that a seed
            means the same on each; "device" lets the device take its own. Other devices always take their own.
        **options: Passed to `qml.device`.

    Raises:
        InputError: PennyLane has no such device installed, or it does not start; says which are installed, which
            extra installs it, or where its credentials come from.
    """

    def __init__(self, name: str, *, device: str | None = None, sampling: str = "exact", **options: Any) -> None:
        super().__init__(name)
        self.short_name = device or name
        self._options = options
        self._devices: dict[int, Any] = {}
        check_choice(name, "sampling", sampling, SAMPLING)
        if self.short_name not in qml.plugin_devices:
            unknown = f"unknown device {self.short_name!r}; {did_you_mean(self.short_name, installed())}"
            raise InputError(missing_plugin(name, self.short_name) or unknown)
        check_credentials(name, self.short_name, options)
        if _takes(self.short_name, "parallel"):
            self._options = {"parallel": True} | options
        methods = ["parameter-shift", "spsa"]
        if self.short_name == "default.qubit":
            methods.insert(0, "backprop")
        elif self.short_name.startswith("lightning."):
            methods.insert(0, "adjoint")
        self.is_statevector = self.short_name in _STATEVECTOR_DEVICES
        self.draws_exactly = sampling == "exact" and (self.is_statevector or self.short_name == "braket.local.qubit")
        self.capabilities = Capabilities(
            diff_methods=tuple(methods),
            analytic=is_analytic(self.short_name, options),
            state_preparation=self.is_statevector or self.short_name in ("default.mixed", "reference.qubit"),
        )
        self._open(1)  # says at once if it does not start here

    def prepare(self, circuit: Circuit) -> Program:
        """Build the parts of the tapes that no angle changes, and open a device with that many wires."""
        check_size(self.name, circuit, self.capabilities.max_qubits)
        self._open(circuit.n_qubits)
        self.tracker.transpilations += 1
        return Program(circuit, TapeFactory(circuit))

    def run(self, program: Program, angles: Tensor, *, shots: int | None = None, seed: int | None = None) -> Estimates:
        """Run a batch in one call of the device's `execute`; on default.qubit torch can differentiate the values."""
        check_shots(shots)
        factory: TapeFactory = program.compiled
        bases = program.circuit.bases
        self.tracker.count(circuits=len(angles) * (len(bases) if shots else 1), shots=shots)
        if shots is None:
            return Estimates.exact(self._execute(program, angles, factory.expectations)[0].to(angles))
        if self.draws_exactly:
            measured = [qml.probs(wires=range(program.circuit.n_qubits))]
            tables = self._execute(program, angles.detach(), measured, factory.basis_rotations)
            estimates = sample_expectations([each.numpy() for each in tables], program.circuit, shots, seed)
            return Estimates(estimates.values.to(angles), estimates.stderr.to(angles))
        values = self._execute(program, angles.detach(), factory.expectations, shots=shots, seed=seed)[0]
        errors = torch.from_numpy(shot_error(values.numpy(), shots))
        return Estimates(values.to(angles), errors.to(angles))

    def run_with_adjoint(
        self, program: Program, angles: Tensor, columns: NDArray[np.bool_]
    ) -> tuple[Estimates, Callable[[Tensor], Tensor]]:
        """Values and the device's own adjoint Jacobian of the angles, in one call.

        The gradient of the initial amplitudes v is 2 Re(U^dagger sum_i g_i P_i U v): one more run forward and one
        backward through the inverted circuit, for a whole batch.
        """
        circuit, factory = program.circuit, program.compiled
        rows = np.asarray(angles.double().cpu())
        self.tracker.count(circuits=len(rows), shots=None)
        slots = np.flatnonzero(columns[circuit.n_amplitudes :])
        device = self._open(circuit.n_qubits)
        tapes = [factory.tape(row, factory.expectations, trainable=slots) for row in rows]
        # The gates and observables of a circuit are native to these devices: nothing to preprocess.
        config = device.setup_execution_config(
            qml.devices.ExecutionConfig(gradient_method="adjoint", use_device_gradient=True)
        )
        with _few_threads(circuit.n_qubits):
            if len(slots):
                values, jacobians = device.execute_and_compute_derivatives(tapes, config)
            else:
                values, jacobians = device.execute(tapes, config), []
        jacobian = np.reshape(np.asarray(jacobians, dtype=float), (len(rows), circuit.n_observables, len(slots)))
        exact = Estimates.exact(
            torch.from_numpy(np.reshape(np.asarray(values, dtype=float), (len(rows), -1))).to(angles)
        )

        def pullback(cotangent: Tensor) -> Tensor:
            weights = np.asarray(cotangent.double().cpu())
            gradient = np.zeros(rows.shape)
            gradient[:, circuit.n_amplitudes + slots] = np.einsum("bm,bmp->bp", weights, jacobian)
            if circuit.n_amplitudes and columns[: circuit.n_amplitudes].any():
                gradient[:, : circuit.n_amplitudes] = self._amplitude_gradient(program, rows, weights)
            return torch.from_numpy(gradient * columns).to(cotangent)

        return exact, pullback

    def _amplitude_gradient(
        self, program: Program, rows: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Gradient of sum_m weights[b, m] E_m with respect to the initial amplitudes, shape (B, S)."""
        circuit, factory = program.circuit, program.compiled
        device, n = self._open(circuit.n_qubits), circuit.n_qubits
        with _few_threads(n):
            states = np.stack(device.execute([factory.tape(row, [qml.state()]) for row in rows])).astype(complex)
        bras = np.zeros_like(states)
        for m, word in enumerate(circuit.observables):
            moved = states[:, np.arange(2**n) ^ word.flips(n)]
            bras += weights[:, m : m + 1] * word.phases(n) * moved
        norms = np.linalg.norm(bras, axis=1, keepdims=True)
        bras = np.where(norms > 0, bras / np.where(norms > 0, norms, 1), states)
        tapes = [factory.inverse_tape(bra, row) for bra, row in zip(bras, rows, strict=True)]
        with _few_threads(n):
            pulled = np.stack(device.execute(tapes)) * norms
        gradient: NDArray[np.float64] = 2 * pulled.real[:, circuit.amplitude_index()]
        return gradient

    def _execute(
        self,
        program: Program,
        angles: Tensor,
        measurements: Sequence[Any],
        rotations: Sequence[Sequence[Any]] = ((),),
        *,
        shots: int | None = None,
        seed: int | None = None,
    ) -> list[Tensor]:
        """Run a batch of tapes, once for each measurement basis, in one call: for each basis (B, number of values)."""
        device = self._open(program.circuit.n_qubits, seed=seed)
        factory: TapeFactory = program.compiled
        if self.short_name == "default.qubit" and shots is None:
            broadcast = tuple(factory.tape(angles, measurements, rotation) for rotation in rotations)
            config = qml.devices.ExecutionConfig(gradient_method="backprop", interface="torch")
            with _few_threads(program.circuit.n_qubits):
                results = device.execute(broadcast, config)
            return [_batch_first(each if isinstance(each, tuple) else (each,)) for each in results]
        rows = np.asarray(angles.detach().cpu())
        tapes = [factory.tape(row, measurements, rotation, shots=shots) for rotation in rotations for row in rows]
        with _few_threads(program.circuit.n_qubits):
            if self.is_statevector and shots is None:
                results = device.execute(tapes)
            else:
                try:
                    results = qml.execute(tapes, device, diff_method=None)
                except Exception as error:  # whatever a plug-in raises: say which one it was
                    why = f"{type(error).__name__}: {reason(error)}"
                    raise QHybridError(f"device {self.name!r} failed on {program.circuit.name}: {why}") from error
        width = sum(math.prod(each.shape(None, program.circuit.n_qubits)) for each in measurements)
        table = np.asarray(results, dtype=float)
        if table.size != len(tapes) * width:  # a dry run, for example
            raise QHybridError(
                f"device {self.name!r} gave {table.size} values where {len(tapes) * width} were asked for"
            )
        return list(torch.from_numpy(np.reshape(table, (len(rotations), len(rows), width))))

    def _open(self, n_wires: int, *, seed: int | None = None) -> Any:
        """The PennyLane device with this number of wires, opened once (afresh for a seed, if it takes one)."""
        if seed is not None and not self.draws_exactly and _takes(self.short_name, "seed"):
            return qml.device(self.short_name, wires=n_wires, seed=seed, **self._options)
        if n_wires not in self._devices:
            try:
                self._devices[n_wires] = qml.device(self.short_name, wires=n_wires, **self._options)
            except Exception as error:
                raise InputError(f"device {self.name!r} does not start here: {reason(error)}") from None
        return self._devices[n_wires]


def _batch_first(results: Sequence[Tensor]) -> Tensor:
    """One table (B, number of values) of the results of a broadcast tape."""
    return torch.stack(list(results), dim=1) if results[0].dim() == 1 else results[0]


@cache
def _takes(short_name: str, option: str) -> bool:
    """Whether a plug-in takes an option, itself or through the keywords that it hands to its base class."""
    for each in qml.plugin_devices[short_name].load().__mro__:
        parameters = inspect.signature(each.__init__).parameters
        if option in parameters:
            return True
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return False
    return False


@cache
def _thread_pools() -> ThreadpoolController:
    """All OpenMP pools: Lightning brings its own, but where torch was loaded first it uses torch's."""
    return ThreadpoolController()


def _few_threads(n_qubits: int) -> AbstractContextManager[object]:
    """One thread while a small circuit runs."""
    return _thread_pools().limit(limits=1, user_api="openmp") if n_qubits <= _SINGLE_THREAD_QUBITS else nullcontext()


def installed() -> list[str]:
    """Names of the PennyLane devices that are installed here."""
    return sorted(qml.plugin_devices)
