"""A study's quantum kernel on a device: fitted to the features of one run under one condition, once, and kept."""

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from qhybrid.experiments.cells import condition_digest, run_digest
from qhybrid.experiments.device_choice import DeviceOptions
from qhybrid.experiments.grid import Cell
from qhybrid.experiments.kernel_baselines import evaluate_quantum_kernel
from qhybrid.experiments.runs import open_run
from qhybrid.experiments.study_runs import SPLIT
from qhybrid.storage import write_arrays

FORMAT = 1
"""Of a file; another one computes all anew."""


@dataclass(frozen=True)
class KernelTask:
    """What is to be computed.

    Args:
        run: Folder of the run whose features the kernel is fitted to.
        cell: The condition.
        seed: Of the draws of samples, and of the shots.
    """

    run: str
    cell: Cell
    seed: int

    @cached_property
    def file(self) -> Path:
        """Where its predictions are kept, named by all that they depend on."""
        run = Path(self.run)
        depends = [FORMAT, run_digest(run, ("train", "validation", SPLIT)), condition_digest(self.cell), self.seed]
        key = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:24]
        return run / "comparison" / "kernels" / f"{key}.npz"

    def compute(self) -> str:
        """Compute it, unless it is there; returns the path of its file, which has the arrays of a cell's."""
        if not self.file.exists():
            cell = self.cell
            asked: DeviceOptions = {
                "device": cell.device,
                "shots": cell.shots,
                "noise": cell.noise,
                "noise_scale": None if cell.noise is None else cell.noise_scale,
                "layout_seeds": cell.layout_seeds,
            }
            quiet = Console(file=io.StringIO())
            found = evaluate_quantum_kernel(open_run(self.run), split=SPLIT, seed=self.seed, console=quiet, **asked)
            predictions, exact = found.predictions, found.predictions.reference
            write_arrays(
                self.file,
                {
                    "labels": predictions.labels,
                    "repeated_probabilities": predictions.probabilities[None],
                    "reference_probabilities": predictions.probabilities if exact is None else exact.probabilities,
                },
            )
        return str(self.file)
