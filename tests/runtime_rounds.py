"""Rounds of faults: one job through an emulator with random timing, and what must hold afterwards."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback import MACHINE, NOISE, in_haste

from qhybrid.circuits.spec import load_circuit
from qhybrid.devices.base import Estimates, Program
from qhybrid.devices.job_row import JobRow
from qhybrid.devices.jobs import Ledger
from qhybrid.devices.runtime import RuntimeDevice
from qhybrid.devices.runtime_client import Client
from qhybrid.devices.runtime_jobs import Job, collect
from qhybrid.devices.runtime_results import estimates
from qhybrid.devices.spec import load_device
from qhybrid.emulator.faults import Faults
from qhybrid.emulator.running import RunningEmulator
from qhybrid.noise_models.spec import load_noise_model

N_ROUNDS = 20
SHOTS = 1000
SIGMAS = 5.0
WAIT = 180.0
"""Seconds in which a job must have ended."""
ANGLES = [[0.3, 0.8, 1.3, 1.8, 0.5, 1.0, 1.5, 0.7], [1.1, 0.6, 2.0, 1.2, 0.9, 1.4, 0.4, 1.6]]


def rounds(*, quick: int = 1) -> pytest.MarkDecorator:
    """Seeds 0 to 19 as `seed`; all but the first few run with the slow tests."""
    seeds = [pytest.param(seed, marks=[pytest.mark.slow] if seed >= quick else []) for seed in range(N_ROUNDS)]
    return pytest.mark.parametrize("seed", seeds, ids=lambda seed: f"seed{seed}")


def ran(emulator: RunningEmulator, before: dict[str, int]) -> dict[str, int]:
    """What the server did since, without what is zero."""
    return {key: value - before[key] for key, value in emulator.counters().items() if value != before[key]}


def exact_values() -> torch.Tensor:
    """Of `ANGLES`, by Aer with the same noise on the same layout, (B, M)."""
    device = load_device("qiskit.aer", noise=load_noise_model(NOISE), layout_seeds=2)
    return device.run(device.prepare(load_circuit("angle_4q")), angles(), shots=None, seed=None).values


def angles() -> torch.Tensor:
    """What is sent, (B, P)."""
    return torch.tensor(ANGLES, dtype=torch.float64)


@dataclass
class Stand:
    """A device on an emulator, laid out once for many rounds."""

    emulator: RunningEmulator
    device: RuntimeDevice
    program: Program
    exact: torch.Tensor

    @classmethod
    def of(cls, emulator: RunningEmulator) -> "Stand":
        device = RuntimeDevice(backend=MACHINE, layout_seeds=2)
        return cls(emulator, device, device.prepare(load_circuit("angle_4q")), exact_values())

    @contextmanager
    def round(self, seed: int, folder: Path) -> Iterator["Round"]:
        """One round with a ledger of its own; its faults end with it."""
        with pytest.MonkeyPatch.context() as patch:
            in_haste(patch, folder)
            self.device.ledger = Ledger()
            here = Round(self, random.Random(seed), self.emulator.counters())
            try:
                yield here
            finally:
                for timer in here.timers:
                    timer.join()
                self.emulator.set_faults(**asdict(Faults()))


@dataclass
class Round:
    """One job and the faults that it meets."""

    stand: Stand
    draw: random.Random
    before: dict[str, int]
    timers: list[threading.Timer] = field(default_factory=list)

    @property
    def emulator(self) -> RunningEmulator:
        return self.stand.emulator

    @property
    def ledger(self) -> Ledger:
        return self.stand.device.ledger

    def submit(self, **options: Any) -> Job:
        return self.stand.device.submit(self.stand.program, angles(), shots=SHOTS, **options)

    def later(self, longest: float, action: Any, **options: Any) -> None:
        """Do something at a random moment within so many seconds."""
        timer = threading.Timer(self.draw.uniform(0, longest), action, kwargs=options)
        timer.start()
        self.timers.append(timer)

    def away(self, seconds: float) -> None:
        """Refuse connections for so long."""
        self.emulator.stop()
        timer = threading.Timer(seconds, self.emulator.restart)
        timer.start()
        self.timers.append(timer)

    def wait(self) -> None:
        """Until all that was to be done later is done."""
        for timer in self.timers:
            timer.join()

    def ran(self) -> dict[str, int]:
        return ran(self.emulator, self.before)

    def finish(self, job: Job, *, n_jobs: int = 1, restarted: bool = False) -> Estimates:
        """Wait for the job, and check that exactly one ran and that its result came whole.

        Args:
            job: Sent in whatever way.
            n_jobs: Jobs that the server has had in this round.
            restarted: The server was, so that it may have begun to run the job twice; it has ended it once.
        """
        found = job.result(timeout=WAIT)
        self.wait()
        (row,) = job.rows
        self.check(row, found, n_jobs=n_jobs, restarted=restarted)
        return found

    def check(self, row: JobRow, found: Estimates, *, n_jobs: int = 1, restarted: bool = False) -> None:
        """That a job ran once, its values are right, its row says so, and a second collect asks for nothing."""
        done = self.ran()
        assert done["accepted"] == done["completed"] == n_jobs, done
        assert done["started"] == n_jobs or (restarted and done["started"] > n_jobs), done
        assert done["shots"] == n_jobs * SHOTS * len(ANGLES)
        row = self.ledger.by_tag(row.tag)
        assert (row.state, row.owner, row.error) == ("collected", None, None)
        assert row.job_id in [each["id"] for each in self.emulator.jobs() if row.tag in each["tags"]]
        kept = estimates((self.ledger.files(row.tag) / "result.json").read_text(), row.layout, row.shots)
        torch.testing.assert_close(found.values, kept.values)
        sigma = ((1 - self.stand.exact**2) / SHOTS).sqrt()
        assert float(((found.values - self.stand.exact) / sigma).abs().max()) < SIGMAS
        before = self.emulator.counters()
        again = collect(row, self.ledger, client=Client(), timeout=0)
        torch.testing.assert_close(again.values, found.values)
        assert self.emulator.counters() == before
