"""The ledger of hardware jobs: one row a job, written before anything is sent, shared by any number of processes.

SQLite in the user's data folder, with the circuits, angles and raw results as files beside it. No credential is ever
part of a row.
"""

import dataclasses
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from qhybrid.devices.job_row import TRANSITIONS, JobRow, is_this_process, may_be_alive, now, this_process
from qhybrid.errors import InputError, QHybridError, did_you_mean
from qhybrid.storage import write_bytes

FOLDER_VARIABLE = "QHYBRID_DATA"
"""Environment variable that moves the ledger."""
VERSION = 3
"""Of the tables and of what is in them; `_MIGRATIONS[v]` turns version v into v + 1."""
LOCK_SECONDS = 30.0
"""How long another process's transaction is waited for."""
FULL = 2**20
"""Bytes left on a disk at which an error of writing is put down to it."""

_SCHEMA = """
CREATE TABLE jobs (
    tag TEXT PRIMARY KEY, batch TEXT NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL, state TEXT NOT NULL,
    run TEXT NOT NULL, purpose TEXT NOT NULL, device TEXT NOT NULL, settings TEXT NOT NULL, backend TEXT NOT NULL,
    circuit TEXT NOT NULL, layout TEXT NOT NULL, digest TEXT NOT NULL, circuits INTEGER NOT NULL,
    shots INTEGER NOT NULL, estimate REAL, created TEXT NOT NULL, job_id TEXT, session_id TEXT, submitted TEXT,
    finished TEXT, collected TEXT, attempts INTEGER NOT NULL, owner TEXT, claimed TEXT, usage REAL,
    calibration_at_submit TEXT, calibration_at_collect TEXT, error TEXT, request TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX jobs_of_run ON jobs (run, purpose);
CREATE INDEX jobs_of_batch ON jobs (batch, part);
"""
_MIGRATIONS: dict[int, Callable[[sqlite3.Connection], object]] = {
    1: lambda database: database.execute("ALTER TABLE jobs ADD COLUMN request TEXT NOT NULL DEFAULT '{}'"),
    2: lambda _: None,  # a layout may have circuits that calibrate the readout, which format 2 would not send
}


_CLAIMING = threading.Lock()
_AT_WORK: set[tuple[Path, str]] = set()
"""Ledger and tag of the jobs that this process is sending."""
_COLUMNS = tuple(each.name for each in dataclasses.fields(JobRow))
_JSON = ("settings", "layout", "request")


