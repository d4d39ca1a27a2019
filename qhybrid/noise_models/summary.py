"""What a noise model amounts to: medians and ranges of its errors, times and durations, and what is faulty."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from qhybrid.circuits.gates import VIRTUAL_GATES
from qhybrid.noise_models.model import BEST_CASE, NoiseModel

Edge = tuple[int, int]


@dataclass(frozen=True)
class Spread:
    """Median, and the range of the middle 80 %."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """A noise model in numbers, at scale 1.

    Args:
        model: The noise model.
    """

    model: NoiseModel

    @property
    def age_days(self) -> int | None:
        """Days since the calibration; None for a model without a date."""
        if self.model.date is None:
            return None
        calibrated = datetime.fromisoformat(self.model.date)
        return (datetime.now(UTC) - (calibrated if calibrated.tzinfo else calibrated.replace(tzinfo=UTC))).days

    @property
    def usable_qubits(self) -> tuple[int, ...]:
        """Qubits that circuits may be laid on."""
        return tuple(q for q in range(self.model.n_qubits) if q not in self.model.faulty_qubits)

    @property
    def basis_gates(self) -> tuple[str, ...]:
        """Names of the gates that can be used."""
        return tuple(sorted({name for name, _ in self.model.gates}))

    @property
    def two_qubit_gate(self) -> str:
        """The two-qubit gate that most pairs of qubits have; empty if there is none."""
        counts = Counter(name for name, qubits in self.model.gates if len(qubits) == 2)
        return max(sorted(counts), key=lambda name: counts[name], default="")

    @cached_property
    def edge_errors(self) -> dict[Edge, float]:
        """Pair of qubits -> error of its two-qubit gate, the better one of several."""
        errors: dict[Edge, float] = {}
        for (_, qubits), calibration in self.model.gates.items():
            if len(qubits) == 2:
                edge = (min(qubits), max(qubits))
                errors[edge] = min(calibration.error, errors.get(edge, 1.0))
        return dict(sorted(errors.items()))

    @cached_property
    def readout_errors(self) -> dict[int, float]:
        """Qubit -> mean of P(1 | 0) and P(0 | 1)."""
        return {q: float(self.model.readout[q].mean()) for q in self.usable_qubits}

    @cached_property
    def spreads(self) -> dict[str, Spread]:
        """Quantity -> its spread over the usable qubits or edges; those that the model does not have are left out."""
        model, qubits = self.model, list(self.usable_qubits)
        single = [c for (name, on), c in model.gates.items() if len(on) == 1 and name not in VIRTUAL_GATES]
        pairs = [c for (_, on), c in model.gates.items() if len(on) == 2]
        values: dict[str, Iterable[float]] = {
            "T1 [us]": model.t1[qubits] * 1e6,
            "T2 [us]": model.t2[qubits] * 1e6,
            "one-qubit gate error": [each.error for each in single],
            "two-qubit gate error": self.edge_errors.values(),
            "readout error": self.readout_errors.values(),
            "one-qubit gate [ns]": [each.duration * 1e9 for each in single],
            "two-qubit gate [ns]": [each.duration * 1e9 for each in pairs],
            "readout [ns]": model.readout_duration[qubits] * 1e9,
        }
        found = {}
        for quantity, each in values.items():
            finite = [value for value in map(float, each) if np.isfinite(value)]
            if finite:
                low, median, high = (float(each) for each in np.percentile(finite, [10, 50, 90]))
                found[quantity] = Spread(median, low, high)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        model = self.model
        return {
            "name": model.name,
            "description": model.description,
            "date": model.date,
            "age_days": self.age_days,
            "qubits": model.n_qubits,
            "usable_qubits": len(self.usable_qubits),
            "edges": len(self.edge_errors),
            "basis_gates": list(self.basis_gates),
            "two_qubit_gate": self.two_qubit_gate,
            "idle_noise": model.idle,
            "quantities": {name: asdict(spread) for name, spread in self.spreads.items()},
            "faulty_qubits": list(model.faulty_qubits),
            "faulty_edges": [list(edge) for edge in model.faulty_edges],
            "remarks": [*model.remarks, BEST_CASE],
            "fingerprint": model.fingerprint,
        }
