"""How room is counted: every byte that is promised is written or given back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from tests.unit.cache.world import Origin, World, failure_of, result
from txglancecache.cache.room import Room
from txglancecache.errors import NoRoom
from txglancecache.extents import Extents

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
    return Room(1000, 0, free, _nobody, lambda key: succeed(None))


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
    """What was found for a client that is gone by the time the file is open is given back."""
    world = World(tmp_path / "cache")
    origin = Origin(BODY)
    opening: Deferred[Any] = Deferred()

    async def read() -> None:
        entry = await world.cache.admit(origin.image())
        entry.body._in_thread = lambda *_: opening  # type: ignore[assignment]
        await world.cache.read(entry, [(0, len(BODY))], whole=True, source=origin.source())

    reading = Deferred.fromCoroutine(read())
    assert world.steward.status().reserved == len(BODY)
    reading.cancel()
    assert failure_of(reading)
    assert world.steward.status().reserved == 0


def test_a_request_that_finds_room_for_a_part_only_keeps_none(tmp_path: Path) -> None:
    """Of several ranges all fit, or nothing is taken."""
    world = World(tmp_path / "cache", max_size=MIB // 2)
    origin = Origin(BODY)
    entry = result(world.cache.admit(origin.image()))
    ranges = [(0, 1000), (2000, len(BODY))]
    with pytest.raises(NoRoom):
        result(world.cache.read(entry, ranges, whole=False, source=origin.source()))
    assert world.steward.status().reserved == 0
