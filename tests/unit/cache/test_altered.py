"""Files that somebody else changed: no byte of a body that was right is served once it may be another."""

from __future__ import annotations

import mmap
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cache.world import Origin, World, drain, failure_of, result
from tests.unit.filetimes import let_pass
from txglancecache.cache import verify
from txglancecache.errors import BodyAltered, EntryDropped
from txglancecache.store.schema import _ENTRIES, _JOBS, SCHEMA_VERSION
from txglancecache.store.stamp import Stamp

BODY = os.urandom(300_000)


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"altered")


def overwritten_in_secret(path: Path) -> None:
    """By somebody who sets the time of change back."""
    before = path.stat()
    overwritten(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def mapped(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[1000:1007] = b"altered"


def shortened(path: Path) -> None:
    os.truncate(path, 4096)


def lengthened(path: Path) -> None:
    os.truncate(path, len(BODY) + 1)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(BODY[::-1])
    other.replace(path)


def replaced_by_a_link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(BODY[::-1])
    path.unlink()
    path.symlink_to(target)


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def closed_to_us(path: Path) -> None:
    path.chmod(0)


def moved_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def deleted(path: Path) -> None:
    path.unlink()


IN_PLACE = [overwritten, overwritten_in_secret, mapped, shortened, lengthened, closed_to_us, moved_away]
ALL = [*IN_PLACE, replaced, replaced_by_a_link, replaced_by_a_pipe, replaced_by_a_directory, deleted]
each = pytest.mark.parametrize("change", ALL, ids=lambda change: change.__name__)


@frozen
class Cached:
    """One verified body."""

    world: World
    origin: Origin
    path: Path


@pytest.fixture
def cached(tmp_path: Path) -> Cached:
    world, origin = World(tmp_path / "cache"), Origin(BODY)
    with world.read(origin) as reader:
        origin.last.give()
        assert drain(reader) == BODY
    world.clock.advance(5)
    entry = world.cache.find("image-1")
    assert entry is not None
    path = world.directory.body_path(entry.body.name)
    let_pass(path)
    return Cached(world, origin, path)


def assert_fetched_anew(world: World, origin: Origin) -> None:
    """The old body is not to be had, the next to ask gets the right one."""
    with pytest.raises(EntryDropped):
        world.read(origin)
    assert world.cache.find("image-1") is None
    with world.read(origin) as reader:
        assert reader.available() == 0
        origin.last.give()
        assert drain(reader) == BODY


@each
def test_between_two_readers(cached: Cached, change: Callable[[Path], None]) -> None:
    """While the file is kept open."""
    change(cached.path)
    assert_fetched_anew(cached.world, cached.origin)


@each
def test_while_it_is_closed(cached: Cached, change: Callable[[Path], None]) -> None:
    """Nobody had it open."""
    cached.world.clock.pump([10] * 7)
    change(cached.path)
    if change is closed_to_us:
        assert os.geteuid() == 0 or not os.access(cached.path, os.R_OK)
    assert_fetched_anew(cached.world, cached.origin)


@each
def test_while_nobody_runs(cached: Cached, change: Callable[[Path], None]) -> None:
    """The next process finds out, at the start or at the first request."""
    result(cached.world.cache.close())
    change(cached.path)
    world = World(cached.world.path)
    if world.cache.find("image-1") is not None:
        with pytest.raises(EntryDropped):
            world.read(cached.origin)
    with world.read(cached.origin) as reader:
        cached.origin.last.give()
        assert drain(reader) == BODY


@pytest.mark.parametrize("change", IN_PLACE, ids=lambda change: change.__name__)
def test_under_a_reader(cached: Cached, change: Callable[[Path], None]) -> None:
    """It may send nothing more."""
    with cached.world.read(cached.origin) as reader:
        assert reader.available() == len(BODY)
        reader.advance(500)
        change(cached.path)
        with pytest.raises(BodyAltered):
            reader.available()


@pytest.mark.parametrize("change", [replaced, replaced_by_a_link, deleted], ids=lambda c: c.__name__)
def test_a_file_without_a_name_is_what_it_was(cached: Cached, change: Callable[[Path], None]) -> None:
    """Whoever has it open goes on; whoever comes later does not get it."""
    with cached.world.read(cached.origin) as reader:
        reader.advance(500)
        change(cached.path)
        assert drain(reader) == BODY[500:]
        assert_fetched_anew(cached.world, cached.origin)


def test_while_it_is_being_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that were hashed may be others by the time that the last is."""
    world, origin = World(tmp_path / "cache"), Origin(BODY)
    reader = world.read(origin)
    hash_part = verify.hash_part

    def hashing(*args: Any) -> None:
        hash_part(*args)
        (path,) = world.directory.bodies_path.glob("*/*")
        let_pass(path)
        overwritten(path)

    monkeypatch.setattr(verify, "hash_part", hashing)
    origin.last.give()
    assert isinstance(failure_of(reader.wait()), BodyAltered)
    assert not reader.entry.verified
    assert world.cache.find("image-1") is None


def test_before_it_is_recorded(tmp_path: Path) -> None:
    """The index says of no such body that it is right."""
    world, origin = World(tmp_path / "cache"), Origin(BODY)
    with world.read(origin):
        origin.last.give()
        (path,) = world.directory.bodies_path.glob("*/*")
        let_pass(path)
        overwritten(path)
        world.clock.advance(5)
        assert world.cache.find("image-1") is None


def test_our_own_doings_alter_nothing(cached: Cached) -> None:
    """What was written is written back, read, recorded; the process ends, and another takes over."""
    os.sync()
    cached.path.read_bytes()
    world = cached.world.restart()
    with world.read(cached.origin) as reader:
        assert drain(reader) == BODY
        assert result(world.steward.purge("image-1"))
        assert reader.available() == 0
        assert reader.left == 0
    assert len(cached.origin.sent) == 1


def test_a_purge_leaves_readers_alone(cached: Cached) -> None:
    """The file has no name any more, which is a change of its attributes."""
    with cached.world.read(cached.origin) as reader:
        reader.advance(500)
        assert result(cached.world.steward.purge("image-1"))
        assert drain(reader) == BODY[500:]


def test_an_index_of_before_there_were_stamps(cached: Cached) -> None:
    """Its bodies are stamped when they are first read, and watched from then on."""
    result(cached.world.cache.close())
    path = cached.world.directory.index_path
    with sqlite3.connect(path) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(entries)") if row[1] != "stamp"]
        rows = database.execute(f"SELECT {', '.join(columns)} FROM entries").fetchall()
        assert len(rows) == 1
    database.close()
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute(_ENTRIES)
        database.execute(_JOBS)
        database.execute("PRAGMA user_version = 2")
        places = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO entries ({', '.join(columns)}) VALUES ({places})", rows)
    database.close()
    world = World(cached.world.path)
    with world.read(cached.origin) as reader:
        assert drain(reader) == BODY
    world = world.restart()
    assert len(cached.origin.sent) == 1
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    database.close()
    overwritten(cached.path)
    assert_fetched_anew(world, cached.origin)


@given(st.tuples(*[st.integers(0, 2**63 - 1)] * 4))
def test_a_stamp_survives_the_index(values: tuple[int, int, int, int]) -> None:
    """It is read as it was written."""
    stamp = Stamp(*values)
    assert Stamp.decode(stamp.encode()) == stamp
