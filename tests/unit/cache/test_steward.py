"""What operators may do with the cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.unit.cache.world import Origin, World, failure_of, result, stick
from txglancecache.errors import StoreError
from txglancecache.store.directory import BodyUnusable

MIB = 1 << 20


def test_a_purge_goes_on_when_its_operator_leaves(tmp_path: Path) -> None:
    """However long the index is busy: what nobody finds any more does not stay on disk, nor count."""
    world = World(tmp_path / "cache")
    origin = Origin(os.urandom(100_000))
    world.read(origin).close()
    origin.last.give()
    world.index._writing.acquire()
    purging = Deferred.fromCoroutine(world.steward.purge("image-1"))
    purging.cancel()
    assert isinstance(failure_of(purging), CancelledError)
    assert list(world.directory.bodies()) == []
    assert world.steward.status().bytes_on_disk == 0


@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_stays_keeps_no_other_from_being_purged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """However many there are: none is found any more, and the operator is told of the first file that stays.
    Its bytes count as long as it is there."""
    world = World(tmp_path / "cache")
    for number in range(450):
        origin = Origin(os.urandom(100))
        world.read(origin, image=origin.image(f"image-{number}")).close()
        origin.last.give()
    stuck = stick(world, monkeypatch, "image-0", "image-300")
    steward = world.steward
    purging = Deferred.fromCoroutine(
        steward.purge_many([f"image-{number}" for number in range(450)]) if named else steward.purge_all()
    )
    world.clock.pump([0.01] * 10)
    error = failure_of(purging)
    assert isinstance(error, StoreError)
    assert world.cache.key("image-0") in str(error)
    assert _left(world) == (0, stuck, 200)
    assert world.steward.status().counters["purges"] == 450
    world = world.restart()
    assert _left(world) == (0, stuck, world.steward.status().bytes_on_disk)
    stuck.clear()
    result(world.steward.purge_all())
    assert _left(world) == (0, set(), 0)


def test_a_file_that_stays_keeps_no_other_from_being_cleaned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is tried each time, and the operator is told of the first that would not go."""
    world = World(tmp_path / "cache")
    for name in ("a", "b", "c"):
        origin = Origin(os.urandom(2 * MIB))
        world.read(origin, 0, MIB, image=origin.image(name)).close()
        origin.last.give()
    strays = world.directory.body_path("zz-stray"), world.directory.body_path("yy-stray")
    stuck = stick(world, monkeypatch, "b")
    stuck.add("zz-stray")
    for stray in strays:
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"x")
    for _ in range(2):
        with pytest.raises(StoreError):
            result(world.steward.clean())
        assert _left(world) == (0, stuck, MIB)
    world.clock.advance(10)
    assert _left(world) == (0, stuck, MIB)
    stuck.clear()
    assert result(world.steward.clean()).files == 2
    assert _left(world) == (0, set(), 0)


def test_a_file_that_stays_counts_when_nobody_reads_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was to go before its last reader had left, and whether it is known by then that it stays."""
    world = World(tmp_path / "cache")
    readers = []
    for name in ("a", "b"):
        origin = Origin(os.urandom(MIB))
        readers.append(world.read(origin, image=origin.image(name)))
        origin.last.give()
    stuck = stick(world, monkeypatch, "a", "b")
    with pytest.raises(StoreError):
        result(world.steward.purge("a"))
    slow = readers[1].entry.body
    removing: Deferred[Any] = Deferred()
    at_once, slow._in_thread = slow._in_thread, lambda *_: removing  # type: ignore[assignment]
    purging = Deferred.fromCoroutine(world.steward.purge("b"))
    slow._in_thread = at_once
    for reader in readers:
        reader.close()
    assert len(world.cache.roster.leaving) == 1
    removing.errback(BodyUnusable("b", "it stays"))
    assert isinstance(failure_of(purging), BodyUnusable)
    assert world.cache.roster.leaving == []
    assert _left(world) == (0, stuck, 2 * MIB)
    stuck.clear()
    world.clock.advance(10)
    assert _left(world) == (0, set(), 0)


def _left(world: World) -> tuple[int, set[str], int]:
    """How many images there are, the files, and the bytes that count."""
    files = {file.name for file in world.directory.bodies()}
    return len(world.cache.roster), files, world.steward.status().bytes_on_disk
