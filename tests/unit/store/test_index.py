"""An index that goes while it is in use."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from tests.unit.cache.world import Origin, World, drain, result
from txglancecache.store.index import Index, IndexUnusable
from txglancecache.store.schema import JobRecord

JOB = JobRecord(7, "prefetch", "image-2", "queued", 0, 1.0, None, None, 0, None)


def _remove(path: Path) -> None:
    path.unlink()


def _remove_all(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


def _replace(path: Path) -> None:
    other = path.with_name("other")
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE something (else_)")
    database.close()
    other.replace(path)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "cache")

    async def put_jobs() -> None:
        world.index.put_job(JOB)

    world.index.on_lost(put_jobs)
    return world


def _fill(world: World, image_id: str) -> Origin:
    origin = Origin(os.urandom(200_000))
    with world.read(origin, image=origin.image(image_id)):
        origin.last.give()
    world.clock.advance(3)
    world.clock.advance(1)
    return origin


@pytest.mark.parametrize("go", [_remove, _remove_all, _replace])
def test_an_index_that_goes_is_made_anew(world: World, go: Callable[[Path], None]) -> None:
    """With the next write all rows are there again, of entries and of jobs, and outlive a crash."""
    old = _fill(world, "image-1")
    go(world.directory.index_path)
    new = _fill(world, "image-2")
    assert not world.index.rebuilding
    again = world.crash()
    assert [job.id for job in again.index.load_jobs()] == [JOB.id]
    for origin, image_id in ((old, "image-1"), (new, "image-2")):
        reader = again.read(origin, image=origin.image(image_id))
        assert (drain(reader), len(origin.asked)) == (origin.body, 1)


def test_what_was_dropped_stays_dropped(world: World) -> None:
    """A purge that was on its way into the index that is gone is in the new one."""
    _fill(world, "image-1")
    entry = world.cache.find("image-1")
    assert entry is not None
    _remove(world.directory.index_path)
    world.cache.drop(entry, "so it goes")
    world.clock.advance(1)
    assert world.crash().cache.find("image-1") is None


def test_a_new_index_that_cannot_be_written_yet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, and until all is in it a crash has whole bodies looked at instead of removed."""
    _fill(world, "image-1")
    _remove_all(world.directory.index_path)
    with monkeypatch.context() as patched:
        patched.setattr("txglancecache.store.schema.Table.insert", _fail)
        _fill(world, "image-2")
        assert world.index.rebuilding
    world.clock.advance(5)
    again = world.crash()
    assert again.cache.find("image-1") is not None
    assert again.cache.find("image-2") is not None


def test_an_index_without_room_for_its_shm(world: World) -> None:
    """What only other processes need is not asked of a disk that has no room for it."""
    _fill(world, "image-1")
    path = _stopped(world)
    with _no_file_longer_than(16 << 10):
        there = World(path)
    assert there.cache.find("image-1") is not None
    assert not (path / "index.sqlite.damaged").exists()
    _fill(there, "image-2")
    again = there.crash()
    assert again.cache.find("image-2") is not None


def test_an_index_that_cannot_be_opened(world: World) -> None:
    """It is left as it is, and what to do is said in one line: nobody knows that it is damaged."""
    _fill(world, "image-1")
    path = _stopped(world)
    (path / "index.sqlite-wal").mkdir()
    with pytest.raises(IndexUnusable, match="unable to open database file") as raised:
        _load(path)
    assert "\n" not in str(raised.value)
    assert sorted(found.name for found in path.glob("index*")) == ["index.sqlite", "index.sqlite-wal"]
    (path / "index.sqlite-wal").rmdir()
    entry = World(path).cache.find("image-1")
    assert entry is not None
    assert entry.verified


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR_READ", "SQLITE_CANTOPEN", "SQLITE_BUSY"])
def test_an_index_that_cannot_be_read(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk or the machine is to blame for costs no row."""
    _fill(world, "image-1")
    path = _stopped(world)

    def read(*_: object) -> None:
        error = sqlite3.OperationalError("no")
        error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, name), name
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("txglancecache.store.schema.Table.read", read)
        with pytest.raises(IndexUnusable, match=rf"no \({name}\)"):
            _load(path)
    assert World(path).cache.find("image-1") is not None


def test_an_index_with_an_altered_head(world: World, tmp_path: Path) -> None:
    """Whatever SQLite says of that, it is begun anew, or does no harm."""
    _fill(world, "image-1")
    content = (_stopped(world) / "index.sqlite").read_bytes()
    for place in [*range(60), *range(64, 100)]:  # between them is the schema's version
        altered = tmp_path / f"altered-{place}"
        altered.mkdir()
        (altered / "index.sqlite").write_bytes(
            content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        )
        assert _load(altered) in (0, 1)


def _stopped(world: World) -> Path:
    result(world.cache.close())
    return world.path


def _load(path: Path) -> int:
    """How many rows there are."""
    index = Index(path / "index.sqlite", Clock(), maybeDeferred)
    rows = len(index.load())
    result(index.close())
    return rows


@contextmanager
def _no_file_longer_than(size: int) -> Iterator[None]:
    """Within this no file grows beyond ``size`` bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _fail(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")
