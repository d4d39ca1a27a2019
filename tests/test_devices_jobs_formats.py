"""Ledgers of other versions of qhybrid."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from job_rows import row

from qhybrid.devices import jobs
from qhybrid.devices.jobs import Ledger
from qhybrid.errors import QHybridError


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "data")


def test_a_ledger_of_a_newer_version_is_not_touched(ledger: Ledger) -> None:
    ledger.add([row()], {})
    with sqlite3.connect(ledger.path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(QHybridError, match="newer qhybrid"):
        ledger.find()


def test_an_older_ledger_is_migrated(ledger: Ledger) -> None:
    written = row(request={"split": "test"})
    ledger.add([written], {})
    with sqlite3.connect(ledger.path) as database:  # format 1 had no requests
        database.execute("ALTER TABLE jobs DROP COLUMN request")
        database.execute("PRAGMA user_version = 1")
    database.close()
    assert ledger.by_tag(written.tag) == replace(written, request={})
    assert len(ledger.find()) == 1


def test_an_older_qhybrid_leaves_jobs_alone_that_it_would_send_wrong(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Format 2 knows of no circuits that calibrate the readout."""
    written = row(layout={"bases": []})
    ledger.add([written], {})
    with sqlite3.connect(ledger.path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    mitigated = row(layout={"bases": [], "readout": {"bases": [1, 2], "shots": 500}}, circuits=5, shots=100)
    ledger.add([mitigated], {})
    assert ledger.by_tag(written.tag).executions == 3 * 100
    assert ledger.by_tag(mitigated.tag).executions == 3 * 100 + 2 * 500
    monkeypatch.setattr(jobs, "VERSION", 2)
    with pytest.raises(QHybridError, match=r"newer qhybrid \(format 3, not 2\)"):
        ledger.claim(mitigated.tag)
