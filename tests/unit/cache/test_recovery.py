"""What a new process makes of what an earlier one has left."""

from __future__ import annotations

import gc
import os
import sqlite3
import weakref
from pathlib import Path

import pytest

from tests.unit.cache.world import Machine, Origin, World, drain, result
from txglancecache.cache.cache import Cache
from txglancecache.cache.recovery import Orphans
from txglancecache.errors import StoreError
from txglancecache.store.directory import BodyUnusable, Directory
from txglancecache.store.index import read_unchanged

BODY = bytes(range(256)) * 4096
IMAGES = ("image-1", "image-2", "image-3")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three whole images, recorded."""
    world = World(tmp_path / "cache")
    origin = Origin(BODY)
    for image_id in IMAGES:
        reader = world.read(origin, image=origin.image(image_id))
        origin.last.give()
        assert drain(reader) == BODY
        reader.close()
    return world.restart()


def lose_index(world: World) -> None:
    result(world.cache.close())
    for path in world.path.glob("index.*"):
        path.unlink()


def complete(world: World) -> set[str]:
    return {entry.image_id for entry in world.steward.entries() if entry.complete}


def test_a_lost_index_is_rebuilt(world: World) -> None:
    """Whole bodies are found by what their files say, and hashed; afterwards that is done with."""
    lose_index(world)
    again = World(world.path)
    assert complete(again) == set(IMAGES)
    assert not again.index.rebuilding
    assert complete(again.restart()) == set(IMAGES)


@pytest.mark.parametrize("calls", range(20))
def test_a_crash_while_the_index_is_rebuilt(world: World, calls: int) -> None:
    """Wherever the process dies meanwhile, the next goes on with the bodies that are left."""
    lose_index(world)
    dying = World(world.path, machine=Machine(dies_before=calls))
    again = dying.crash()
    assert complete(again) == set(IMAGES)
    assert not again.index.rebuilding


def test_dropped_bodies_stay_dropped(world: World) -> None:
    """A body file without a row is removed while the index is there."""
    result(world.cache.close())
    with sqlite3.connect(world.directory.index_path) as database:
        database.execute("DELETE FROM entries WHERE image_id = 'image-1'")
    database.close()
    again = World(world.path)
    assert complete(again) == {"image-2", "image-3"}
    assert len(list(again.directory.bodies())) == 2


def test_damaged_jobs(world: World) -> None:
    """Jobs that cannot be read make it a damaged index."""
    result(world.cache.close())
    with sqlite3.connect(world.directory.index_path) as database:
        database.execute("DROP TABLE jobs")
    database.close()
    again = World(world.path)
    assert again.index.load_jobs() == []
    assert complete(again) == set(IMAGES)
    assert world.directory.index_path.with_name("index.sqlite.damaged").exists()


def test_a_quarantine_beyond_its_bounds(world: World) -> None:
    """What a crash left there is bounded at the start."""
    result(world.cache.close())
    for number in range(6):
        (world.path / "quarantine" / f"{number}").write_bytes(BODY)
        os.utime(world.path / "quarantine" / f"{number}", (number, number))
    again = World(world.path)
    assert {body.name for body in again.directory.quarantined()} == {"2", "3", "4", "5"}
    assert again.cache.quarantine.size >= 4 * len(BODY)


def test_what_is_to_be_removed_evicts_nobody(world: World) -> None:
    """A removed body that a cut of the power has brought back goes before any image does."""
    result(world.cache.close())
    stray = world.path / "bodies" / "ab" / "abc.1"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(BODY)
    again = World(world.path, max_size=len(IMAGES) * len(BODY))
    assert complete(again) == set(IMAGES)
    assert not stray.exists()


def test_a_file_that_will_not_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps no other from being removed, and counts until it is gone."""
    result(world.cache.close())
    folder = world.path / "bodies" / "ab"
    folder.mkdir(exist_ok=True)
    for name in ("ab1.1", "ab2.1", "ab3.1"):
        (folder / name).write_bytes(BODY)
    remove = Directory.remove_body

    def remove_unless_stuck(self: Directory, name: str) -> None:
        if name == "ab2.1":
            raise BodyUnusable(name, "cannot be removed: it is stuck")
        remove(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "remove_body", remove_unless_stuck)
        again = World(world.path)
        assert [path.name for path in folder.iterdir() if path.name.startswith("ab")] == ["ab2.1"]
        assert again.steward.status().bytes_on_disk == (len(IMAGES) + 1) * len(BODY)
        result(again.cache.close())
    last = World(world.path)
    assert not (folder / "ab2.1").exists()
    assert last.steward.status().bytes_on_disk == len(IMAGES) * len(BODY)


