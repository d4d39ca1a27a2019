"""Device `qiskit.remote`: IBM hardware through the V2 primitives of Qiskit Runtime, one job for a whole batch."""

import hashlib
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
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
from qhybrid.devices.job_row import JobRow, now
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime_client import Client
from qhybrid.devices.runtime_jobs import Job, Progress, send
from qhybrid.devices.runtime_options import check_options
from qhybrid.devices.runtime_pubs import ANGLES, CIRCUITS, packed
from qhybrid.devices.runtime_results import layout_of
from qhybrid.errors import InputError, QHybridError

__all__ = ["Job", "RuntimeDevice"]

MAX_EXECUTIONS = 10_000_000
"""Circuits times shots in a job (https://quantum.cloud.ibm.com/docs/guides/job-limits)."""
MAX_INSTRUCTIONS = 26_800_000
"""Instructions on one qubit, over all circuits of a job (same page)."""
MAX_PAYLOAD = 50_000_000
"""Bytes of a job's request."""
BYTES_PER_ANGLE = 11
"""Of a request: eight bytes in base 64."""
MAX_QUBITS = 4096
"""No machine is larger; the machine's own size is checked when a circuit is laid out on it."""


@dataclass(frozen=True, eq=False)
class RuntimeProgram:
    """A circuit as it is sent.

    Args:
        isa: As they are sent, one circuit for each measurement basis.
        qpy: These in bytes.
        calibration: Date of the calibration that the layout was chosen for.
    """

    isa: tuple[IsaCircuit, ...]
    qpy: bytes
    calibration: str | None


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
        for key, value in (("max_execution_time", max_execution_time), ("timeout", timeout)):
            if value is not None and value <= 0:
                raise InputError(f"{name}: {key} = {value!r}: a number of seconds above 0 is needed")
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
        self.tracker.transpilations += 1
        sent = tuple(replace(each, isa=self._as_sent(each)) for each in isa)
        compiled = RuntimeProgram(sent, packed([each.isa for each in sent]), self.client.calibration(backend))
        return Program(circuit, compiled, decomposed=True)

    @property
    def machine(self) -> str | None:
        return self.backend_name

    def isa_circuits(self, program: Program) -> tuple[IsaCircuit, ...]:
        compiled: RuntimeProgram = program.compiled
        return compiled.isa

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

    def submit(
        self,
        program: Program,
        angles: Tensor,
        *,
        shots: int | None,
        seed: int | None = None,
        run: str = "",
        purpose: str = "",
        estimate: float | None = None,
        resume: bool = False,
    ) -> Job:
        """Send a batch: into the ledger first, then to IBM, as one job unless its limits make more of it.

        Args:
            program: From `prepare`.
            angles: Shape (B, P) in radians.
            shots: For every row and measurement basis.
            seed: Not used: a machine has none.
            run: Folder of the run that it belongs to, for the ledger.
            purpose: Such as `evaluation` or `gradient step 12`, for the ledger.
            estimate: QPU seconds expected, for the ledger.
            resume: Take up a job of this run and purpose with the same circuit, angles, shots and settings, if there is
                one that has not failed, instead of sending another.

        Raises:
            InputError: Shots or angles are not what a machine takes.
            Unreachable: IBM cannot be reached for ten minutes; the row stays and can be sent later.
            QHybridError: IBM refuses the job, or the ledger cannot be written.
        """
        rows = np.ascontiguousarray(angles.detach().double().cpu().numpy())
        shots = self._check(program, rows, shots)
        digest = self._digest(program, rows, shots)
        job = self._earlier(run, purpose, digest) if resume else None
        if job is None:
            job = self._written(program, rows, shots, digest, run, purpose, estimate)
        for row in job.rows:
            if row.state in ("prepared", "submitting"):
                try:
                    sent = send(self.ledger, self.client, row.tag)
                except QHybridError:
                    self._session_id = None  # it may have been closed
                    raise
                self._session_id = sent.session_id or self._session_id
        return job

    def close(self) -> None:
        """Close the session or batch, so that it is billed no further."""
        if self._session_id is not None:
            self.client.close(self.client.backend(self.backend_name), self.mode, self._session_id)
            self._session_id = None

    def _as_sent(self, each: IsaCircuit) -> QuantumCircuit:
        circuit = each.isa.copy()
        if not self._schedule:
            circuit.data = [part for part in circuit.data if part.name != "delay"]
        return circuit.remove_final_measurements(inplace=False) if self.primitive == "estimator" else circuit

    def _check(self, program: Program, rows: NDArray[np.float64], shots: int | None) -> int:
        if shots is None:
            raise InputError(f"{self.name}: a machine has no exact values; give shots, such as --shots 4096")
        check_shots(shots)
        backend = self.client.backend(self.backend_name)
        limit = min(MAX_EXECUTIONS, getattr(backend.configuration(), "max_shots", None) or MAX_EXECUTIONS)
        if shots > limit:
            raise InputError(f"{self.name}: shots = {shots}: {self.backend_name} takes at most {limit}")
        if rows.ndim != 2 or rows.shape[1] != program.circuit.n_angles or not np.isfinite(rows).all():
            raise InputError(f"{self.name}: angles must be finite, of shape (B, {program.circuit.n_angles})")
        return shots

    def _rows_a_job(self, program: Program, shots: int) -> int:
        """Rows of angles that fit into one job."""
        compiled: RuntimeProgram = program.compiled
        n_bases = len(compiled.isa)
        depth = max(1, *(each.isa.depth() for each in compiled.isa))
        columns = sum(max(1, len(each.isa.parameters)) for each in compiled.isa)
        executions = MAX_EXECUTIONS // (shots * n_bases) if self.primitive == "sampler" else MAX_EXECUTIONS
        payload = (MAX_PAYLOAD - 2 * len(compiled.qpy)) // (columns * BYTES_PER_ANGLE)
        return int(max(1, min(executions, MAX_INSTRUCTIONS // (depth * n_bases), payload)))

    def _written(
        self,
        program: Program,
        rows: NDArray[np.float64],
        shots: int,
        digest: str,
        run: str,
        purpose: str,
        estimate: float | None,
    ) -> Job:
        """The jobs of a batch in the ledger, none sent."""
        compiled: RuntimeProgram = program.compiled
        length = self._rows_a_job(program, shots)
        parts = [rows[start : start + length] for start in range(0, len(rows), length)]
        batch, created = f"batch-{secrets.token_hex(8)}", now()
        measured = [[each.qubits[place] for place in each.measured.values()] for each in compiled.isa]
        entries, files = [], {}
        for index, part in enumerate(parts):
            row = JobRow(
                backend=str(self.backend_name),
                circuit=program.circuit.name,
                settings=self._settings,
                layout={**layout_of(program.circuit, self.primitive, len(part)), "measured": measured},
                digest=digest,
                circuits=len(part) * len(compiled.isa),
                shots=shots,
                created=created,
                batch=batch,
                part=index,
                parts=len(parts),
                run=run,
                purpose=purpose,
                device=self.name,
                estimate=None if estimate is None else estimate * len(part) / len(rows),
                session_id=self._session_id,
                calibration_at_submit=compiled.calibration,
            )
            entries.append(row)
            with io.BytesIO() as file:
                np.savez(file, angles=part)
                files[row.tag] = {CIRCUITS: compiled.qpy, ANGLES: file.getvalue()}
        self.ledger.add(entries, files)
        n_circuits = sum(row.circuits for row in entries)
        self.tracker.count(circuits=n_circuits, shots=shots)
        self.tracker.jobs += len(entries) - 1
        return self._job(entries)

    def _earlier(self, run: str, purpose: str, digest: str) -> Job | None:
        for row in self.ledger.find(run=run, purpose=purpose, digest=digest):
            parts = self.ledger.find(batch=row.batch)
            if len(parts) == row.parts and not any(part.state in ("failed", "cancelled", "lost") for part in parts):
                return self._job(parts)
        return None

    def _job(self, rows: Sequence[JobRow]) -> Job:
        return Job(self.ledger, self.client, tuple(row.tag for row in rows), self._count_usage)

    def _count_usage(self, row: JobRow) -> None:
        if row.usage is not None:
            self.tracker.qpu_seconds = (self.tracker.qpu_seconds or 0.0) + row.usage

    def _digest(self, program: Program, rows: NDArray[np.float64], shots: int) -> str:
        """Of what is asked, whatever the layout: a new calibration does not make it other work."""
        circuit = program.circuit
        asked = [
            self.backend_name,
            {key: value for key, value in self._settings.items() if key != "job_tags"},
            circuit.n_qubits,
            [(gate.name, gate.wires, gate.slot) for gate in circuit.gates],
            [str(word) for word in circuit.observables],
            rows.shape,
            shots,
        ]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + rows.tobytes()).hexdigest()
