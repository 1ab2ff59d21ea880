"""What clears a client for an image, and what may have changed by the time that it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from tests.unit.cache.world import Origin, World, result
from txglancecache.image import Image
from txglancecache.origin.glance import Allowed
from txglancecache.proxy.authorization import Authorizer
from txglancecache.proxy.clearance import Asked, Clearance, Cleared, JustChanged, NotCacheable

ASKED = Asked("image-1", b"/v2/images/image-1/file", [(b"X-Auth-Token", b"alice")])
OLD, NEW = Origin(b"o" * 1000).image(), Origin(b"n" * 1000).image()


@define(eq=False)
class Glance:
    """Permits when the test says so; describes what the test has it describe."""

    image: Image = OLD
    asked: list[Deferred[Any]] = field(factory=list)
    described: list[bytes] = field(factory=list)

    async def authorize(self, target: bytes, headers: object, size: int) -> Any:
        self.asked.append(Deferred())
        return await self.asked[-1]

    async def identify(self, target: bytes, headers: object) -> Image:
        self.described.append(target)
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
