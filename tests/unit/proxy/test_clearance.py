"""What clears a client for an image, and what may have changed by the time that it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from tests.unit.cache.world import Origin, World, result
from txglancecache.image import Image
from txglancecache.origin.client import Head
from txglancecache.origin.glance import Allowed, Answer, Changed, Denied, Uncacheable
from txglancecache.proxy.authorization import Authorizer
from txglancecache.proxy.clearance import Asked, Clearance, Cleared, JustChanged, NotCacheable

ASKED = Asked("image-1", b"/v2/images/image-1/file", [(b"X-Auth-Token", b"alice")])
OLD, NEW = Origin(b"o" * 1000).image(), Origin(b"n" * 1000).image()


@define(eq=False)
class Glance:
    """Permits when the test says so; describes what the test has it describe."""

    image: Any = OLD
    asked: list[Deferred[Any]] = field(factory=list)
    described: list[bytes] = field(factory=list)
    sizes: list[int | None] = field(factory=list)
    answer: Deferred[None] | None = None

    async def authorize(self, target: bytes, headers: object, size: int | None) -> Any:
        self.sizes.append(size)
        self.asked.append(Deferred())
        return await self.asked[-1]

    async def identify(self, target: bytes, headers: object) -> Any:
        self.described.append(target)
        if self.answer is not None:
            await self.answer
        return self.image


@define(eq=False)
class Desk:
    world: World
    glance: Glance = field(factory=Glance)
    clearance: Clearance = field(init=False)

    def __attrs_post_init__(self) -> None:
        glance: Any = self.glance
        authorizer = Authorizer(glance, self.world.clock, 0)
        self.clearance = Clearance(self.world.cache, glance, authorizer, self.world.clock, 300)

    def ask(self, asked: Asked = ASKED) -> list[Any]:
        found: list[Any] = []
        Deferred.fromCoroutine(self.clearance.settle(asked)).addBoth(found.append)
        return found

    def allow(self) -> None:
        self.glance.asked[-1].callback(Allowed(self.world.clock.seconds(), None))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(World(tmp_path / "cache"))


def test_what_has_been_replaced_is_not_cleared(desk: Desk) -> None:
    """A client whose check was slow does not bring back the body that is no more."""
    result(desk.world.cache.admit(OLD))
    found = desk.ask()
    result(desk.world.cache.admit(NEW))
    desk.allow()
    assert isinstance(found[0], JustChanged)


def test_what_has_been_dropped_is_looked_at_again(desk: Desk) -> None:
    """What was known of an entry that has left since is not made an entry again unseen."""
    entry = result(desk.world.cache.admit(OLD))
    found = desk.ask()
    desk.world.cache.drop(entry, "gone")
    desk.allow()
    assert isinstance(found[0], JustChanged)


@pytest.mark.parametrize(("there", "cleared"), [(OLD, Cleared), (NEW, JustChanged)])
def test_another_client_may_be_first(desk: Desk, there: Image, cleared: type) -> None:
    """Clients of a cold image agree on what it is, or look again."""
    found = desk.ask()
    result(desk.world.cache.admit(there))
    desk.allow()
    assert isinstance(found[0], cleared)


def test_an_odd_spelling_is_the_origins_to_read(desk: Desk) -> None:
    """An image is never described by what may be its own data."""
    odd = Asked("image-1", b"/v2/images/image-1/fil%65", ASKED.headers)
    assert desk.ask(odd) == [NotCacheable(b"not-understood")]
    assert desk.glance.described == []


def denied(status: int) -> Denied:
    return Denied(Answer(Head(status, b"", ()), b"no"))


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_who_is_refused_costs_one_question_cached_or_not(desk: Desk, status: int) -> None:
    """Neither the answer nor what was asked for it tells whether the image is here."""
    for _ in ("not cached", "cached"):
        found = desk.ask()
        desk.glance.asked[-1].callback(denied(status))
        assert found == [denied(status)]
        result(desk.world.cache.admit(OLD))
    assert len(desk.glance.asked) == 2
    assert desk.glance.described == []


def test_an_image_without_data_is_no_server_error(desk: Desk) -> None:
    """Glance fails on a range of what has no size; the client is to get what it says of the whole."""
    desk.glance.image = Uncacheable.NOT_ACTIVE
    found = desk.ask()
    desk.glance.asked[-1].callback(denied(500))
    assert found == [NotCacheable(b"not-active")]


def test_a_failing_origin_lets_nobody_in(desk: Desk) -> None:
    """Who may see an image may not therefore have it."""
    found = desk.ask()
    desk.glance.asked[-1].callback(denied(500))
    assert found == [denied(500)]


def test_an_image_of_another_name_of_the_origin_is_another_until_it_is_known(desk: Desk) -> None:
    """One address may be that of two Glances; what one allows is not the other's to give."""
    entry = result(desk.world.cache.admit(OLD))
    desk.ask()
    desk.allow()
    assert len(desk.glance.described) == 1
    desk.ask()
    desk.allow()
    assert len(desk.glance.described) == 1
    desk.glance.image = NEW
    elsewhere = Asked("image-1", ASKED.target, [*ASKED.headers, (b"Host", b"elsewhere")])
    found = desk.ask(elsewhere)
    desk.allow()
    assert found == [NotCacheable(b"another-origin")]
    assert not entry.dropped
    entry.identified -= 301
    found = desk.ask(elsewhere)
    desk.allow()
    assert isinstance(found[0], JustChanged)
    assert entry.dropped


