"""What a cache directory has recorded, read past the product, and whether it is true."""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from tests.cloud.payload import Payload

Spans = tuple[tuple[int, int], ...]


@frozen
class Row:
    """What the index says of one image. `body` is the path of its file."""

    image_id: str
    body: Path
    size: int
    verified: bool
    extents: Spans

    @property
    def total(self) -> int:
        return sum(stop - start for start, stop in self.extents)


def rows(cache_dir: Path) -> list[Row]:
    """The rows of the index, as they would be recovered now; the directory stays as it is."""
    with TemporaryDirectory() as scratch:
        for name in ("index.sqlite", "index.sqlite-wal"):
            if (cache_dir / name).exists():
                shutil.copyfile(cache_dir / name, Path(scratch, name))
        if not Path(scratch, "index.sqlite").exists():
            return []
        with closing(sqlite3.connect(Path(scratch, "index.sqlite"))) as database:
            return _read(cache_dir, database)


def live_rows(cache_dir: Path) -> list[Row]:
    """The rows that a running node has committed."""
    if not Path(cache_dir, "index.sqlite").exists():
        return []
    with closing(sqlite3.connect(f"file:{cache_dir}/index.sqlite?mode=ro", uri=True)) as database:
        return _read(cache_dir, database)


def _read(cache_dir: Path, database: sqlite3.Connection) -> list[Row]:
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchall():
        return []
    statement = "SELECT image_id, body, size, verified, extents FROM entries"
    return [_row(cache_dir, *columns) for columns in database.execute(statement)]


def _row(cache_dir: Path, image_id: str, body: str, size: int, verified: int, extents: str) -> Row:
    spans = (part.split("-") for part in extents.split(",") if part)
    path = cache_dir / "bodies" / body[:2] / body
    return Row(image_id, path, size, bool(verified), tuple((int(start), int(stop)) for start, stop in spans))


def untrue(found: Iterable[Row], payloads: Mapping[str, Payload]) -> list[str]:
    """Which rows say what is not so. One whose file is gone says nothing: the image had just been dropped."""
    return [
        f"{row.body.name}: {trouble}"
        for row in found
        if row.body.exists()
        for trouble in _trouble(row, payloads[row.image_id])
    ]


def _trouble(row: Row, payload: Payload) -> list[str]:
    if not row.body.stat().st_size == row.size == payload.size:
        return [f"{row.body.stat().st_size} bytes of {row.size}, and of {payload.size}"]
    if row.verified and row.extents != ((0, row.size),):
        return [f"verified with {row.extents}"]
    with row.body.open("rb") as file:
        return [
            f"bytes {start} to {stop} are not the image's"
            for start, stop in row.extents
            if os.pread(file.fileno(), stop - start, start) != payload.part(start, stop)
        ]


def without(spans: Iterable[Iterable[int]], there: Iterable[Iterable[int]]) -> int:
    """How many bytes of `spans` are not in `there`; both are sorted, and neither overlaps itself."""
    have = [(start, stop) for start, stop in there]
    lost = 0
    for start, stop in spans:
        lost += stop - start
        lost -= sum(max(0, min(stop, end) - max(start, begin)) for begin, end in have)
    return lost
