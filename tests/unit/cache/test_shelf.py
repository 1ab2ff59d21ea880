"""Which files stay open when nobody needs them."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.unit.cache.world import Origin, World, drain, result
from txglancecache.cache.shelf import Shelf

BODY = os.urandom(300_000)


@define(eq=False, slots=False)
class File:
    closed: int = field(default=0)

    def close(self) -> Deferred[None]:
        self.closed += 1
        return succeed(None)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0, 40)), max_size=60))
def test_few_and_not_for_long(steps: list[tuple[int, bool, float]]) -> None:
    """Never more than may be, the ones used last; none is lost, none stays for longer than it may."""
    clock = Clock()
    shelf = Shelf(clock, most=3, seconds=60)
    files = [File() for _ in range(6)]
    put: dict[int, float] = {}
    for number, puts, delay in steps:
        closed = [file.closed for file in files]
        if puts and number not in put:
            shelf.put(files[number])
            put[number] = clock.seconds()
            if len(put) > 3:
                del put[next(iter(put))]
        elif number in put:
            shelf.take(files[number])
            del put[number]
            assert [file.closed for file in files] == closed
        clock.advance(delay)
        put = {kept: since for kept, since in put.items() if clock.seconds() - since < 60}
        assert list(shelf) == [files[kept] for kept in put]
    put_ever = sum(file.closed for file in files) + len(shelf)
    clock.advance(60)
    assert sum(file.closed for file in files) == put_ever
    assert not clock.getDelayedCalls()


def held(world: World) -> int:
    """How many body files are open."""
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    names = [os.readlink(path) for path in paths if os.path.lexists(path)]
    return sum(name.startswith(str(world.directory.bodies_path)) for name in names)


def test_a_hot_hit_opens_nothing(tmp_path: Path) -> None:
    """The second reader finds the file open and asks no thread for anything; a minute later it is closed."""
    world, origin = World(tmp_path / "cache"), Origin(BODY)
    reader = world.read(origin)
    origin.last.give()
    assert drain(reader) == BODY
    reader.close()
    world.clock.advance(5)
    assert held(world) == 1
    calls = world.machine.calls
    with world.read(origin) as reader:
        assert drain(reader) == BODY
    assert world.machine.calls == calls
    entry = world.cache.find("image-1")
    assert entry is not None
    assert entry.idle
    world.clock.pump([10] * 7)
    assert held(world) == 0
    with world.read(origin) as reader:
        assert drain(reader) == BODY


def test_what_leaves_the_cache_is_closed_at_once(tmp_path: Path) -> None:
    """Or its bytes would stay on the disk."""
    world, origin = World(tmp_path / "cache"), Origin(BODY)
    with world.read(origin) as reader:
        origin.last.give()
        assert drain(reader) == BODY
    assert held(world) == 1
    assert result(world.steward.purge("image-1"))
    assert held(world) == 0
    assert world.steward.status().bytes_on_disk == 0
    assert world.cache.roster.leaving == []


def test_the_end_closes_all(tmp_path: Path) -> None:
    """Nothing is left open, and no timer runs."""
    world, origin = World(tmp_path / "cache"), Origin(BODY)
    with world.read(origin):
        origin.last.give()
    result(world.cache.close())
    assert held(world) == 0
    assert world.clock.getDelayedCalls() == []


def test_the_end_takes_what_comes_meanwhile() -> None:
    """While it is emptied somebody takes a file, and somebody else puts one: that is closed too."""
    shelf, slow = Shelf(Clock()), Deferred[None]()
    first, taken, late = File(), File(), File()
    first.close = lambda: slow  # type: ignore[method-assign]
    shelf.put(first)
    shelf.put(taken)
    cleared = Deferred.fromCoroutine(shelf.clear())
    shelf.take(taken)
    shelf.put(late)
    slow.callback(None)
    assert (taken.closed, late.closed, len(shelf)) == (0, 1, 0)
    assert cleared.called