def test_bytes_that_came_to_no_record(tmp_path: Path) -> None:
    """What a crash kept from being recorded takes no room afterwards; what was recorded stays."""
    world, origin = World(tmp_path / "cache"), Origin(BODY)
    world.read(origin)
    origin.last.give(1 << 18)
    world.clock.pump([0.5] * 6)
    origin.last.give(1 << 19)
    again = world.crash()
    [file] = again.directory.bodies()
    assert file.size == len(BODY)
    assert 1 << 18 <= file.allocated <= (1 << 18) + (16 << 10)
    assert again.steward.status().bytes_on_disk == 1 << 18
    assert again.directory.body_path(file.name).read_bytes()[: 1 << 18] == BODY[: 1 << 18]


def test_an_entry_that_leaves_is_gone(world: World) -> None:
    """Nothing waits for the collector of cycles, which never looks at what came at the start."""
    entry = world.cache.find("image-1")
    assert entry is not None
    left = weakref.ref(entry)
    gc.disable()
    try:
        assert result(world.steward.purge("image-1"))
        del entry
        assert left() is None
    finally:
        gc.enable()


def files(path: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_mode)
        for file in path.glob("index.*")
    }


def test_reading_an_index_unchanged(world: World) -> None:
    """What a crash has left in the log is read, and nothing is changed."""
    world.steward.pin("image-1")
    world.clock.advance(1)
    world.machine.dead = True
    copies = files(world.path)
    assert copies["index.sqlite-wal"][0]
    records = read_unchanged(world.directory.index_path)
    assert records is not None
    assert {record.image_id: record.pinned for record in records} == {
        image_id: image_id == "image-1" for image_id in IMAGES
    }
    assert files(world.path) == copies


def test_reading_what_is_no_index(tmp_path: Path) -> None:
    """None where there is none yet; an error where it is damaged."""
    path = tmp_path / "index.sqlite"
    assert read_unchanged(path) is None
    path.touch()
    assert read_unchanged(path) is None
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        read_unchanged(path)


@pytest.mark.parametrize("everything", [False, True], ids=["one", "all"])
def test_what_is_purged_before_it_is_found_again_stays_away(
    world: World, everything: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge is about the bodies that are still to be hashed, too, and deletes these at once."""
    lose_index(world)
    with monkeypatch.context() as patched:
        patched.setattr(Cache, "start", lambda cache: None)
        again = World(world.path)
    result(again.steward.purge_all() if everything else again.steward.purge("image-1"))
    assert len(list(world.path.glob("bodies/*/*"))) == (0 if everything else 2)
    again.cache.start()
    assert complete(again) == (set() if everything else {"image-2", "image-3"})


def test_a_body_that_is_purged_while_it_is_hashed_is_no_entry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one whose last byte had been hashed just before."""
    lose_index(world)
    purging = []

    async def whole(orphans: Orphans, name: str, image: object) -> bool:
        purging.append(name)
        await orphans.purge(lambda other: other == name)
        return True

    monkeypatch.setattr(Orphans, "_is_whole", whole)
    again = World(world.path)
    assert len(purging) == 3
    assert complete(again) == set()
