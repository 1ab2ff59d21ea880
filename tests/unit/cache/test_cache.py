"""The cache as its users see it: readers, fills, limits and restarts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from tests.unit.cache.world import Machine, Origin, World, drain, failure_of, result
from txglancecache.cache.entry import DigestCheck
from txglancecache.cache.fill import Fill
from txglancecache.cache.reader import HELD_BACK, Reader
from txglancecache.errors import (
    DigestMismatch,
    EntryDropped,
    Exhausted,
    FillFailed,
    ImageChanged,
    NoRoom,
    OriginOverloaded,
    OriginUnreachable,
    StoreError,
)
from txglancecache.store import directory

MIB = 1 << 20
BODY = os.urandom(4 * MIB + 12345)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "cache")


@pytest.fixture
def origin() -> Origin:
    return Origin(BODY)


def test_a_miss_streams_from_the_first_byte_and_a_hit_asks_nobody(world: World, origin: Origin) -> None:
    """What has arrived can be read at once; when it is complete the origin is not asked again."""
    reader = world.read(origin)
    origin.last.give(100_000)
    assert drain(reader) == BODY[:100_000]
    origin.last.give()
    assert drain(reader) == BODY[100_000:]
    reader.close()
    again = world.read(origin)
    assert drain(again) == BODY
    assert len(origin.sent) == 1
    assert world.steward.status().counters["bytes_from_origin"] == len(BODY)


def test_any_number_of_readers_share_one_transfer(world: World, origin: Origin) -> None:
    """Readers that come before, during and after get the same body from one transfer."""
    early = [world.read(origin) for _ in range(8)]
    origin.last.give(MIB)
    slow, *fast = early + [world.read(origin) for _ in range(8)]
    assert all(drain(reader) == BODY[:MIB] for reader in fast)
    origin.last.give()
    assert all(drain(reader) == BODY[MIB:] for reader in fast)
    assert drain(slow) == BODY
    assert origin.asked == [("alice", 0, len(BODY))]


def test_the_last_block_of_a_whole_body_waits_for_the_digest(tmp_path: Path, origin: Origin) -> None:
    """A body that does not match is never completed, nor kept; a part of it is not held back."""
    world = World(tmp_path / "cache")
    image = origin.image(digest="00" * 64)
    whole = world.read(origin, image=image)
    part = world.read(origin, len(BODY) - 10, len(BODY), image=image)
    origin.sent[0].give(len(BODY) - 11)
    assert len(drain(whole)) == len(BODY) - HELD_BACK
    for transmission in origin.sent:
        transmission.give()
    with pytest.raises(DigestMismatch):
        whole.available()
    with pytest.raises(DigestMismatch):
        part.available()
    assert isinstance(failure_of(whole.wait()), DigestMismatch)
    assert world.cache.find("image-1") is None
    assert world.steward.status().counters["verification_failures"] == 1
    kinds = [event.kind for event in world.cache.events.recent()]
    assert kinds == ["fill-started", "verification-failed", "fill-finished"]
    assert len(list(world.directory.quarantine_path.iterdir())) == 1
    assert list(world.directory.bodies()) == []


def test_a_check_that_nobody_waits_for(tmp_path: Path, origin: Origin) -> None:
    """Checked after: nothing is held back, but a wrong body is still found, and nobody else gets it."""
    world = World(tmp_path / "cache", check=DigestCheck.AFTER)
    whole = world.read(origin, image=origin.image(digest="00" * 64))
    origin.last.give(len(BODY) - 1)
    assert len(drain(whole)) == len(BODY) - 1
    origin.last.give()
    assert isinstance(failure_of(whole.wait()), DigestMismatch)
    assert world.cache.find("image-1") is None
    assert len(list(world.directory.quarantine_path.iterdir())) == 1


def test_a_check_that_comes_later_still_has_to_come(tmp_path: Path, origin: Origin) -> None:
    """Checked after: an image is complete when it has been checked; that is made up for when it is read."""
    world = World(tmp_path / "cache", check=DigestCheck.OFF)
    world.read(origin)
    origin.last.give()
    later = world.restart(DigestCheck.AFTER)
    status = later.steward.entry("image-1")
    assert not status.complete
    assert drain(later.read(origin)) == BODY
    assert later.steward.entry("image-1").complete
    assert later.steward.status().counters["verified"] == 1


def test_no_check(tmp_path: Path, origin: Origin) -> None:
    """Not checked: a body of the right size is complete; with the check it is looked at when it is read."""
    world = World(tmp_path / "cache", check=DigestCheck.OFF)
    image = origin.image(digest="00" * 64)
    whole = world.read(origin, image=image)
    origin.last.give()
    assert drain(whole) == BODY
    whole.close()
    status = world.steward.entry("image-1")
    assert (status.complete, status.filling) == (True, False)
    assert world.steward.status().counters["verified"] == 0
    again = world.restart()
    assert drain(again.read(origin, image=image)) == BODY
    assert len(origin.asked) == 1
    strict = again.restart(DigestCheck.BEFORE)
    assert not strict.steward.entry("image-1").complete
    with pytest.raises(DigestMismatch):
        strict.read(origin, image=image).available()


def test_a_reader_that_leaves_cancels_nothing(world: World, origin: Origin) -> None:
    """The transfer goes on to the end when everybody has left."""
    world.read(origin).close()
    origin.last.give()
    assert world.steward.entry("image-1").complete


def test_an_unwanted_fill_stops_where_that_is_asked_for(tmp_path: Path, origin: Origin) -> None:
    """With ``finish`` off the transfer ends with its last reader, and what came is kept."""
    world = World(tmp_path / "cache", finish=False)
    reader = world.read(origin)
    origin.last.give(MIB)
    reader.close()
    assert origin.last.over
    status = world.steward.entry("image-1")
    assert (status.bytes_on_disk, status.filling) == (MIB, False)
    again = world.read(origin)
    assert origin.asked[-1] == ("alice", MIB, len(BODY))
    origin.last.give()
    assert drain(again) == BODY


def test_what_is_released_stops_everywhere(world: World) -> None:
    """A fill that nobody wants any more ends all its transfers, however many those are."""
    origin = Origin(os.urandom(24 * MIB))
    whole = world.read(origin)
    parts = [world.read(origin, at * MIB, at * MIB + 100) for at in (10, 20)]
    for reader in (whole, *parts):
        reader.close()
    entry = world.cache.find("image-1")
    assert entry is not None
    world.cache.release(entry)
    assert [transmission.over for transmission in origin.sent] == [True] * 3
    assert not entry.filling


def test_a_range_ahead_is_fetched_where_it_is(world: World, origin: Origin) -> None:
    """A range far ahead of the running transfer gets a transfer of its own, and is not fetched twice."""
    big = Origin(os.urandom(24 * MIB))
    whole = world.read(big)
    big.sent[0].give(MIB)
    ahead = world.read(big, 16 * MIB, 16 * MIB + 100)
    assert big.asked[-1] == ("alice", 16 * MIB, 17 * MIB)
    big.sent[1].give()
    assert drain(ahead) == big.body[16 * MIB : 16 * MIB + 100]
    big.sent[0].give(15 * MIB)
    assert big.asked[-1] == ("alice", 17 * MIB, 24 * MIB)
    big.sent[2].give()
    assert drain(whole) == big.body
    assert world.steward.status().counters["bytes_from_origin"] == 24 * MIB


def test_a_range_ahead_is_still_fetched_where_it_is_after_a_break(world: World) -> None:
    """Resuming serves all who wait, not the one only who wants the whole."""
    origin = Origin(os.urandom(24 * MIB))
    world.read(origin)
    world.read(origin, 16 * MIB, 16 * MIB + 100)
    for transmission in origin.sent:
        transmission.break_off()
    world.clock.pump([0.1] * 20)
    assert origin.asked[2:] == [("alice", 0, 16 * MIB), ("alice", 16 * MIB, 17 * MIB)]


def test_no_byte_is_asked_for_that_is_being_written(world: World) -> None:
    """A transfer may be further than it had told when its span is split, for however many ranges."""
    origin = Origin(os.urandom(24 * MIB))
    world.read(origin)
    entry = world.cache.find("image-1")
    assert entry is not None
    slot = world.cache.roster.slot_of(entry)
    assert slot is not None
    slot.work.fill._transfers[0].span.take(0, 14 * MIB)
    ranges = [(at * MIB, at * MIB + 100) for at in (5, 7, 9, 11, 13)]
    result(world.cache.read(entry, ranges, whole=False, source=origin.source()))
    assert [start for _, start, _ in origin.asked[1:]] == []


def test_a_cold_range_fetches_little_more_than_itself(world: World, origin: Origin) -> None:
    """A range of an image that nobody wanted whole is rounded up, not completed."""
    part = world.read(origin, 2 * MIB + 10, 2 * MIB + 20)
    assert origin.asked == [("alice", 2 * MIB + 10, 3 * MIB)]
    origin.last.give()
    assert drain(part) == BODY[2 * MIB + 10 : 2 * MIB + 20]
    part.close()
    assert not world.steward.entry("image-1").filling
    again = world.read(origin, 2 * MIB + 15, 3 * MIB)
    assert len(drain(again)) == MIB - 15
    assert len(origin.asked) == 1


def test_an_origin_without_ranges_serves_them_from_one_transfer(world: World) -> None:
    """A range of a body that can only be had whole waits for the transfer from the start."""
    origin = Origin(BODY, ranged=False)
    part = world.read(origin, 2 * MIB, 3 * MIB)
    assert origin.asked == [("alice", 2 * MIB, 3 * MIB), ("alice", 0, len(BODY))]
    origin.last.give(2 * MIB + 7)
    assert drain(part) == BODY[2 * MIB : 2 * MIB + 7]
    origin.last.give()
    assert drain(part) == BODY[2 * MIB + 7 : 3 * MIB]
    assert world.steward.entry("image-1").complete


def test_an_origin_without_ranges_is_left_where_the_rest_is_there(world: World) -> None:
    """What can only be had from the start on is had no further than anything is missing."""
    origin = Origin(BODY)
    world.read(origin, 3 * MIB, len(BODY)).close()
    origin.last.give()
    origin.ranged = False
    reader = world.read(origin)
    assert origin.asked[-1] == ("alice", 0, len(BODY))
    origin.last.give(3 * MIB)
    over, verified = origin.last.over, reader.entry.verified
    assert (over, verified) == (True, True)
    assert drain(reader) == BODY
    assert world.steward.status().counters["bytes_from_origin"] == len(BODY)


@pytest.mark.parametrize("order", [(16, 20), (20, 16)])
def test_ranges_during_a_transfer_cost_an_origin_without_ranges_nothing(
    world: World, order: tuple[int, int]
) -> None:
    """What a running transfer was not to bring, for the sake of a range that cannot be had, it brings."""
    origin = Origin(os.urandom(24 * MIB), ranged=False)
    whole = world.read(origin)
    origin.last.give(MIB)
    parts = {at: world.read(origin, at * MIB, at * MIB + 100) for at in order}
    origin.last.give()
    for at, part in parts.items():
        assert drain(part) == origin.body[at * MIB : at * MIB + 100]
    assert drain(whole) == origin.body
    assert len(origin.sent) == 1


@pytest.mark.parametrize("ranged", [True, False])
def test_a_broken_transfer_is_resumed_without_the_readers_noticing(world: World, ranged: bool) -> None:
    """It goes on at the break where the origin has ranges, else it reads past what is there."""
    origin = Origin(BODY, ranged=ranged)
    reader = world.read(origin)
    origin.last.give(MIB)
    origin.last.break_off()
    world.clock.pump([0.1] * 20)
    assert origin.asked[1] == ("alice", MIB, len(BODY))
    assert origin.asked[-1][1] == (MIB if ranged else 0)
    origin.last.give()
    assert drain(reader) == BODY
    assert world.steward.status().counters["bytes_from_origin"] == len(BODY) + (0 if ranged else MIB)


def test_retries_are_bounded(world: World, origin: Origin) -> None:
    """An origin that is gone for good fails those who wait, after as many tries as are configured."""
    origin.fails = [OriginUnreachable("refused") for _ in range(10)]
    reader = world.read(origin)
    waiting = reader.wait()
    world.clock.pump([0.1] * 200)
    assert isinstance(failure_of(waiting), FillFailed)
    assert len(origin.asked) == 1 + 3
    assert not world.steward.entry("image-1").filling
    origin.fails.clear()
    again = world.read(origin)
    origin.last.give()
    assert drain(again) == BODY


def test_a_byte_at_a_time_is_no_progress(world: World, origin: Origin) -> None:
    """An origin that breaks each transfer after its first byte is given up as one that is gone is."""
    reader = world.read(origin)
    for _ in range(1 + 3):
        origin.last.give(1)
        origin.last.break_off()
        world.clock.pump([0.1] * 40)
    assert len(origin.asked) == 1 + 3
    assert not world.steward.entry("image-1").filling
    drain(reader)
    assert isinstance(failure_of(reader.wait()), FillFailed)


@pytest.mark.parametrize(("size", "at_a_time"), [(4 * MIB, 64 << 10), (4096, 256)])
def test_slow_progress_is_progress(world: World, size: int, at_a_time: int) -> None:
    """However often it breaks: what brings something to speak of each time gets to the end."""
    origin = Origin(os.urandom(size))
    reader = world.read(origin)
    for _ in range(size // at_a_time - 1):
        origin.last.give(at_a_time)
        origin.last.break_off()
        world.clock.pump([0.1] * 4)
    origin.last.give()
    assert drain(reader) == origin.body


def test_what_breaks_together_is_one_failure(world: World) -> None:
    """An origin that drops all the transfers of an image at once has failed once, not once for each."""
    origin = Origin(os.urandom(64 * MIB))
    readers = [world.read(origin, at * MIB, (at + 8) * MIB) for at in (0, 16, 32, 48)]
    for _ in range(3):
        under_way = [transmission for transmission in origin.sent if not transmission.over]
        assert len(under_way) == 4
        for transmission in under_way:
            transmission.break_off()
        world.clock.pump([0.1] * 40)
    for transmission in list(origin.sent):
        transmission.give()
    for reader in readers:
        assert drain(reader) == origin.body[reader.start : reader.stop]


@pytest.mark.parametrize(("asked", "waits"), [(3, 3), (3600, 30)])
def test_an_origin_that_asks_to_be_left_alone(world: World, origin: Origin, asked: int, waits: int) -> None:
    """Is left alone for as long, but not for ever."""
    origin.fails = [OriginOverloaded("the origin answered 503", asked)]
    reader = world.read(origin)
    world.clock.advance(waits - 0.1)
    assert len(origin.asked) == 1
    world.clock.advance(0.2)
    assert len(origin.asked) == 2
    origin.last.give()
    assert drain(reader) == BODY


def test_one_answer_that_does_not_fit_is_asked_for_again(world: World, origin: Origin) -> None:
    """Nobody loses what is there for it, and no reader notices."""
    reader = world.read(origin)
    origin.last.give(MIB)
    origin.last.break_off()
    origin.fails = [ImageChanged()]
    world.clock.pump([0.1] * 20)
    assert origin.asked[-1] == ("alice", MIB, len(BODY))
    origin.last.give()
    assert drain(reader) == BODY


def test_two_answers_that_do_not_fit_are_another_body(world: World, origin: Origin) -> None:
    """The entry goes, and its readers are told."""
    reader = world.read(origin)
    origin.last.give(MIB)
    origin.last.break_off()
    origin.fails = [ImageChanged(), ImageChanged()]
    assert len(drain(reader)) == MIB
    waiting = reader.wait()
    world.clock.pump([0.1] * 20)
    assert isinstance(failure_of(waiting), EntryDropped | ImageChanged)
    assert world.cache.find("image-1") is None


def test_what_cannot_be_had_is_not_asked_for_again(world: World, origin: Origin) -> None:
    """Such as a body in a content coding: those who wait are told at once."""
    origin.fails = [FillFailed("gzip")]
    waiting = world.read(origin).wait()
    assert isinstance(failure_of(waiting), FillFailed)
    world.clock.pump([1] * 60)
    assert len(origin.asked) == 1


def test_an_origin_may_learn_to_serve_ranges(world: World) -> None:
    """One answer without them is not held against it for ever."""
    origin = Origin(BODY, ranged=False)
    first = world.read(origin, MIB, 2 * MIB)
    origin.last.give(2 * MIB)
    assert len(drain(first)) == MIB
    first.close()
    world.cache.release(first.entry)
    assert not world.steward.entry("image-1").filling
    origin.ranged = True
    again = world.read(origin, 3 * MIB, 4 * MIB)
    assert origin.asked[-1] == ("alice", 3 * MIB, 4 * MIB)
    origin.last.give()
    assert drain(again) == BODY[3 * MIB : 4 * MIB]


def test_what_nobody_expected_is_not_tried_for_ever(world: World, origin: Origin) -> None:
    """A fill that fails in an unknown way tells those who wait, and begins anew for the next."""
    origin.fails = [ValueError("unheard of") for _ in range(3)]
    waiting = world.read(origin).wait()
    assert isinstance(failure_of(waiting), FillFailed)
    assert len(origin.asked) == 1
    origin.fails.clear()
    again = world.read(origin)
    origin.last.give()
    assert drain(again) == BODY


def test_a_body_that_cannot_be_verified_is_dropped(world: World, origin: Origin) -> None:
    """A digest that cannot be computed here, for whatever reason, is no reason to try for ever."""
    image = evolve(origin.image(), algorithm="unheard-of")
    reader = world.read(origin, image=image)
    origin.last.give()
    assert isinstance(failure_of(reader.wait()), StoreError)
    assert world.cache.find("image-1") is None


def test_when_one_clients_permission_ends_anothers_serves(world: World, origin: Origin) -> None:
    """A resume that the origin refuses to one client is asked for with the next one's fields."""
    reader = world.read(origin, who="alice")
    other = world.read(origin, who="carol")
    origin.last.give(MIB)
    origin.refuse["carol"] = 401
    origin.last.break_off()
    world.clock.pump([0.1] * 20)
    assert [who for who, _, _ in origin.asked] == ["alice", "carol", "alice"]
    origin.last.give()
    assert drain(reader) == drain(other) == BODY


