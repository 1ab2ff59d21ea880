"""What operators may do with the cache."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred

from tests.unit.cache.world import Origin, World, failure_of


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
