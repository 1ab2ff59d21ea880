"""Several transfers of one image at once, of which some fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.unit.cache.world import Origin, Transmission, World, drain, failure_of
from txglancecache.cache.quarantine import Quarantine
from txglancecache.cache.reader import Reader
from txglancecache.errors import (
    FillFailed,
    ImageChanged,
    OriginOverloaded,
    OriginUnreachable,
    SourceRefused,
    StoreError,
)

MIB = 1 << 20
BODY = os.urandom(MIB) * 24
AT = 20 * MIB


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "cache")


@pytest.fixture
def origin() -> Origin:
    return Origin(BODY)


def going_on(world: World, origin: Origin) -> tuple[Reader, Transmission]:
    """One client that takes the whole body, of which the first MiB has come."""
    reader = world.read(origin)
    origin.last.give(MIB)
    assert drain(reader) == BODY[:MIB]
    return reader, origin.last


def test_who_gets_nothing_new_leaves_others_theirs(world: World, origin: Origin) -> None:
    """An origin that answers no new request, but goes on with what it has begun, fails the new ones only."""
    whole, transmission = going_on(world, origin)
    origin.fails = [OriginUnreachable("refused") for _ in range(100)]
    part = world.read(origin, AT, AT + 1000, who="bob")
    waiting = part.wait()
    for _ in range(200):
        world.clock.advance(0.1)
        transmission.give(16 << 10)
        drain(whole)
    assert isinstance(failure_of(waiting), FillFailed)
    assert not transmission.over
    assert not whole.failed
    # once the origin is itself again, what the other was to bring is asked for, in time or later
    origin.fails.clear()
    part.close()
    transmission.give()
    world.clock.pump([0.1] * 100)
    origin.last.give()
    rest = drain(whole)
    assert whole.position == len(BODY)
    assert BODY.endswith(rest)


def test_who_is_gone_for_good_is_so_for_all_in_the_end(world: World, origin: Origin) -> None:
    """Who was left alone is told when it is their turn to miss something."""
    whole, transmission = going_on(world, origin)
    origin.fails = [OriginUnreachable("refused") for _ in range(100)]
    world.read(origin, AT, AT + 1000, who="bob")
    transmission.give()
    drain(whole)
    assert whole.position == AT
    world.clock.pump([0.5] * 100)
    assert isinstance(failure_of(whole.wait()), FillFailed)
    entry = world.steward.entry("image-1")
    assert entry is None or not entry.filling


@pytest.mark.parametrize("trouble", [SourceRefused(403), StoreError("no room")])
def test_what_cannot_be_mended(world: World, origin: Origin, trouble: Exception) -> None:
    """Nothing more is asked for, but what is on its way comes; who then lacks something is told why."""
    whole, transmission = going_on(world, origin)
    if isinstance(trouble, SourceRefused):
        origin.refuse = {"alice": 401, "bob": 403}
    else:
        origin.fails = [trouble]
    part = world.read(origin, AT, AT + 1000, who="bob")
    assert part.failed
    assert not whole.failed
    transmission.give()
    assert drain(whole) == BODY[MIB:AT]
    assert isinstance(failure_of(whole.wait()), FillFailed | StoreError)
    entry = world.steward.entry("image-1")
    assert entry is None or not entry.filling


def test_one_odd_answer(world: World, origin: Origin) -> None:
    """An answer that is of no use, beside one that is, is asked for again."""
    whole, transmission = going_on(world, origin)
    origin.fails = [FillFailed("coded")]
    part = world.read(origin, AT, AT + 1000, who="bob")
    assert not part.failed
    world.clock.pump([0.1] * 4)
    for late in origin.sent:
        late.give()
    assert drain(part) == BODY[AT : AT + 1000]
    assert drain(whole) == BODY[MIB:]
    assert transmission.over


def test_who_comes_anew_mends_it_for_all(world: World, origin: Origin) -> None:
    """Another client's permission serves also those whom the failure was not told yet."""
    whole, transmission = going_on(world, origin)
    origin.refuse = {"alice": 401, "bob": 403}
    world.read(origin, AT, AT + 1000, who="bob").close()
    world.read(origin, AT, AT + 1000, who="carol")
    origin.last.give()
    transmission.give()
    for late in origin.sent:
        late.give()
    assert drain(whole) == BODY[MIB:]


def test_one_that_comes_quickly_is_no_reason_to_ask_for_the_other_quickly(
    world: World, origin: Origin
) -> None:
    """The delays between two tries grow, whatever another transfer brings meanwhile."""
    _, transmission = going_on(world, origin)
    asked = len(origin.asked)
    origin.fails = [OriginOverloaded("busy", None) for _ in range(100)]
    world.read(origin, AT, AT + 1000, who="bob")
    for _ in range(20):
        world.clock.advance(0.1)
        transmission.give(256 << 10)
    assert len(origin.asked) - asked <= 5


def test_what_succeeds_makes_up_for_what_failed(world: World, origin: Origin) -> None:
    """Failures far apart, with successes in between, are not failures in a row."""
    whole, _ = going_on(world, origin)
    for number in range(8):
        origin.fails = [OriginOverloaded("busy", None)]
        start = AT - number * 2 * MIB
        part = world.read(origin, start, start + 1000, who="bob")
        world.clock.pump([0.1] * 30)
        origin.last.give()
        assert drain(part) == BODY[start : start + 1000]
        part.close()
    assert not whole.failed


def test_another_image_is_seen_beside_a_transfer_of_the_old_one(world: World, origin: Origin) -> None:
    """What an old answer still brings says nothing about two new ones that do not fit."""
    whole, transmission = going_on(world, origin)
    origin.fails = [ImageChanged("of another size"), ImageChanged("of another size")]
    world.read(origin, AT, AT + 1000, who="bob")
    for _ in range(20):
        world.clock.advance(0.1)
        transmission.give(64 << 10)
    assert whole.failed
    assert not origin.fails


def test_an_operator_who_leaves_while_the_quarantine_is_cleared(world: World) -> None:
    """What is gone takes no room any more, whoever waited for it."""
    (world.directory.quarantine_path / "abc.1").write_bytes(BODY[:MIB])
    pending: list[tuple[Deferred[Any], Any]] = []

    def in_thread(function: Any, *args: Any) -> Deferred[Any]:
        pending.append((Deferred(), lambda: function(*args)))
        return pending[-1][0]

    quarantine = Quarantine(world.directory, in_thread, world.cache.roster.room, 4, 1 << 30)
    quarantine.load()
    before = quarantine.size
    clearing = Deferred.fromCoroutine(quarantine.clear())
    clearing.addErrback(lambda failure: failure.trap(CancelledError) and None)
    clearing.cancel()
    for done, work in pending:
        done.callback(work())
    assert before >= MIB
    assert quarantine.size == 0