def test_when_no_permission_is_left_readers_are_told(world: World, origin: Origin) -> None:
    """With every client refused there is nobody to ask for: those who wait fail, what came is kept."""
    reader = world.read(origin)
    origin.last.give(MIB)
    origin.refuse["alice"] = 403
    origin.last.break_off()
    world.clock.pump([0.1] * 20)
    assert drain(reader) == BODY[:MIB]
    assert isinstance(failure_of(reader.wait()), FillFailed)
    assert world.steward.entry("image-1").bytes_on_disk == MIB


def test_a_body_that_cannot_be_synced_is_dropped(
    world: World, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk did not take is not kept: the kernel may have forgotten it already."""

    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    world.read(origin).close()
    origin.last.give()
    monkeypatch.setattr(os, "fsync", refuse)
    world.clock.advance(5)
    assert world.cache.find("image-1") is None
    assert list(world.directory.bodies()) == []
    assert world.steward.status().bytes_on_disk == 0


def test_the_coldest_go_and_what_is_read_stays(tmp_path: Path) -> None:
    """Room is made by evicting what nobody uses; what is being read or filled is never taken."""
    world = World(tmp_path / "cache", max_size=10 * MIB)
    origins = [Origin(os.urandom(4 * MIB)) for _ in range(4)]
    first = world.read(origins[0], image=origins[0].image("image-0"))
    origins[0].last.give()
    second = world.read(origins[1], image=origins[1].image("image-1"))
    origins[1].last.give()
    second.close()
    third = world.read(origins[2], image=origins[2].image("image-2"))
    assert world.cache.find("image-1") is None
    assert drain(first) == origins[0].body
    with pytest.raises(NoRoom):
        world.read(origins[3], image=origins[3].image("image-3"))
    origins[2].last.give()
    assert drain(third) == origins[2].body
    status = world.steward.status()
    assert (status.bytes_on_disk, status.counters["evictions"]) == (8 * MIB, 1)
    assert {file.size for file in world.directory.bodies()} == {4 * MIB}


def test_nothing_is_evicted_for_what_cannot_fit(tmp_path: Path) -> None:
    """A body larger than the cache flushes nothing."""
    world = World(tmp_path / "cache", max_size=6 * MIB)
    small, large = Origin(os.urandom(MIB)), Origin(os.urandom(7 * MIB))
    world.read(small, image=small.image("small")).close()
    small.last.give()
    with pytest.raises(NoRoom):
        world.read(large, image=large.image("large"))
    assert world.steward.entry("small").complete
    assert world.steward.status().reserved == 0


def test_a_purged_body_is_found_by_nobody_and_read_to_the_end(world: World, origin: Origin) -> None:
    """Purging takes effect at once for newcomers; running downloads, and the room they take, go on."""
    reader = world.read(origin)
    origin.last.give(MIB)
    assert result(world.steward.purge("image-1")) is True
    assert world.cache.find("image-1") is None
    assert list(world.directory.bodies()) == []
    assert world.steward.status().bytes_on_disk == MIB
    origin.last.give()
    assert drain(reader) == BODY
    reader.close()
    assert world.steward.status().bytes_on_disk == world.steward.status().reserved == 0
    assert result(world.steward.purge("image-1")) is False


def test_another_body_under_the_same_id_is_never_mixed_up(world: World, origin: Origin) -> None:
    """A new digest begins a new entry; readers of the old body get no byte of the new one."""
    old = world.read(origin)
    origin.last.give(MIB)
    other = Origin(os.urandom(len(BODY)))
    new = world.read(other)
    assert origin.last.over
    assert drain(old) == BODY[:MIB]
    assert isinstance(failure_of(old.wait()), EntryDropped)
    other.last.give()
    assert drain(new) == other.body


def test_two_bodies_at_once_under_one_id(tmp_path: Path, origin: Origin) -> None:
    """Who had to wait for a place while another body came under the id has to look again."""
    world = World(tmp_path / "cache", max_entries=2)
    for name in ("cold", "lukewarm"):
        world.read(origin, image=origin.image(name)).close()
        origin.last.give()
    removing: Deferred[None] = Deferred()
    cold = world.cache.find("cold")
    assert cold is not None
    cold.body._in_thread = lambda *_: removing  # type: ignore[assignment]
    slow = Deferred.fromCoroutine(world.cache.admit(origin.image()))
    other = result(world.cache.admit(Origin(BODY[::-1]).image()))
    removing.callback(None)
    assert isinstance(failure_of(slow), EntryDropped)
    assert world.cache.find("image-1") is other


def test_a_restart_keeps_entries_and_partial_extents(world: World, origin: Origin) -> None:
    """What came before the end is not fetched again after the next start."""
    reader = world.read(origin)
    origin.last.give(MIB)
    reader.close()
    world = world.restart()
    status = world.steward.entry("image-1")
    assert (status.bytes_on_disk, status.hits, status.complete) == (MIB, 1, False)
    reader = world.read(origin)
    assert origin.asked[-1] == ("alice", MIB, len(BODY))
    origin.last.give()
    assert drain(reader) == BODY
    reader.close()
    world = world.restart()
    assert world.steward.entry("image-1").complete
    assert drain(world.read(origin)) == BODY


def test_without_its_index_the_cache_keeps_what_verifies(world: World, origin: Origin) -> None:
    """A lost index is rebuilt from whole bodies; parts are removed."""
    world.read(origin).close()
    origin.last.give()
    half = Origin(os.urandom(MIB))
    world.read(half, image=half.image("image-2"))
    half.last.give(1000)
    world.clock.advance(5)
    world = _without_index(world)
    assert world.steward.entry("image-1").complete
    assert world.steward.entry("image-2") is None
    assert len(list(world.directory.bodies())) == 1
    assert world.steward.status().bytes_on_disk == len(BODY)


def test_what_is_recovered_is_synced_before_it_is_recorded(
    world: World, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that the last process left in memory only is on disk before the new index speaks of it."""
    world.read(origin).close()
    origin.last.give()
    result(world.cache.close())
    world.directory.index_path.unlink()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino))
    world = World(world.path)
    (path,) = world.path.glob("bodies/*/*")
    assert synced == [path.stat().st_ino]
    assert len(list(world.steward.entries())) == 1