def test_an_image_of_another_name_and_size_breaks_nothing(desk: Desk) -> None:
    """Whoever has an image of the same id at another Glance behind the same address cannot flush this one."""
    entry = result(desk.world.cache.admit(OLD))
    desk.ask()
    desk.allow()
    elsewhere = Asked("image-1", ASKED.target, [*ASKED.headers, (b"Host", b"elsewhere")])
    found = desk.ask(elsewhere)
    desk.glance.asked[-1].callback(Changed())
    assert found == [NotCacheable(b"another-origin")]
    assert not entry.dropped
    found = desk.ask()
    desk.glance.asked[-1].callback(Changed())
    assert isinstance(found[0], JustChanged)
    assert entry.dropped


def test_who_was_shut_out_flushes_once(desk: Desk) -> None:
    """A client that is allowed no more has said so with the first 404 that it gets."""
    dropped = []
    for _ in range(2):
        entry = result(desk.world.cache.admit(OLD))
        desk.ask(Asked("image-1", ASKED.target, [(b"X-Auth-Token", b"owner")]))
        desk.allow()
        if not dropped:
            desk.ask()
            desk.allow()
        desk.ask()
        desk.glance.asked[-1].callback(denied(404))
        dropped.append(entry.dropped)
    assert dropped == [True, False]


def _described(desk: Desk, *tokens: bytes) -> int:
    """How often the origin is asked what the image is, when these ask at the same time."""
    desk.glance.answer = Deferred()
    before = len(desk.glance.described)
    found = []
    for token in tokens:
        asks = desk.ask(Asked("image-1", ASKED.target, [(b"X-Auth-Token", token)]))
        if not desk.glance.asked[-1].called:
            desk.allow()
        found.append(asks)
    count = len(desk.glance.described) - before
    desk.glance.answer.callback(None)
    assert all(isinstance(answer, Cleared) and answer.image == OLD for (answer,) in found)
    return count


def test_a_crowd_asks_once_what_an_image_is(desk: Desk) -> None:
    """Those who ask the same share the description; nobody has another client's view of it."""
    assert _described(desk, *[b"alice"] * 100) == 1
    assert _described(desk, b"alice", b"bob", b"alice", b"bob") == 2


def test_who_leaves_takes_the_description_from_nobody(desk: Desk) -> None:
    """The one who asked first may be gone before the origin has answered."""
    desk.glance.answer = Deferred()
    first = Deferred.fromCoroutine(desk.clearance.settle(ASKED))
    desk.allow()
    second = desk.ask()
    desk.allow()
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    desk.glance.answer.callback(None)
    assert isinstance(second[0], Cleared)
