"""Any device with error mitigation round it: readout mitigation, extrapolation to zero noise, or both.

A mitigated device is used like the device itself. What a batch takes goes to the device in one call, that is one job
of a machine; the calibration of the readout is one more, or part of the same job where that is submitted.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.devices.base import Device, Estimates, MachineDevice, NoisyDevice, Program, check_shots
from qhybrid.devices.mitigation_combine import RECIPE, recipe
from qhybrid.devices.mitigation_program import Cost, MitigatedProgram, Run, mitigated_program, rescaled
from qhybrid.devices.mitigation_readout import mthree_solver
from qhybrid.devices.mitigation_spec import Mitigation, parse_mitigation
from qhybrid.errors import InputError

if TYPE_CHECKING:
    from qhybrid.circuits.transpile import IsaCircuit
    from qhybrid.devices.runtime import Job
    from qhybrid.devices.runtime_cost import RuntimeEstimate
    from qhybrid.devices.runtime_program import ReadoutCalibration

__all__ = ["Cost", "MitigatedDevice", "Mitigation", "Run", "mitigated", "parse_mitigation"]


class MitigatedDevice(Device):
    """A device whose estimates are mitigated.

    It has the capabilities of the device, without adjoint differentiation, and without parameter-shift where the
    extrapolation is exponential, which no shift rule differentiates.

    Args:
        device: The device.
        mitigation: What is done.

    Raises:
        InputError: The device has not what the mitigation needs.
    """

    def __init__(self, device: Device, mitigation: Mitigation) -> None:
        self.device = device
        """The device without mitigation."""
        self.mitigation = mitigation
        self.name = device.name
        self.tracker = device.tracker
        if mitigation.readout == "mthree":
            mthree_solver()  # that it is missing is known before anything is run
        exponential = mitigation.zne is not None and mitigation.zne.extrapolation == "exponential"
        lost = {"adjoint", "parameter-shift"} if exponential else {"adjoint"}  # shift rules hold for sums of values
        methods = tuple(method for method in device.capabilities.diff_methods if method not in lost)
        self.capabilities = replace(device.capabilities, diff_methods=methods)
        if mitigation.readout and getattr(device, "primitive", None) == "estimator":
            raise InputError(
                f"{device.name}: IBM's estimator mitigates readout errors itself (resilience_level); "
                "readout mitigation here needs primitive = 'sampler'"
            )

    def prepare(self, circuit: Circuit) -> Program:
        """Prepare the circuit, its folded forms and the calibration of its readout, once.

        Raises:
            InputError: The device cannot run it, or has not what the mitigation needs.
        """
        compiled = mitigated_program(self.device, self.mitigation, circuit)
        return Program(circuit, compiled, decomposed=compiled.main.decomposed)

    def construct(self, program: Program, angles: Tensor, shots: int | None) -> list[Run]:
        """The calls of the device that a batch takes (see `MitigatedProgram.construct`)."""
        check_shots(shots)
        compiled: MitigatedProgram = program.compiled
        return compiled.construct(angles, shots)

    def combine(self, program: Program, results: list[Estimates], shots: int | None) -> Estimates:
        """Mitigated estimates from the results of these calls (see `MitigatedProgram.combine`)."""
        compiled: MitigatedProgram = program.compiled
        if len(results) == 2 and self.capabilities.asynchronous:
            compiled.known = compiled.calibrated(results[0])
            results = results[1:]
        return compiled.combine(results, shots)

    def run(self, program: Program, angles: Tensor, *, shots: int | None, seed: int | None = None) -> Estimates:
        """Run a batch; exact values are differentiable by torch where those of the device are.

        A simulator calibrates its readout in every call, so that the seed alone decides what comes out; a machine
        once for a program.
        """
        if not len(angles):
            check_shots(shots)
            return Estimates.exact(angles.new_zeros(0, program.circuit.n_observables) + angles.sum())
        runs = self.construct(program, angles, shots)
        results = []
        for each, its_seed in zip(runs[::-1], (seed, _other(seed)), strict=False):  # the batch has the seed itself
            results.append(self.device.run(each.program, each.angles, shots=each.shots, seed=its_seed))
        found = self.combine(program, results[::-1], shots)
        return Estimates(found.values.to(angles), found.stderr.to(angles))

    def cost(self, program: Program, n_rows: int, shots: int | None) -> Cost:
        """What a batch costs."""
        compiled: MitigatedProgram = program.compiled
        return compiled.cost(n_rows, shots)

    def remark(self, program: Program) -> str | None:
        """What must be said of the results so far; None: nothing."""
        compiled: MitigatedProgram = program.compiled
        return compiled.tally.remark


class MitigatedMachine(MitigatedDevice, MachineDevice):
    """A device that runs circuits of a machine, with mitigation."""

    device: MachineDevice

    @property
    def machine(self) -> str | None:
        return self.device.machine

    def isa_circuits(self, program: Program) -> "tuple[IsaCircuit, ...]":
        """The ISA circuits of a program as they are without folding."""
        compiled: MitigatedProgram = program.compiled
        return compiled.isa


class MitigatedSimulator(MitigatedMachine, NoisyDevice):
    """A device that simulates a machine's noise, with mitigation."""

    device: NoisyDevice

    def __init__(self, device: NoisyDevice, mitigation: Mitigation) -> None:
        super().__init__(device, mitigation)
        self.noise, self.layout_seeds = device.noise, device.layout_seeds

    def rescaled(self, program: Program, factor: float) -> Program:
        """The same program with the rates of the device's noise model times a factor."""
        compiled = rescaled(self.device, program.compiled, factor)
        return Program(program.circuit, compiled, decomposed=program.decomposed)