def test_an_empty_index_is_a_lost_one(world: World, origin: Origin) -> None:
    """An index that a power cut left empty costs no whole body."""
    world.read(origin).close()
    origin.last.give()
    result(world.cache.close())
    for path in world.path.glob("index.sqlite-*"):
        path.unlink()
    os.truncate(world.directory.index_path, 0)
    world = World(world.path)
    entry = world.steward.entry("image-1")
    assert entry is not None
    assert entry.complete


def test_a_damaged_index_is_set_aside(world: World, origin: Origin) -> None:
    """Rubbish in the index costs its rows, not the start."""
    world.read(origin).close()
    origin.last.give()
    result(world.cache.close())
    world.directory.index_path.write_bytes(b"rubbish" * 1000)
    world = World(world.path)
    assert world.steward.entry("image-1").complete
    assert world.directory.index_path.with_name("index.sqlite.damaged").exists()


def _without_index(world: World) -> World:
    result(world.cache.close())
    for path in world.path.glob("index.sqlite*"):
        path.unlink()
    return World(world.path)


def test_nothing_came_and_nobody_waits(world: World, origin: Origin) -> None:
    """An entry whose last reader left before a byte came, and whose fill then fails, is gone."""
    reader = world.read(origin)
    assert world.steward.status().fills == 1
    reader.close()
    assert len(list(world.steward.entries())) == 1
    origin.refuse["alice"] = 401
    origin.last.break_off()
    world.clock.advance(10)
    assert list(world.steward.entries()) == []
    assert world.steward.status().fills == 0


