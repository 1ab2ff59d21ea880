"""The index: one SQLite row per entry and per job, written behind the reactor's back.

It owns the database file and the one thread that touches it after `Index.load`. What is put here is
collected and written in one transaction per interval, so that a thousand hits cost one write. The
caller sees to the order between body files and rows: a row is put only when what it says is on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txglancecache.errors import StoreError
from txglancecache.store.schema import ENTRIES, JOBS, JobRecord, Record, connect

_log = Logger()

#: Seconds until a write that failed is tried again.
_RETRY_INTERVAL = 5.0

_Batch = dict[tuple[object, str | int], Any]

#: Runs a blocking call in the index's own thread, one after the other, in order.
Run = Callable[[Callable[[], None]], Deferred[None]]


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
    _writing: DeferredLock = field(factory=DeferredLock, init=False)
    _closed: bool = field(default=False, init=False)

    def load(self) -> list[Record] | None:
        """Open the database and return its entries; ``None`` when there was none that could be used.

        A damaged database is set aside with the ending ``.damaged`` and a new one begun. This blocks,
        and is meant for the time before the process serves.

        :raises IndexTooNew: a later release wrote it.
        :raises StoreError: no database can be made here.
        """
        # An empty file is what a power cut makes of a new one.
        existed = self._path.exists() and self._path.stat().st_size > 0
        try:
            if existed:
                try:
                    self._database = connect(self._path)
                    return ENTRIES.read(self._database)
                except (sqlite3.DatabaseError, ValueError) as error:
                    _log.error("The index {path} is damaged: {error}", path=str(self._path), error=str(error))
                    self._set_aside()
            self._database = connect(self._path)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot use the index {self._path}: {error}") from error
        return None

    def load_jobs(self) -> list[JobRecord]:
        """The jobs in an index that has been loaded; blocks."""
        assert self._database is not None
        return JOBS.read(self._database)

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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._writing.run(self._write_pending)

    async def close(self) -> None:
        """Write what is left and close the database. Idempotent."""
        if self._closed:
            return
        await self.flush()
        self._closed = True
        if self._database is not None:
            await self._run(self._database.close)

    def _schedule(self, delay: float | None = None) -> None:
        if self._timer is None and not self._closed:
            delay = self._interval if delay is None else delay
            self._timer = self._clock.callLater(delay, self._flush_on_time)

    def _flush_on_time(self) -> None:
        self._timer = None
        self._writing.run(self._write_pending).addErrback(
            lambda failure: _log.failure("Writing the index failed", failure=failure)
        )

    def _write_pending(self) -> Deferred[None]:
        batch, self._pending = self._pending, {}
        if not batch:
            return succeed(None)

        def keep(failure: Any) -> None:
            _log.error("Cannot write the index: {error}", error=failure.getErrorMessage())
            self._pending = {**batch, **self._pending}
            self._schedule(_RETRY_INTERVAL)

        return self._run(lambda: self._write(batch)).addErrback(keep)

    def _write(self, batch: _Batch) -> None:
        database = self._database
        assert database is not None
        # Rows go before rows come: a body name may only ever be in one of them.
        with database:
            for table in (ENTRIES, JOBS):
                changes = {key: record for (kind, key), record in batch.items() if kind is table}
                table.remove(database, changes)
                table.insert(database, filter(None, changes.values()))

    def _set_aside(self) -> None:
        if self._database is not None:
            self._database.close()
        for ending in ("", "-wal", "-shm"):
            path = self._path.with_name(self._path.name + ending)
            if path.exists():
                path.replace(path.with_name(f"{self._path.name}.damaged{ending}"))
