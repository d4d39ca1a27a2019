"""The second half of mitigation: results of the runs -> estimates, in the same process or from the rows of a ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qhybrid.circuits.circuit import Circuit
from qhybrid.circuits.observables import MeasurementBasis, PauliWord
from qhybrid.devices.base import Estimates
from qhybrid.devices.job_row import JobRow
from qhybrid.devices.mitigation_readout import Confusion, WordReading
from qhybrid.devices.mitigation_spec import Mitigation
from qhybrid.devices.mitigation_zne import extrapolate

RECIPE = "mitigation"
"""Key of a job's request under which the ledger keeps how its result is combined."""


@dataclass
class Tally:
    """Extrapolations so far."""

    values: int = 0
    """Values that were extrapolated."""
    failed: int = 0
    """Those of them that no exponential fits."""

    @property
    def remark(self) -> str | None:
        """What must be said of them; None: nothing."""
        if not self.failed:
            return None
        return (
            f"exponential extrapolation did not fit {self.failed} of {self.values} values (lost in noise, of both "
            "signs, or beyond 1): linear there"
        )


def combine(
    mitigation: Mitigation,
    readings: Sequence[WordReading],
    read: Tensor,
    shots: int | None,
    confusion: Confusion | None,
    tally: Tally,
) -> Estimates:
    """Mitigated estimates.

    Args:
        mitigation: What is done.
        readings: What is read in each measurement basis.
        read: Means of their words, at one multiple of the noise after the other, shape (B, W).
        shots: That they were estimated from; None: they are exact.
        confusion: Of the readout; None: its errors stay.
        tally: Counts the extrapolations.

    Returns:
        Shape (B, M), float64. The standard errors hold the shot noise as the inversion and the extrapolation
        amplify it, and that of the calibration, which all rows share. Values are not clipped to [-1, 1].
    """
    read = read.double()
    corrected = []
    start = 0
    for _ in mitigation.factors:
        parts = []
        for reading in readings:
            width = len(reading.words) - 1
            parts.append(reading.correct(read[:, start : start + width], shots, confusion))
            start += width
        corrected.append(parts)
    order = np.argsort([member for reading in readings for member in reading.basis.members])
    values, variances, slopes = (
        torch.stack([torch.cat([getattr(part, name) for part in parts], dim=1)[:, order] for parts in corrected])
        for name in ("values", "variances", "slopes")
    )
    zne = mitigation.zne
    if zne is None:
        shared = slopes[0]
        mitigated, variance = values[0], variances[0]
    else:
        found = extrapolate(zne.extrapolation, zne.factors, values, variances)
        tally.failed += int(found.failed.sum())
        tally.values += found.failed.numel()
        mitigated = found.values
        variance = (found.slopes.detach() ** 2 * variances).sum(dim=0)
        shared = (found.slopes.detach()[..., None, None] * slopes).sum(dim=0)
    if confusion is not None:
        variance = variance + (shared**2 * torch.from_numpy(confusion.variances).to(shared)).sum(dim=(2, 3))
    return Estimates(mitigated, variance.sqrt())


def calibrated(readings: Sequence[WordReading], result: Estimates) -> Confusion:
    """The readout of the qubits that are read, from the result of its calibration."""
    values, errors = (each.detach().double().cpu().numpy().reshape(2, -1) for each in (result.values, result.stderr))
    qubits = list(dict.fromkeys(qubit for reading in readings for qubit in reading.qubits))
    place = {qubit: index for index, qubit in enumerate(qubits)}
    return Confusion(place, values[0], values[1], errors**2)


def recipe(mitigation: Mitigation, circuit: Circuit, readings: Sequence[WordReading]) -> dict[str, Any]:
    """All that `combine_jobs` needs beside the results, as JSON for the ledger.

    Args:
        mitigation: What is done.
        circuit: Without mitigation.
        readings: What is read in each measurement basis.
    """
    return {
        "label": mitigation.label,
        "settings": mitigation.model_dump(mode="json"),
        "circuit": circuit.name,
        "n_qubits": circuit.n_qubits,
        "observables": [str(word) for word in circuit.observables],
        "readings": [
            {
                "paulis": [list(pair) for pair in each.basis.paulis],
                "members": list(each.basis.members),
                "qubits": list(each.qubits),
            }
            for each in readings
        ],
    }


def combine_jobs(
    rows: Sequence[JobRow], main: Estimates, readout: Estimates | None, *, repeats: int = 1
) -> tuple[Estimates, str | None]:
    """Estimates of a batch from the ledger's rows and the results alone, in whatever process.

    Args:
        rows: Of its jobs.
        main: Of the batch, at all multiples of the noise, the jobs one below the other.
        readout: Of the calibration of the readout; None: there was none.
        repeats: How often the batch holds every sample, of which the mean will be taken as of independent values. They
            share the calibration, so that its variance is counted as often.

    Returns:
        As of `combine`, or `main` itself where nothing is mitigated; and what must be said of it, None: nothing.
    """
    how = rows[0].request.get(RECIPE)
    if how is None:
        return main, None
    words = [PauliWord.parse(word, how["n_qubits"]) for word in how["observables"]]
    mitigation = Mitigation(**how["settings"])
    readings = [
        WordReading(
            MeasurementBasis(tuple((wire, pauli) for wire, pauli in each["paulis"]), tuple(each["members"])),
            words,
            mitigation.readout,
            each["qubits"],
        )
        for each in how["readings"]
    ]
    confusion, tally = None, Tally()
    if readout is not None:
        confusion = calibrated(readings, readout)
        confusion = replace(confusion, variances=repeats * confusion.variances)
    return combine(mitigation, readings, main.values, rows[0].shots, confusion, tally), tally.remark
