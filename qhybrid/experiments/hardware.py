"""An evaluation on a machine: sent as one job, turned into metrics by whoever asks for it once it is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from qhybrid.circuits.isa import IsaReport, verdict, worst
from qhybrid.devices.base import Device, Estimates
from qhybrid.devices.job_row import OPEN, JobRow
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.mitigation import MitigatedJobs
from qhybrid.devices.mitigation_combine import combine_jobs
from qhybrid.devices.mitigation_program import MitigatedProgram
from qhybrid.devices.runtime import Job, RuntimeDevice
from qhybrid.devices.runtime_client import Client
from qhybrid.devices.runtime_cost import RuntimeEstimate
from qhybrid.devices.runtime_jobs import job_of
from qhybrid.devices.runtime_messages import Progress
from qhybrid.devices.runtime_program import RuntimeProgram
from qhybrid.devices.runtime_pubs import angles_sent
from qhybrid.devices.runtime_raw import read_readout
from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.device_choice import mitigation_label
from qhybrid.experiments.heads import ClassifierHead
from qhybrid.experiments.job_records import describe_jobs, elapsed, goes_on, name_of, was_sent
from qhybrid.experiments.measurement import Evaluation, measure
from qhybrid.experiments.run_folder import Run
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.spec import DeviceChoice
from qhybrid.experiments.split_predictions import (
    REFERENCE_DEVICE,
    exact_expectation_values,
    predictions_from,
    samples_of,
)
from qhybrid.experiments.waiting import StatusLine
from qhybrid.layer import QuantumLayer

EVALUATION = "evaluation"
"""Kind of request that `evaluate_job` turns into metrics."""


@dataclass(frozen=True)
class Submission:
    """An evaluation that a machine is asked for. `Submission.of` makes it.

    Args:
        run: What is evaluated.
        layer: On the machine.
        device: Its device, with or without mitigation.
        angles: Of all samples, as often as there are repeats, (R * N, P).
        request: Split, limit, repeats and seed, for whoever collects the result.
    """

    run: Run
    layer: QuantumLayer
    device: RuntimeDevice | MitigatedJobs
    angles: Tensor
    request: dict[str, Any]

    @classmethod
    def of(
        cls, run: Run, head: ClassifierHead, *, split: str, limit: int | None, repeats: int, seed: int
    ) -> "Submission":
        """Prepare an evaluation.

        Args:
            run: A complete run.
            head: Its head on the machine, from `evaluation.open_head`.
            split: As in `evaluation.evaluate`, and so on.
            limit: As in `evaluate`.
            repeats: As in `evaluate`.
            seed: Of the samples that are drawn, and of the bootstrap. A machine's shots have none; but an evaluation
                that was sent before is sent again only with another seed.

        Raises:
            InputError: The head has no quantum layer, or not on a machine.
        """
        layer = head.layer
        if layer is None or not is_machine(layer.device):
            what = f"its head is {run.spec.model.head!r}" if layer is None else f"{layer.device.name} is no machine"
            raise InputError(f"run {str(run.path)!r} cannot be sent: {what}; give --backend, such as ibm_fez")
        stored = samples_of(run, split, limit, seed=seed)
        with torch.no_grad():
            angles = layer.angles(head.quantum_features(torch.from_numpy(stored.features)))
        request = {"kind": EVALUATION, "split": split, "limit": limit, "repeats": repeats, "seed": seed}
        return cls(run, layer, layer.device, angles.repeat(repeats, 1), request)  # type: ignore[arg-type]

    @property
    def purpose(self) -> str:
        """What the ledger says that the job is for."""
        limit, repeats = self.request["limit"], self.request["repeats"]
        parts = [
            f"evaluation of {self.request['split']}",
            *([f"{limit} samples"] if limit is not None else []),
            *([f"{repeats} repeats"] if repeats > 1 else []),
            f"seed {self.request['seed']}",
        ]
        return ", ".join(parts)

    @property
    def calibration(self) -> str | None:
        """Date of the calibration that the layout was chosen for, ISO 8601."""
        compiled = self.layer.program.compiled
        sent: RuntimeProgram = compiled.main.compiled if isinstance(compiled, MitigatedProgram) else compiled
        return sent.calibration

    @property
    def report(self) -> IsaReport:
        """What the costliest circuit costs on the machine."""
        return worst([isa.report for isa in self.device.isa_circuits(self.layer.program)])

    @property
    def folded_report(self) -> IsaReport | None:
        """The same at the largest multiple of the noise; None: circuits run as they are only."""
        compiled = self.layer.program.compiled
        if len(self.noise_factors) == 1:
            return None
        sent: RuntimeProgram = compiled.main.compiled
        return worst([isa.report for isa in sent.isa[-len(compiled.readings) :]])

    @property
    def verdict(self) -> str:
        """What that means for the result."""
        return verdict(self.report, self.layer.circuit.name, str(self.device.machine))

    @property
    def mitigation(self) -> str | None:
        """What mitigation is asked for; None: none."""
        return mitigation_label(self.layer)

    @property
    def noise_factors(self) -> tuple[int, ...]:
        """Multiples of the noise at which every circuit runs."""
        return self.device.mitigation.factors if isinstance(self.device, MitigatedJobs) else (1,)

    def estimate(self) -> RuntimeEstimate:
        """What it would cost."""
        return self.device.estimate(self.layer.program, len(self.angles), shots=self.layer.shots)

    def estimate_unmitigated(self) -> RuntimeEstimate | None:
        """What it would cost without mitigation; None: it has none."""
        if not isinstance(self.device, MitigatedJobs):
            return None
        return self.device.estimate_unmitigated(self.layer.program, len(self.angles), shots=self.layer.shots)

    def estimate_rows(self, n_rows: int) -> RuntimeEstimate:
        """What other rows of angles would cost on the same machine, its readout known."""
        if isinstance(self.device, MitigatedJobs):
            return self.device.estimate(self.layer.program, n_rows, shots=self.layer.shots, calibrated=True)
        return self.device.estimate(self.layer.program, n_rows, shots=self.layer.shots)

    def earlier(self) -> Job | None:
        """The job of the same evaluation that was sent before and has not failed; None: there is none."""
        return self.device.earlier(
            self.layer.program, self.angles, shots=self.layer.shots, run=self._run_name, purpose=self.purpose
        )

    def send(self) -> Job:
        """Send it, unless it was sent before.

        Raises:
            Interrupted: Ctrl-C while it was being sent; the message says how to go on.
        """
        try:
            return self.device.submit(
                self.layer.program,
                self.angles,
                shots=self.layer.shots,
                run=self._run_name,
                purpose=self.purpose,
                request=self.request,
                resume=True,
            )
        except KeyboardInterrupt:
            job = self.earlier()
            raise Interrupted("interrupted; nothing was sent" if job is None else goes_on(job.rows)) from None
        finally:
            self.device.close()

    def evaluate(self, console: Console) -> Evaluation:
        """Send it unless it was sent before, and wait for it (see `wait`)."""
        if (sent := self.earlier()) is not None:
            console.print(was_sent(sent), highlight=False, markup=False, soft_wrap=True)
        return self.wait(self.send(), console)

    def wait(self, job: Job, console: Console) -> Evaluation:
        """Wait for its job, and compute the metrics; predictions and results are written.

        Args:
            job: From `send`.
            console: Where the state of the job goes.

        Raises:
            Interrupted: Ctrl-C; the job goes on, and the message says how to collect it.
            QHybridError: As in `collect`.
        """
        device: RuntimeDevice = self.device.device if isinstance(self.device, MitigatedJobs) else self.device
        with StatusLine(console) as status:
            return evaluate_job(
                job.rows[0], device.ledger, client=device.client, run=self.run, timeout=device.timeout, progress=status
            )

    @property
    def _run_name(self) -> str:
        return str(self.run.path.resolve())


def is_machine(device: Device) -> bool:
    """Whether a device keeps its jobs in the ledger."""
    return isinstance(device.device if isinstance(device, MitigatedJobs) else device, RuntimeDevice)


def evaluate_job(
    row: JobRow,
    ledger: Ledger,
    *,
    client: Client | None = None,
    run: Run | None = None,
    timeout: float | None = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Collect an evaluation and compute its metrics, in whatever process.

    Args:
        row: Any job of it.
        ledger: That the job is in.
        client: Connection to the service; None: a new one.
        run: Its run; None: the folder that the ledger names.
        timeout: Seconds to wait; None: as long as it takes; 0: ask once.
        progress: Told after every question.

    Returns:
        The evaluation; `predictions/<name>.npz` and `results/<name>.json` are written into the run.

    Raises:
        InputError: The job belongs to a training, or the run is gone or was changed since.
        Interrupted: Ctrl-C while it was waited for; the job goes on.
        QHybridError: As in `collect`.
    """
    if row.request.get("kind") != EVALUATION:
        raise InputError(f"job {row.tag} is for {row.purpose or 'a program of yours'}: there are no metrics of it")
    job = job_of(row, ledger, client)
    try:
        found = job.result(timeout=timeout, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted(goes_on(job.rows)) from None
    rows = job.rows
    split, limit, repeats, seed = (row.request[key] for key in ("split", "limit", "repeats", "seed"))
    run = run or _run_of(row)
    stored = samples_of(run, split, limit, seed=seed)
    head = run.load_head(DeviceChoice(name=REFERENCE_DEVICE), seed=seed)
    assert head.layer is not None
    with torch.no_grad():
        inputs = head.quantum_features(torch.from_numpy(stored.features))
    _check_unchanged(run, head.layer, inputs, rows, ledger, repeats)
    estimates, remark = combine_jobs(rows, found, read_readout(ledger, job.client, rows), repeats=repeats)
    drawn = Estimates(*(each.reshape(repeats, len(inputs), -1) for each in (estimates.values, estimates.stderr)))
    evaluation = measure(
        run,
        name_of(row),
        predictions_from(head, stored, drawn, exact_expectation_values(head.layer, inputs)),
        split=split,
        seed=seed,
        timings={"run": elapsed(rows)},
        device=describe_jobs(rows) | {"remark": remark},
        noise=None,
    )
    evaluation.write()
    return evaluation


def is_open(row: JobRow, ledger: Ledger) -> bool:
    """Whether something remains to be collected: a result, or the metrics of one.

    Args:
        row: The first job of a batch.
        ledger: That it is in.
    """
    if any(part.state in OPEN for part in ledger.find(batch=row.batch)):
        return True
    if row.state != "collected" or row.request.get("kind") != EVALUATION or not Path(row.run).is_dir():
        return False
    return not (Path(row.run) / "results" / f"{name_of(row)}.json").exists()


def _run_of(row: JobRow) -> Run:
    if not Path(row.run).is_dir():
        raise InputError(
            f"job {row.tag}: its run folder {row.run!r} is gone; the raw result is kept: give the folder with --run"
        )
    return open_run(row.run)


def _check_unchanged(
    run: Run, layer: QuantumLayer, inputs: Tensor, rows: Sequence[JobRow], ledger: Ledger, repeats: int
) -> None:
    """Raise an InputError if a run no longer gives the angles that were sent."""
    with torch.no_grad():
        angles = layer.circuit.expanded().parameters(inputs.double(), layer.weights.double()).repeat(repeats, 1)
    sent = np.concatenate([angles_sent(ledger.files(row.tag)) for row in rows])
    if sent.shape != tuple(angles.shape) or not np.allclose(sent, angles.numpy(), atol=1e-6):
        raise InputError(f"run {str(run.path)!r} is not as it was when job {rows[0].tag} was sent: its angles differ")