class Ledger:
    """The jobs of this user.

    Every method is one short transaction; any number of processes may call them at once.

    Args:
        folder: Where it is kept; None: `QHYBRID_DATA`, or the user's data folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        chosen = os.environ.get(FOLDER_VARIABLE)
        self.folder = folder or (Path(chosen).expanduser() if chosen else Path(user_data_dir("qhybrid")))
        self.path = self.folder / "jobs.sqlite3"

    def files(self, tag: str) -> Path:
        """The folder of a job's circuits, angles and raw result."""
        return self.folder / "jobs" / tag

    def add(self, rows: Sequence[JobRow], files: Mapping[str, Mapping[str, bytes]]) -> None:
        """Write new jobs, all of them or none: first their files, then their rows.

        Args:
            rows: In state `prepared`.
            files: tag -> name -> content.

        Raises:
            QHybridError: The disk is full, or the ledger is damaged or stays locked.
        """
        try:
            for row in rows:
                for name, content in files.get(row.tag, {}).items():
                    write(self.files(row.tag) / name, content)
            marks = ", ".join("?" * len(_COLUMNS))
            with self._transaction() as database:
                database.executemany(
                    f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({marks})", [_values(row) for row in rows]
                )
        except BaseException:
            for row in rows:
                shutil.rmtree(self.files(row.tag), ignore_errors=True)
            raise

    def claim(self, tag: str) -> JobRow | None:
        """Become the one process that sends a job.

        A job whose sender has died can be claimed again; on another host, that cannot be known, and it stays its.

        Args:
            tag: Of a job that is `prepared`, `lost` or `submitting`.

        Returns:
            The row, now `submitting` and ours until `release`; None: another process or thread sends it, or it is sent.
        """
        with _CLAIMING:
            row = self.by_tag(tag)
            if row.state not in ("prepared", "lost", "submitting"):
                return None
            if row.state == "submitting" and self._is_being_sent(row):
                return None
            ours: dict[str, Any] = {
                "state": "submitting", "owner": this_process(), "claimed": now(), "attempts": row.attempts + 1
            }  # fmt: skip
            with self._transaction() as database:
                changed = database.execute(
                    f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in ours)} "
                    "WHERE tag = ? AND state = ? AND owner IS ? AND attempts = ?",
                    (*ours.values(), row.tag, row.state, row.owner, row.attempts),
                ).rowcount
            if not changed:
                return None
            _AT_WORK.add((self.path, row.tag))
            return dataclasses.replace(row, **ours)

    def _is_being_sent(self, row: JobRow) -> bool:
        if is_this_process(row.owner):
            return (self.path, row.tag) in _AT_WORK
        return may_be_alive(row.owner)

    def release(self, tag: str) -> None:
        """Leave a job that was claimed to whoever claims it next, whether it was sent or not."""
        try:
            with self._transaction() as database:
                database.execute("UPDATE jobs SET owner = NULL WHERE tag = ? AND state = 'submitting'", (tag,))
        finally:  # this process can claim it again even if the ledger cannot be written now
            _AT_WORK.discard((self.path, tag))

    def withdraw(self, tag: str) -> bool:
        """Cancel a job that nobody has begun to send, in one step that no kill leaves half done.

        Args:
            tag: The job.

        Returns:
            Whether it was one.
        """
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET state = 'cancelled', error = 'cancelled here' WHERE tag = ? AND state = 'prepared'",
                (tag,),
            ).rowcount
        return bool(changed)

    def set_state(self, tag: str, state: str, **changes: Any) -> JobRow:
        """Move a job to another state, at once with what is learnt with it.

        Args:
            tag: The job.
            state: The new state; the one that it has is allowed, too.
            changes: Other columns.

        Returns:
            The new row. Where another process was faster and the step is no longer allowed, the row as that left it.

        Raises:
            InputError: There is no such job.
        """
        before = [old for old, following in TRANSITIONS.items() if state in following or old == state]
        columns = {"state": state, **changes}
        if state not in TRANSITIONS or not columns.keys() <= set(_COLUMNS):
            raise ValueError(f"no such state or column: {state!r}, {', '.join(changes)}")
        with self._transaction() as database:
            database.execute(
                f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in columns)} "
                f"WHERE tag = ? AND state IN ({', '.join('?' * len(before))})",
                (*columns.values(), tag, *before),
            )
        return self.by_tag(tag)

    def by_tag(self, tag: str) -> JobRow:
        """A job by its tag, the beginning of it, or IBM's job id.

        Raises:
            InputError: There is none, or more than one.
        """
        rows = self._read("WHERE tag = ? OR job_id = ?", (tag, tag))
        if not rows:
            short = tag if tag.startswith("qhybrid-") else f"qhybrid-{tag}"
            rows = [each for each in self.find() if each.tag.startswith(short)]
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise InputError(f"job {tag!r} is not unique: {', '.join(each.tag for each in rows)}")
        raise InputError(f"unknown job {tag!r}; {did_you_mean(tag, [each.tag for each in self.find()[:20]])}")

    def find(
        self,
        *,
        states: Sequence[str] | None = None,
        run: str | None = None,
        purpose: str | None = None,
        batch: str | None = None,
        backend: str | None = None,
        digest: str | None = None,
    ) -> list[JobRow]:
        """Jobs, the newest batch first and its parts in order.

        Args:
            states: Only those in one of these states.
            run: Only those of this run; and so on. None: of all.
            purpose: As `run`.
            batch: As `run`.
            backend: As `run`.
            digest: As `run`.
        """
        wanted = {"run": run, "purpose": purpose, "batch": batch, "backend": backend, "digest": digest}
        terms = [f"{column} = ?" for column, value in wanted.items() if value is not None]
        values = [value for value in wanted.values() if value is not None]
        if states is not None:
            terms.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        where = f"WHERE {' AND '.join(terms)} " if terms else ""
        return self._read(f"{where}ORDER BY {'part' if batch else 'created DESC, batch, part'}", values)

    def forget(self, tag: str) -> None:
        """Delete a job and its files here; on the service it stays.

        Raises:
            InputError: There is no such job.
        """
        row = self.by_tag(tag)
        with self._transaction() as database:
            database.execute("DELETE FROM jobs WHERE tag = ?", (row.tag,))
        shutil.rmtree(self.files(row.tag), ignore_errors=True)

    def _read(self, clause: str, values: Sequence[Any]) -> list[JobRow]:
        with self._transaction() as database:
            found = database.execute(f"SELECT {', '.join(_COLUMNS)} FROM jobs {clause}", tuple(values)).fetchall()
        return [_row(each) for each in found]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction on a connection of its own, durable when it ends, undone by any error."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                database.execute("BEGIN IMMEDIATE")
                try:
                    self._migrate(database)
                    yield database
                    database.execute("COMMIT")
                except BaseException:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
                    raise
            finally:
                database.close()
        except (sqlite3.Error, OSError) as error:
            raise QHybridError(f"job ledger {self.path}: {_reason(error, self.folder)}") from None

    def _migrate(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        if version > VERSION:
            raise QHybridError(f"job ledger {self.path}: written by a newer qhybrid (format {version}, not {VERSION})")
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                database.execute(statement)
            version = VERSION
        while version < VERSION:
            _MIGRATIONS[version](database)
            version += 1
        database.execute(f"PRAGMA user_version = {version}")


def write(path: Path, content: bytes) -> None:
    """Write a file whole, and down to the disk, or not at all.

    Raises:
        QHybridError: It cannot be written; says why.
    """
    try:
        write_bytes(path, content)
    except OSError as error:
        raise QHybridError(f"cannot write {path}: {error.strerror or error}") from None


def _values(row: JobRow) -> tuple[Any, ...]:
    own = {name: getattr(row, name) for name in _COLUMNS}
    return tuple(json.dumps(value, allow_nan=False) if name in _JSON else value for name, value in own.items())


def _row(values: Sequence[Any]) -> JobRow:
    own = dict(zip(_COLUMNS, values, strict=True))
    return JobRow(**(own | {name: json.loads(own[name]) for name in _JSON}))


def _reason(error: Exception, folder: Path) -> str:
    """What went wrong with the database, and what to do."""
    text = str(error)
    if isinstance(error, OSError):
        return error.strerror or text
    if "locked" in text:
        return f"another process has kept it locked for {LOCK_SECONDS:.0f} s; try again"
    if "malformed" in text or "not a database" in text:
        return f"damaged ({text}); jobs on the service are not touched: move the file away to start a new one"
    if "full" in text or ("I/O" in text and shutil.disk_usage(folder).free < FULL):  # SQLite's word depends on the file
        return "the disk is full; nothing was changed"
    return text
