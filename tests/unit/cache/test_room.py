"""How room is counted: every byte that is promised is written or given back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from tests.unit.cache.world import Origin, World, drain, failure_of, result, stick
from txglancecache.cache.room import Room
from txglancecache.errors import NoRoom, StoreError
from txglancecache.extents import Extents
from txglancecache.store.directory import Directory

MIB = 1 << 20
BODY = os.urandom(MIB)


@define(eq=False)
class Disk:
    """Says how much is free when it is told to."""

    asked: list[Deferred[int]] = field(factory=list)

    def free(self) -> Deferred[int]:
        self.asked.append(Deferred())
        return self.asked[-1]


def _nobody() -> Iterator[tuple[str, int]]:
    return iter(())


def _room(free: Callable[[], Deferred[int]]) -> Room:
    return Room(1000, 0, free, _nobody, lambda key: succeed(True))


def test_a_promise_that_is_given_back_while_another_is_made(tmp_path: Path) -> None:
    """Nothing is counted twice, and nothing is forgotten."""
    disk = Disk()
    room = _room(disk.free)
    account = room.account(Extents())
    first = Deferred.fromCoroutine(account.reserve(0, 100))
    disk.asked.pop().callback(10_000)
    second = Deferred.fromCoroutine(account.reserve(0, 200))
    account.settle(Extents())
    disk.asked.pop().callback(10_000)
    assert failure_of(first) is failure_of(second) is None
    assert room.charged == account.charged.total == 200
    account.close()
    assert room.charged == 0


def test_a_crowd_that_wants_the_same() -> None:
    """Thousands who ask for one body while the disk is asked for room share what is promised."""
    disk = Disk()
    room = _room(disk.free)
    account = room.account(Extents())
    crowd = [Deferred.fromCoroutine(account.reserve(0, 100)) for _ in range(3000)]
    disk.asked.pop().callback(10_000)
    assert [failure_of(each) for each in crowd] == [None] * 3000
    assert not disk.asked
    assert room.charged == account.charged.total == 100


def test_a_reader_that_leaves_before_its_fill_begins_keeps_no_room(tmp_path: Path) -> None:
    """What was found for a client that is gone by the time all is found is given back."""
    world = World(tmp_path / "cache")
    origin = Origin(BODY)
    disk = Disk()
    world.cache.roster.room._free = disk.free
    entry = result(world.cache.admit(origin.image()))
    ranges = [(0, 1000), (2000, len(BODY))]
    reading = Deferred.fromCoroutine(world.cache.read(entry, ranges, whole=False, source=origin.source()))
    disk.asked.pop().callback(1 << 40)
    assert len(disk.asked) == 1
    reserved = world.steward.status().reserved
    assert reserved == 1000
    reading.cancel()
    assert failure_of(reading)
    reserved = world.steward.status().reserved
    assert reserved == 0


def test_who_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    """Neither an entry nor a file, although the file is made before room is looked for."""
    world = World(tmp_path / "cache", max_size=MIB // 2)
    with pytest.raises(NoRoom):
        world.read(Origin(BODY))
    assert list(world.directory.bodies()) == []
    assert len(world.cache.roster) == 0
    assert world.cache.roster.leaving == []


def test_nothing_is_evicted_for_a_file_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that can only be read any more."""
    world = _full(tmp_path, 4)

    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Directory, "create_body", read_only)
    origin = Origin(BODY)
    with pytest.raises(StoreError, match="Read-only"):
        world.read(origin, image=origin.image("new"))
    assert len(world.cache.roster) == 4


def test_a_victim_whose_file_stays_costs_nobody_else_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one goes instead. The bytes of that file count until it has gone, so that the limit holds."""
    world = _full(tmp_path, 4)
    stuck = stick(world, monkeypatch, "image-0")
    origin = Origin(BODY)
    reader = world.read(origin, image=origin.image("new"))
    origin.last.give()
    assert drain(reader) == BODY
    reader.close()
    there = [f"image-{number}" for number in range(4) if world.cache.find(f"image-{number}")]
    assert there == ["image-2", "image-3"]
    assert sum(file.size for file in world.directory.bodies()) == 4 * MIB
    assert _on_disk(world) == 4 * MIB
    stuck.clear()
    world.clock.advance(10)
    assert sum(file.size for file in world.directory.bodies()) == 3 * MIB
    assert _on_disk(world) == 3 * MIB


def test_who_finds_only_files_that_stay_is_not_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no room then; what is wrong with the files of others is not wrong with one's own."""
    world = _full(tmp_path, 3)
    world.cache.roster.room.max_size += MIB
    origin = Origin(2 * BODY)
    world.read(origin, 0, MIB, image=origin.image("new")).close()
    origin.last.give()
    stick(world, monkeypatch, *(f"image-{number}" for number in range(3)))
    with pytest.raises(NoRoom):
        world.read(origin, image=origin.image("new"))
    entry = world.cache.find("new")
    assert entry is not None
    assert entry.extents.total == MIB
    assert len(world.cache.roster) == 1
    assert _on_disk(world) == 4 * MIB


def test_a_disk_that_takes_nothing_back_costs_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every image is given up for room that there will not be; where one file goes again so do others."""
    world = _full(tmp_path, 10)
    stuck = stick(world, monkeypatch, *(f"image-{number}" for number in range(10)))
    for left in (6, 5):
        result(world.steward.prune(0))
        assert len(world.cache.roster) == left
    assert _on_disk(world) == 10 * MIB
    stuck.clear()
    result(world.steward.prune(0))
    assert len(world.cache.roster) == 0
    assert _on_disk(world) == 5 * MIB
    assert result(world.steward.clean()).files == 5
    assert _on_disk(world) == 0


def test_who_leaves_while_another_goes_keeps_nothing_back(tmp_path: Path) -> None:
    """The file that is being removed counts until it is gone, and no longer."""
    world = _full(tmp_path, 2)
    origin = Origin(BODY)
    entry = result(world.cache.admit(origin.image("new")))
    victim = world.cache.find("image-0")
    assert victim is not None
    removing: Deferred[Any] = Deferred()
    victim.body._in_thread = lambda *_: removing  # type: ignore[assignment]
    reading = Deferred.fromCoroutine(world.cache.read(entry, [(0, MIB)], whole=True, source=origin.source()))
    reading.cancel()
    assert failure_of(reading)
    assert _on_disk(world) == 2 * MIB
    removing.callback(None)
    assert _on_disk(world) == MIB


def _full(path: Path, count: int) -> World:
    """A cache that is full of images of 1 MiB."""
    world = World(path / "cache", max_size=count * MIB)
    for number in range(count):
        origin = Origin(os.urandom(MIB))
        world.read(origin, image=origin.image(f"image-{number}")).close()
        origin.last.give()
    return world


def _on_disk(world: World) -> int:
    return world.steward.status().bytes_on_disk


def test_a_request_that_finds_room_for_a_part_only_keeps_none(tmp_path: Path) -> None:
    """Of several ranges all fit, or nothing is taken."""
    world = World(tmp_path / "cache", max_size=MIB // 2)
    origin = Origin(BODY)
    entry = result(world.cache.admit(origin.image()))
    ranges = [(0, 1000), (2000, len(BODY))]
    with pytest.raises(NoRoom):
        result(world.cache.read(entry, ranges, whole=False, source=origin.source()))
    assert world.steward.status().reserved == 0
