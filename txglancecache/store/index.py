"""The index: one SQLite row per entry and per job, written behind the reactor's back.

It owns the database file and the one thread that touches it after `Index.load`. What is put here is
collected and written in one transaction per interval, so that a thousand hits cost one write. The
caller sees to the order between body files and rows: a row is put only when what it says is on disk. A
transaction that is committed outlives a power cut: a purge that was confirmed stays one.

A lost index is rebuilt from body files, which takes a while. ``index.rebuilding`` lies beside it until
that is done, so that a crash in between does not make whole bodies out to be ones that were dropped. One that
somebody removes or replaces while it is in use is found out by the next write, and made anew from memory.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txglancecache.errors import StoreError
from txglancecache.store.directory import sync_directory
from txglancecache.store.schema import ENTRIES, JOBS, JobRecord, Record, connect
from txglancecache.waiting import Semaphore

_log = Logger()

#: Seconds until a write that failed is tried again.
_RETRY_INTERVAL = 5.0

_Batch = dict[tuple[object, str | int], Any]

#: Runs a blocking call in the index's own thread, one after the other, in order.
Run = Callable[[Callable[[], None]], Deferred[None]]


#: What SQLite says of a database that is none of ours. All else is about the disk, or the machine.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB})


class _Gone(Exception):
    """The database is not where it was."""


@define(eq=False)
class IndexUnusable(StoreError):
    """The index cannot be read or made, which may not be its own fault. It has been left as it is."""

    path: str
    reason: str

    def __str__(self) -> str:
        return (
            f"cannot use the index {self.path}: {self.reason}. It is left as it is: see to its disk and "
            "start again, or delete it with its -wal and -shm to go on with the whole bodies that are there"
        )


@define(eq=False)
class Index:
    """The rows that are to be, and the thread that makes them so.

    :param path: the database file.
    :param clock: schedules the batches.
    :param run: runs a blocking call in a thread; calls must run in the order in which they come.
    :param interval: seconds for which changes are collected.
    """

    _path: Path
    _clock: IReactorTime
    _run: Run
    _interval: float = 0.5
    _pending: _Batch = field(factory=dict, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _database: sqlite3.Connection | None = field(default=None, init=False)
    _identity: tuple[int, int] | None = field(default=None, init=False)
    _owners: list[Callable[[], Awaitable[None]]] = field(factory=list, init=False)
    _jobs: list[JobRecord] = field(factory=list, init=False)
    _writing: Semaphore = field(factory=Semaphore, init=False)
    _closed: bool = field(default=False, init=False)
    _failing: bool = field(default=False, init=False)

    @property
    def rebuilding(self) -> bool:
        """Whether the index was lost, so that a body file that no row speaks of may be worth keeping."""
        return _marker(self._path).exists()

    def load(self) -> list[Record]:
        """Open the database and return its entries; none when there was none that could be used.

        A damaged database is set aside with the ending ``.damaged`` and a new one begun; one that the disk
        does not give is not known to be damaged. This blocks, and is meant for the time before the process
        serves.

        :raises IndexTooNew: a later release wrote it.
        :raises IndexUnusable: it cannot be read, or no database can be made here.
        """
        try:
            if _exists(self._path):
                try:
                    database = self._connect()
                    records = ENTRIES.read(database)
                    self._jobs = JOBS.read(database)
                    return records
                except (sqlite3.DatabaseError, ValueError) as error:
                    if not _is_damage(error):
                        raise
                    _log.error("The index {path} is damaged: {error}", path=str(self._path), error=str(error))
                    self._set_aside()
            self._begin()
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise IndexUnusable(str(self._path), _reason(error)) from error
        return []

    async def rebuilt(self) -> None:
        """From now on a body file that no row speaks of is one that was dropped."""
        if self.rebuilding and await self._flushed():
            await self._run(lambda: _remove_marker(self._path))

    def load_jobs(self) -> list[JobRecord]:
        """The jobs in an index that has been loaded."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def put_latest(self, key: str, record: Callable[[], Record]) -> None:
        """As `put`, of what the row is when the next batch is written: this may be called very often."""
        self._pending[ENTRIES, key] = record
        self._schedule()

    def on_lost(self, put_all: Callable[[], Awaitable[None]]) -> None:
        """Have ``put_all`` called when the database is gone; it puts every row that it knows of."""
        self._owners.append(put_all)

    def put(self, record: Record) -> None:
        """Have the row written with the next batch; a later row of the same key takes its place."""
        self._pending[ENTRIES, record.key] = record
        self._schedule()

    def delete(self, key: str) -> None:
        """Have the row removed with the next batch."""
        self._pending[ENTRIES, key] = None
        self._schedule()

    def put_job(self, record: JobRecord) -> None:
        """As `put`, for a job."""
        self._pending[JOBS, record.id] = record
        self._schedule()

    def delete_job(self, job_id: int) -> None:
        """As `delete`, for a job."""
        self._pending[JOBS, job_id] = None
        self._schedule()

    async def flush(self) -> None:
        """Write all that was put so far; returns when it is committed.

        A failed write is logged and tried again with the next batch: the cache goes on without its index.
        """
        await self._flushed()

    async def close(self) -> None:
        """Write what is left and close the database. Idempotent."""
        if self._closed:
            return
        await self.flush()
        self._closed = True
        self._cancel_timer()
        if self._database is not None:
            await self._run(self._database.close)

    async def _flushed(self) -> bool:
        """Whether all that was put so far is written."""
        self._cancel_timer()
        return await self._write_in_turn()

    def _schedule(self, delay: float | None = None) -> None:
        if self._timer is None and not self._closed:
            delay = self._interval if delay is None else delay
            self._timer = self._clock.callLater(delay, self._flush_on_time)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush_on_time(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._write_in_turn()).addErrback(
            lambda failure: _log.failure("Writing the index failed", failure=failure)
        )

    async def _write_in_turn(self) -> bool:
        """Whether what is pending is written, one batch at a time."""
        async with self._writing:
            return await self._take(self._write) if self._pending else True

    def _take(self, write: Callable[[_Batch], None]) -> Deferred[bool]:
        """Have what is pending written."""
        batch: _Batch = {key: row() if callable(row) else row for key, row in self._pending.items()}
        self._pending = {}

        def written(_: None) -> bool:
            if self._failing:
                self._failing = False
                _log.info("The index is written again")
            return True

        def keep(failure: Failure) -> bool | Deferred[bool]:
            self._pending = {**batch, **self._pending}
            if failure.check(_Gone):
                return Deferred.fromCoroutine(self._recall())
            if not self._failing:
                self._failing = True
                _log.error("Cannot write the index: {error}", error=failure.getErrorMessage())
            self._schedule(_RETRY_INTERVAL)
            return False

        return self._run(lambda: write(batch)).addCallbacks(written, keep)

    async def _recall(self) -> bool:
        """Write all that is known."""
        for put_all in self._owners:
            await put_all()
        return await self._take(self._write_anew)

    def _write(self, batch: _Batch) -> None:
        database = self._database
        if database is None or _identity(self._path) != self._identity:
            raise _Gone
        # Rows go before rows come: a body name may only ever be in one of them.
        with database:
            for table in (ENTRIES, JOBS):
                changes = {key: record for (kind, key), record in batch.items() if kind is table}
                table.remove(database, changes)
                table.insert(database, filter(None, changes.values()))

    def _write_anew(self, batch: _Batch) -> None:
        rebuilding = self.rebuilding
        self._set_aside()
        self._begin()
        self._write(batch)
        if not rebuilding:
            _remove_marker(self._path)
        _log.error("Made the index {path} anew: it had been removed or replaced", path=str(self._path))

    def _begin(self) -> None:
        """Begin a new database; what it should have in it may be lost until the marker is removed."""
        _marker(self._path).touch(mode=0o600)
        sync_directory(self._path.parent)
        self._connect()

    def _connect(self) -> sqlite3.Connection:
        self._database = connect(self._path)
        self._identity = _identity(self._path)
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _set_aside(self) -> None:
        self._disconnect()
        for ending in ("", "-wal", "-shm"):
            path = self._path.with_name(self._path.name + ending)
            if path.exists():
                path.replace(path.with_name(f"{self._path.name}.damaged{ending}"))


