"""How a reader waits for bytes that are still to come."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import CancelledError

from tests.unit.cache.world import Origin, World, failure_of

MIB = 1 << 20


def test_a_long_wait_can_be_given_up(tmp_path: Path) -> None:
    """However often the body grows before the bytes that are waited for come, the waiter can leave."""
    world = World(tmp_path / "cache")
    origin = Origin(os.urandom(MIB), ranged=False)
    part = world.read(origin, MIB - 10, MIB)
    waiting = part.wait()
    for _ in range(2000):
        origin.last.give(100)
    waiting.cancel()
    assert isinstance(failure_of(waiting), CancelledError)


def test_growth_elsewhere_wakes_nobody(tmp_path: Path) -> None:
    """A reader is told when there is something for it, and not before."""
    world = World(tmp_path / "cache")
    origin = Origin(os.urandom(MIB), ranged=False)
    part = world.read(origin, MIB - 10, MIB)
    told: list[int] = []
    part.wait().addCallback(lambda _: told.append(part.available()))
    origin.last.give(MIB - 10)
    assert told == []
    origin.last.give(5)
    assert told == [5]
