"""Two predictions of the same samples, side by side: paired differences with their intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.statistics import Interval, classification_metrics, paired_bootstrap_differences

BOOTSTRAP_DRAWS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcome:
    """What a head made of one set of samples: probabilities (N, C) from expectation values (N, M)."""

    probabilities: NDArray[np.float64]
    expectation_values: NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """How an outcome differs from a reference on the same samples."""

    reference: dict[str, float]
    """Metrics of the reference."""
    differences: dict[str, float]
    """Metric of the outcome - metric of the reference."""
    intervals: dict[str, Interval]
    """Of the differences, from the paired bootstrap over samples."""
    flipped: int
    """Samples whose predicted class differs."""
    largest: float
    """Largest absolute difference of an expectation value."""
    rms: float
    """Root of the mean square difference of the expectation values."""

    def to_dict(self) -> dict[str, Any]:
        """What a result's JSON holds."""
        return {
            "metrics": {
                metric: {
                    "value": value,
                    "difference": self.differences[metric],
                    "paired_bootstrap": list(self.intervals[metric]),
                }
                for metric, value in self.reference.items()
            },
            "flipped_predictions": self.flipped,
            "largest_difference_of_expectation_values": self.largest,
            "rms_difference_of_expectation_values": self.rms,
        }


def compare(labels: NDArray[np.int64], outcome: Outcome, reference: Outcome, *, seed: int) -> Comparison:
    """Compare an outcome with a reference.

    Args:
        labels: True classes, shape (N,).
        outcome: Of these samples.
        reference: Of the same samples in the same order.
        seed: Of the bootstrap.
    """
    before = classification_metrics(labels, reference.probabilities)
    after = classification_metrics(labels, outcome.probabilities)
    deviations = outcome.expectation_values - reference.expectation_values
    return Comparison(
        reference=before,
        differences={metric: value - before[metric] for metric, value in after.items()},
        intervals=paired_bootstrap_differences(
            labels,
            outcome.probabilities,
            reference.probabilities,
            n=BOOTSTRAP_DRAWS,
            seed=seed,
            confidence=CONFIDENCE,
        ),
        flipped=int((outcome.probabilities.argmax(axis=1) != reference.probabilities.argmax(axis=1)).sum()),
        largest=float(np.abs(deviations).max(initial=0.0)),  # classical heads have no expectation values
        rms=float(np.sqrt(np.mean(deviations**2))) if deviations.size else 0.0,
    )