def test_fills_are_counted(world: World, origin: Origin) -> None:
    """How many images are fetched or checked is known at any time; those that were purged do not count."""
    reader = world.read(origin)
    assert world.steward.status().fills == 1
    origin.last.give()
    drain(reader)
    reader.close()
    assert world.steward.status().fills == 0
    other = Origin(BODY)
    again = world.read(other, image=other.image("image-2"))
    assert world.steward.status().fills == 1
    result(world.steward.purge("image-2"))
    assert world.steward.status().fills == 0
    other.last.give()
    again.close()
    assert world.steward.status().fills == 0


def test_a_purge_goes_on_when_its_operator_leaves(world: World, origin: Origin) -> None:
    """What an operator asked for is done whether or not the operator waits for it."""
    for number in range(3):
        world.read(origin, image=origin.image(f"image-{number}")).close()
        origin.last.give()
    purging = Deferred.fromCoroutine(world.steward.purge_all())
    purging.addErrback(lambda failure: failure.trap(CancelledError))
    purging.cancel()
    assert list(world.steward.entries()) == []
    result(world.cache.close())
    assert list(world.path.glob("bodies/*/*")) == []


@pytest.mark.parametrize("leaves", ["evicted", "purged"])
def test_what_leaves_is_not_hashed(tmp_path: Path, origin: Origin, leaves: str) -> None:
    """A whole body that nobody has checked goes at once, and with it the room that it takes."""
    world = World(tmp_path / "cache", check=DigestCheck.OFF)
    world.read(origin)
    origin.last.give()
    world = world.restart(DigestCheck.BEFORE)
    world.hashing = Machine(dead=True)  # whoever waits for this waits for ever
    result(world.steward.prune(0) if leaves == "evicted" else world.steward.purge_all())
    assert world.hashing._never == []
    assert (world.cache.roster.room.charged, world.cache.roster.leaving) == (0, [])


