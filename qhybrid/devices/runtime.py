"""Device `qiskit.remote`: IBM hardware through the V2 primitives of Qiskit Runtime, one job for a whole batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.transpile import OPTIMIZATION_LEVEL, IsaCircuit, isa_circuits
from qhybrid.devices.base import (
    LAYOUT_SEEDS,
    Capabilities,
    Estimates,
    MachineDevice,
    Program,
    check_choice,
    check_shots,
)
from qhybrid.devices.job_row import JobRow
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime_batch import jobs_of_batch
from qhybrid.devices.runtime_client import Client
from qhybrid.devices.runtime_cost import REP_DELAY, RuntimeEstimate, check_budget
from qhybrid.devices.runtime_jobs import Job, send
from qhybrid.devices.runtime_messages import Progress
from qhybrid.devices.runtime_options import check_options, check_positive
from qhybrid.devices.runtime_program import (
    MAX_EXECUTIONS,
    ReadoutCalibration,
    RuntimeProgram,
    digest_of,
    runtime_program,
)
from qhybrid.errors import InputError

__all__ = ["Job", "RuntimeDevice"]

MAX_QUBITS = 4096
"""No machine is larger; the machine's own size is checked when a circuit is laid out on it."""


class RuntimeDevice(MachineDevice):
    """IBM's machines. Credentials are found by Qiskit itself: a saved account, or `QISKIT_IBM_*`.

    Args:
        name: The name that the user gave.
        backend: The machine; needed as soon as a circuit is prepared.
        primitive: "sampler" (counts) or "estimator" (expectation values, with the mitigation of IBM's service).
        resilience_level: Of the estimator, 0 to 2; None: IBM's default (1).
        options: Of the primitive, by Qiskit's names: `twirling`, `dynamical_decoupling`, and for the estimator
            `resilience` with `measure_mitigation`, `zne_mitigation`, `zne`.
        mode: "job", "batch" or "session".
        layout_seeds: Transpiler seeds tried for each circuit.
        optimization_level: Highest of Qiskit's levels tried, 1 to 3.
        schedule: Send waiting times as delays. Off, the machine schedules; the layout counts them either way.
        job_tags: Given to every job.
        max_execution_time: QPU seconds after which IBM cancels a job; None: IBM's limit.
        timeout: Seconds that `run` waits for a job; None: as long as it takes.
        price_per_second: Of the QPU, for estimates; prices change, so none is built in.
        currency: Of the price.
        budget_seconds: QPU seconds that all jobs sent through a device of this name may use, as the ledger counts
            them; None: no limit.
        instance: Name or CRN of the IBM instance; None: as the account says.
        channel: Of the account; None: as the account says.

    Raises:
        InputError: An argument is none of these.
    """

    capabilities = Capabilities(
        diff_methods=("parameter-shift", "spsa"), analytic=False, asynchronous=True, max_qubits=MAX_QUBITS
    )

    def __init__(
        self,
        name: str = "qiskit.remote",
        *,
        backend: str | None = None,
        primitive: str = "sampler",
        resilience_level: int | None = None,
        options: Mapping[str, Any] | None = None,
        mode: str = "job",
        layout_seeds: int = LAYOUT_SEEDS,
        optimization_level: int = OPTIMIZATION_LEVEL,
        schedule: bool = False,
        job_tags: Sequence[str] = (),
        max_execution_time: int | None = None,
        timeout: float | None = None,
        price_per_second: float | None = None,
        currency: str = "",
        budget_seconds: float | None = None,
        instance: str | None = None,
        channel: str | None = None,
    ) -> None:
        super().__init__(name)
        check_choice(name, "primitive", primitive, ("sampler", "estimator"))
        check_choice(name, "mode", mode, ("job", "batch", "session"))
        if channel is not None:
            check_choice(name, "channel", channel, ("ibm_quantum_platform", "ibm_cloud"))
        if isinstance(job_tags, str) or not all(isinstance(tag, str) and 0 < len(tag) <= 86 for tag in job_tags):
            raise InputError(f"{name}: job_tags = {job_tags!r}: a list of words of 1 to 86 characters is needed")
        if resilience_level is not None and primitive == "sampler":
            raise InputError(f"{name}: resilience_level is an option of the estimator; primitive is 'sampler'")
        check_positive(
            name, max_execution_time=max_execution_time, timeout=timeout, price_per_second=price_per_second,
            budget_seconds=budget_seconds,
        )  # fmt: skip
        chosen = dict(options or {})
        if resilience_level is not None:
            chosen["resilience_level"] = resilience_level
        check_options(name, primitive, chosen)
        if max_execution_time is not None:
            chosen["max_execution_time"] = max_execution_time
        self.backend_name = backend
        self.primitive = primitive
        self.mode = mode
        self.timeout = timeout
        self.budget_seconds = budget_seconds
        self._price = (price_per_second, currency)
        self.client = Client(instance, channel)
        """The connection to IBM, opened when it is first used."""
        self.ledger = Ledger()
        self.progress: Progress | None = None
        """Told of every question that `run` asks while it waits."""
        self.run_name, self.purpose = "", ""
        """What the ledger says that the jobs of `run` are for. Where both are given, `run` takes up a job of the same
        angles that was sent before, by this process or one that died, instead of sending another."""
        self._layout: dict[str, Any] = {"layout_seeds": layout_seeds, "optimization_level": optimization_level}
        self._schedule = schedule
        self._session_id: str | None = None
        self._settings = {
            "primitive": primitive,
            "mode": mode,
            "options": chosen,
            "job_tags": list(job_tags),
            "instance": instance,
            "channel": channel,
            "schedule": schedule,
            **self._layout,
        }

    def prepare(self, circuit: Circuit) -> Program:
        """Lay the circuit out on the machine as it is calibrated now.

        Raises:
            InputError: There is no account, no such machine, or the circuit does not fit on it.
            Unreachable: IBM cannot be reached now.
        """
        backend = self.client.backend(self.backend_name)
        target = self.client.target(backend)
        timed = target.dt is not None
        isa = isa_circuits(circuit, target, schedule=timed, machine=str(self.backend_name), **self._layout)
        return self.program_of(isa)

    @property
    def machine(self) -> str | None:
        return self.backend_name

    def isa_circuits(self, program: Program) -> tuple[IsaCircuit, ...]:
        compiled: RuntimeProgram = program.compiled
        return compiled.isa

    def program_of(self, isa: tuple[IsaCircuit, ...]) -> Program:
        """A program of ISA circuits as they are."""
        self.tracker.transpilations += 1
        calibration = self.client.calibration(self.client.backend(self.backend_name))
        compiled = runtime_program(isa, calibration, primitive=self.primitive, delays=self._schedule)
        return Program(isa[0].circuit, compiled, decomposed=True)

    def run(self, program: Program, angles: Tensor, *, shots: int | None, seed: int | None = None) -> Estimates:
        """Submit a batch and wait for its result.

        Raises:
            StillRunning: `timeout` ended; the job goes on, and the message says how to collect it.
        """
        if not len(angles):
            check_shots(shots)
            return Estimates.exact(angles.new_zeros(0, program.circuit.n_observables))
        again = bool(self.run_name and self.purpose)
        job = self.submit(program, angles, shots=shots, run=self.run_name, purpose=self.purpose, resume=again)
        found = job.result(timeout=self.timeout, progress=self.progress)
        return Estimates(found.values.to(angles), found.stderr.to(angles))

    def estimate(
        self, program: Program, n_rows: int, *, shots: int | None, readout: ReadoutCalibration | None = None
    ) -> RuntimeEstimate:
        """What a batch would cost, asked of the machine as it is now.

        Args:
            program: From `prepare`.
            n_rows: Rows of angles.
            shots: For every row and measurement basis.
            readout: Circuits beside it that measure the readout errors; None: none.

        Raises:
            InputError: Shots are not what a machine takes.
        """
        shots = self._checked_shots(shots, readout)
        queue = self.client.queue_length(self.client.backend(self.backend_name))
        return replace(self._cost(program.compiled, n_rows, shots, readout), queue=queue)

    def submit(
        self,
        program: Program,
        angles: Tensor,
        *,
        shots: int | None,
        seed: int | None = None,
        run: str = "",
        purpose: str = "",
        request: Mapping[str, Any] | None = None,
        resume: bool = False,
        readout: ReadoutCalibration | None = None,
    ) -> Job:
        """Send a batch: into the ledger first, then to IBM, as one job unless its limits make more of it.

        Args:
            program: From `prepare`.
            angles: Shape (B, P) in radians.
            shots: For every row and measurement basis.
            seed: Not used: a machine has none.
            run: Folder of the run that it belongs to, for the ledger.
            purpose: Such as `evaluation of test` or `training epoch 1 step 12`, for the ledger.
            request: What the result is to be turned into, for the ledger.
            resume: Take up a job of this run and purpose with the same circuit, angles, shots and settings, if there is
                one that has not failed, instead of sending another.
            readout: Circuits for the first job that measure the readout errors; the program's name must tell of them.

        Raises:
            InputError: Shots or angles are not what a machine takes, or the jobs would exceed the budget.
            Unreachable: IBM cannot be reached for ten minutes; the row stays and can be sent later.
            QHybridError: IBM refuses the job, or the ledger cannot be written.
        """
        job = self.earlier(program, angles, shots=shots, run=run, purpose=purpose) if resume else None
        if job is None:
            job = self._written(program, angles, shots, readout, run=run, purpose=purpose, request=request or {})
        for row in job.rows:
            try:
                if row.state in ("prepared", "submitting"):
                    send(self.ledger, self.client, row.tag)
            finally:  # interrupted or taken up, too: until `close` ends it, a session is billed
                self._session_id = self.ledger.by_tag(row.tag).session_id or self._session_id
        return job

    def earlier(self, program: Program, angles: Tensor, *, shots: int | None, run: str, purpose: str) -> Job | None:
        """What `submit` with `resume` and the same arguments would take up; None: it would send a job."""
        rows, shots = self._checked(program, angles, shots)
        for row in self.ledger.find(run=run, purpose=purpose, digest=self._digest(program, rows, shots)):
            parts = self.ledger.find(batch=row.batch)
            if len(parts) == row.parts and not any(part.state in ("failed", "cancelled", "lost") for part in parts):
                return self._job(parts)
        return None

    def close(self) -> None:
        """Close the session or batch, so that it is billed no further."""
        if self._session_id is not None:
            self.client.close(self.client.backend(self.backend_name), self.mode, self._session_id)
            self._session_id = None

    def _checked_shots(self, shots: int | None, readout: ReadoutCalibration | None = None) -> int:
        if shots is None:
            raise InputError(f"{self.name}: a machine has no exact values; give shots, such as --shots 4096")
        check_shots(shots)
        backend = self.client.backend(self.backend_name)
        limit = min(MAX_EXECUTIONS, getattr(backend.configuration(), "max_shots", None) or MAX_EXECUTIONS)
        given = {"shots": shots} if readout is None else {"shots": shots, "calibration_shots": readout.shots}
        for option, number in given.items():
            if number > limit:
                raise InputError(f"{self.name}: {option} = {number}: {self.backend_name} takes at most {limit}")
        return shots

    def _checked(
        self, program: Program, angles: Tensor, shots: int | None, readout: ReadoutCalibration | None = None
    ) -> tuple[NDArray[np.float64], int]:
        rows = np.ascontiguousarray(angles.detach().double().cpu().numpy())
        if rows.ndim != 2 or rows.shape[1] != program.circuit.n_angles or not np.isfinite(rows).all():
            raise InputError(f"{self.name}: angles must be finite, of shape (B, {program.circuit.n_angles})")
        return rows, self._checked_shots(shots, readout)

    def _digest(self, program: Program, rows: NDArray[np.float64], shots: int) -> str:
        return digest_of(program.circuit, rows, shots, {"backend": self.backend_name} | self._settings)

    def _cost(
        self, compiled: RuntimeProgram, n_rows: int, shots: int, readout: ReadoutCalibration | None
    ) -> RuntimeEstimate:
        backend = self.client.backend(self.backend_name)
        own = self._settings["options"].get("execution", {}).get("rep_delay")
        price, currency = self._price
        executed = [(max(1, n_rows) * shots, each.report.seconds) for each in compiled.isa]
        if readout is not None:
            executed += [(readout.shots, each.report.seconds) for each in readout.program.isa]
        weights, seconds = zip(*executed, strict=True)
        return RuntimeEstimate(
            machine=str(self.backend_name),
            jobs=len(compiled.jobs_of(n_rows, shots, readout)),
            circuits=n_rows * len(compiled.isa) + (0 if readout is None else readout.circuits),
            shots=shots,
            circuit_seconds=float(np.average(seconds, weights=weights)),
            rep_delay=own or getattr(backend.configuration(), "default_rep_delay", None) or REP_DELAY,
            primitive=compiled.primitive,
            queue=None,
            price_per_second=price,
            currency=currency,
            readout_circuits=0 if readout is None else readout.circuits,
            readout_shots=0 if readout is None else readout.shots,
        )

    def _written(
        self, program: Program, angles: Tensor, shots: int | None, readout: ReadoutCalibration | None, **columns: Any
    ) -> Job:
        """The jobs of a batch in the ledger, none sent."""
        rows, shots = self._checked(program, angles, shots, readout)
        compiled: RuntimeProgram = program.compiled

        def seconds(n_rows: int, readout: ReadoutCalibration | None) -> float:
            return self._cost(compiled, n_rows, shots, readout).qpu_seconds

        if self.budget_seconds is not None:
            own = [row for row in self.ledger.find() if row.device == self.name]
            check_budget(self.name, self.budget_seconds, seconds(len(rows), readout), own)
        entries, files = jobs_of_batch(
            compiled,
            rows,
            shots,
            readout,
            seconds,
            backend=str(self.backend_name),
            settings=self._settings,
            digest=self._digest(program, rows, shots),
            device=self.name,
            session_id=self._session_id,
            **columns,
        )
        self.ledger.add(entries, files)
        self.tracker.count(circuits=sum(row.circuits for row in entries), shots=None)
        self.tracker.shots += sum(row.executions for row in entries)
        self.tracker.jobs += len(entries) - 1
        return self._job(entries)

    def _job(self, rows: Sequence[JobRow]) -> Job:
        return Job(self.ledger, self.client, tuple(row.tag for row in rows), self._count_usage)

    def _count_usage(self, row: JobRow) -> None:
        if row.usage is not None:
            self.tracker.qpu_seconds = (self.tracker.qpu_seconds or 0.0) + row.usage
