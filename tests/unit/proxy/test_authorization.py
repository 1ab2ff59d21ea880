"""For how long, and for whom, the origin's permission holds."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from txglancecache.errors import OriginTimeout
from txglancecache.origin.client import Head
from txglancecache.origin.glance import Allowed, Answer, Denied
from txglancecache.proxy.authorization import Authorizer

TARGET = b"/v2/images/1/file"
ALICE = [(b"Host", b"glance"), (b"X-Auth-Token", b"alice-token")]
BOB = [(b"Host", b"glance"), (b"X-Auth-Token", b"bob-token")]
DENIED = Denied(Answer(Head(404, b"Not Found", ()), b""))


@define(eq=False)
class Glance:
    """Answers when the test says so."""

    clock: Clock = field(factory=Clock)
    asked: list[Deferred[Any]] = field(factory=list)

    async def authorize(self, target: bytes, headers: object, size: int | None) -> Any:
        self.asked.append(Deferred())
        return await self.asked[-1]

    def allow(self) -> None:
        self.asked[-1].callback(Allowed(self.clock.seconds(), b"req"))


@define(eq=False)
class Desk:
    ttl: float = 10.0
    glance: Glance = field(factory=Glance)
    authorizer: Authorizer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.authorizer = Authorizer(self.glance, self.glance.clock, self.ttl)  # type: ignore[arg-type]

    def ask(
        self, headers: Any = ALICE, image_id: str = "1", target: bytes = TARGET, size: int | None = 9
    ) -> list[Any]:
        found: list[Any] = []
        asking = Deferred.fromCoroutine(self.authorizer.check(image_id, target, headers, size))
        asking.addBoth(found.append)
        return found


def test_permission_holds_for_the_configured_time() -> None:
    """It is used again before the time is over, and not after."""
    desk = Desk()
    desk.ask()
    desk.glance.allow()
    desk.glance.clock.advance(9.9)
    (verdict,) = desk.ask()
    assert isinstance(verdict, Allowed)
    assert len(desk.glance.asked) == 1
    desk.glance.clock.advance(0.1)
    assert desk.ask() == []
    assert len(desk.glance.asked) == 2


def test_the_time_counts_from_the_question() -> None:
    """An answer that took long is not believed for longer because of that."""
    desk = Desk()
    since = desk.glance.clock.seconds()
    desk.ask()
    desk.glance.clock.advance(8)
    desk.glance.asked[0].callback(Allowed(since, None))
    desk.glance.clock.advance(2)
    assert desk.ask() == []


def test_zero_means_asking_every_time() -> None:
    """With a time of 0 no answer is used twice."""
    desk = Desk(ttl=0)
    desk.ask()
    desk.glance.allow()
    desk.ask()
    assert len(desk.glance.asked) == 2


def test_a_denial_is_never_used_again() -> None:
    """Who was refused a moment ago may have been let in since."""
    desk = Desk()
    first = desk.ask()
    desk.glance.asked[0].callback(DENIED)
    assert first == [DENIED]
    desk.ask()
    assert len(desk.glance.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"headers": BOB},
        {"headers": ALICE[:1]},
        {"headers": [*ALICE, (b"X-Roles", b"admin")]},
        {"headers": [*ALICE, (b"Cookie", b"a=b")]},
        {"headers": [(b"Host", b"glance"), (b"X-Auth-Tokena", b"lice-token")]},
        {"image_id": "2"},
        {"target": TARGET + b"?prefer=fast"},
        {"size": 10},
    ],
)
def test_one_clients_permission_is_no_others(other: dict[str, Any]) -> None:
    """Another token, image, query, size or any field that might matter makes another question."""
    desk = Desk()
    desk.ask()
    desk.glance.allow()
    assert desk.ask(**other) == []
    assert len(desk.glance.asked) == 2


def test_what_says_nothing_about_the_client_does_not_matter() -> None:
    """A range or another user agent is the same question."""
    desk = Desk()
    desk.ask()
    desk.glance.allow()
    assert desk.ask([*ALICE, (b"Range", b"bytes=0-1"), (b"User-Agent", b"curl")])
    assert len(desk.glance.asked) == 1


def test_equal_questions_share_one_answer() -> None:
    """Those that come while one is being asked wait for it, each on its own."""
    desk = Desk()
    found = [desk.ask() for _ in range(16)]
    assert len(desk.glance.asked) == 1
    desk.glance.allow()
    assert all(isinstance(verdict, Allowed) for (verdict,) in found)


def test_a_client_that_leaves_takes_the_answer_from_nobody() -> None:
    """Cancelling one waiter cancels neither the question nor the others."""
    desk = Desk()
    leaving = Deferred.fromCoroutine(desk.authorizer.check("1", TARGET, ALICE, 9))
    staying = desk.ask()
    leaving.addErrback(lambda failure: failure.trap(CancelledError))
    leaving.cancel()
    desk.glance.allow()
    assert isinstance(staying[0], Allowed)


def test_an_origin_that_cannot_be_asked_is_asked_anew() -> None:
    """Everybody who waited gets the error; the next to come asks again."""
    desk = Desk()
    found = [desk.ask() for _ in range(2)]
    desk.glance.asked[0].errback(OriginTimeout("too long"))
    assert [failure.type for (failure,) in found] == [OriginTimeout] * 2
    assert desk.ask() == []
    assert len(desk.glance.asked) == 2


def test_who_was_allowed_is_remembered_without_the_token() -> None:
    """Also after the permission has run out; and the token itself is kept nowhere."""
    desk = Desk()
    desk.ask()
    desk.glance.allow()
    desk.glance.clock.advance(1000)
    assert not desk.authorizer.forget("1", TARGET, BOB, 9)
    assert "alice-token" not in repr(desk.authorizer)
    assert desk.authorizer.forget("1", TARGET, ALICE, 9)


def test_what_is_forgotten_is_forgotten() -> None:
    """Who had been allowed has that to show once, and is asked about anew."""
    desk = Desk()
    desk.ask()
    desk.glance.allow()
    assert desk.authorizer.forget("1", TARGET, ALICE, 9)
    assert not desk.authorizer.forget("1", TARGET, ALICE, 9)
    assert desk.ask() == []


def test_what_was_allowed_before_the_size_was_known_holds_for_the_size_that_was_found() -> None:
    """For this client and this image, and for no other size."""
    desk = Desk()
    desk.ask(size=None)
    desk.glance.allow()
    desk.authorizer.identified("1", TARGET, ALICE, 9)
    assert len(desk.ask()) == 1
    assert desk.ask(size=10) == []
    assert desk.ask(size=None) == []
    desk.authorizer.identified("1", TARGET, BOB, 9)
    assert desk.ask(BOB) == []