def test_what_leaves_is_hashed_for_those_who_read_it(world: World, origin: Origin) -> None:
    """A purge takes nothing from a reader who waits for the digest."""
    reader = world.read(origin)
    origin.last.give(len(BODY) - 1)
    result(world.steward.purge("image-1"))
    origin.last.give()
    assert drain(reader) == BODY


def test_no_descriptor_is_left(world: World, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that cannot be opened for that is not dropped for it: it is what it was."""
    with world.read(origin) as reader:
        origin.last.give()
        assert drain(reader) == BODY
    world = world.restart()

    def none_left(path: Path) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(directory, "_open_file", none_left)
        with pytest.raises(Exhausted):
            world.read(origin)
    with world.read(origin) as again:
        assert drain(again) == BODY
    assert len(origin.asked) == 1


@pytest.mark.parametrize("cached", [False, True], ids=["cold", "hot"])
def test_what_one_client_costs(
    world: World, origin: Origin, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coming and leaving are no more work among hundreds than alone."""
    looks, lacks = 0, Fill._lacks

    def counted(fill: Fill, reader: Reader) -> bool:
        nonlocal looks
        looks += 1
        return lacks(fill, reader)

    if cached:
        world.read(origin).close()
        origin.last.give()
    monkeypatch.setattr(Fill, "_lacks", counted)
    crowd = [world.read(origin) for _ in range(300)]
    assert looks <= 3 * len(crowd)
    for reader in crowd:
        reader.close()
    assert looks <= 6 * len(crowd)
