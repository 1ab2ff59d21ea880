"""What the index keeps: its rows, its tables, and how an older database becomes today's."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from attrs import Attribute, asdict, define, field, fields, frozen
from attrs.validators import instance_of, optional

from txglancecache.errors import StoreError
from txglancecache.extents import Extents
from txglancecache.image import Image
from txglancecache.store.stamp import Stamp

_ENTRIES = """
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
_JOBS = """
CREATE TABLE jobs (
    id        INTEGER PRIMARY KEY,
    kind      TEXT NOT NULL,
    image_id  TEXT NOT NULL,
    state     TEXT NOT NULL,
    priority  INTEGER NOT NULL,
    created   REAL NOT NULL,
    started   REAL,
    finished  REAL,
    attempts  INTEGER NOT NULL,
    error     TEXT
)
"""
_STAMPS = "ALTER TABLE entries ADD COLUMN stamp TEXT"
#: What makes schema version n + 1 of version n.
_MIGRATIONS = (_ENTRIES, _JOBS, _STAMPS)

#: The schema that this code writes, kept in ``PRAGMA user_version``.
SCHEMA_VERSION = len(_MIGRATIONS)

#: What SQLite says when it cannot make, or lengthen, the file that it shares with other processes.
_NO_SHM = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_CANTOPEN,
    }
)


def _extents(value: Extents | str) -> Extents:
    return value if isinstance(value, Extents) else Extents.decode(value)


def _finite(record: object, attribute: Attribute[float], value: object) -> None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{attribute.name} is no point in time: {value!r}")


def _stamp(value: Stamp | str | None) -> Stamp | None:
    return value if value is None or isinstance(value, Stamp) else Stamp.decode(value)


_TEXT_OR_NONE = {str, type(None)}


@frozen
class Record:
    """What the index knows of one entry.

    ``size`` is in bytes, ``created`` and ``last_access`` in seconds since the epoch, ``digest`` and
    ``checksum`` (the md5 that Glance keeps) in hex. ``extents`` are on disk for certain. ``stamp`` is that of
    a verified body; an index of before there were stamps has none.

    :raises TypeError: something is of another type.
    :raises ValueError: it is, or cannot be.
    """

    key: str
    origin: str
    image_id: str
    body: str
    size: int
    algorithm: str
    digest: str
    checksum: str | None
    extents: Extents = field(converter=_extents)
    verified: bool = field(converter=bool)
    hits: int
    created: float
    last_access: float
    pinned: bool = field(converter=bool)
    stamp: Stamp | None = field(default=None, converter=_stamp)

    def __attrs_post_init__(self) -> None:
        # In one go: at the start there may be a hundred thousand of these, and a validator is a call.
        texts = (self.key, self.origin, self.image_id, self.body, self.algorithm, self.digest, self.checksum)
        possible = (
            {*map(type, texts)} <= _TEXT_OR_NONE
            and None not in texts[:-1]
            and type(self.size) is type(self.hits) is int
            and self.size >= 0
            and math.isfinite(self.created)
            and math.isfinite(self.last_access)
        )
        if not possible:
            raise ValueError(f"not an entry: {self}")

    @cached_property
    def image(self) -> Image:
        """The image that the entry is of."""
        return Image(self.image_id, self.size, self.algorithm, self.digest, self.checksum)


@frozen
class JobRecord:
    """What the index knows of one job; never with whose credentials it is done."""

    id: int = field(validator=instance_of(int))
    kind: str = field(validator=instance_of(str))
    image_id: str = field(validator=instance_of(str))
    state: str = field(validator=instance_of(str))
    priority: int = field(validator=instance_of(int))
    created: float = field(validator=_finite)
    started: float | None = field(validator=optional(_finite))
    finished: float | None = field(validator=optional(_finite))
    attempts: int = field(validator=instance_of(int))
    error: str | None = field(validator=optional(instance_of(str)))


_R = TypeVar("_R", Record, JobRecord)


@frozen(eq=False)
class Table(Generic[_R]):
    """A table with one column for each field of its records."""

    name: str
    key: str
    kind: type[_R]

    def read(self, database: sqlite3.Connection) -> list[_R]:
        """All its records.

        :raises ValueError: a row is none.
        """
        rows = database.execute(f"SELECT {self._columns} FROM {self.name}")  # noqa: S608
        try:
            return [self.kind(*row) for row in rows]
        except (TypeError, AttributeError) as error:
            # SQLite keeps values of any type in columns of any type.
            raise ValueError(f"table {self.name} has a row that is none: {error}") from error

    def remove(self, database: sqlite3.Connection, keys: Iterable[Any]) -> None:
        database.executemany(f"DELETE FROM {self.name} WHERE {self.key} = ?", [(key,) for key in keys])  # noqa: S608

    def insert(self, database: sqlite3.Connection, records: Iterable[_R]) -> None:
        places = ", ".join("?" * len(fields(self.kind)))
        statement = f"INSERT INTO {self.name} ({self._columns}) VALUES ({places})"  # noqa: S608
        database.executemany(statement, [_row(record) for record in records])

    @property
    def _columns(self) -> str:
        # The names in these statements are our own, never input.
        return ", ".join(column.name for column in fields(self.kind))


ENTRIES = Table("entries", "key", Record)
JOBS = Table("jobs", "id", JobRecord)


@define(eq=False)
class IndexTooNew(StoreError):
    """A later release wrote this index; to use it here could lose what only that release knows."""

    path: str
    version: int

    def __str__(self) -> str:
        return (
            f"{self.path} has schema version {self.version}, which is a later release's; this one knows "
            f"{SCHEMA_VERSION}. Install that release again, or delete the index with its -wal and -shm to go "
            "on with the whole bodies that are there"
        )


def connect(path: Path) -> sqlite3.Connection:
    """Open the database for use from any one thread at a time, and bring its schema up to date.

    Where the disk has no room for its ``-shm``, nobody else can read it meanwhile.

    :raises IndexTooNew: a later release wrote it.
    :raises sqlite3.Error: it is damaged, or cannot be had.
    :raises OSError: it cannot be created.
    """
    # Made here if it is new: SQLite would have others read it for a moment.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        return _connect(path)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) not in _NO_SHM:
            raise
    return _connect(path, alone=True)


def _connect(path: Path, *, alone: bool = False) -> sqlite3.Connection:
    """
    :param alone: nobody else reads the database: what they would need to know is not put into a file.
    """
    database = sqlite3.connect(path, check_same_thread=False, isolation_level="DEFERRED")
    try:
        if alone:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise IndexTooNew(str(path), version)
        path.chmod(0o600)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        for number, statement in enumerate(_MIGRATIONS[version:], version + 1):
            with database:
                database.execute("BEGIN")
                database.execute(statement)
                database.execute(f"PRAGMA user_version = {number}")
    except BaseException:
        database.close()
        raise
    return database


def _row(record: Record | JobRecord) -> tuple[object, ...]:
    values = asdict(record, recurse=False).values()
    return tuple(value.encode() if isinstance(value, Extents | Stamp) else value for value in values)