class MitigatedJobs(MitigatedMachine):
    """A device that sends jobs to a machine, with mitigation; what the jobs are for is told to the device."""

    device: Any

    @property
    def run_name(self) -> str:
        """Run that the jobs belong to."""
        return str(self.device.run_name)

    @run_name.setter
    def run_name(self, name: str) -> None:
        self.device.run_name = name

    @property
    def purpose(self) -> str:
        """What the jobs are for."""
        return str(self.device.purpose)

    @purpose.setter
    def purpose(self, purpose: str) -> None:
        self.device.purpose = purpose

    @property
    def progress(self) -> Any:
        """Told of every question that `run` asks while it waits."""
        return self.device.progress

    @progress.setter
    def progress(self, progress: Any) -> None:
        self.device.progress = progress

    def estimate(
        self, program: Program, n_rows: int, *, shots: int | None, calibrated: bool = False
    ) -> "RuntimeEstimate":
        """What a batch would cost (see `RuntimeDevice.estimate`).

        Args:
            program: From `prepare`.
            n_rows: Rows of angles.
            shots: For every row, measurement basis and multiple of the noise.
            calibrated: The readout is known from an earlier batch.
        """
        compiled: MitigatedProgram = program.compiled
        readout = None if calibrated else _readout(compiled)
        estimate: RuntimeEstimate = self.device.estimate(compiled.main, n_rows, shots=shots, readout=readout)
        return estimate

    def estimate_unmitigated(self, program: Program, n_rows: int, *, shots: int | None) -> "RuntimeEstimate":
        """What the same batch would cost without mitigation."""
        plain = self.device.program_of(self.isa_circuits(program))
        estimate: RuntimeEstimate = self.device.estimate(plain, n_rows, shots=shots)
        return estimate

    def submit(
        self,
        program: Program,
        angles: Tensor,
        *,
        shots: int | None,
        run: str = "",
        purpose: str = "",
        request: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> "Job":
        """Send a batch with the calibration of its readout, as one job unless the machine's limits make more of it.

        The arguments are those of `RuntimeDevice.submit`; how the results are combined is added to the request.

        Returns:
            The job. Its result has all words at all multiples of the noise, of which `mitigation_combine.combine_jobs`
            makes the estimates.
        """
        compiled: MitigatedProgram = program.compiled
        how = recipe(compiled.mitigation, compiled.circuit, compiled.readings)
        job: Job = self.device.submit(
            compiled.main,
            angles,
            shots=shots,
            run=run,
            purpose=purpose,
            request={**(request or {}), RECIPE: how},
            resume=resume,
            readout=_readout(compiled),
        )
        return job

    def earlier(self, program: Program, angles: Tensor, *, shots: int | None, run: str, purpose: str) -> "Job | None":
        """What `submit` with `resume` would take up (see `RuntimeDevice.earlier`)."""
        job: Job | None = self.device.earlier(program.compiled.main, angles, shots=shots, run=run, purpose=purpose)
        return job

    def close(self) -> None:
        """Close the session or batch."""
        self.device.close()


def mitigated(device: Device, mitigation: str | Mapping[str, Any] | Mitigation | None) -> Device:
    """A device with mitigation round it; the device itself if there is none.

    Args:
        device: Any device.
        mitigation: As `parse_mitigation` takes it.

    Raises:
        InputError: There is no such mitigation, or the device has not what it needs.
    """
    chosen = parse_mitigation(mitigation)
    if not chosen.label:
        return device
    if isinstance(device, NoisyDevice):
        return MitigatedSimulator(device, chosen)
    if isinstance(device, MachineDevice):
        return MitigatedJobs(device, chosen) if hasattr(device, "run_name") else MitigatedMachine(device, chosen)
    return MitigatedDevice(device, chosen)


def _readout(program: MitigatedProgram) -> "ReadoutCalibration | None":
    from qhybrid.devices.runtime_program import ReadoutCalibration

    if program.calibration is None:
        return None
    return ReadoutCalibration(program.calibration.compiled, program.mitigation.calibration_shots)


def _other(seed: int | None) -> int | None:
    """A seed for other shots of the same call."""
    return None if seed is None else int(np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)[0])
