"""Raw results on the disk, and the expectation values in them."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from qhybrid.devices.base import Estimates
from qhybrid.devices.job_row import JobRow
from qhybrid.devices.jobs import Ledger, write
from qhybrid.devices.runtime_client import Client
from qhybrid.devices.runtime_results import estimates, readout_estimates

RESULT = "result.json"
"""File of a job with its raw result."""


def read_estimates(ledger: Ledger, client: Client, rows: Sequence[JobRow]) -> Estimates:
    """Expectation values of jobs that are done, one below the other.

    Args:
        ledger: That they are in.
        client: Asked for a raw result that is not on the disk, or damaged there; it is saved before it is used.
        rows: The jobs.

    Returns:
        Values and standard errors, shape (B, M), float64.
    """
    parts = [estimates(_raw(ledger, client, row), row.layout, row.shots) for row in rows]
    return Estimates(torch.cat([each.values for each in parts]), torch.cat([each.stderr for each in parts]))


def read_readout(ledger: Ledger, client: Client, rows: Sequence[JobRow]) -> Estimates | None:
    """What the circuits that calibrated the readout gave, shape (1, M); None: none of these jobs has any.

    Args:
        ledger: As in `read_estimates`, and so on.
        client: As in `read_estimates`.
        rows: As in `read_estimates`.
    """
    own = next((row for row in rows if "readout" in row.layout), None)
    return None if own is None else readout_estimates(_raw(ledger, client, own), own.layout)


def _raw(ledger: Ledger, client: Client, row: JobRow) -> str:
    """The raw result, from its file if that is whole; else fetched, and on the disk before it is used."""
    path = ledger.files(row.tag) / RESULT
    text = _whole(path)
    if text is None:
        assert row.job_id is not None
        text = client.result(row.job_id)
        write(path, text.encode("utf-8"))
    return text


def _whole(path: Path) -> str | None:
    """A raw result on disk; None: it is missing or damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except (OSError, ValueError):
        return None
    return text
