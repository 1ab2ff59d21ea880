"""The index: one SQLite row per entry, written behind the reactor's back.

It owns the database file and the one thread that touches it after `Index.load`. What is put here is
collected and written in one transaction per interval, so that a thousand hits cost one write. The
caller sees to the order between body files and rows: a row is put only when what it says is on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, fields, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txglancecache.errors import StoreError
from txglancecache.extents import Extents

_log = Logger()

#: The schema that this code writes, kept in ``PRAGMA user_version``.
SCHEMA_VERSION = 1

#: Seconds until a write that failed is tried again.
_RETRY_INTERVAL = 5.0

_SCHEMA = """
CREATE TABLE entries (
    key         TEXT PRIMARY KEY,
    origin      TEXT NOT NULL,
    image_id    TEXT NOT NULL,
    body        TEXT NOT NULL UNIQUE,
    size        INTEGER NOT NULL,
    algorithm   TEXT NOT NULL,
    digest      TEXT NOT NULL,
    checksum    TEXT,
    extents     TEXT NOT NULL,
    verified    INTEGER NOT NULL,
    hits        INTEGER NOT NULL,
    created     REAL NOT NULL,
    last_access REAL NOT NULL,
    pinned      INTEGER NOT NULL
) WITHOUT ROWID
"""


@frozen
class Record:
    """What the index knows of one entry.

    ``size`` is in bytes, ``created`` and ``last_access`` in seconds since the epoch, ``digest`` and
    ``checksum`` (the md5 that Glance keeps) in hex. ``extents`` are on disk for certain.
    """

    key: str
    origin: str
    image_id: str
    body: str
    size: int
    algorithm: str
    digest: str
    checksum: str | None
    extents: Extents
    verified: bool
    hits: int
    created: float
    last_access: float
    pinned: bool


@define(eq=False)
class IndexTooNew(StoreError):
    """A later release wrote this index; to use it here could lose what only that release knows."""

    path: str
    version: int

    def __str__(self) -> str:
        return f"{self.path} has schema version {self.version}; this release knows up to {SCHEMA_VERSION}"


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
    _pending: dict[str, Record | None] = field(factory=dict, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _database: sqlite3.Connection | None = field(default=None, init=False)
    _writing: DeferredLock = field(factory=DeferredLock, init=False)
    _closed: bool = field(default=False, init=False)

    def load(self) -> list[Record] | None:
        """Open the database and return its rows; ``None`` when there was none that could be used.

        A damaged database is set aside with the ending ``.damaged`` and a new one begun. This blocks,
        and is meant for the time before the process serves.

        :raises IndexTooNew: a later release wrote it.
        :raises StoreError: no database can be made here.
        """
        existed = self._path.exists()
        try:
            if existed:
                try:
                    self._database = _connect(self._path)
                    return [_record(row) for row in self._database.execute(_SELECT)]
                except (sqlite3.DatabaseError, ValueError) as error:
                    _log.error("The index {path} is damaged: {error}", path=str(self._path), error=str(error))
                    self._set_aside()
            self._database = _connect(self._path)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot use the index {self._path}: {error}") from error
        return None

    def put(self, record: Record) -> None:
        """Have the row written with the next batch; a later row of the same key takes its place."""
        self._pending[record.key] = record
        self._schedule()

    def delete(self, key: str) -> None:
        """Have the row removed with the next batch."""
        self._pending[key] = None
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
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done

        def keep(failure: Any) -> None:
            _log.error("Cannot write the index: {error}", error=failure.getErrorMessage())
            self._pending = {**batch, **self._pending}
            self._schedule(_RETRY_INTERVAL)

        return self._run(lambda: self._write(batch)).addErrback(keep)

    def _write(self, batch: dict[str, Record | None]) -> None:
        database = self._database
        assert database is not None
        # Rows go before rows come: a body name may only ever be in one of them.
        with database:
            database.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in batch])
            database.executemany(_INSERT, [_row(record) for record in batch.values() if record is not None])

    def _set_aside(self) -> None:
        if self._database is not None:
            self._database.close()
        for ending in ("", "-wal", "-shm"):
            path = self._path.with_name(self._path.name + ending)
            if path.exists():
                path.replace(path.with_name(f"{self._path.name}.damaged{ending}"))


# The names in these statements are our own, never input.
_COLUMNS = [column.name for column in fields(Record)]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM entries"  # noqa: S608
_INSERT = f"INSERT INTO entries ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608


def _connect(path: Path) -> sqlite3.Connection:
    """Open the database for use from any one thread at a time, making the schema where there is none."""
    database = sqlite3.connect(path, check_same_thread=False, isolation_level="DEFERRED")
    try:
        path.chmod(0o600)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise IndexTooNew(str(path), version)
        if version == 0:
            with database:
                database.execute(_SCHEMA)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _row(record: Record) -> tuple[object, ...]:
    values = asdict(record, recurse=False)
    return tuple(
        value.encode() if isinstance(value, Extents) else value
        for value in (values[name] for name in _COLUMNS)
    )


def _record(row: tuple[Any, ...]) -> Record:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["extents"] = Extents.decode(values["extents"])
    values["verified"], values["pinned"] = bool(values["verified"]), bool(values["pinned"])
    return Record(**values)