def read_unchanged(path: Path) -> list[Record] | None:
    """The entries of an index that no process uses; ``None``: there is none. It is left as it is.

    What a crash has left in the log beside it is read as well, and stays there: a copy of both is opened.

    :raises IndexTooNew: a later release wrote it.
    :raises StoreError: it is damaged, or cannot be read.
    """
    if not _exists(path):
        return None
    try:
        with TemporaryDirectory(prefix="glancecache-") as scratch:
            copy = Path(scratch, path.name)
            for ending in ("", "-wal"):
                if (part := path.with_name(path.name + ending)).exists():
                    shutil.copyfile(part, copy.with_name(part.name))
            with closing(connect(copy)) as database:
                ((found, *_), *_) = database.execute("PRAGMA quick_check(1)")
                if found != "ok":
                    raise StoreError(f"the index {path} is damaged: {found}")
                JOBS.read(database)
                return ENTRIES.read(database)
    except (sqlite3.Error, ValueError, OSError) as error:
        raise StoreError(f"cannot use the index {path}: {error}") from error


def _is_damage(error: sqlite3.Error | ValueError) -> bool:
    """Whether it is about what the database has in it, so that trying again would not help."""
    # What Python itself cannot make sense of, such as text that is none, has no code.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _DAMAGED


def _reason(error: sqlite3.Error | OSError) -> str:
    """What went wrong, with SQLite's name for it."""
    name: str | None = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)


def _exists(path: Path) -> bool:
    # An empty file is what a power cut makes of a new one.
    return path.exists() and path.stat().st_size > 0


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; ``None``: there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _marker(path: Path) -> Path:
    return path.with_suffix(".rebuilding")


def _remove_marker(path: Path) -> None:
    _marker(path).unlink(missing_ok=True)
    sync_directory(path.parent)
