"""What one condition wins over another on the same images: paired differences of its metrics, kept like cells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qhybrid.errors import InputError
from qhybrid.experiments.comparison import BOOTSTRAP_DRAWS, CONFIDENCE
from qhybrid.statistics import paired_distributions
from qhybrid.storage import read_arrays, read_json, write_json


@dataclass(frozen=True)
class GainTask:
    """Two cells to be compared.

    Args:
        before: File of one cell.
        after: File of the other, of the same run or of another one of the same data.
        seed: Of the bootstrap.
    """

    before: str
    after: str
    seed: int

    @property
    def file(self) -> Path:
        """Where the result is kept: in the run of `before`. The names of cells hold all that it depends on."""
        before, after = Path(self.before), Path(self.after)
        return before.parent.parent / "gains" / f"{before.stem}-{after.stem}.json"


def compute_gain(task: GainTask) -> str:
    """Compute a gain, unless it is there; returns the path of its file.

    The bootstrap is over images and, where shots were drawn, over repeats, which are paired by their number.

    Raises:
        InputError: The cells are of different images.
    """
    file = task.file
    if not file.exists():
        names = ("ids", "labels", "repeated_probabilities")
        before, after = (read_arrays(Path(each).with_suffix(".npz"), names) for each in (task.before, task.after))
        if not all(np.array_equal(before[name], after[name]) for name in ("ids", "labels")):
            raise InputError(f"{task.before} and {task.after}: different images cannot be paired")
        found = paired_distributions(
            before["labels"],
            after["repeated_probabilities"],
            before["repeated_probabilities"],
            n=BOOTSTRAP_DRAWS,
            seed=task.seed,
        )
        metrics = {
            name: {
                "difference": distribution.estimate,
                "interval": list(distribution.interval(CONFIDENCE)),
                "p": distribution.p_value(),
            }
            for name, distribution in found.items()
        }
        write_json(file, {"before": Path(task.before).stem, "after": Path(task.after).stem, "metrics": metrics})
    return str(file)


def read_gain(task: GainTask) -> dict[str, dict[str, Any]]:
    """What `compute_gain` wrote: metric -> difference, interval, p."""
    metrics: dict[str, dict[str, Any]] = read_json(task.file)["metrics"]
    return metrics
